//! Whether a value has the shape that the OpenAPI document promises.

use serde_json::Value;

/// Where a value has not what its schema requires, or has what it does not know: paths with a word each. Of types only `null`
/// and not `null` are told apart: names are what goes wrong here, when two shapes get the same one.
pub fn faults(document: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    look(document, schema, value, "", &mut faults);
    faults
}

fn look(document: &Value, schema: &Value, value: &Value, path: &str, faults: &mut Vec<String>) {
    let schema = resolved(document, schema);
    if let Some(choices) = schema["oneOf"].as_array() {
        let found = choices.iter().map(|choice| {
            let mut found = Vec::new();
            look(document, choice, value, path, &mut found);
            found
        });
        faults.extend(found.min_by_key(Vec::len).unwrap_or_default());
        return;
    }
    let properties = properties(document, schema);
    let required = required(document, schema);
    match value {
        Value::Null if !may_be_null(schema) => faults.push(format!("{path} is null")),
        Value::Object(fields) => {
            if schema["type"] == "null" {
                faults.push(format!("{path} is not null"));
            }
            let lacking = required.iter().filter(|name| !fields.contains_key(*name));
            faults.extend(lacking.map(|name| format!("{path}/{name} is required")));
            for (name, value) in fields {
                let path = format!("{path}/{name}");
                match properties.iter().find(|(known, _)| known == name) {
                    Some((_, schema)) => look(document, schema, value, &path, faults),
                    None if properties.is_empty() => {}
                    None => faults.push(format!("{path} is not documented")),
                }
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                look(
                    document,
                    &schema["items"],
                    item,
                    &format!("{path}/{at}"),
                    faults,
                );
            }
        }
        _ => {}
    }
}

fn resolved<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(place) => document
            .pointer(place.trim_start_matches('#'))
            .unwrap_or_else(|| panic!("{place} leads nowhere")),
        None => schema,
    }
}

/// Its own, and those of all that it is made of.
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
