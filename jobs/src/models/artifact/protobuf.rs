//! ONNX and the SavedModel of TensorFlow are protobuf, which has no magic bytes. The numbers of their fields tell them.

use std::io::{Read, Seek, SeekFrom};

use super::ArtifactKind;

/// Fields at the top of a file that are looked at. A model has about ten.
const FIELDS_MAX: usize = 100;
/// Bytes of a key and a length.
const FIELD_HEAD_BYTES: u64 = 20;

/// Fields of ONNX's `ModelProto`, and its `ir_version` and `graph`.
const ONNX_FIELDS: [u64; 11] = [1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25];
const VERSION: u64 = 1;
const GRAPH: u64 = 7;
const ONNX_VERSION_MAX: u64 = 50;
/// The other field of TensorFlow's `SavedModel`, which has two.
const META_GRAPHS: u64 = 2;

/// Reads the fields at the top of the file. Their contents are skipped.
pub(super) fn recognize(reader: &mut (impl Read + Seek), bytes: u64) -> Option<ArtifactKind> {
    let (mut at, mut version, mut fields) = (0, None, Vec::new());
    while at < bytes && fields.len() < FIELDS_MAX {
        // Other bytes lead anywhere, also to a place that a reader of the two ends of a file does not know.
        reader.seek(SeekFrom::Start(at)).ok()?;
        let mut head = Vec::new();
        let mut piece = reader.by_ref().take(FIELD_HEAD_BYTES);
        piece.read_to_end(&mut head).ok()?;
        let (number, value, end) = field(&head)?;
        if number == VERSION {
            version = Some(value.number());
        }
        fields.push(number);
        at = at.saturating_add(end).saturating_add(value.content_bytes());
    }
    let has_only = |known: &[u64]| fields.iter().all(|number| known.contains(number));
    let version = version.unwrap_or(0);
    if has_only(&ONNX_FIELDS)
        && fields.contains(&GRAPH)
        && (1..=ONNX_VERSION_MAX).contains(&version)
    {
        return Some(ArtifactKind::Onnx);
    }
    let is_saved_model = version == 1 && fields.contains(&META_GRAPHS) && at == bytes;
    (has_only(&[VERSION, META_GRAPHS]) && is_saved_model).then_some(ArtifactKind::SavedModel)
}

enum Value {
    Number(u64),
    /// Bytes of this length follow.
    Content(u64),
}

impl Value {
    fn number(&self) -> u64 {
        match self {
            Self::Number(number) => *number,
            Self::Content(_) => 0,
        }
    }

    fn content_bytes(&self) -> u64 {
        match self {
            Self::Number(_) => 0,
            Self::Content(bytes) => *bytes,
        }
    }
}

/// The number of a field, its value, and the length of both. `None`: this is neither a number nor a content.
fn field(head: &[u8]) -> Option<(u64, Value, u64)> {
    let (key, rest) = varint(head)?;
    let (value, rest) = varint(rest)?;
    let value = match key & 7 {
        0 => Value::Number(value),
        2 => Value::Content(value),
        _ => return None,
    };
    Some((key >> 3, value, (head.len() - rest.len()) as u64))
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0;
    for (at, byte) in bytes.iter().take(10).enumerate() {
        number |= u64::from(byte & 0x7f).checked_shl(7 * at as u32)?;
        if byte & 0x80 == 0 {
            return Some((number, &bytes[at + 1..]));
        }
    }
    None
}
