//! `/docs`: the OpenAPI document as an HTML page.

mod example;
mod operation;
mod shapes;

use std::fmt::Write;

use serde_json::Value;

use super::{escape, markdown, page};

const START: &str = include_str!("reference/start.md");

const METHODS: [&str; 4] = ["post", "get", "put", "delete"];

/// Renders an OpenAPI document as HTML.
pub(crate) fn reference(document: &Value) -> String {
    let mut nav = String::from(
        "<a href=#start>First job</a><a href=#rules>On every path</a><a href=/console>Console</a>",
    );
    let mut body = format!(
        "<h1>{} API</h1><p>{}</p><p class=soft>Version {} · <a href=/openapi.json>OpenAPI document</a> · \
         <a href=/problems>every problem code</a></p>{}",
        text(&document["info"]["title"]),
        text(&document["info"]["description"]),
        text(&document["info"]["version"]),
        start(),
    );
    for tag in document["tags"].as_array().into_iter().flatten() {
        let name = tag["name"].as_str().unwrap_or_default();
        let about = text(&tag["description"]);
        put(&mut nav, format_args!("<h2>{}</h2>", escape(name)));
        put(
            &mut body,
            format_args!("<h2 id='tag-{0}'>{0}</h2><p>{about}</p>", escape(name)),
        );
        for (path, method, operation) in operations(document, name) {
            let id = operation["operationId"].as_str().unwrap_or_default();
            put(
                &mut nav,
                format_args!(
                    "<a href='#{id}'><span class='verb {method}'>{}</span>{}</a>",
                    method.to_uppercase(),
                    short(path)
                ),
            );
            body.push_str(&operation::section(document, path, method, operation));
        }
    }
    nav.push_str("<h2>Shapes</h2>");
    body.push_str("<h2 id=shapes>Shapes</h2><p>What goes over the line, as JSON. Clients must pass over fields that they do not know.</p>");
    for (name, schema) in document["components"]["schemas"]
        .as_object()
        .into_iter()
        .flatten()
    {
        put(&mut nav, format_args!("<a href='#{name}'>{name}</a>"));
        put(
            &mut body,
            format_args!(
                "<section id='{name}'><h3><a class=anchor href='#{name}'>{name}</a></h3>{}</section>",
                shapes::shape(schema)
            ),
        );
    }
    page("Darkroom API", &nav, &body)
}

/// The guide before the paths. The navigation links to its headings.
fn start() -> String {
    markdown(START)
        .replace("<h2>First job</h2>", "<h2 id=start>First job</h2>")
        .replace("<h2>On every path</h2>", "<h2 id=rules>On every path</h2>")
}

/// A path without `/v1`.
fn short(path: &str) -> String {
    escape(path.strip_prefix("/v1").unwrap_or(path))
}

fn put(page: &mut String, text: std::fmt::Arguments<'_>) {
    page.write_fmt(text).expect("a String takes all");
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
