//! The messages of serde in the words of a manifest.

/// What serde calls a type, and what a reader of JSON calls it.
const TYPES: [(&str, &str); 15] = [
    ("u8", "a whole number of 0 to 255"),
    ("u16", "a whole number of 0 to 65535"),
    ("u32", "a whole number, 0 or more"),
    ("i64", "a whole number"),
    ("f32", "a number"),
    ("f64", "a number"),
    ("a boolean", "true or false"),
    ("a string", "a text"),
    ("string or map", "a text"),
    ("a sequence", "a list"),
    ("a map", "an object"),
    ("an array of length 3", "a list of 3"),
    ("sequence", "a list"),
    ("map", "an object"),
    ("null", "null"),
];
/// Most edits between a name and the known name that was meant.
const EDITS_MAX: usize = 3;

/// The message of serde about one field, in words that follow the name of the field.
pub(super) fn plain(message: &str) -> String {
    if let Some(rest) = message.strip_prefix("unknown field ") {
        return unknown("is unknown", rest);
    }
    if let Some(rest) = message.strip_prefix("unknown variant ") {
        let name = rest.split('`').nth(1).unwrap_or_default();
        return unknown(&format!("`{name}` is unknown"), rest);
    }
    if let Some(name) = message.strip_prefix("missing field ") {
        return format!("{name} is missing");
    }
    for kind in ["invalid type: ", "invalid value: ", "invalid length "] {
        if let Some((given, expected)) = message
            .strip_prefix(kind)
            .and_then(|rest| rest.split_once(", expected "))
        {
            return format!("wants {}, not {}", json_type(expected), json_type(given));
        }
    }
    message.to_owned()
}

/// The known field that a message about an unknown field is close to.
pub(super) fn meant_field(message: &str) -> Option<String> {
    meant(message.strip_prefix("unknown field ")?)
}

/// The known value that a message about an unknown value is close to.
pub(super) fn meant_value(message: &str) -> Option<String> {
    meant(message.strip_prefix("unknown variant ")?)
}

/// `rest`: the unknown name, then the known names, all in backticks.
fn meant(rest: &str) -> Option<String> {
    let mut names = rest.split('`').skip(1).step_by(2);
    let name = names.next()?;
    nearest(name, names).map(str::to_owned)
}

/// `rest`: the unknown name, then the known names, all in backticks.
fn unknown(what: &str, rest: &str) -> String {
    let mut names = rest.split('`').skip(1).step_by(2);
    let name = names.next().unwrap_or_default();
    let known: Vec<_> = names.collect();
    match nearest(name, known.iter().copied()) {
        Some(nearest) => format!("{what}; did you mean `{nearest}`?"),
        None if known.is_empty() => what.to_owned(),
        None => format!("{what}; known are `{}`", known.join("`, `")),
    }
}

fn json_type(word: &str) -> String {
    if word.starts_with("struct ") || word.starts_with("internally tagged enum") {
        return "an object".into();
    }
    let known = TYPES.iter().find(|(serde, _)| *serde == word);
    if let Some((_, plain)) = known {
        return (*plain).to_owned();
    }
    // `integer `5``, `string "5"`: the value alone is clear.
    let kinds = ["integer `", "floating point `", "boolean `"];
    let number = kinds.iter().find_map(|kind| word.strip_prefix(kind));
    if let Some(number) = number {
        return number.trim_end_matches('`').to_owned();
    }
    word.strip_prefix("string ").unwrap_or(word).to_owned()
}

fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let edits_max = EDITS_MAX.min(name.len() / 2);
    let known = known.map(|known| (edits(name, known), known));
    let nearest = known.min_by_key(|(edits, _)| *edits);
    nearest
        .filter(|(edits, _)| *edits <= edits_max)
        .map(|(_, known)| known)
}

/// The number of bytes to add, remove or replace (Levenshtein), with an end to the work for a name of any length.
fn edits(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len().abs_diff(b.len()) > EDITS_MAX {
        return usize::MAX;
    }
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (row, from) in a.iter().enumerate() {
        let mut line = vec![row + 1];
        for (column, to) in b.iter().enumerate() {
            let replaced = above[column] + usize::from(from != to);
            line.push(replaced.min(above[column + 1] + 1).min(line[column] + 1));
        }
        above = line;
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::{edits, plain};

    #[test]
    fn the_edits_between_two_names_are_counted() {
        assert_eq!(edits("artefact", "artifact"), 1);
        assert_eq!(edits("collumns", "columns"), 1);
        assert_eq!(edits("std", "std"), 0);
        assert_eq!(edits("a", "abcdefgh"), usize::MAX);
    }

    #[test]
    fn a_message_of_another_form_stays_as_it_is() {
        assert_eq!(
            plain("has more than 10 columns"),
            "has more than 10 columns"
        );
    }
}
