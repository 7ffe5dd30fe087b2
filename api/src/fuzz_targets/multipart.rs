use actix_web::{HttpRequest, http::header::HeaderValue, web::Bytes};
use jobs::Sha256Digest;
use sha2::{Digest, Sha256};
use wire::JobRequest;

use super::requests::{LIMITS, body, read_alike, request, run, share};
use crate::{
    batches::{BatchReader, entry::BatchEntry},
    http::body::BodyClock,
    submit::forms::read_multipart,
};

/// A form of one job, and a form of a batch, are read alike however their bytes arrive. A file in a form stays as it is.
///
/// The first line of the bytes is the `Content-Type` of the request, the rest is its body.
pub fn multipart(bytes: &[u8]) {
    let line_end = bytes.iter().position(|byte| *byte == b'\n');
    let Some((content_type, form)) = line_end.and_then(|end| bytes.split_at_checked(end + 1))
    else {
        return;
    };
    let Ok(content_type) = HeaderValue::from_bytes(content_type.trim_ascii_end()) else {
        return;
    };
    let request = request(content_type);
    // A form may be refused.
    let _ = read_alike(form, |pieces| run(read_form(&request, pieces)));
    let _ = read_alike(form, |pieces| run(read_files(&request, pieces)));
    keep_file(form);
}

async fn read_form(
    request: &HttpRequest,
    pieces: Vec<Bytes>,
) -> Result<(JobRequest, Sha256Digest), String> {
    let body = body(request, pieces).await;
    let clock = BodyClock::start(&LIMITS);
    let form = read_multipart(&LIMITS, request, body, &clock).await;
    let (job, upload) = form.map_err(|error| error.to_string())?;
    Ok((job, upload.image.sha256))
}

/// The entries up to the end or the first error; then the digest of the form, or the error.
async fn read_files(
    request: &HttpRequest,
    pieces: Vec<Bytes>,
) -> (Vec<String>, Result<Sha256Digest, String>) {
    let mut entries = Vec::new();
    let reader = BatchReader::of(request, body(request, pieces).await, share(), &LIMITS);
    let mut reader = match reader {
        Ok(reader) => reader,
        Err(error) => return (entries, Err(error.to_string())),
    };
    loop {
        match reader.next().await {
            Ok(Some(entry)) => entries.push(describe(&entry)),
            Ok(None) => return (entries, Ok(reader.digest())),
            Err(error) => return (entries, Err(error.to_string())),
        }
    }
}

/// What is equal in all readings of an entry: all but the time and the random id of the upload.
fn describe(entry: &BatchEntry) -> String {
    match entry {
        BatchEntry::Line(line) => format!("line {}", line.text.escape_ascii()),
        BatchEntry::File {
            custom_id,
            request,
            upload,
            ..
        } => format!("{custom_id:?} {request:?} {}", upload.image.sha256),
        BatchEntry::Refused { custom_id, problem } => {
            format!("{custom_id:?} {:?} {}", problem.code, problem.detail)
        }
    }
}

/// A form with any file has the digest of this file.
fn keep_file(file: &[u8]) {
    const HEAD: &[u8] =
        b"--x\r\nContent-Disposition: form-data; name=\"image\"; filename=\"a\"\r\n\r\n";
    // Clients choose boundaries that are in no part.
    if (0..file.len()).any(|at| file[at..].starts_with(b"\r\n--x")) {
        return;
    }
    let form = [HEAD, file, b"\r\n--x--\r\n"].concat();
    let request = request(HeaderValue::from_static("multipart/form-data; boundary=x"));
    let (entries, digest) = read_alike(&form, |pieces| run(read_files(&request, pieces)));
    let mut hasher = Sha256::new_with_prefix("multipart/form-data\n\na\n");
    hasher.update(Sha256::digest(file));
    assert_eq!(
        (entries.len(), digest),
        (1, Ok(Sha256Digest::finish(hasher)))
    );
}
