//! The fuzz targets `manifest` and `artifact`: functions that take any bytes and panic if a rule is broken. `fuzz/run` runs
//! these under libFuzzer; the tests below run these over files of this repository and altered copies.

use std::io::Cursor;

use fuzzing::{PieceReader, peak_bytes};
use serde_json::Map;

use crate::{
    manifest::{Manifest, ReadError},
    models::artifact::{find_damage, recognize},
};

/// Memory that recognition may take for a small file.
const RECOGNITION_BYTES_MAX: u64 = 16 << 20;

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

/// Recognition gives an answer for any bytes, the same one in pieces, and takes little memory. Only a kind that cannot run has
/// advice. Every message is printable.
pub fn artifact(bytes: &[u8]) {
    let length = bytes.len() as u64;
    let (kind, peak) = peak_bytes(|| recognize(Cursor::new(bytes), length));
    let kind = kind.expect("memory can be read");
    assert!(peak < RECOGNITION_BYTES_MAX, "{peak} bytes for {length}");
    let in_pieces = recognize(PieceReader::new(bytes), length).expect("memory can be read");
    assert_eq!(kind, in_pieces);
    let advice = kind.what_to_do("model.pt");
    assert_eq!(kind.can_run(), advice.is_empty(), "{kind:?}");
    let said = format!("{} {advice}", kind.what_it_is());
    assert!(
        !said.contains(|c: char| c.is_control() && c != '\n'),
        "{said:?}"
    );
    let (damaged, peak) = peak_bytes(|| find_damage(Cursor::new(bytes), length));
    damaged.expect("memory can be read");
    assert!(peak < RECOGNITION_BYTES_MAX, "{peak} bytes for {length}");
}

#[cfg(test)]
mod tests {
    use fuzzing::smoke;

    #[test]
    fn any_bytes_are_recognized_with_little_memory() {
        smoke(super::artifact, &["tests/fixtures/artifacts"], "", 5_000);
    }

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
