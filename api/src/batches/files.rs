use jobs::{ProblemCode, Sha256Digest};
use sha2::{Digest, Sha256};
use wire::JobRequest;

use super::entry::{BatchEntry, is_custom_id};
use crate::{
    config::Limits,
    http::{
        body::BodyClock,
        error::ApiError,
        json::from_json,
        multipart::{Multipart, PartHead},
    },
    submit::{job_request, spool::Spool},
};

/// Reads a multipart form of many images. Holds one image at a time.
pub(super) struct Files<'a> {
    limits: &'a Limits,
    parts: Multipart,
    /// The part `job`, as JSON: the request of every image.
    defaults: Vec<u8>,
    /// With an `Idempotency-Key` the form may be a repetition: a passed deadline then refuses new images only.
    has_idempotency_key: bool,
    hasher: Sha256,
    bytes: u64,
    started: bool,
}

impl std::fmt::Debug for Files<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Files").finish_non_exhaustive()
    }
}

impl<'a> Files<'a> {
    pub fn new(
        parts: Multipart,
        seed: &Sha256,
        has_idempotency_key: bool,
        limits: &'a Limits,
    ) -> Self {
        Self {
            limits,
            parts,
            defaults: b"{}".to_vec(),
            has_idempotency_key,
            hasher: seed.clone(),
            bytes: 0,
            started: false,
        }
    }

    /// The next image; `None` at the end.
    pub async fn next(&mut self, clock: &BodyClock) -> Result<Option<BatchEntry>, ApiError> {
        while let Some(part) = self.parts.next_part(clock).await? {
            let is_first = !std::mem::replace(&mut self.started, true);
            match part.name.as_str() {
                "image" => return self.image(part, clock).await.map(Some),
                "job" if is_first => self.job(clock).await?,
                "job" => {
                    let detail = "the part `job` comes once, before the images";
                    return Err(ApiError::new(ProblemCode::InvalidParams, detail));
                }
                _ => {
                    let detail = "the parts are `job` and `image`; there is another one";
                    return Err(ApiError::new(ProblemCode::InvalidParams, detail));
                }
            }
        }
        Ok(None)
    }

    async fn job(&mut self, clock: &BodyClock) -> Result<(), ApiError> {
        let too_long = || {
            let detail = "the part `job` is too long";
            ApiError::new(ProblemCode::InvalidParams, detail)
        };
        let bytes_max = self.limits.job_bytes_max;
        let json = self.parts.read_all(clock, bytes_max, too_long).await?;
        let request: JobRequest = from_json(&json)?;
        if request.image.is_some() {
            let detail = "the images come in their parts, not in the part `job`";
            return Err(ApiError::new(ProblemCode::InvalidParams, detail));
        }
        job_request::check(&request, self.limits)?;
        if !self.has_idempotency_key {
            job_request::check_deadline(&request)?;
        }
        self.hasher.update(&json);
        self.hasher.update(b"\n");
        self.defaults = json;
        Ok(())
    }

    /// Reads one image. A refused one is read to its end too, because other images follow.
    async fn image(&mut self, part: PartHead, clock: &BodyClock) -> Result<BatchEntry, ApiError> {
        let limits = self.limits;
        let file_name = part.file_name;
        self.hasher.update(file_name.as_deref().unwrap_or_default());
        self.hasher.update(b"\n");
        let (mut file_hasher, mut spool) = (Sha256::new(), Ok(Spool::new(limits, 0)));
        while let Some(chunk) = self.parts.chunk(clock).await? {
            self.bytes += chunk.len() as u64;
            if self.bytes > limits.batch_bytes_max {
                return Err(super::lines::too_large(limits));
            }
            file_hasher.update(&chunk);
            spool = spool.and_then(|mut spool: Spool<'_>| spool.push(&chunk).map(|()| spool));
        }
        // The digest has a fixed length, so that two forms of different files never hash the same bytes.
        self.hasher.update(file_hasher.finalize());
        let custom_id = file_name.filter(|name| !name.is_empty());
        if custom_id.as_deref().is_some_and(|name| !is_custom_id(name)) {
            let detail = "the file name, which is the custom_id, must be text of 1 to 256 bytes";
            return refused(
                None,
                ApiError::invalid_field("/custom_id", "invalid", detail),
            );
        }
        match spool.and_then(Spool::finish) {
            Ok(upload) => Ok(BatchEntry::File {
                custom_id,
                request: Box::new(self.defaults()?),
                request_bytes: self.defaults.len(),
                upload,
            }),
            Err(error) => refused(custom_id, error),
        }
    }

    /// A new copy of the request of every image.
    fn defaults(&self) -> Result<JobRequest, ApiError> {
        from_json(&self.defaults)
    }

    /// Bytes of memory that the reader itself uses, roughly.
    pub fn held_bytes(&self) -> usize {
        self.parts.held_bytes() + self.defaults.len()
    }

    /// The digest of all parts so far.
    pub fn digest(&self) -> Sha256Digest {
        Sha256Digest::finish(self.hasher.clone())
    }
}

fn refused(custom_id: Option<String>, error: ApiError) -> Result<BatchEntry, ApiError> {
    let problem = Box::new(error.into_client_problem()?);
    Ok(BatchEntry::Refused { custom_id, problem })
}
