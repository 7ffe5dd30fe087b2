use actix_web::{HttpRequest, http::header::HeaderValue, web::Bytes};
use jobs::Sha256Digest;
use serde_json::{Value, json};

use super::requests::{LIMITS, body, read_alike, request, run, share};
use crate::{
    batches::{
        BatchReader,
        entry::{self, BatchEntry},
    },
    http::error::ApiError,
    submit::{
        job_json::SplitJob,
        job_request::{check, fingerprint, image_location},
    },
};

/// A line as it was read: its text, and the digest of an image that left the text, or the refusal of the image.
type ReadLine = (Vec<u8>, Option<Result<Sha256Digest, String>>);

/// The lines of a batch are cut alike however their bytes arrive. A line that is a job is the same job when it is written
/// and read again.
pub fn ndjson(bytes: &[u8]) {
    let request = request(HeaderValue::from_static("application/x-ndjson"));
    let (lines, _) = read_alike(bytes, |pieces| {
        let read = run(read_lines(&request, pieces));
        read.expect("bytes in time are lines")
    });
    let sent = cut(bytes);
    assert_eq!(lines.len(), sent.len());
    for (line, sent) in lines.iter().zip(&sent) {
        match (line, sent) {
            (None, None) => {}
            (Some((text, image)), Some(sent)) => {
                match image {
                    None => assert_eq!(text, sent),
                    Some(Ok(_)) => keep_rest(sent, text),
                    Some(Err(_)) => {}
                }
                rewrite(text);
            }
            _ => panic!("{line:?} was sent as {sent:?}"),
        }
    }
}

/// The lines, `None` for a line that is too long, and the digest of all.
async fn read_lines(
    request: &HttpRequest,
    pieces: Vec<Bytes>,
) -> Result<(Vec<Option<ReadLine>>, Sha256Digest), ApiError> {
    let body = body(request, pieces).await;
    let mut reader = BatchReader::of(request, body, share(), &LIMITS)?;
    let mut lines = Vec::new();
    while let Some(entry) = reader.next().await? {
        lines.push(match entry {
            BatchEntry::Line(SplitJob { text, image, .. }) => {
                let image = image.map(|image| match image {
                    Ok(upload) => Ok(upload.image.sha256),
                    Err(error) => Err(error.to_string()),
                });
                Some((text, image))
            }
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

/// A line that lost its image has kept everything else.
fn keep_rest(sent: &[u8], text: &[u8]) {
    let Ok(mut sent) = serde_json::from_slice::<Value>(sent) else {
        return;
    };
    assert!(sent["image"]["data"].is_string(), "{sent}");
    sent["image"]["data"] = "".into();
    let kept = serde_json::from_slice::<Value>(text);
    assert_eq!(kept.ok(), Some(sent));
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
    let _ = job
        .image
        .take()
        .map(|source| image_location(source, None, &LIMITS));
}
