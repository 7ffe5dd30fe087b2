//! One run over all images: it sends some while it follows others, sent before, to their ends.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use futures_util::{StreamExt, stream};
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
    service::{CallError, Client, JobAnswer, Refusal, Submission},
    terminal,
    wait::{WAITING_MAX, has_failed, until_ended},
};

/// Jobs that are submitted and not followed yet. At this limit, sending waits.
const UNFOLLOWED_MAX: usize = 1000;
const WAIT_SECONDS: u64 = 30;

/// An image after the attempt to send it.
enum Sent<'a> {
    /// The service accepted it now.
    Now(&'a Source, Box<JobAnswer>),
    /// An earlier run submitted it: the id of its job.
    Earlier(&'a Source, String),
    Failed(&'a Source, CallError),
}

/// The job of an image, as far as the output needs it.
enum Followed {
    Id(String),
    Job(Box<JobAnswer>),
}

/// What each step of a run needs.
pub(super) struct Run<'a> {
    options: &'a Submit,
    client: &'a Client,
    journal: &'a Journal,
    query: &'a [(String, String)],
    progress: &'a Progress,
    wait_seconds: Option<u64>,
    /// Set by an error that concerns all images: no further image is sent; images that were sent still get their lines.
    is_stopping: AtomicBool,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        options: &'a Submit,
        client: &'a Client,
        journal: &'a Journal,
        query: &'a [(String, String)],
        progress: &'a Progress,
        images: usize,
    ) -> Self {
        // The submits of a few images may wait for the ends of their jobs; among many, they would delay the others.
        let are_few = images <= options.concurrency.into();
        Self {
            options,
            client,
            journal,
            query,
            progress,
            wait_seconds: (options.wait && are_few).then_some(WAIT_SECONDS),
            is_stopping: AtomicBool::new(false),
        }
    }

    pub(super) async fn submit_all(&self, sources: &[Source]) -> Result<Ended, Failure> {
        let (to_follow, accepted) = mpsc::channel(UNFOLLOWED_MAX);
        let sending = async {
            let mut answers = stream::iter(sources)
                .map(|source| self.send(source))
                .buffered(self.options.concurrency.into());
            while let Some(sent) = answers.next().await {
                let Some(sent) = sent else { continue };
                if to_follow.send(sent).await.is_err() {
                    break; // the follower has ended with an error
                }
            }
            drop(to_follow);
        };
        let (mut any_refused, mut any_failed, mut stopped_by) = (false, false, None);
        let following = async {
            let accepted = stream::unfold(accepted, async |mut accepted| {
                Some((accepted.recv().await?, accepted))
            });
            let mut ended =
                std::pin::pin!(accepted.map(|sent| self.follow(sent)).buffered(WAITING_MAX));
            while let Some((source, followed)) = ended.next().await {
                match followed {
                    Ok(followed) => {
                        if let Followed::Job(answer) = &followed {
                            any_failed |= has_failed(&answer.job);
                        }
                        self.show(source, &followed)?;
                    }
                    Err(CallError::Refused(refusal)) if self.may_continue_after(&refusal) => {
                        any_refused = true;
                        if self.options.json {
                            self.progress.print(|| terminal::json(&refusal.json))?;
                        } else {
                            self.progress.note(format!("error: {source}: {refusal}"));
                        }
                    }
                    Err(error) => {
                        self.is_stopping.store(true, Relaxed);
                        stopped_by.get_or_insert(error);
                    }
                }
                self.progress.count_done();
            }
            Ok::<_, Failure>(())
        };
        let ((), followed) = tokio::join!(sending, following);
        followed?;
        if let Some(error) = stopped_by {
            return Err(error.into());
        }
        Ok(match (any_refused, any_failed) {
            (true, _) => Ended::WithRefusals,
            (false, true) => Ended::WithFailedJobs,
            (false, false) => Ended::Well,
        })
    }

    async fn send<'s>(&self, source: &'s Source) -> Option<Sent<'s>> {
        if self.is_stopping.load(Relaxed) {
            return None;
        }
        let sent = match source.load().await {
            Ok(image) => match self.journal.job_of(&image.identity) {
                Some(id) => {
                    self.progress.count_submitted(true);
                    return Some(Sent::Earlier(source, id.to_owned()));
                }
                None => self.submit(source, &image).await,
            },
            Err(error) => Err(error),
        };
        Some(match sent {
            Ok(job) => {
                self.progress.count_submitted(false);
                Sent::Now(source, Box::new(job))
            }
            Err(error) => {
                if !matches!(&error, CallError::Refused(refusal) if refusal.concerns_one_image()) {
                    self.is_stopping.store(true, Relaxed);
                }
                Sent::Failed(source, error)
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
            no_cache: self.options.no_cache,
        };
        let accepted = self.client.submit(&submission).await?;
        let recorded = self
            .journal
            .record(&image.identity, &accepted.job.id, &source.to_string());
        recorded
            .map_err(|error| CallError::Unreadable(format!("cannot write the journal: {error}")))?;
        Ok(accepted)
    }

    /// The job as it was accepted; with `--wait` the job at its end.
    async fn follow<'s>(&self, sent: Sent<'s>) -> (&'s Source, Result<Followed, CallError>) {
        let (source, answer) = match sent {
            Sent::Now(source, answer) => (source, Ok(*answer)),
            Sent::Earlier(source, id) if self.options.wait || self.options.json => {
                (source, self.client.job_now(&id).await)
            }
            Sent::Earlier(source, id) => return (source, Ok(Followed::Id(id))),
            Sent::Failed(source, error) => (source, Err(error)),
        };
        let answer = match answer {
            Ok(answer) if self.options.wait => until_ended(self.client, answer, |_| {}).await,
            answer => answer,
        };
        (source, answer.map(|answer| Followed::Job(Box::new(answer))))
    }

    fn show(&self, source: &Source, followed: &Followed) -> Result<(), Failure> {
        if self.options.show
            && let Some(bytes) = source.bytes()
            && let Some(picture) = terminal::picture::of(&bytes)
        {
            self.progress.print(|| terminal::raw(picture))?;
        }
        let answer = match followed {
            Followed::Id(id) => return self.progress.print(|| terminal::line(id)),
            Followed::Job(answer) => answer,
        };
        let job = &answer.job;
        self.progress.print(|| {
            if self.options.json {
                terminal::json(&answer.json)
            } else if self.options.wait {
                let outcome = terminal::job::outcome(job);
                // A file may have a line break in its name.
                let source = terminal::one_line(&source.to_string());
                terminal::line(format!("{}\t{}\t{source}\t{outcome}", job.id, job.status))
            } else {
                terminal::line(&job.id)
            }
        })
    }

    /// Whether other images may be accepted after this refusal.
    ///
    /// The job of an earlier run may be deleted by now: this concerns one image.
    fn may_continue_after(&self, refusal: &Refusal) -> bool {
        refusal.concerns_one_image()
            || (self.journal.is_kept()
                && matches!(refusal.status, 404 | 410)
                && !refusal.concerns_the_model())
    }
}
