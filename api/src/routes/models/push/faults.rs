//! The mistakes of a push, collected so that one answer names all of them.

use std::collections::BTreeSet;

use jobs::{
    ProblemCode,
    manifest::{Manifest, Mistake, ReadError},
};
use serde_json::{Map, Value};

use crate::http::error::ApiError;

/// What a manifest as JSON names, with mistakes elsewhere or without.
#[derive(Debug)]
pub(super) struct NamedParts<'a> {
    pub(super) name: Option<&'a str>,
    pub(super) files: BTreeSet<&'a str>,
    pub(super) labels: Option<&'a str>,
}

impl<'a> NamedParts<'a> {
    pub(super) fn of(manifest: &'a Value) -> Self {
        let text = |field: &str| manifest.get(field).and_then(Value::as_str);
        let labels = text("labels");
        let further = manifest.get("artifacts").and_then(Value::as_object);
        let further = further.into_iter().flat_map(Map::values);
        let files = further.filter_map(Value::as_str);
        Self {
            name: text("name"),
            files: files.chain(text("artifact")).chain(labels).collect(),
            labels,
        }
    }
}

/// The mistakes of one request, which are refused together.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<(String, &'static str, String)>);

impl Faults {
    pub(super) fn add(
        &mut self,
        at: impl Into<String>,
        code: &'static str,
        detail: impl Into<String>,
    ) {
        self.0.push((at.into(), code, detail.into()));
    }

    pub(super) fn add_mistakes(&mut self, mistakes: impl IntoIterator<Item = Mistake>) {
        for mistake in mistakes {
            let at = format!("/manifest/{}", escaped(&mistake.field).replace('.', "/"));
            self.add(at, "invalid", mistake.detail);
        }
    }

    /// Adds every mistake of JSON that is not a manifest.
    pub(super) fn add_unreadable(&mut self, manifest: &Value) {
        match Manifest::read(manifest.to_string().as_bytes()) {
            Err(ReadError::Mistakes(mistakes)) if manifest.is_object() => {
                self.add_mistakes(mistakes);
            }
            Err(ReadError::Mistakes(mistakes)) => {
                let details: Vec<_> = mistakes.into_iter().map(|one| one.detail).collect();
                self.add("/manifest", "invalid", details.join("; "));
            }
            Err(error) => self.add("/manifest", "invalid", error.to_string()),
            Ok(_) => self.add("/manifest", "invalid", "is not a manifest"),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn into_result(self) -> Result<(), ApiError> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(self.into_error())
        }
    }

    pub(super) fn into_error(self) -> ApiError {
        let detail = match self.0.as_slice() {
            [(at, _, detail)] => format!("{at}: {detail}"),
            many => format!("`errors` lists {} mistakes of this push", many.len()),
        };
        let refused = ApiError::new(ProblemCode::InvalidParams, detail);
        let faults = self.0.into_iter();
        faults.fold(refused, |refused, (at, code, detail)| {
            refused.with_error(&at, code, detail)
        })
    }
}

/// A name as one part of a JSON pointer.
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

pub(super) fn pointer_to_file(name: &str) -> String {
    format!("/files/{}", escaped(name))
}
