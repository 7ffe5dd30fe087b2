//! Reads `model.json`, and names every mistake in it at once.
//!
//! serde stops at the first mistake. So each field is tried alone, within a small manifest that is right. What serde says
//! about this field is then a mistake of this field. There is no second schema that could differ from the types.

mod words;

use serde_json::{Map, Value, json};

use super::{Manifest, Mistake, text::text};

/// Most bytes of a manifest.
const MANIFEST_BYTES_MAX: usize = 1 << 20;
/// Most mistakes of types that are named for one manifest.
const MISTAKES_MAX: usize = 100;

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("it has more than {MANIFEST_BYTES_MAX} bytes")]
    TooLong,
    #[error("it {0}")]
    NotText(String),
    #[error("it is not JSON: {0}")]
    NotJson(#[from] serde_json::Error),
    #[error("it has {} mistakes", .0.len())]
    Mistakes(Vec<Mistake>),
}

impl Manifest {
    /// Reads the bytes of `model.json`.
    ///
    /// # Errors
    /// The bytes are not JSON, or the manifest has mistakes: unknown fields, wrong types, fields that are missing, and
    /// what [`Manifest::mistakes`] finds.
    pub fn read(bytes: &[u8]) -> Result<Self, ReadError> {
        if bytes.len() > MANIFEST_BYTES_MAX {
            return Err(ReadError::TooLong);
        }
        let text = text(bytes).map_err(ReadError::NotText)?;
        let given: Value = serde_json::from_str(text)?;
        let mistakes = match serde_json::from_str::<Self>(text) {
            Ok(manifest) => {
                let mistakes = manifest.mistakes();
                if mistakes.is_empty() {
                    return Ok(manifest);
                }
                mistakes
            }
            Err(error) => mistakes_of(&given, &error.to_string()),
        };
        Err(ReadError::Mistakes(mistakes))
    }
}

/// The mistakes of JSON that is not a manifest. `first` is what serde says about the whole.
fn mistakes_of(given: &Value, first: &str) -> Vec<Mistake> {
    let whole = |detail: String| Mistake {
        field: "the manifest".into(),
        detail,
    };
    let Value::Object(given) = given else {
        return vec![whole("must be an object".into())];
    };
    let mut probe = Probe::of(given);
    let repaired = probe.object(&[], given);
    let mut mistakes = probe.mistakes;
    // The same tests as for a manifest with the right types, for everything that does not depend on a repaired field.
    if let Ok(repaired) = serde_json::from_value::<Manifest>(Value::Object(repaired)) {
        let depends = |further: &Mistake| {
            let mut known = mistakes.iter().map(|one| &one.field);
            let mut stand_ins = probe.stand_ins.iter();
            known.any(|known| overlap(&further.field, known))
                || stand_ins.any(|field| depends_on(&further.field, field))
        };
        let further: Vec<_> = repaired.mistakes();
        let further: Vec<_> = further.into_iter().filter(|one| !depends(one)).collect();
        mistakes.extend(further);
    }
    if mistakes.is_empty() {
        // Like a field that occurs twice: every value alone is right.
        mistakes.push(whole(first.to_owned()));
    }
    mistakes
}

