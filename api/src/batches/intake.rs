use std::collections::{HashMap, HashSet};

use actix_web::HttpRequest;
use futures_util::{StreamExt, TryStreamExt, stream};
use jobs::{
    BatchMember, Problem, Sha256Digest,
    batches::{self, AppendOutcome, Chunk, Refusal, Writer},
    images::{self, Image},
    models::Resolved,
    queue::{self, NewJob, QueueError},
};
use serde_json::{Map, Value};

use super::entry::{self, Entry};
use crate::{
    auth::Caller,
    ctx::Ctx,
    error::ApiError,
    forms::{self, Given, unknown_image},
    job_request::{JobRequest, Source},
    quota::Reserved,
    request::trace_parent,
    stored,
};

/// Images of one batch that are fetched, decoded or stored at the same time.
const IMAGES_AT_ONCE: usize = 16;
/// References that are remembered; past it the memory starts anew.
const MODELS_REMEMBERED_MAX: usize = 1000;

/// Makes jobs of the lines of one batch.
#[derive(Debug)]
pub(crate) struct Intake<'a> {
    ctx: &'a Ctx,
    caller: &'a Caller,
    trace: String,
    /// A batch asks for few models, many times.
    models: HashMap<Option<String>, Result<Resolved, Problem>>,
}

/// Some lines, the numbers of which follow each other.
#[derive(Debug)]
pub(crate) struct Taken {
    /// Number of the last of them, from 1.
    pub lines: i32,
    /// Of the request up to there.
    pub sha256: Sha256Digest,
    /// With their numbers.
    pub entries: Vec<(i32, Entry)>,
}

/// A line that may become a job.
struct Candidate {
    position: i32,
    custom_id: Option<String>,
    asked: JobRequest,
    model: Resolved,
    params: Map<String, Value>,
    image: Wanted,
}

enum Wanted {
    Named(Sha256Digest),
    /// Nobody has got it yet.
    Inline(Source),
    Given(Given),
}

impl Wanted {
    fn of(source: Source) -> Self {
        if let Source::Stored(sha256) = source {
            Self::Named(sha256)
        } else {
            Self::Inline(source)
        }
    }

    fn sha256(&self) -> Option<Sha256Digest> {
        match self {
            Self::Named(sha256) => Some(*sha256),
            Self::Inline(_) => None,
            Self::Given(given) => Some(given.image().sha256),
        }
    }
}

impl<'a> Intake<'a> {
    pub fn new(ctx: &'a Ctx, caller: &'a Caller, request: &HttpRequest) -> Self {
        Self {
            ctx,
            caller,
            trace: trace_parent(request),
            models: HashMap::new(),
        }
    }

    /// Queues the jobs of these lines and notes that they are taken. What is wrong with a line is noted, too; only our own
    /// trouble is an error, and then nothing is noted.
    pub async fn take(&mut self, writer: Writer, taken: Taken) -> Result<AppendOutcome, ApiError> {
        let (mut candidates, mut refused) = (Vec::new(), Vec::new());
        for (position, entry) in taken.entries {
            let (custom_id, candidate) = self.candidate(position, entry).await;
            match candidate {
                Ok(mut candidate) => {
                    candidate.custom_id = custom_id;
                    candidates.push(candidate);
                }
                Err(error) => refused.push(refusal(position, custom_id, error)?),
            }
        }
        let candidates = self.with_images(candidates, &mut refused).await?;
        let mut jobs = self.stored(writer, candidates, &mut refused).await?;
        self.enqueue(&mut jobs, &mut refused).await?;
        refused.sort_unstable_by_key(|one| one.position);
        let chunk = Chunk {
            lines: taken.lines,
            sha256: taken.sha256,
            refused,
        };
        Ok(batches::append(&self.ctx.db, writer, &chunk).await?)
    }

