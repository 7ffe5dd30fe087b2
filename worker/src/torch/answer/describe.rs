//! An answer in words, for the owner of the model.

use tch::{IValue, Tensor};

/// Most elements of a tuple, a list or a dict that are described.
const ELEMENTS_MAX: usize = 6;
/// Deeper parts are left out.
const DEPTH_MAX: usize = 4;

/// The structure of a value with the shapes of its tensors: `({}, [{"boxes": tensor [3, 4]}])`.
pub(super) fn describe(value: &IValue) -> String {
    nested(value, DEPTH_MAX)
}

fn nested(value: &IValue, depth: usize) -> String {
    if depth == 0 {
        return "…".into();
    }
    let each = |value| nested(value, depth - 1);
    match value {
        IValue::Tensor(tensor) => shape(tensor),
        IValue::Tuple(values) => format!("({})", joined(values.iter().map(each))),
        IValue::GenericList(values) => format!("[{}]", joined(values.iter().map(each))),
        IValue::TensorList(tensors) => format!("[{}]", joined(tensors.iter().map(shape))),
        IValue::GenericDict(entries) => {
            let entries = entries.iter().map(|(key, value)| match key {
                IValue::String(key) => format!("{key:?}: {}", each(value)),
                IValue::Int(key) => format!("{key}: {}", each(value)),
                _ => format!("…: {}", each(value)),
            });
            format!("{{{}}}", joined(entries))
        }
        IValue::None => "None".into(),
        IValue::Int(_) => "an integer".into(),
        IValue::Double(_) => "a number".into(),
        IValue::Bool(_) => "a boolean".into(),
        IValue::String(_) => "a string".into(),
        _ => "a value of another type".into(),
    }
}

fn shape(tensor: &Tensor) -> String {
    format!("tensor {:?}", tensor.size())
}

fn joined(parts: impl ExactSizeIterator<Item = String>) -> String {
    let left_out = parts.len().saturating_sub(ELEMENTS_MAX);
    let mut parts: Vec<_> = parts.take(ELEMENTS_MAX).collect();
    if left_out > 0 {
        parts.push(format!("… {left_out} more"));
    }
    parts.join(", ")
}
