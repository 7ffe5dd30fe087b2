//! Schemas: as a short text, or as a table of their fields.

use serde_json::Value;

use super::{put, text};
use crate::pages::{escape, inline, markdown};

/// A type as a short text. Named types link to their section.
pub(super) fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"]
        .as_str()
        .and_then(|path| path.rsplit('/').next())
    {
        return format!("<a href='#{0}'>{0}</a>", escape(name));
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let kinds: Vec<_> = choices
            .iter()
            .filter(|choice| choice["type"] != "null")
            .map(kind)
            .collect();
        return kinds.join(" or ");
    }
    let names: Vec<_> = match &schema["type"] {
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        name => name.as_str().into_iter().collect(),
    };
    let names = names
        .into_iter()
        .filter(|name| *name != "null")
        .collect::<Vec<_>>()
        .join(" or ");
    match (names.as_str(), schema["format"].as_str()) {
        ("array", _) => format!("list of {}", kind(&schema["items"])),
        (_, Some(format)) => format!("{names} <span class=soft>{}</span>", escape(format)),
        _ => names,
    }
}

pub(super) fn shape(schema: &Value) -> String {
    let about = markdown(schema["description"].as_str().unwrap_or_default());
    if let Some(values) = schema["enum"].as_array() {
        let values: Vec<_> = values
            .iter()
            .map(|value| format!("<code>{}</code>", text(value)))
            .collect();
        return format!("{about}<p>One of {}</p>", values.join(", "));
    }
    let Some(fields) = schema["properties"].as_object() else {
        return about + &variants(schema);
    };
    let required: Vec<_> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .collect();
    let mut rows = String::from("<table><tr><th>Field<th>Type<th></tr>");
    for (name, field) in fields {
        let optional = if required.iter().any(|one| *one == name) {
            ""
        } else {
            " <span class=soft>may be empty</span>"
        };
        put(
            &mut rows,
            format_args!(
                "<tr><td><code>{}</code><td>{}{optional}<td>{}</tr>",
                escape(name),
                kind(field),
                inline(&field["description"])
            ),
        );
    }
    format!("{about}{rows}</table>")
}

/// The table of an enum whose values have descriptions.
fn variants(schema: &Value) -> String {
    let Some(choices) = schema["oneOf"].as_array() else {
        return String::new();
    };
    let mut rows = String::from("<table><tr><th>Value<th></tr>");
    for choice in choices {
        let value = choice["enum"]
            .get(0)
            .or(choice.get("const"))
            .map(text)
            .unwrap_or_default();
        put(
            &mut rows,
            format_args!(
                "<tr><td><code>{value}</code><td>{}</tr>",
                inline(&choice["description"])
            ),
        );
    }
    rows + "</table>"
}
