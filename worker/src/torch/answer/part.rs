//! A part of an answer, and the steps to it.

use jobs::manifest::AnswerPath;
use tch::{IValue, Tensor};

use super::describe::describe;

/// A part of an answer. A list of tensors holds them without the wrapper of other values.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part<'a> {
    Tensor(&'a Tensor),
    Value(&'a IValue),
}

/// What is at a path.
#[derive(Debug)]
pub(super) enum Found<'a> {
    One(Part<'a>),
    /// The elements of a list: one for each image.
    Each(Vec<Part<'a>>),
}

/// Follows a path from the whole answer. A key at a list is taken in each of its elements.
///
/// # Errors
/// The part that is missing, in words.
pub(super) fn find<'a>(answer: &'a IValue, path: Option<&AnswerPath>) -> Result<Found<'a>, String> {
    let mut steps = path.into_iter().flat_map(AnswerPath::steps);
    let found = steps.try_fold(Found::One(Part::of(answer)), |found, step| {
        let is_key = step.parse::<usize>().is_err();
        let found = if is_key { found.of_each() } else { found };
        found.step(step)
    });
    Ok(found?.of_each())
}

impl Found<'_> {
    /// The elements instead of a list.
    fn of_each(self) -> Self {
        match self {
            Self::One(part) => part.elements().map_or(self, Self::Each),
            Self::Each(_) => self,
        }
    }

    fn step(self, step: &str) -> Result<Self, String> {
        Ok(match self {
            Self::One(part) => Self::One(part.step(step)?),
            Self::Each(parts) => {
                let parts = parts.into_iter().map(|part| part.step(step));
                Self::Each(parts.collect::<Result<_, _>>()?)
            }
        })
    }
}

impl<'a> Part<'a> {
    fn of(value: &'a IValue) -> Self {
        match value {
            IValue::Tensor(tensor) => Self::Tensor(tensor),
            value => Self::Value(value),
        }
    }

    /// Follows a path from this part.
    pub(super) fn at(self, path: &AnswerPath) -> Result<Self, String> {
        path.steps().try_fold(self, Self::step)
    }

    pub(super) fn tensor(self) -> Result<&'a Tensor, String> {
        match self {
            Self::Tensor(tensor) => Ok(tensor),
            Self::Value(value) => Err(format!("no tensor but {}", describe(value))),
        }
    }

    /// The elements of a list.
    fn elements(self) -> Option<Vec<Self>> {
        match self {
            Self::Value(IValue::TensorList(tensors)) => {
                Some(tensors.iter().map(Part::Tensor).collect())
            }
            Self::Value(IValue::GenericList(values)) => Some(values.iter().map(Part::of).collect()),
            _ => None,
        }
    }

    fn step(self, step: &str) -> Result<Self, String> {
        let found = match self {
            Self::Value(IValue::GenericDict(entries)) => {
                let mut entries = entries.iter();
                let entry = entries.find(|(key, _)| is_key(key, step));
                entry.map(|(_, value)| Part::of(value))
            }
            Self::Value(IValue::Tuple(values)) => {
                let index = step.parse::<usize>().ok();
                index.and_then(|index| values.get(index)).map(Part::of)
            }
            list => {
                let elements = list.elements().unwrap_or_default();
                let index = step.parse::<usize>().ok();
                index.and_then(|index| elements.get(index).copied())
            }
        };
        found.ok_or_else(|| format!("no `{step}`"))
    }
}

fn is_key(key: &IValue, step: &str) -> bool {
    match key {
        IValue::String(key) => key == step,
        IValue::Int(key) => step.parse() == Ok(*key),
        _ => false,
    }
}
