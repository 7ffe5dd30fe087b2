//! The columns of `output.boxes` in JSON: `ignore*51` stands for 51 columns `ignore`.

use serde::{
    Deserialize, Deserializer, Serializer,
    de::{Error, value::StrDeserializer},
};

use super::Column;

/// Most columns that a manifest may name.
const COLUMNS_MAX: usize = 10_000;

pub(super) fn serialize<S: Serializer>(
    columns: &[Column],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let runs = columns.chunk_by(|a, b| *a == Column::Ignore && *b == Column::Ignore);
    serializer.collect_seq(runs.map(|run| match run {
        [column] => column.to_string(),
        ignored => format!("{}*{}", Column::Ignore, ignored.len()),
    }))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<Column>, D::Error> {
    let mut columns = Vec::new();
    for text in Vec::<String>::deserialize(deserializer)? {
        let (column, count) = column(&text)?;
        if count > COLUMNS_MAX - columns.len() {
            return Err(D::Error::custom(format!(
                "has more than {COLUMNS_MAX} columns"
            )));
        }
        columns.extend(std::iter::repeat_n(column, count));
    }
    Ok(columns)
}

fn column<E: Error>(text: &str) -> Result<(Column, usize), E> {
    let Some(count) = text.strip_prefix("ignore*") else {
        return Ok((Column::deserialize(StrDeserializer::<E>::new(text))?, 1));
    };
    match count.parse() {
        Ok(count) if count > 0 => Ok((Column::Ignore, count)),
        _ => Err(E::custom(format!(
            "`{text}` wants a number of columns, like `ignore*51`"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::manifest::{BoxesSpec, Column};

    fn read(columns: &Value) -> Result<BoxesSpec, String> {
        serde_json::from_value(json!({ "columns": columns })).map_err(|error| error.to_string())
    }

    #[test]
    fn ignored_columns_are_counted_and_stored_as_they_were_read() {
        let columns = json!(["ignore", "x1", "ignore*3", "score"]);
        let spec = read(&columns).expect("columns");
        let mut expected = vec![Column::Ignore, Column::X1];
        expected.extend([Column::Ignore; 3]);
        expected.push(Column::Score);
        assert_eq!(spec.columns, expected);
        assert_eq!(
            serde_json::to_value(&spec).expect("JSON")["columns"],
            columns
        );
    }

    #[test]
    fn a_count_that_is_no_number_or_too_large_is_refused() {
        for (columns, why) in [
            (json!(["ignore*"]), "like `ignore*51`"),
            (json!(["ignore*0"]), "like `ignore*51`"),
            (json!(["ignore*-1"]), "like `ignore*51`"),
            (json!(["ignore*9999", "x1", "ignore"]), "more than 10000"),
            (json!(["score*2"]), "unknown variant `score*2`"),
        ] {
            let refused = read(&columns).expect_err("refused");
            assert!(refused.contains(why), "{columns}: {refused}");
        }
    }
}
