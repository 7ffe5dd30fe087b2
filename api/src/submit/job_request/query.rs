use serde_json::{Map, Value, json};
use utoipa::{
    IntoParams, PartialSchema,
    openapi::{
        RefOr, Required, Schema,
        path::{Parameter, ParameterBuilder, ParameterIn},
    },
};
use wire::JobRequest;

use crate::http::{error::ApiError, json::from_fields, paging};

/// Reads the query of a raw upload: the fields of a job, `metadata.KEY`, and every other name as a parameter of the model.
pub(crate) fn from_query(query: &str) -> Result<JobRequest, ApiError> {
    let mut fields = Map::new();
    let (mut params, mut metadata) = (Map::new(), Map::new());
    for (name, value) in paging::query(query) {
        let (name, value) = (name.into_owned(), value.into_owned());
        let taken = match name.as_str() {
            "webhook" => fields.insert(name, json!({ "url": value })),
            field if JobRequest::TEXT_IN_QUERY.contains(&field) => {
                fields.insert(name, value.into())
            }
            field if JobRequest::NUMBERS_IN_QUERY.contains(&field) => {
                fields.insert(name, scalar(value))
            }
            _ => match name.strip_prefix("metadata.") {
                Some(key) => metadata.insert(key.to_owned(), value.into()),
                None => params.insert(name, scalar(value)),
            },
        };
        if taken.is_some() {
            return Err(ApiError::invalid_field(
                "",
                "repeated",
                "each query parameter may be given once",
            ));
        }
    }
    fields.insert("params".into(), params.into());
    fields.insert("metadata".into(), metadata.into());
    from_fields(fields)
}

/// The query of a raw upload, for the OpenAPI document. No value of this type exists.
pub(crate) enum RawForm {}

/// Describes the fields as the schema of the JSON form does.
impl IntoParams for RawForm {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let RefOr::T(Schema::Object(mut job)) = JobRequest::schema() else {
            unreachable!("a struct is an object");
        };
        let names = JobRequest::TEXT_IN_QUERY
            .iter()
            .chain(JobRequest::NUMBERS_IN_QUERY);
        let parameter = |name: &&str| {
            let Some(RefOr::T(Schema::Object(mut field))) = job.properties.remove(*name) else {
                unreachable!("text and numbers are no schemas of their own");
            };
            let description = field.description.take().unwrap_or_default();
            let mut rest = description.trim_end_matches('.').chars();
            let first = rest.next().map(|first| first.to_ascii_lowercase());
            let description = format!("Raw form: {}{}", String::from_iter(first), rest.as_str());
            ParameterBuilder::new()
                .name(*name)
                .parameter_in(ParameterIn::Query)
                .required(Required::False)
                .description(Some(description))
                .schema(Some(Schema::Object(field)))
                .build()
        };
        names.map(parameter).collect()
    }
}

/// Reads `5` as a number and `true` as a boolean; everything else is text.
fn scalar(text: String) -> Value {
    match serde_json::from_str(&text) {
        Ok(value @ (Value::Number(_) | Value::Bool(_))) => value,
        _ => Value::String(text),
    }
}

#[cfg(test)]
mod tests {
    use super::from_query;

    #[test]
    fn a_query_is_the_same_job_as_its_json() {
        let job = from_query("model=lite&top_k=5&priority=2&metadata.listing=8841&note=a%20b")
            .expect("fits");
        assert_eq!((job.model.as_deref(), job.priority), (Some("lite"), 2));
        assert_eq!(job.params["top_k"], 5);
        assert_eq!(job.params["note"], "a b");
        assert_eq!(job.metadata["listing"], "8841");
        assert!(from_query("priority=high").is_err());
        assert!(from_query("top_k=1&top_k=2").is_err());
    }
}
