//! One run over all images: some are being sent while others, sent before, are followed to their ends.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{
    Submit,
    journal::Journal,
    progress::Progress,
    sources::{Loaded, Source},
};
use crate::{
    Ended,
    failure::Failure,
    follow, plain,
    service::{CallError, Client, JobAnswer, Refusal, Submission},
};

/// Jobs that are submitted and not yet waited for; then sending waits too.
const UNFINISHED_MAX: usize = 1000;
/// Jobs that are waited for at once, oldest first: the others end meanwhile and then cost one request each.
const WAITING_MAX: usize = 16;
const WAIT_SECONDS: u64 = 30;

/// What became of the sending of one image.
enum Sent<'a> {
    /// Accepted now.
    Now(&'a Source, JobAnswer),
    /// Accepted by an earlier run: the id of its job.
    Before(&'a Source, String),
    Not(&'a Source, CallError),
}

/// One run over all images: what each of its steps needs.
pub(super) struct Run<'a> {
    asked: &'a Submit,
    client: &'a Client,
    journal: &'a Journal,
    query: &'a [(String, String)],
    progress: &'a Progress,
    wait_seconds: Option<u64>,
    /// Set by an answer that concerns all images: what is under way still gets its line, nothing more is sent.
    stop: AtomicBool,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        asked: &'a Submit,
        client: &'a Client,
        journal: &'a Journal,
        query: &'a [(String, String)],
        progress: &'a Progress,
        images: usize,
    ) -> Self {
        // A few images may wait for their ends in the submit itself; many would hold up those behind them.
        let are_few = images <= asked.concurrency.into();
        Self {
            asked,
            client,
            journal,
            query,
            progress,
            wait_seconds: (asked.wait && are_few).then_some(WAIT_SECONDS),
            stop: AtomicBool::new(false),
        }
    }

    pub(super) async fn all(&self, sources: &[Source]) -> Result<Ended, Failure> {
        let (to_follow, accepted) = mpsc::channel(UNFINISHED_MAX);
        let sending = async {
            let mut answers = stream::iter(sources)
                .map(|source| self.send(source))
                .buffered(self.asked.concurrency.into());
            while let Some(sent) = answers.next().await {
                let Some(sent) = sent else { continue };
                if to_follow.send(sent).await.is_err() {
                    break; // nobody reads any more
                }
            }
            drop(to_follow);
        };
        let (mut refused, mut failed, mut stopped) = (false, false, None);
        let following = async {
            let accepted = stream::unfold(accepted, async |mut accepted| {
                Some((accepted.recv().await?, accepted))
            });
            let mut ended =
                std::pin::pin!(accepted.map(|sent| self.follow(sent)).buffered(WAITING_MAX));
            while let Some((source, job)) = ended.next().await {
                match job {
                    Ok(job) => {
                        failed |= follow::has_failed(&job);
                        self.show(source, &job)?;
                    }
                    Err(CallError::Refused(refusal)) if may_be_of_one_image(&refusal, self) => {
                        refused = true;
                        if self.asked.json {
                            self.progress.line(&refusal.problem)?;
                        } else {
                            self.progress.remark(format!("error: {source}: {refusal}"));
                        }
                    }
                    Err(error) => {
                        self.stop.store(true, Relaxed);
                        stopped.get_or_insert(error);
                    }
                }
                self.progress.done();
            }
            Ok::<_, Failure>(())
        };
        let ((), followed) = tokio::join!(sending, following);
        followed?;
        if let Some(error) = stopped {
            return Err(error.into());
        }
        Ok(match (refused, failed) {
            (true, _) => Ended::WithRefusals,
            (false, true) => Ended::WithFailedJobs,
            (false, false) => Ended::Well,
        })
    }

    async fn send<'s>(&self, source: &'s Source) -> Option<Sent<'s>> {
        if self.stop.load(Relaxed) {
            return None;
        }
        let sent = match source.load().await {
            Ok(image) => match self.journal.job_of(&image.identity) {
                Some(id) => {
                    self.progress.sent(true);
                    return Some(Sent::Before(source, id.to_owned()));
                }
                None => self.submit(source, &image).await,
            },
            Err(error) => Err(error),
        };
        Some(match sent {
            Ok(job) => {
                self.progress.sent(false);
                Sent::Now(source, job)
            }
            Err(error) => {
                if !matches!(&error, CallError::Refused(refusal) if refusal.concerns_one_image()) {
                    self.stop.store(true, Relaxed);
                }
                Sent::Not(source, error)
            }
        })
    }

    async fn submit(&self, source: &Source, image: &Loaded) -> Result<JobAnswer, CallError> {
        let key = self.journal.idempotency_key(&image.identity, self.query);
        let submission = Submission {
            content: &image.content,
            query: self.query,
            idempotency_key: &key,
            wait_seconds: self.wait_seconds,
            fresh: self.asked.no_cache,
        };
        let accepted = self.client.submit(&submission).await?;
        let id = accepted.job["id"].as_str().unwrap_or_default();
        let noted = self.journal.note(&image.identity, id, &source.to_string());
        noted
            .map_err(|error| CallError::Unreadable(format!("cannot keep the journal: {error}")))?;
        Ok(accepted)
    }

    /// The job at its end if that is wanted, else as it was accepted.
    async fn follow<'s>(&self, sent: Sent<'s>) -> (&'s Source, Result<Value, CallError>) {
        let (source, answer) = match sent {
            Sent::Now(source, answer) => (source, Ok(answer)),
            Sent::Before(source, id) if self.asked.wait || self.asked.json => {
                (source, self.client.job_now(&id).await)
            }
            Sent::Before(source, id) => return (source, Ok(json!({"id": id}))),
            Sent::Not(source, error) => (source, Err(error)),
        };
        let job = match answer {
            Ok(answer) if self.asked.wait => follow::until_ended(self.client, answer, |_| {}).await,
            answer => answer.map(|answer| answer.job),
        };
        (source, job)
    }

    fn show(&self, source: &Source, job: &Value) -> Result<(), Failure> {
        if self.asked.show
            && let Some(bytes) = source.bytes()
            && let Some(picture) = plain::picture::of(&bytes)
        {
            self.progress.line(picture)?;
        }
        let id = job["id"].as_str().unwrap_or("?");
        if self.asked.json {
            self.progress.line(job)
        } else if self.asked.wait {
            let status = job["status"].as_str().unwrap_or("?");
            let came_of_it = plain::job::outcome(job);
            self.progress
                .line(format!("{id}\t{status}\t{source}\t{came_of_it}"))
        } else {
            self.progress.line(id)
        }
    }
}

/// A job of an earlier run may be gone by now: that says nothing of the others.
fn may_be_of_one_image(refusal: &Refusal, run: &Run<'_>) -> bool {
    refusal.concerns_one_image()
        || (run.journal.is_kept()
            && matches!(refusal.status, 404 | 410)
            && !refusal.is_of_a_model())
}