    /// All that can be said of a line before its image matters.
    async fn candidate(
        &mut self,
        position: i32,
        entry: Entry,
    ) -> (Option<String>, Result<Candidate, ApiError>) {
        let (custom_id, asked, upload) = match entry {
            Entry::Line(text) => {
                let (custom_id, asked) = entry::parse(&text);
                (custom_id, asked, None)
            }
            Entry::File {
                custom_id,
                asked,
                upload,
            } => (custom_id, Ok(*asked), Some(upload)),
            Entry::Refused { custom_id, problem } => (custom_id, Err(problem.into()), None),
        };
        let candidate = async {
            let mut asked = asked?;
            asked.check(&self.ctx.config.limits)?;
            asked.check_deadline()?;
            asked.check_webhook(&self.ctx.outside)?;
            let model = self.model(asked.model.as_deref()).await?;
            let params = model.manifest.params(&asked.params)?;
            let image = if let Some(upload) = upload {
                Wanted::Given(Given::Uploaded(upload))
            } else {
                Wanted::of(asked.image.take().ok_or_else(forms::no_image)?.pick()?)
            };
            Ok(Candidate {
                position,
                custom_id: None,
                asked,
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
        let found = match forms::model(self.ctx, reference.as_deref()).await {
            Ok(model) => Ok(model),
            Err(error) => Err(error.blamed_on_client()?),
        };
        if self.models.len() >= MODELS_REMEMBERED_MAX {
            self.models.clear();
        }
        self.models.insert(reference, found.clone());
        found.map_err(|problem| Box::new(problem).into())
    }

    /// Gets the images that came within their lines, and finds the rest together.
    async fn with_images(
        &self,
        candidates: Vec<Candidate>,
        refused: &mut Vec<Refusal>,
    ) -> Result<Vec<Candidate>, ApiError> {
        let got = stream::iter(candidates.into_iter().map(|mut candidate| async move {
            let Wanted::Inline(source) = candidate.image else {
                return Ok(Ok(candidate));
            };
            match forms::from_source(self.ctx, self.caller, source).await {
                Ok(given) => {
                    candidate.image = Wanted::Given(given);
                    Ok(Ok(candidate))
                }
                Err(error) => refusal(candidate.position, candidate.custom_id, error).map(Err),
            }
        }));
        let got: Vec<_> = got.buffered(IMAGES_AT_ONCE).try_collect().await?;
        Ok(accepted(got, refused))
    }

    /// Stores what is not there yet; the jobs that may be queued.
    async fn stored(
        &self,
        writer: Writer,
        candidates: Vec<Candidate>,
        refused: &mut Vec<Refusal>,
    ) -> Result<Vec<NewJob>, ApiError> {
        let digests: Vec<_> = candidates.iter().map(|one| one.image.sha256()).collect();
        let digests: Vec<_> = digests.into_iter().flatten().collect();
        let known = images::find_many(&self.ctx.db, &self.caller.owner, &digests).await?;
        let known = &known;
        let jobs = stream::iter(candidates.into_iter().map(|candidate| async move {
            let (position, custom_id) = (candidate.position, candidate.custom_id);
            match self.image(candidate.image, known).await {
                Ok(image) => {
                    let (owner, limits) = (&self.caller.owner, &self.ctx.config.limits);
                    let (model, params) = (candidate.model, candidate.params);
                    let trace = self.trace.clone();
                    let asked = candidate.asked;
                    let mut job = asked.into_new_job(owner, model, params, image, trace, limits);
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
        let jobs: Vec<_> = jobs.buffered(IMAGES_AT_ONCE).try_collect().await?;
        Ok(accepted(jobs, refused))
    }

    async fn image(
        &self,
        image: Wanted,
        known: &HashMap<Sha256Digest, Image>,
    ) -> Result<Image, ApiError> {
        if let Some(known) = image.sha256().and_then(|sha256| known.get(&sha256)) {
            return Ok(known.clone());
        }
        match image {
            Wanted::Given(given) => {
                let (image, room) = forms::put(self.ctx, self.caller, given).await?;
                room.into_iter().for_each(Reserved::landed);
                Ok(image)
            }
            Wanted::Named(sha256) => {
                let stored = stored::find(self.ctx, self.caller, sha256).await?;
                stored.map(|stored| stored.image).ok_or_else(unknown_image)
            }
            Wanted::Inline(_) => Err(unknown_image()),
        }
    }

    /// What passes the cap of its owner is refused line by line.
    async fn admit(
        &self,
        jobs: &mut Vec<NewJob>,
        refused: &mut Vec<Refusal>,
    ) -> Result<Vec<Reserved>, ApiError> {
        let mut places = Vec::new();
        for job in std::mem::take(jobs) {
            match self.ctx.quotas.admit(self.caller, 1).await {
                Ok(place) => {
                    places.extend(place);
                    jobs.push(job);
                }
                Err(error) => {
                    let member = job.member.expect("each has one");
                    refused.push(refusal(member.position, member.custom_id, error)?);
                }
            }
        }
        Ok(places)
    }

    /// One statement for all; a job that Postgres refuses stands for itself.
    async fn enqueue(
        &self,
        jobs: &mut Vec<NewJob>,
        refused: &mut Vec<Refusal>,
    ) -> Result<(), ApiError> {
        let places = self.admit(jobs, refused).await?;
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
        places.into_iter().for_each(Reserved::landed);
        let models: HashSet<_> = jobs.iter().map(|job| job.model.model_id).collect();
        for model in models {
            self.ctx.notifier.queued(model);
        }
        Ok(())
    }
}

/// Those that go on; the others are noted.
fn accepted<T>(lines: Vec<Result<T, Refusal>>, refused: &mut Vec<Refusal>) -> Vec<T> {
    let lines = lines.into_iter();
    lines
        .filter_map(|line| line.map_err(|refusal| refused.push(refusal)).ok())
        .collect()
}

/// A line that the client got wrong; what is our trouble ends the whole upload.
fn refusal(position: i32, custom_id: Option<String>, error: ApiError) -> Result<Refusal, ApiError> {
    Ok(Refusal {
        position,
        custom_id,
        problem: error.blamed_on_client()?,
    })
}
