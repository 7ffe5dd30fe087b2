use std::collections::{HashMap, HashSet};

use actix_web::HttpRequest;
use futures_util::{StreamExt, TryStreamExt, stream};
use jobs::{
    BatchMember, Problem, Sha256Digest,
    batches::{self, AppendOutcome, Chunk, Refusal, Writer},
    images::{self, Image, StoredImage, Suspicion},
    models::Resolved,
    queue::{self, NewJob, QueueError},
};
use serde_json::{Map, Value};
use wire::JobRequest;

use super::entry::{self, BatchEntry};
use crate::{
    ctx::Ctx,
    http::{error::ApiError, trace::traceparent},
    job_fields::new_job,
    limits::{keyring::Caller, quotas::Reservation},
    submit::{
        forms::resolve_model,
        image_input::{ImageInput, no_image, unknown_image},
        job_request::{self, ImageLocation, image_location},
        spool::Upload,
        stored_images,
    },
};

/// Images of one batch that are fetched or stored at the same time.
const IMAGES_IN_PARALLEL: usize = 16;
/// Model references that are resolved once; more are resolved for each line.
const CACHED_MODELS_MAX: usize = 1000;
const CACHED_MODEL_BYTES_MAX: usize = 256;

/// Queues the jobs of one batch.
#[derive(Debug)]
pub(crate) struct BatchIntake<'a> {
    ctx: &'a Ctx,
    caller: &'a Caller,
    traceparent: String,
    /// Resolved models: the lines of a batch name few models, many times.
    models: HashMap<Option<String>, Result<Resolved, Problem>>,
}

/// Consecutive lines of a batch.
#[derive(Debug)]
pub(crate) struct BatchChunk {
    /// Number of the last line, from 1.
    pub lines: i32,
    /// The digest of the request up to there.
    pub sha256: Sha256Digest,
    /// Lines and their numbers.
    pub entries: Vec<(i32, BatchEntry)>,
}

/// A line that was checked, all but its image.
struct Candidate {
    position: i32,
    custom_id: Option<String>,
    request: JobRequest,
    model: Resolved,
    params: Map<String, Value>,
    image: ImageLocation,
}

/// The digest of an image; `None` if the image is not here yet.
fn sha256(image: &ImageLocation) -> Option<Sha256Digest> {
    match image {
        ImageLocation::Stored(sha256) => Some(*sha256),
        ImageLocation::Url(_) => None,
        ImageLocation::Inline(upload) => Some(upload.image.sha256),
    }
}

impl<'a> BatchIntake<'a> {
    pub fn new(ctx: &'a Ctx, caller: &'a Caller, request: &HttpRequest) -> Self {
        Self {
            ctx,
            caller,
            traceparent: traceparent(request),
            models: HashMap::new(),
        }
    }

    /// Queues the jobs of these lines, and records the lines as taken. A refused line is recorded with its problem.
    ///
    /// # Errors
    /// A failure of the service: then no line is recorded.
    pub async fn append(
        &mut self,
        writer: Writer,
        lines: BatchChunk,
    ) -> Result<AppendOutcome, ApiError> {
        let (mut candidates, mut refused) = (Vec::new(), Vec::new());
        for (position, entry) in lines.entries {
            let (custom_id, candidate) = self.candidate(position, entry).await;
            match candidate {
                Ok(mut candidate) => {
                    candidate.custom_id = custom_id;
                    candidates.push(candidate);
                }
                Err(error) => refused.push(refusal(position, custom_id, error)?),
            }
        }
        let mut jobs = self.store_images(writer, candidates, &mut refused).await?;
        self.enqueue(&mut jobs, &mut refused).await?;
        refused.sort_unstable_by_key(|one| one.position);
        let chunk = Chunk {
            lines: lines.lines,
            sha256: lines.sha256,
            refused,
        };
        Ok(batches::append(&self.ctx.db, writer, &chunk).await?)
    }

