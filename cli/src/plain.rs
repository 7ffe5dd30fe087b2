//! How things look to people: plain text, no colors, aligned columns.

pub(crate) mod any;
pub(crate) mod batch;
pub(crate) mod job;
pub(crate) mod models;
pub(crate) mod picture;
pub(crate) mod refusal;
pub(crate) mod stats;
mod table;
pub(crate) mod usage;
pub(crate) mod webhooks;

use std::{fmt::Display, io::Write};

use serde_json::Value;

use crate::failure::Failure;

/// One line on standard output. `println!` would panic when the reader has left.
pub(crate) fn line(text: impl Display) -> Result<(), Failure> {
    Ok(writeln!(std::io::stdout().lock(), "{text}")?)
}

pub(crate) fn read_json(text: &str) -> Result<Value, Failure> {
    serde_json::from_str(text).map_err(|error| Failure::Away {
        what: format!("the answer is not JSON: {error}"),
        next: "check DARKROOM_URL: is it Darkroom that answers there?",
    })
}

/// What the service wrote if that was asked for, else what a person reads.
pub(crate) fn answer(
    text: &str,
    as_json: bool,
    to_read: impl Fn(&Value) -> String,
) -> Result<(), Failure> {
    if as_json {
        line(text.trim_end())
    } else {
        line(to_read(&read_json(text)?))
    }
}

/// A path with its query.
pub(crate) fn path(path: &str, query: &[(String, String)]) -> String {
    let query = serde_urlencoded::to_string(query).unwrap_or_default();
    if query.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{query}")
    }
}

/// A JSON value as a person would write it: strings without quotes, nothing for null.
pub(crate) fn bare(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
