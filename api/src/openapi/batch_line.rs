use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, Type, schema::SchemaType},
};

use crate::job_request::JobRequest;

/// A job and its name, as the document describes a line of a batch. Nobody makes one: `batches` takes the name off a line, and
/// reads what is left as a job.
pub(crate) enum BatchLine {}

/// Made of the job's own, so that no field is forgotten here. A job knows no other fields: both as parts of one shape would
/// forbid each other's.
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