    /// Checks a line, all but its image.
    async fn candidate(
        &mut self,
        position: i32,
        entry: BatchEntry,
    ) -> (Option<String>, Result<Candidate, ApiError>) {
        let (custom_id, request, upload) = match entry {
            BatchEntry::Line(line) => {
                let (custom_id, request) = entry::parse(&line.text);
                (custom_id, request, line.image)
            }
            BatchEntry::File {
                custom_id,
                request,
                upload,
                ..
            } => (custom_id, Ok(*request), Some(Ok(upload))),
            BatchEntry::Refused { custom_id, problem } => (custom_id, Err(problem.into()), None),
        };
        let candidate = async {
            let mut request = request?;
            job_request::check(&request, &self.ctx.config.limits)?;
            job_request::check_priority(&request, self.caller.priority_max())?;
            job_request::check_deadline(&request)?;
            job_request::check_webhook(&mut request, &self.ctx.egress)?;
            let model = self.model(request.model.as_deref()).await?;
            let params = model.manifest.params(&request.params)?;
            let image = match (request.image.take(), upload) {
                (Some(source), upload) => image_location(source, upload, &self.ctx.config.limits)?,
                (None, Some(upload)) => ImageLocation::Inline(upload?),
                (None, None) => return Err(no_image()),
            };
            Ok(Candidate {
                position,
                custom_id: None,
                request,
                model,
                params,
                image,
            })
        };
        let candidate = candidate.await;
        (custom_id, candidate)
    }

    async fn model(&mut self, reference: Option<&str>) -> Result<Resolved, ApiError> {
        let reference = reference.map(str::to_owned);
        if let Some(known) = self.models.get(&reference) {
            return known.clone().map_err(|problem| Box::new(problem).into());
        }
        let found = match resolve_model(self.ctx, reference.as_deref()).await {
            Ok(model) => Ok(model),
            Err(error) => Err(error.into_client_problem()?),
        };
        let is_short = reference
            .as_ref()
            .is_none_or(|one| one.len() <= CACHED_MODEL_BYTES_MAX);
        if is_short && self.models.len() < CACHED_MODELS_MAX {
            self.models.insert(reference, found.clone());
        }
        found.map_err(|problem| Box::new(problem).into())
    }

    /// Fetches and stores new images. Returns the jobs to queue.
    async fn store_images(
        &self,
        writer: Writer,
        candidates: Vec<Candidate>,
        refused: &mut Vec<Refusal>,
    ) -> Result<Vec<NewJob>, ApiError> {
        let digests: Vec<_> = candidates.iter().map(|one| sha256(&one.image)).collect();
        let digests: Vec<_> = digests.into_iter().flatten().collect();
        let known = images::find_many(&self.ctx.db, &self.caller.owner, &digests).await?;
        let known = &known;
        let jobs = stream::iter(candidates.into_iter().map(|candidate| async move {
            let (position, custom_id) = (candidate.position, candidate.custom_id);
            match self.image(candidate.image, known).await {
                Ok(image) => {
                    let (owner, limits) = (&self.caller.owner, &self.ctx.config.limits);
                    let (model, params) = (candidate.model, candidate.params);
                    let traceparent = self.traceparent.clone();
                    let request = candidate.request;
                    let mut job =
                        new_job(request, owner, model, params, image, traceparent, limits);
                    job.member = Some(BatchMember {
                        batch: writer.batch,
                        position,
                        custom_id,
                    });
                    Ok(Ok(job))
                }
                Err(error) => refusal(position, custom_id, error).map(Err),
            }
        }));
        let jobs: Vec<_> = jobs.buffered(IMAGES_IN_PARALLEL).try_collect().await?;
        Ok(accepted(jobs, refused))
    }

