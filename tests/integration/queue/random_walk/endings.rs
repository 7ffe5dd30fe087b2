//! Steps that end a job or give a job back.

use super::*;

impl Walk<'_> {
    pub(super) async fn outcome_step(
        &mut self,
        step: &Step,
        index: Index,
    ) -> Result<(), QueueError> {
        let db = self.db;
        let Some((lease, held)) = self.lease(index) else {
            return Ok(());
        };
        let landed = match step {
            Step::Complete(_) => {
                tests::settling::complete(db, &[given::completion(lease, "done")]).await?
            }
            Step::Fail(_) => tests::settling::fail(db, &[(lease, fault())]).await?,
            Step::Retry(_) => tests::settling::retry(db, &[(lease, fault())]).await?,
            _ => tests::settling::release(db, &[lease]).await?,
        };
        let Some((job, clock)) = held else {
            assert_eq!(landed, [], "a stale {lease:?} landed by {step:?}");
            return Ok(());
        };
        assert_eq!(landed, [lease.job_id], "{step:?}");
        let charge = i16::from(!job.cancel_requested);
        match step {
            Step::Complete(_) => {
                job.charged += charge;
                job.end(JobState::Succeeded);
            }
            Step::Fail(_) => {
                job.charged += charge;
                job.end(JobState::Failed);
            }
            Step::Retry(_) => {
                job.charged += charge;
                if job.cancel_requested || job.charged == ATTEMPTS_MAX {
                    job.end(JobState::Failed);
                } else {
                    job.give_back(JobState::Scheduled);
                    clock.is_due = false;
                    clock::stays_scheduled(db, lease.job_id).await;
                }
            }
            _ if job.cancel_requested => job.end(JobState::Canceled),
            _ => job.give_back(JobState::Queued),
        }
        Ok(())
    }

    pub(super) async fn housekeeping_step(&mut self, step: &Step) -> Result<(), QueueError> {
        let db = self.db;
        let dead: Vec<_> = self
            .workers
            .iter()
            .filter(|(_, alive)| !alive)
            .map(|(id, _)| *id)
            .collect();
        let mut moved = 0;
        for (job, clock) in self.jobs.values_mut() {
            let running = job.state == JobState::Running;
            match step {
                Step::Rescue
                    if running && job.worker.is_some_and(|worker| dead.contains(&worker)) =>
                {
                    job.interruptions += i16::from(!job.cancel_requested);
                    job.give_back(JobState::Queued);
                    if job.cancel_requested || job.interruptions == INTERRUPTIONS_MAX {
                        job.end(JobState::Failed);
                    }
                }
                Step::TimeOut if running && clock.attempt_is_over => {
                    job.charged += i16::from(!job.cancel_requested);
                    job.give_back(JobState::Scheduled);
                    clock.is_due = false;
                    let is_useless = clock.deadline_is_over;
                    if job.cancel_requested || job.charged == ATTEMPTS_MAX || is_useless {
                        job.end(JobState::Failed);
                    }
                }
                Step::Expire
                    if clock.deadline_is_over
                        && matches!(job.state, JobState::Queued | JobState::Scheduled) =>
                {
                    job.end(JobState::Expired);
                }
                Step::Promote if job.state == JobState::Scheduled && clock.is_due => {
                    job.state = JobState::Queued;
                }
                _ => continue,
            }
            moved += 1;
        }
        let counted = match step {
            Step::Rescue => queue::rescue(db).await?.len(),
            Step::TimeOut => queue::time_out(db).await?.len(),
            Step::Expire => queue::expire(db).await?.len(),
            _ => queue::promote(db).await?.len(),
        };
        assert_eq!(counted, moved, "{step:?}");
        // The verb has run, so the test may move the run times again.
        for (id, (job, clock)) in &self.jobs {
            if job.state == JobState::Scheduled && !clock.is_due {
                clock::stays_scheduled(db, *id).await;
            }
        }
        Ok(())
    }
}
