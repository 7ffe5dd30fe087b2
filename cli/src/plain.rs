//! How things look to people: plain text, no colors, aligned columns.

pub(crate) mod job;
pub(crate) mod models;
pub(crate) mod refusal;
mod table;

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

/// A JSON value as a person would write it: strings without quotes, nothing for null.
fn bare(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
