use actix_multipart::{Field, Multipart};
use jobs::{ProblemCode, Sha256Digest};
use sha2::{Digest, Sha256};

use super::entry::{Entry, is_custom_id};
use crate::{
    config::Limits,
    error::ApiError,
    job_request::{self, JobRequest, invalid},
    spool::{BodyClock, Spool},
};

/// Reads a form of many images: one in memory or on disk at a time.
pub(super) struct Files {
    parts: Multipart,
    /// The part `job`: what is asked of every image.
    defaults: Vec<u8>,
    /// It may have been taken before: a deadline that has passed since is no fault of the whole, only of what is new.
    is_keyed: bool,
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
    pub fn new(parts: Multipart, seed: &Sha256, is_keyed: bool) -> Self {
        Self {
            parts,
            defaults: b"{}".to_vec(),
            is_keyed,
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
    ) -> Result<Option<Entry>, ApiError> {
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
        let mut json = Vec::new();
        while let Some(chunk) = clock.next(part).await? {
            if json.len() + chunk.len() > limits.job_bytes_max {
                let detail = "the part `job` is too long";
                return Err(ApiError::new(ProblemCode::InvalidParams, detail));
            }
            json.extend_from_slice(&chunk);
        }
        let asked: JobRequest = job_request::from_json(&json)?;
        if asked.image.is_some() {
            let detail = "the images come in their parts, not in the part `job`";
            return Err(ApiError::new(ProblemCode::InvalidParams, detail));
        }
        asked.check(limits)?;
        if !self.is_keyed {
            asked.check_deadline()?;
        }
        self.hasher.update(&json);
        self.hasher.update(b"\n");
        self.defaults = json;
        Ok(())
    }

    /// An image that is refused is read to its end all the same: others come behind it.
    async fn image(
        &mut self,
        part: &mut Field,
        clock: &BodyClock,
        limits: &Limits,
    ) -> Result<Entry, ApiError> {
        let file_name = part
            .content_disposition()
            .and_then(|one| one.get_filename());
        let file_name = file_name.map(str::to_owned);
        self.hasher.update(file_name.as_deref().unwrap_or_default());
        self.hasher.update(b"\n");
        let (mut own, mut spool) = (Sha256::new(), Ok(Spool::new(limits, 0)));
        while let Some(chunk) = clock.next(part).await? {
            self.bytes += chunk.len() as u64;
            if self.bytes > limits.batch_bytes_max {
                return Err(super::lines::too_large(limits));
            }
            own.update(&chunk);
            spool = spool.and_then(|mut spool: Spool<'_>| spool.push(&chunk).map(|()| spool));
        }
        // Of fixed length, so that no two forms of different files look the same.
        self.hasher.update(own.finalize());
        let custom_id = file_name.filter(|name| !name.is_empty());
        if custom_id.as_deref().is_some_and(|name| !is_custom_id(name)) {
            let detail = "the file name, which is the custom_id, must be text of 1 to 256 bytes";
            return refused(None, invalid("/custom_id", "invalid", detail));
        }
        match spool.and_then(Spool::finish) {
            Ok(upload) => Ok(Entry::File {
                custom_id,
                asked: Box::new(self.asked()?),
                upload,
            }),
            Err(error) => refused(custom_id, error),
        }
    }

    fn asked(&self) -> Result<JobRequest, ApiError> {
        job_request::from_json(&self.defaults)
    }

    /// Of all parts so far.
    pub fn digest(&self) -> Sha256Digest {
        Sha256Digest::finish(self.hasher.clone())
    }
}

fn refused(custom_id: Option<String>, error: ApiError) -> Result<Entry, ApiError> {
    let problem = Box::new(error.blamed_on_client()?);
    Ok(Entry::Refused { custom_id, problem })
}