fn is_within(inner: &str, outer: &str) -> bool {
    let rest = inner.strip_prefix(outer);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Whether one of these fields is the other, or is in the other.
fn overlap(one: &str, other: &str) -> bool {
    is_within(one, other) || is_within(other, one)
}

/// Whether a mistake of `field` may only be there because `repaired` has another value than the manifest.
fn depends_on(field: &str, repaired: &str) -> bool {
    let of_task = ["output", "params", "labels"];
    overlap(field, repaired)
        || (repaired == "task" && of_task.iter().any(|outer| is_within(field, outer)))
        || (is_within(repaired, "input.resize") && is_within(field, "input"))
        || (repaired == "output.mask" && is_within(field, "params"))
}

/// Tries the fields of a manifest one by one.
struct Probe {
    /// A manifest that is right. It has every object that has fields of its own.
    right: Value,
    mistakes: Vec<Mistake>,
    /// Fields whose value in the repaired manifest is not the one that was meant, and fields without their value.
    stand_ins: Vec<String>,
}

impl Probe {
    fn of(given: &Map<String, Value>) -> Self {
        let params = given.get("params").and_then(Value::as_object);
        let params = params.into_iter().flatten().map(|(name, param)| {
            let right = match param["type"].as_str() {
                Some("boolean") => json!({"type": "boolean", "default": true}),
                Some("number") => json!({"type": "number", "default": 1}),
                _ => json!({"type": "integer", "default": 1}),
            };
            (name.clone(), right)
        });
        let right = json!({
            "name": "right", "task": "raw", "artifact": "model.pt",
            "input": {"width": 1, "height": 1, "resize": {"shorter_side": 1, "crop": 1},
                      "mean": [0, 0, 0], "std": [1, 1, 1]},
            "output": {"boxes": {"columns": []}},
            "params": params.collect::<Map<_, _>>(),
        });
        Self {
            right,
            mistakes: Vec::new(),
            stand_ins: Vec::new(),
        }
    }

    /// Adds the mistakes of an object and of the objects in it. Returns the object without these mistakes.
    fn object(&mut self, path: &[&str], given: &Map<String, Value>) -> Map<String, Value> {
        let right = self.at(path).and_then(Value::as_object);
        let right = right.cloned().unwrap_or_default();
        let mut repaired = Map::new();
        let mut meant = Vec::new();
        for (name, value) in given {
            let path = [path, &[name]].concat();
            let Err(message) = self.with(&path, Some(value)) else {
                repaired.insert(name.clone(), value.clone());
                continue;
            };
            if let Value::Object(value) = value
                && right.get(name).is_some_and(Value::is_object)
            {
                let value = self.object(&path, value);
                repaired.insert(name.clone(), Value::Object(value));
                continue;
            }
            self.value(&path, value, &message);
            if let Some(field) = words::meant_field(&message) {
                let path = [&path[..path.len() - 1], &[&field]].concat();
                if !given.contains_key(&field) && self.with(&path, Some(value)).is_ok() {
                    repaired.insert(field.clone(), value.clone());
                }
                meant.push(field);
            }
            let meant_value = words::meant_value(&message).map(Value::String);
            if let Some(value) = meant_value.filter(|one| self.with(&path, Some(one)).is_ok()) {
                repaired.insert(name.clone(), value);
                continue;
            }
            self.stand_ins.push(path.join("."));
            if let Some(right) = right.get(name) {
                repaired.insert(name.clone(), right.clone());
            }
        }
        for (name, right) in &right {
            let path = [path, &[name]].concat();
            let is_known = given.contains_key(name) || repaired.contains_key(name);
            if is_known || self.with(&path, None).is_ok() {
                continue;
            }
            // A field with a typo is one mistake, not two.
            if !meant.contains(name) {
                self.add(path.join("."), "is missing".into());
            }
            self.stand_ins.push(path.join("."));
            repaired.insert(name.clone(), right.clone());
        }
        repaired
    }

    /// Adds the mistake of a value. The items of a list are tried alone, so that each wrong item is named.
    fn value(&mut self, path: &[&str], value: &Value, message: &str) {
        let field = path.join(".");
        if let Value::Array(items) = value {
            let tried = items
                .iter()
                .map(|item| self.with(path, Some(&json!([item]))));
            let tried: Vec<_> = tried.collect();
            // If no item is right alone, the list wants a certain length.
            if tried.iter().any(Result::is_ok) && tried.iter().any(Result::is_err) {
                for (index, message) in tried.into_iter().enumerate() {
                    if let Err(message) = message {
                        self.add(format!("{field}[{index}]"), words::plain(&message));
                    }
                }
                return;
            }
        }
        self.add(field, words::plain(message));
    }

    fn add(&mut self, field: String, detail: String) {
        if self.mistakes.len() < MISTAKES_MAX {
            self.mistakes.push(Mistake { field, detail });
        }
    }

    fn at(&self, path: &[&str]) -> Option<&Value> {
        path.iter()
            .try_fold(&self.right, |value, name| value.get(name))
    }

    /// What serde says about the manifest that is right, with one field replaced or left out.
    fn with(&self, path: &[&str], value: Option<&Value>) -> Result<(), String> {
        let mut manifest = self.right.clone();
        if let Some((name, parents)) = path.split_last() {
            let parent = parents
                .iter()
                .try_fold(&mut manifest, |value, name| value.get_mut(name));
            if let Some(Value::Object(parent)) = parent {
                match value {
                    Some(value) => parent.insert((*name).to_owned(), value.clone()),
                    None => parent.remove(*name),
                };
            }
        }
        let read = serde_json::from_value::<Manifest>(manifest);
        read.map(|_| ()).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests;
