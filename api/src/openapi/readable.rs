//! Rewrites schemas into the forms that client generators understand.

use serde_json::{Value, json};

/// Rewrites the whole document:
///
/// - An object without properties gets `additionalProperties: true`. Generators read it as an empty object otherwise.
/// - Bytes become a string of format `binary`. Generators read them as a list of numbers otherwise.
/// - A multipart form becomes an object.
/// - A default of `null` is removed. Generators read the field as always present otherwise.
pub(super) fn make_readable(value: &mut Value) {
    if is_bytes(value) {
        *value = json!({"type": "string", "format": "binary"});
    } else if is_closed_object(value) {
        value["additionalProperties"] = true.into();
    }
    match value {
        Value::Object(fields) => {
            if let Some(form) = fields.get_mut("multipart/form-data") {
                form["schema"] = json!({"type": "object", "additionalProperties": true});
            }
            if fields.contains_key("default") && fields["default"].is_null() {
                fields.remove("default");
            }
            fields.values_mut().for_each(make_readable);
        }
        Value::Array(items) => items.iter_mut().for_each(make_readable),
        _ => {}
    }
}

fn is_closed_object(schema: &Value) -> bool {
    let is_object = match &schema["type"] {
        Value::String(name) => name == "object",
        Value::Array(names) => names.iter().any(|name| name == "object"),
        _ => false,
    };
    is_object && schema["properties"].is_null() && schema["additionalProperties"].is_null()
}

/// How utoipa describes `Vec<u8>`.
fn is_bytes(schema: &Value) -> bool {
    schema["type"] == "array"
        && schema["items"]["type"] == "integer"
        && schema["items"]["minimum"] == 0
        && schema["items"]["format"] == "int32"
}

#[cfg(test)]
mod tests {
    use super::make_readable;
    use serde_json::json;

    #[test]
    fn generators_read_free_objects_bytes_forms_and_what_may_be_left_out() {
        let bytes =
            json!({"type": "array", "items": {"type": "integer", "format": "int32", "minimum": 0}});
        let mut document = json!({
            "free": {"type": ["object", "null"]},
            "known": {"type": "object", "properties": {"default": {"type": "object"}}},
            "content": {"image/*": {"schema": bytes}, "multipart/form-data": {"schema": bytes}},
            "list": {"type": "array", "items": {"type": "integer"}},
            "none": {"type": ["string", "null"], "default": null},
            "some": {"type": "integer", "default": 0},
        });
        make_readable(&mut document);
        let open = json!({"type": "object", "additionalProperties": true});
        assert_eq!(
            document,
            json!({
                "free": {"type": ["object", "null"], "additionalProperties": true},
                "known": {"type": "object", "properties": {"default": open}},
                "content": {
                    "image/*": {"schema": {"type": "string", "format": "binary"}},
                    "multipart/form-data": {"schema": open},
                },
                "list": {"type": "array", "items": {"type": "integer"}},
                "none": {"type": ["string", "null"]},
                "some": {"type": "integer", "default": 0},
            })
        );
    }
}
