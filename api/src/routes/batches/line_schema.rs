use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, Type, schema::SchemaType},
};
use wire::JobRequest;

/// The schema of a line of a batch: a job and its `custom_id`. No value of this type exists: `batches` removes the `custom_id`
/// from a line and parses the rest as a job.
pub(crate) enum BatchLine {}

/// Extends the schema of a job, so that no field is missing here. `allOf` would not work: a job allows no other fields.
impl PartialSchema for BatchLine {
    fn schema() -> RefOr<Schema> {
        let RefOr::T(Schema::Object(mut line)) = JobRequest::schema() else {
            unreachable!("a struct is an object");
        };
        let custom_id = ObjectBuilder::new()
            .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
            .min_length(Some(1))
            .max_length(Some(256))
            .description(Some("Yours: up to 256 bytes; the results name it again."));
        line.properties.insert("custom_id".into(), custom_id.into());
        let description = "A job of a batch, as JSON on one line. Only the image must be there.";
        line.description = Some(description.into());
        line.into()
    }
}

impl ToSchema for BatchLine {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        JobRequest::schemas(schemas);
    }
}
