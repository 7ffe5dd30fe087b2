//! The paths into an answer, for advice about `output.path`.

use jobs::manifest::AnswerPath;
use tch::IValue;

/// Most paths that are looked at.
const PATHS_MAX: usize = 32;
/// Most steps of a path that is looked at.
const DEPTH_MAX: usize = 4;

/// The paths to the parts of an answer; a part comes before its own parts.
pub(super) fn paths(answer: &IValue) -> Vec<AnswerPath> {
    let mut found = Vec::new();
    add(answer, None, DEPTH_MAX, &mut found);
    found
}

fn add(value: &IValue, at: Option<&AnswerPath>, depth: usize, found: &mut Vec<AnswerPath>) {
    let parts: Vec<(String, &IValue)> = match value {
        IValue::Tuple(values) => {
            let values = values.iter().enumerate();
            values
                .map(|(index, value)| (index.to_string(), value))
                .collect()
        }
        IValue::GenericDict(entries) => {
            let entries = entries.iter();
            entries
                .filter_map(|(key, value)| Some((step(key)?, value)))
                .collect()
        }
        // A key at a list is taken in each of its elements.
        IValue::GenericList(values) => match values.first() {
            Some(first) if depth > 0 => return add(first, at, depth - 1, found),
            _ => return,
        },
        _ => return,
    };
    for (step, part) in parts {
        if found.len() == PATHS_MAX || depth == 0 {
            return;
        }
        let path = AnswerPath::step_from(at, &step);
        found.push(path.clone());
        add(part, Some(&path), depth - 1, found);
    }
}

/// The step to the value of this key; `None` if no path can name the key.
fn step(key: &IValue) -> Option<String> {
    match key {
        IValue::String(key) => (!key.is_empty() && !key.contains('.')).then(|| key.clone()),
        IValue::Int(key) => Some(key.to_string()),
        _ => None,
    }
}
