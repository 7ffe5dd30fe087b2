use serde_json::{Map, Value, json};
use wire::JobRequest;

use crate::http::{error::ApiError, json::from_fields, paging};

/// Reads the query of a raw upload: the fields of a job, `metadata.KEY`, and every other name as a parameter of the model.
pub(crate) fn from_query(query: &str) -> Result<JobRequest, ApiError> {
    let mut fields = Map::new();
    let (mut params, mut metadata) = (Map::new(), Map::new());
    for (name, value) in paging::query(query) {
        let (name, value) = (name.into_owned(), value.into_owned());
        let taken = match name.as_str() {
            "model" | "run_at" | "deadline" | "retain_for" => fields.insert(name, value.into()),
            "webhook" => fields.insert(name, json!({ "url": value })),
            "priority" | "max_attempts" => fields.insert(name, scalar(value)),
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
