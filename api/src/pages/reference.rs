//! `/docs`: the OpenAPI document as a page one would rather read.

use std::fmt::Write;

use serde_json::Value;

use super::{escape, inline, markdown, page};

const FIRST_JOB: &str = r#"curl -i --data-binary @cat.jpg -H "Content-Type: image/jpeg" \
     -H "Authorization: Bearer $DARKROOM_API_KEY" "$DARKROOM_URL/v1/jobs"
curl -H "Authorization: Bearer $DARKROOM_API_KEY" "$DARKROOM_URL/v1/jobs/job_…""#;

const METHODS: [&str; 4] = ["post", "get", "put", "delete"];

/// Renders an OpenAPI document.
pub(crate) fn reference(document: &Value) -> String {
    let mut nav = String::from("<a href=#start>First job</a>");
    let mut body = format!(
        "<h1>{} API</h1><p>{}</p><p class=soft>Version {} · <a href=/openapi.json>OpenAPI document</a> · \
         <a href=/problems>every problem code</a></p>\
         <h2 id=start>First job</h2><p>Upload an image; the answer 202 names the job; poll it.</p><pre><code>{}</code></pre>\
         <p>Every path needs an API key. Refusals come as <code>application/problem+json</code>; branch on their <code>code</code>.</p>",
        text(&document["info"]["title"]),
        text(&document["info"]["description"]),
        text(&document["info"]["version"]),
        escape(FIRST_JOB),
    );
    for tag in document["tags"].as_array().into_iter().flatten() {
        let name = tag["name"].as_str().unwrap_or_default();
        write!(nav, "<h2>{}</h2>", escape(name)).expect("a String takes all");
        write!(
            body,
            "<h2>{}</h2><p>{}</p>",
            escape(name),
            text(&tag["description"])
        )
        .expect("a String takes all");
        for (path, method, operation) in operations(document, name) {
            let id = operation["operationId"].as_str().unwrap_or_default();
            let verb = format!(
                "<span class='verb {method}'>{}</span>",
                method.to_uppercase()
            );
            write!(nav, "<a href='#{id}'>{}</a>", text(&operation["summary"]))
                .expect("a String takes all");
            write!(
                body,
                "<section id='{id}'><h3>{verb}{}</h3><p><strong>{}</strong></p>{}{}{}{}</section>",
                escape(path),
                text(&operation["summary"]),
                markdown(operation["description"].as_str().unwrap_or_default()),
                parameters(operation),
                request_body(operation),
                responses(operation),
            )
            .expect("a String takes all");
        }
    }
    nav.push_str("<h2>Shapes</h2>");
    body.push_str("<h2>Shapes</h2>");
    for (name, schema) in document["components"]["schemas"]
        .as_object()
        .into_iter()
        .flatten()
    {
        write!(nav, "<a href='#{name}'>{name}</a>").expect("a String takes all");
        write!(
            body,
            "<section id='{name}'><h3>{name}</h3>{}</section>",
            shape(schema)
        )
        .expect("a String takes all");
    }
    page("Darkroom API", &nav, &body)
}

fn text(value: &Value) -> String {
    escape(value.as_str().unwrap_or_default())
}

fn operations<'a>(
    document: &'a Value,
    tag: &'a str,
) -> impl Iterator<Item = (&'a str, &'static str, &'a Value)> {
    document["paths"]
        .as_object()
        .into_iter()
        .flatten()
        .flat_map(move |(path, item)| {
            METHODS.iter().filter_map(move |method| {
                let operation = item.get(method)?;
                let tagged = operation["tags"].as_array()?.iter().any(|name| name == tag);
                tagged.then_some((path.as_str(), *method, operation))
            })
        })
}

fn parameters(operation: &Value) -> String {
    let Some(parameters) = operation["parameters"].as_array() else {
        return String::new();
    };
    let mut rows = String::from("<table><tr><th>Parameter<th>In<th>Type<th></tr>");
    for parameter in parameters {
        write!(
            rows,
            "<tr><td><code>{}</code><td>{}<td>{}<td>{}</tr>",
            text(&parameter["name"]),
            text(&parameter["in"]),
            kind(&parameter["schema"]),
            inline(&parameter["description"]),
        )
        .expect("a String takes all");
    }
    rows + "</table>"
}

fn request_body(operation: &Value) -> String {
    let Some(content) = operation["requestBody"]["content"].as_object() else {
        return String::new();
    };
    let mut rows = String::from("<table><tr><th>Request body<th>Type</tr>");
    for (media_type, body) in content {
        write!(
            rows,
            "<tr><td><code>{}</code><td>{}</tr>",
            escape(media_type),
            kind(&body["schema"])
        )
        .expect("a String takes all");
    }
    rows + "</table>"
}

fn responses(operation: &Value) -> String {
    let mut rows = String::from("<table><tr><th>Answer<th><th>Body</tr>");
    for (status, response) in operation["responses"].as_object().into_iter().flatten() {
        let content = response["content"].as_object().into_iter().flatten().next();
        let body = content
            .map(|(_, body)| kind(&body["schema"]))
            .unwrap_or_default();
        write!(
            rows,
            "<tr><td><code>{status}</code><td>{}<td>{body}</tr>",
            inline(&response["description"])
        )
        .expect("a String takes all");
    }
    rows + "</table>"
}

/// A type in a few words, linked where it has a section.
fn kind(schema: &Value) -> String {
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

fn shape(schema: &Value) -> String {
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
        write!(
            rows,
            "<tr><td><code>{}</code><td>{}{optional}<td>{}</tr>",
            escape(name),
            kind(field),
            inline(&field["description"])
        )
        .expect("a String takes all");
    }
    format!("{about}{rows}</table>")
}

/// An enum whose values have words of their own.
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
        write!(
            rows,
            "<tr><td><code>{value}</code><td>{}</tr>",
            inline(&choice["description"])
        )
        .expect("a String takes all");
    }
    rows + "</table>"
}