    async fn image(
        &self,
        location: ImageLocation,
        known: &HashMap<Sha256Digest, StoredImage>,
    ) -> Result<Image, ApiError> {
        let (ctx, caller) = (self.ctx, self.caller);
        let known = sha256(&location).and_then(|sha256| known.get(&sha256));
        match (&location, known) {
            (ImageLocation::Inline(upload), Some(known)) => {
                return self.known_image(upload, known).await;
            }
            // Of a damaged image the object may be lost: look again.
            (_, Some(known)) if known.suspicion != Some(Suspicion::Damaged) => {
                return Ok(known.image.clone());
            }
            _ => {}
        }
        let is_fetched = matches!(location, ImageLocation::Url(_));
        let input = ImageInput::from_location(ctx, caller, location).await?;
        if let ImageInput::Uploaded(upload) = &input
            && is_fetched
        {
            let (owner, sha256) = (&caller.owner, upload.image.sha256);
            if let Some(known) = stored_images::find_registered(ctx, owner, sha256).await? {
                return self.known_image(upload, &known).await;
            }
        }
        let (image, reservation) = input.store(ctx, caller).await?;
        reservation.into_iter().for_each(Reservation::commit);
        Ok(image)
    }

    /// The stored image of these bytes. The bytes replace an object that may be damaged.
    async fn known_image(&self, upload: &Upload, known: &StoredImage) -> Result<Image, ApiError> {
        if known.suspicion.is_some() {
            upload.replace(self.ctx, self.caller, &known.image).await?;
        }
        Ok(known.image.clone())
    }

    /// Reserves room for each job. Refuses the jobs that exceed the quota of the owner.
    async fn reserve_jobs(
        &self,
        jobs: &mut Vec<NewJob>,
        refused: &mut Vec<Refusal>,
    ) -> Result<Vec<Reservation>, ApiError> {
        let mut reservations = Vec::new();
        for job in std::mem::take(jobs) {
            match self.ctx.quotas.reserve_jobs(self.caller, 1).await {
                Ok(reservation) => {
                    reservations.extend(reservation);
                    jobs.push(job);
                }
                Err(error) => {
                    let member = job.member.expect("each has one");
                    refused.push(refusal(member.position, member.custom_id, error)?);
                }
            }
        }
        Ok(reservations)
    }

    /// Queues all jobs in one statement. If an image was deleted meanwhile, queues them one by one and refuses those without it.
    async fn enqueue(
        &self,
        jobs: &mut Vec<NewJob>,
        refused: &mut Vec<Refusal>,
    ) -> Result<(), ApiError> {
        let reservations = self.reserve_jobs(jobs, refused).await?;
        if jobs.is_empty() {
            return Ok(());
        }
        let db = &self.ctx.db;
        match jobs::db::answered(db, queue::enqueue(db, jobs)).await {
            Ok(_) => {}
            Err(QueueError::ImagePurged) => {
                for job in std::mem::take(jobs) {
                    let one = queue::enqueue(db, std::slice::from_ref(&job)).await;
                    match one {
                        Ok(_) => jobs.push(job),
                        Err(QueueError::ImagePurged) => {
                            let member = job.member.expect("each has one");
                            let error = unknown_image();
                            refused.push(refusal(member.position, member.custom_id, error)?);
                        }
                        Err(error) => return Err(error.into()),
                    }
                }
            }
            Err(error) => return Err(error.into()),
        }
        reservations.into_iter().for_each(Reservation::commit);
        let models: HashSet<_> = jobs.iter().map(|job| job.model.model_id).collect();
        for model in models {
            self.ctx.notifier.queued(model);
        }
        Ok(())
    }
}

/// The accepted lines; adds the others to `refused`.
fn accepted<T>(lines: Vec<Result<T, Refusal>>, refused: &mut Vec<Refusal>) -> Vec<T> {
    let lines = lines.into_iter();
    lines
        .filter_map(|line| line.map_err(|refusal| refused.push(refusal)).ok())
        .collect()
}

/// Records a line that the client got wrong. A failure of the service stays an error: it ends the upload.
fn refusal(position: i32, custom_id: Option<String>, error: ApiError) -> Result<Refusal, ApiError> {
    Ok(Refusal {
        position,
        custom_id,
        problem: error.into_client_problem()?,
    })
}
