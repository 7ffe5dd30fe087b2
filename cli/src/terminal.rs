//! How the command writes to a terminal: lines, tables, JSON. All text that the service wrote is cleaned here.

pub(crate) mod job;
pub(crate) mod picture;
pub(crate) mod result;

use std::{
    borrow::Cow,
    fmt::{Display, Write as _},
    io::Write as _,
};

use chrono::{DateTime, Utc};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::failure::Failure;

/// Writes one line to standard output. `println!` would panic when the reader has left.
pub(crate) fn line(text: impl Display) -> Result<(), Failure> {
    raw(clean(&text.to_string()))
}

/// Writes one line to standard error.
pub(crate) fn note(text: impl Display) {
    eprintln!("{}", clean(&text.to_string()));
}

/// Writes JSON to standard output: control characters become escapes, which mean the same in JSON.
pub(crate) fn json(text: impl Display) -> Result<(), Failure> {
    let text = text.to_string();
    let mut escaped = String::with_capacity(text.len());
    for c in text.trim_end().chars() {
        if is_harmful(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        } else {
            escaped.push(c);
        }
    }
    raw(escaped)
}

/// Writes one line as it is: only for text of this program, such as pictures.
pub(crate) fn raw(text: impl Display) -> Result<(), Failure> {
    Ok(writeln!(std::io::stdout().lock(), "{text}")?)
}

/// Replaces characters that a terminal would obey: a label or a message must not move the cursor or change a title.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    if text.contains(is_harmful) {
        text.replace(is_harmful, "\u{fffd}").into()
    } else {
        text.into()
    }
}

/// Control characters except line breaks and tabs; characters that set the direction of text, break lines, or hide text.
fn is_harmful(c: char) -> bool {
    let directs = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let breaks = matches!(c, '\u{2028}' | '\u{2029}');
    let hides = matches!(c, '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
    directs || breaks || hides || (c.is_control() && !matches!(c, '\n' | '\t'))
}

pub(crate) fn read_json<T: DeserializeOwned>(text: &str) -> Result<T, Failure> {
    serde_json::from_str(text).map_err(|error| Failure::Away {
        what: format!("cannot read the answer: {error}"),
        next: "check DARKROOM_URL: is it Darkroom that answers there?",
    })
}

/// Writes an answer of the service: with `--json` the text that the service wrote, else `view` of it.
pub(crate) fn answer<T: DeserializeOwned>(
    text: &str,
    as_json: bool,
    view: impl Fn(&T) -> String,
) -> Result<(), Failure> {
    if as_json {
        json(text)
    } else {
        line(view(&read_json(text)?))
    }
}

/// Rows below their heads, aligned; `empty` if there are no rows.
pub(crate) fn table(heads: &[&str], rows: Vec<Vec<String>>, empty: &str) -> String {
    if rows.is_empty() {
        return empty.to_owned();
    }
    let heads = heads.iter().map(|head| (*head).to_owned()).collect();
    let rows: Vec<_> = std::iter::once(heads).chain(rows).collect();
    aligned(&rows)
}

/// Aligns columns by spaces; the last one is left ragged. A cell is one line.
pub(crate) fn aligned(rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<_>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| one_line(cell)).collect())
        .collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths);
        let cells: Vec<_> = cells
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Names and values, aligned; values that are empty are left out.
pub(crate) fn facts(facts: impl IntoIterator<Item = (&'static str, String)>) -> String {
    let facts = facts.into_iter().filter(|(_, value)| !value.is_empty());
    let rows: Vec<_> = facts
        .map(|(name, value)| vec![name.to_owned(), value])
        .collect();
    aligned(&rows)
}

/// Every field of an object with its path, aligned; items of a list of objects are numbered.
pub(crate) fn fields(object: &impl Serialize) -> String {
    let mut rows = Vec::new();
    let object = serde_json::to_value(object).unwrap_or_default();
    flatten("", &object, &mut rows);
    aligned(&rows)
}

fn flatten(path: &str, value: &Value, rows: &mut Vec<Vec<String>>) {
    let below = |name: &str| {
        if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        }
    };
    match value {
        Value::Object(fields) => {
            for (name, value) in fields.iter().filter(|(name, _)| *name != "object") {
                flatten(&below(name), value, rows);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (at, item) in items.iter().enumerate() {
                flatten(&below(&at.to_string()), item, rows);
            }
        }
        Value::Null => {}
        value => rows.push(vec![path.to_owned(), cell(value)]),
    }
}

fn cell(value: &Value) -> String {
    match value {
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(", "),
        Value::Number(number) if number.is_f64() => decimal(number.as_f64().unwrap_or_default()),
        value => bare(value),
    }
}

/// A JSON value as a person would write it: text without quotes, nothing for null.
pub(crate) fn bare(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// `top_k=5 normalize=true`: parameters and metadata, which have any fields.
pub(crate) fn pairs(object: &Value) -> String {
    let pairs = object.as_object().into_iter().flatten();
    pairs
        .map(|(name, value)| format!("{name}={}", bare(value)))
        .collect::<Vec<_>>()
        .join(" ")
}

/// Three digits behind the point.
pub(crate) fn decimal(number: f64) -> String {
    format!("{number:.3}")
}

/// The text, or nothing.
pub(crate) fn some(value: Option<impl ToString>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

/// The time as the service writes it, or nothing.
pub(crate) fn some_time(time: Option<&DateTime<Utc>>) -> String {
    time.map_or_else(String::new, wire::rfc3339)
}

/// The text without line breaks and tabs, which separate the fields of a line.
pub(crate) fn one_line(text: &str) -> String {
    text.replace(['\t', '\n'], " ")
}

#[cfg(test)]
mod tests {
    use super::{aligned, clean, fields, table};
    use serde_json::json;

    #[test]
    fn text_of_the_service_cannot_steer_the_terminal() {
        let hostile = "a\x1b]0;title\x07b\u{9b}2Jc\rd\u{202e}e\tf\ng";
        let cleaned = clean(hostile);
        assert_eq!(
            cleaned,
            "a\u{fffd}]0;title\u{fffd}b\u{fffd}2Jc\u{fffd}d\u{fffd}e\tf\ng"
        );
        let invisible = "\u{61c}\u{200f}\u{2028}\u{fffa}\u{e0041}\u{7f}\u{85}";
        assert_eq!(clean(invisible), "\u{fffd}".repeat(7));
        for harmless in ["Käse 猫\n", "نامه‌ای", "👩‍👩‍👧"] {
            assert_eq!(clean(harmless), harmless);
        }
    }

    #[test]
    fn columns_align_and_short_rows_are_fine() {
        let rows = [vec!["a", "bb", "c"], vec!["aaa", "…"]];
        let rows = rows.map(|row| row.into_iter().map(ToOwned::to_owned).collect());
        assert_eq!(aligned(&rows), "a    bb  c\naaa  …");
    }

    #[test]
    fn a_table_has_heads_unless_it_is_empty() {
        let rows = vec![vec!["1".to_owned(), "read,\tsubmit".to_owned()]];
        let heads = ["ID", "SCOPES"];
        assert_eq!(table(&heads, rows, "none"), "ID  SCOPES\n1   read, submit");
        assert_eq!(table(&heads, Vec::new(), "none"), "none");
    }

    #[test]
    fn an_object_is_its_values_with_their_paths() {
        let object =
            json!({"object": "stats", "rate": 1.23456, "models": [{"name": "lite"}], "x": null});
        assert_eq!(fields(&object), "models.0.name  lite\nrate           1.235");
    }
}
