//! `output.path` of a manifest: where the output is in the answer of the model.

use serde::{Deserialize, Serialize};

/// Most steps of a path.
const STEPS_MAX: usize = 8;
/// Most bytes of a path.
const BYTES_MAX: usize = 200;

/// Steps into the answer of a model, joined by dots: `out`, `1`, `0.boxes`. A number is an index into a tuple or a list, or
/// the key of a dict. Anything else is the key of a dict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, derive_more::Display)]
#[serde(transparent)]
pub struct AnswerPath(String);

impl AnswerPath {
    /// The path that goes one step further than `path`, or that has only this step. The step has no dot.
    pub fn step_from(path: Option<&Self>, step: &str) -> Self {
        Self(path.map_or_else(|| step.to_owned(), |path| format!("{path}.{step}")))
    }

    /// The steps, from the whole answer to the part.
    pub fn steps(&self) -> impl Iterator<Item = &str> {
        self.0.split('.')
    }

    /// What is wrong with the path, in words.
    pub(super) fn mistake(&self) -> Option<String> {
        if self.steps().any(str::is_empty) {
            return Some("has an empty step: steps are joined by single dots".into());
        }
        let is_short = self.0.len() <= BYTES_MAX && self.steps().count() <= STEPS_MAX;
        let most = format!("wants {STEPS_MAX} steps and {BYTES_MAX} bytes at most");
        (!is_short).then_some(most)
    }
}

#[cfg(test)]
mod tests {
    use super::AnswerPath;

    fn path(text: &str) -> AnswerPath {
        AnswerPath(text.to_owned())
    }

    #[test]
    fn a_path_is_made_of_steps() {
        assert!(path("1.boxes").steps().eq(["1", "boxes"]));
        for right in ["out", "0", "0.1.2.3.4.5.6.7", "_pred boxes"] {
            assert_eq!(path(right).mistake(), None, "{right}");
        }
        for wrong in ["", ".", "out.", ".out", "a..b", "0.1.2.3.4.5.6.7.8"] {
            assert!(path(wrong).mistake().is_some(), "{wrong}");
        }
        assert!(path(&"a".repeat(201)).mistake().is_some());
    }
}
