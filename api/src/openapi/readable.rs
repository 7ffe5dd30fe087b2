//! What generators of clients stumble over, said in the way that they understand.

use serde_json::{Value, json};

/// Rewrites the whole document, below every name alike:
///
/// - an object of which no property is known says that it may have any: else it reads as one that is always empty;
/// - bytes are a string of the format `binary`: else they read as a list of numbers;
/// - a form has parts;
/// - what is nothing by default has no default: else it reads as if it were always there.
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

/// How `Vec<u8>` comes out.
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
