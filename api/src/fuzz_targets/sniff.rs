use std::io::Cursor;

use jobs::Sha256Digest;

use super::requests::LIMITS;
use crate::{
    config::Limits,
    http::error::ApiError,
    submit::{
        sniff::sniff as read_header,
        spool::{Spool, Upload},
    },
};

/// An upload is taken or refused alike however its bytes arrive, and whether memory or a file holds them.
pub fn sniff(bytes: &[u8]) {
    let whole = receive([bytes], &LIMITS);
    assert_eq!(receive(fuzzing::pieces(bytes), &LIMITS), whole, "in pieces");
    let in_file = Limits {
        spool_memory_bytes_max: 100,
        ..LIMITS.clone()
    };
    assert_eq!(
        receive(fuzzing::pieces(bytes), &in_file),
        whole,
        "in a file"
    );
    let header = read_header(Cursor::new(bytes), &LIMITS);
    match (whole, header) {
        (Ok(upload), Ok(header)) => {
            assert_eq!(upload.content_type, header.format.content_type());
            assert_eq!(upload.sha256, Sha256Digest::of(bytes));
            assert_eq!(upload.bytes, bytes.len());
        }
        (Err(refusal), Err(error)) => assert_eq!(refusal, error.to_string()),
        (upload, header) => panic!("{upload:?}, but its header is {header:?}"),
    }
}

#[derive(Debug, PartialEq)]
struct Received {
    content_type: String,
    sha256: Sha256Digest,
    bytes: usize,
    sides: (i32, i32),
}

fn receive<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    limits: &Limits,
) -> Result<Received, String> {
    let upload = spool(pieces, limits).map_err(|error| error.to_string())?;
    Ok(Received {
        content_type: upload.image.content_type,
        sha256: upload.image.sha256,
        bytes: upload.image.bytes as usize,
        sides: (upload.image.width, upload.image.height),
    })
}

fn spool<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    limits: &Limits,
) -> Result<Upload, ApiError> {
    let mut spool = Spool::new(limits, 0);
    for piece in pieces {
        spool.push(piece)?;
    }
    spool.finish()
}
