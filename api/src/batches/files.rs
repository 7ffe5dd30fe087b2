use actix_multipart::{Field, Multipart};
use jobs::{ProblemCode, Sha256Digest};
use sha2::{Digest, Sha256};
use wire::JobRequest;

use super::entry::{BatchEntry, is_custom_id};
use crate::{
    config::Limits,
    http::{body::BodyClock, error::ApiError, json::from_json},
    submit::{job_request, spool::Spool},
};

/// Reads a multipart form of many images. Holds one image at a time.
pub(super) struct Files {
    parts: Multipart,
    /// The part `job`, as JSON: the request of every image.
    defaults: Vec<u8>,
    /// With an `Idempotency-Key` the form may be a repetition: a passed deadline then refuses new images only.
    has_idempotency_key: bool,
    hasher: Sha256,
    bytes: u64,
    started: bool,
}

impl std::fmt::Debug for Files {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Files").finish_non_exhaustive()
    }
}

impl Files {
    pub fn new(parts: Multipart, seed: &Sha256, has_idempotency_key: bool) -> Self {
        Self {
            parts,
            defaults: b"{}".to_vec(),
            has_idempotency_key,
            hasher: seed.clone(),
            bytes: 0,
            started: false,
        }
    }

    /// The next image; `None` at the end.
    pub async fn next(
        &mut self,
        clock: &BodyClock,
        limits: &Limits,
    ) -> Result<Option<BatchEntry>, ApiError> {
        while let Some(mut part) = clock.next(&mut self.parts).await? {
            let is_first = !std::mem::replace(&mut self.started, true);
            match part.name() {
                Some("image") => return self.image(&mut part, clock, limits).await.map(Some),
                Some("job") if is_first => self.job(&mut part, clock, limits).await?,
                Some("job") => {
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

    async fn job(
        &mut self,
        part: &mut Field,
        clock: &BodyClock,
        limits: &Limits,
    ) -> Result<(), ApiError> {
        let too_long = || {
            let detail = "the part `job` is too long";
            ApiError::new(ProblemCode::InvalidParams, detail)
        };
        let json = clock.read_all(part, limits.job_bytes_max, too_long).await?;
        let request: JobRequest = from_json(&json)?;
        if request.image.is_some() {
            let detail = "the images come in their parts, not in the part `job`";
            return Err(ApiError::new(ProblemCode::InvalidParams, detail));
        }
        job_request::check(&request, limits)?;
        if !self.has_idempotency_key {
            job_request::check_deadline(&request)?;
        }
        self.hasher.update(&json);
        self.hasher.update(b"\n");
        self.defaults = json;
        Ok(())
    }

    /// Reads one image. A refused one is read to its end too, because other images follow.
    async fn image(
        &mut self,
        part: &mut Field,
        clock: &BodyClock,
        limits: &Limits,
    ) -> Result<BatchEntry, ApiError> {
        let file_name = part
            .content_disposition()
            .and_then(|one| one.get_filename());
        let file_name = file_name.map(str::to_owned);
        self.hasher.update(file_name.as_deref().unwrap_or_default());
        self.hasher.update(b"\n");
        let (mut file_hasher, mut spool) = (Sha256::new(), Ok(Spool::new(limits, 0)));
        while let Some(chunk) = clock.next(part).await? {
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
                upload,
            }),
            Err(error) => refused(custom_id, error),
        }
    }

    /// A new copy of the request of every image.
    fn defaults(&self) -> Result<JobRequest, ApiError> {
        from_json(&self.defaults)
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
