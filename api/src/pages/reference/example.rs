//! An operation as a `curl` command to copy.

use serde_json::{Value, json};

use super::put;

/// Schemas may be recursive. This depth is enough for every request body.
const DEPTH_MAX: u8 = 6;

/// A `curl` command that sends a valid request.
pub(super) fn curl(document: &Value, path: &str, method: &str, operation: &Value) -> String {
    let mut command = String::from("curl");
    let content = &operation["requestBody"]["content"];
    let body = if content["application/octet-stream"].is_object() {
        Some("--data-binary @cat.jpg".to_owned())
    } else if content["application/x-ndjson"].is_object() {
        Some("-H 'Content-Type: application/x-ndjson' --data-binary @jobs.ndjson".to_owned())
    } else {
        let schema = &content["application/json"]["schema"];
        schema.is_object().then(|| {
            let example = example(document, schema, DEPTH_MAX);
            format!("-H 'Content-Type: application/json' -d '{example}'")
        })
    };
    // With a body, curl sends POST by default.
    if !matches!((method, &body), ("get", None) | ("post", Some(_))) {
        put(&mut command, format_args!(" -X {}", method.to_uppercase()));
    }
    let responses = operation["responses"].as_object().into_iter().flatten();
    if responses
        .clone()
        .any(|(status, _)| status.starts_with('3') && status != "304")
    {
        command += " -L";
    }
    let mut contents = responses.filter_map(|(_, response)| response["content"].as_object());
    if contents.any(|content| content.contains_key("text/event-stream")) {
        command += " -N -H 'Accept: text/event-stream'";
    }
    command += " -H \"Authorization: Bearer $DARKROOM_API_KEY\"";
    if let Some(body) = body {
        put(&mut command, format_args!(" \\\n     {body}"));
    }
    command + &format!(" \\\n     \"$DARKROOM_URL{}\"", filled(path, operation))
}

/// The path with example values for its parameters.
fn filled(path: &str, operation: &Value) -> String {
    let mut filled = path.to_owned();
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        if parameter["in"] != "path" {
            continue;
        }
        let name = parameter["name"].as_str().unwrap_or_default();
        let value = match (name, parameter["example"].as_str()) {
            (_, Some(example)) => example.to_owned(),
            ("name" | "model", _) => "efficientnet-lite0".into(),
            ("alias", _) => "stable".into(),
            ("version", _) => "1".into(),
            ("id", _) if path.starts_with("/v1/jobs/") => "job_…".into(),
            ("id", _) if path.starts_with("/v1/workers/") => "7".into(),
            _ => "…".into(),
        };
        filled = filled.replace(&format!("{{{name}}}"), &value);
    }
    filled
}

/// A valid value: the example of the schema, else the smallest value of its type.
fn example(document: &Value, schema: &Value, depth: u8) -> Value {
    if let Some(given) = schema.get("example").or(schema.get("default")) {
        return given.clone();
    }
    if depth == 0 {
        return json!({});
    }
    if let Some(name) = schema["$ref"]
        .as_str()
        .and_then(|path| path.rsplit('/').next())
    {
        let named = &document["components"]["schemas"][name];
        return example(document, named, depth - 1);
    }
    let first = |key: &str| schema[key].as_array().and_then(|choices| choices.first());
    if let Some(value) = first("enum") {
        return value.clone();
    }
    if let Some(choice) = first("oneOf") {
        let named = choice["enum"].get(0).or(choice.get("const"));
        return named.map_or_else(|| example(document, choice, depth - 1), Clone::clone);
    }
    let kind = schema["type"].as_array().and_then(|kinds| kinds.first());
    match kind.unwrap_or(&schema["type"]).as_str() {
        Some("object") => {
            let required = schema["required"].as_array().into_iter().flatten();
            let fields = required.filter_map(Value::as_str).map(|name| {
                let field = &schema["properties"][name];
                (name.to_owned(), example(document, field, depth - 1))
            });
            Value::Object(fields.collect())
        }
        Some("array") => json!([example(document, &schema["items"], depth - 1)]),
        Some("integer" | "number") => schema.get("minimum").cloned().unwrap_or(json!(1)),
        Some("boolean") => json!(true),
        _ => json!("…"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::curl;

    #[test]
    fn a_command_has_the_method_the_body_and_a_filled_path() {
        let document = json!({"components": {"schemas": {"AliasRequest": {
            "type": "object", "required": ["version"], "properties": {"version": {"type": "integer", "minimum": 1}}
        }}}});
        let operation = json!({
            "parameters": [{"name": "name", "in": "path"}, {"name": "alias", "in": "path"}],
            "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/AliasRequest"}}}},
            "responses": {"200": {}}
        });
        let command = curl(
            &document,
            "/v1/models/{name}/aliases/{alias}",
            "put",
            &operation,
        );
        assert_eq!(
            command,
            "curl -X PUT -H \"Authorization: Bearer $DARKROOM_API_KEY\" \\\n     \
             -H 'Content-Type: application/json' -d '{\"version\":1}' \\\n     \
             \"$DARKROOM_URL/v1/models/efficientnet-lite0/aliases/stable\""
        );
    }
}
