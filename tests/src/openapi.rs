//! Compares values with schemas of the OpenAPI document.

use serde_json::Value;

/// The differences between a value and its schema: required fields that are missing, and unknown fields, each with its path.
/// Of types it only checks `null`.
pub fn mismatches(document: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let mut mismatches = Vec::new();
    compare(document, schema, value, "", &mut mismatches);
    mismatches
}

fn compare(
    document: &Value,
    schema: &Value,
    value: &Value,
    path: &str,
    mismatches: &mut Vec<String>,
) {
    let schema = resolved(document, schema);
    if let Some(choices) = schema["oneOf"].as_array() {
        let found = choices.iter().map(|choice| {
            let mut found = Vec::new();
            compare(document, choice, value, path, &mut found);
            found
        });
        mismatches.extend(found.min_by_key(Vec::len).unwrap_or_default());
        return;
    }
    let properties = properties(document, schema);
    let required = required(document, schema);
    match value {
        Value::Null if !may_be_null(schema) => mismatches.push(format!("{path} is null")),
        Value::Object(fields) => {
            if schema["type"] == "null" {
                mismatches.push(format!("{path} is not null"));
            }
            let missing = required.iter().filter(|name| !fields.contains_key(*name));
            mismatches.extend(missing.map(|name| format!("{path}/{name} is required")));
            for (name, value) in fields {
                let path = format!("{path}/{name}");
                match properties.iter().find(|(known, _)| known == name) {
                    Some((_, schema)) => compare(document, schema, value, &path, mismatches),
                    None if properties.is_empty() => {}
                    None => mismatches.push(format!("{path} is not documented")),
                }
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                compare(
                    document,
                    &schema["items"],
                    item,
                    &format!("{path}/{at}"),
                    mismatches,
                );
            }
        }
        _ => {}
    }
}

fn resolved<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(pointer) => document
            .pointer(pointer.trim_start_matches('#'))
            .unwrap_or_else(|| panic!("{pointer} does not exist in the document")),
        None => schema,
    }
}

/// Properties of the schema and of the schemas in `allOf`.
fn properties(document: &Value, schema: &Value) -> Vec<(String, Value)> {
    let own = schema["properties"].as_object().into_iter().flatten();
    let own = own.map(|(name, schema)| (name.clone(), schema.clone()));
    let parts = schema["allOf"].as_array().into_iter().flatten();
    let others = parts.flat_map(|part| properties(document, resolved(document, part)));
    own.chain(others).collect()
}

fn required(document: &Value, schema: &Value) -> Vec<String> {
    let own = schema["required"].as_array().into_iter().flatten();
    let own = own.map(|name| name.as_str().unwrap().to_owned());
    let parts = schema["allOf"].as_array().into_iter().flatten();
    let others = parts.flat_map(|part| required(document, resolved(document, part)));
    own.chain(others).collect()
}

fn may_be_null(schema: &Value) -> bool {
    match &schema["type"] {
        Value::Null => true,
        Value::Array(types) => types.iter().any(|name| name == "null"),
        name => name == "null",
    }
}
