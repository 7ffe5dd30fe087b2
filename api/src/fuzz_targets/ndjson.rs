use actix_web::{HttpRequest, http::header::HeaderValue, web::Bytes};
use jobs::Sha256Digest;
use serde_json::json;

use super::requests::{LIMITS, body, read_alike, request, run};
use crate::{
    batches::{
        BatchReader,
        entry::{self, BatchEntry},
    },
    http::error::ApiError,
    submit::job_request::{check, fingerprint, image_location},
};

/// The lines of a batch are cut alike however their bytes arrive. A line that is a job is the same job when it is written
/// and read again.
pub fn ndjson(bytes: &[u8]) {
    let request = request(HeaderValue::from_static("application/x-ndjson"));
    let (lines, _) = read_alike(bytes, |pieces| {
        let read = run(read_lines(&request, pieces));
        read.expect("bytes in time are lines")
    });
    assert_eq!(lines, cut(bytes));
    lines.iter().flatten().for_each(|line| rewrite(line));
}

/// The lines, `None` for a line that is too long, and the digest of all.
async fn read_lines(
    request: &HttpRequest,
    pieces: Vec<Bytes>,
) -> Result<(Vec<Option<Vec<u8>>>, Sha256Digest), ApiError> {
    let mut reader = BatchReader::of(request, body(request, pieces).await, &LIMITS)?;
    let mut lines = Vec::new();
    while let Some(entry) = reader.next(&LIMITS).await? {
        lines.push(match entry {
            BatchEntry::Line(line) => Some(line),
            _ => None,
        });
    }
    Ok((lines, reader.digest()))
}

/// The lines of a body that is in memory.
fn cut(bytes: &[u8]) -> Vec<Option<Vec<u8>>> {
    let lines = bytes.split(|byte| *byte == b'\n').map(|line| {
        let fits = line.len() <= LIMITS.batch_line_bytes_max;
        fits.then(|| line.trim_ascii().to_vec())
    });
    lines
        .filter(|line| line.as_ref().is_none_or(|line| !line.is_empty()))
        .collect()
}

fn rewrite(line: &[u8]) {
    let (custom_id, job) = entry::parse(line);
    let Some(mut job) = job.ok().filter(|job| check(job, &LIMITS).is_ok()) else {
        return;
    };
    let mut written = serde_json::to_value(&job).expect("a job is JSON");
    written["custom_id"] = json!(custom_id);
    let (custom_id_read, read) = entry::parse(written.to_string().as_bytes());
    let read = read.expect("a written job is a job");
    assert_eq!((custom_id_read, &read), (custom_id, &job));
    let image = Sha256Digest::of(b"");
    assert_eq!(fingerprint(&read, image), fingerprint(&job, image));
    // It may be refused, but must not panic.
    let _ = job.image.take().map(image_location);
}
