//! The fuzz target `manifest`: a function that takes any bytes and panics if a rule is broken. `fuzz/run` runs it under
//! libFuzzer; the test below runs it over the manifests of this repository and altered copies.

use serde_json::Map;

use crate::manifest::{Manifest, ReadError};

/// A manifest without mistakes is stored as JSON, and read again by workers. So it must survive this, and its defaults must
/// be parameters that it accepts.
pub fn manifest(bytes: &[u8]) {
    let manifest = match Manifest::read(bytes) {
        Ok(manifest) => manifest,
        Err(ReadError::Mistakes(mistakes)) => {
            assert!(!mistakes.is_empty(), "refused without a reason");
            return;
        }
        Err(_) => return,
    };
    let stored = serde_json::to_vec(&manifest).expect("a manifest is JSON");
    let read: Manifest = serde_json::from_slice(&stored).expect("a stored manifest is a manifest");
    assert_eq!(read, manifest);
    let defaults = manifest.params(&Map::new()).expect("defaults are accepted");
    assert_eq!(
        manifest.params(&defaults).expect("defaults are accepted"),
        defaults
    );
    if let Some(boxes) = &manifest.output.boxes {
        boxes
            .layout()
            .expect("columns without mistakes have a layout");
    }
}

#[cfg(test)]
mod tests {
    use fuzzing::smoke;

    #[test]
    fn a_manifest_without_mistakes_survives_being_stored() {
        smoke(
            super::manifest,
            &["models", "tests/fixtures/tasks"],
            "model.json",
            5_000,
        );
    }
}
