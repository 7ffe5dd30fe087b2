//! Answers without a page of their own: lists as tables, objects as names and values.

use serde_json::Value;

use super::{bare, table};

/// A column: its head, and where its value is in each item (a JSON pointer).
pub(crate) type Column = (&'static str, &'static str);

/// The items of an array as a table; `none` if there are none.
pub(crate) fn rows(items: &Value, columns: &[Column], none: &str) -> String {
    let items = items.as_array().map_or(&[][..], Vec::as_slice);
    if items.is_empty() {
        return none.to_owned();
    }
    let heads = columns.iter().map(|(head, _)| (*head).to_owned()).collect();
    let row = |item: &Value| {
        let cells = columns.iter().map(|(_, at)| item.pointer(at));
        cells
            .map(|value| value.map_or_else(String::new, cell))
            .collect()
    };
    let rows: Vec<Vec<String>> = std::iter::once(heads)
        .chain(items.iter().map(row))
        .collect();
    table::aligned(&rows)
}

/// Every value of an object with its path; lists of objects are numbered.
pub(crate) fn facts(object: &Value) -> String {
    let mut facts = Vec::new();
    flatten("", object, &mut facts);
    table::aligned(&facts)
}

fn flatten(path: &str, value: &Value, facts: &mut Vec<Vec<String>>) {
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
                flatten(&below(name), value, facts);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (at, item) in items.iter().enumerate() {
                flatten(&below(&at.to_string()), item, facts);
            }
        }
        Value::Null => {}
        value => facts.push(vec![path.to_owned(), cell(value)]),
    }
}

/// One cell: lists with commas, numbers without needless digits.
fn cell(value: &Value) -> String {
    match value {
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(", "),
        Value::Number(number) if number.is_f64() => {
            format!("{:.3}", number.as_f64().unwrap_or_default())
        }
        value => bare(value).replace(['\t', '\n'], " "),
    }
}

#[cfg(test)]
mod tests {
    use super::{facts, rows};
    use serde_json::json;

    #[test]
    fn a_list_is_a_table_of_the_columns_that_matter() {
        let list =
            json!({"data": [{"id": 1, "scopes": ["read", "submit"]}, {"id": 2, "more": true}]});
        let columns = [("ID", "/id"), ("SCOPES", "/scopes")];
        assert_eq!(
            rows(&list["data"], &columns, "none"),
            "ID  SCOPES\n1   read, submit\n2"
        );
        assert_eq!(rows(&json!([]), &columns, "none"), "none");
    }

    #[test]
    fn an_object_is_its_values_with_their_paths() {
        let object =
            json!({"object": "stats", "rate": 1.23456, "models": [{"name": "lite"}], "x": null});
        assert_eq!(facts(&object), "models.0.name  lite\nrate           1.235");
    }
}
