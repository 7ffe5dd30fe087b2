//! The shutdown of the worker. A finish claims no more jobs and finishes the held ones. A drain finishes only jobs on the
//! device and releases the others at once. Both end with deregistering, and neither can be undone.

use std::sync::{Arc, OnceLock};

use tokio::{
    sync::watch,
    time::{Duration, Instant, sleep_until},
};

/// Time before the end of the machine that is statements for releasing jobs and deregistering.
const RELEASE_TIME: Duration = Duration::from_secs(3);
/// The device gets at least this time to finish, even if a notice leaves less.
const FINISH_TIME_MIN: Duration = Duration::from_secs(2);

/// The phase of the shutdown. It only moves forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Working,
    /// Claims no more jobs and finishes all held jobs.
    Finishing,
    /// Releases all jobs that are not on the device yet.
    Draining,
    /// Releases all jobs and ends now.
    Leaving,
}

#[derive(Debug, Clone, Copy)]
struct State {
    phase: Phase,
    /// The start of `Phase::Draining`.
    draining_since: Option<Instant>,
    /// When the machine is taken away; the earliest time of all notices.
    machine_ends_at: Option<Instant>,
}

/// The phase of the shutdown. Any part of the worker can read and advance it.
#[derive(Debug, Clone)]
pub struct Drain {
    state: watch::Sender<State>,
    failure: Arc<OnceLock<String>>,
}

impl Drain {
    pub fn new() -> Self {
        Self {
            state: watch::Sender::new(State {
                phase: Phase::Working,
                draining_since: None,
                machine_ends_at: None,
            }),
            failure: Arc::default(),
        }
    }

    pub fn phase(&self) -> Phase {
        self.state.borrow().phase
    }

    /// Whether the worker may claim jobs.
    pub fn is_working(&self) -> bool {
        self.phase() == Phase::Working
    }

    pub fn is_draining(&self) -> bool {
        self.phase() >= Phase::Draining
    }

    /// Advances to `phase`; never goes back.
    pub fn advance(&self, phase: Phase, reason: &str) {
        let advanced = self.state.send_if_modified(|now| {
            let later = now.phase < phase;
            now.phase = phase.max(now.phase);
            if now.phase >= Phase::Draining && now.draining_since.is_none() {
                now.draining_since = Some(Instant::now());
            }
            later
        });
        if advanced {
            tracing::info!(drain.phase = ?phase, drain.reason = reason, "draining");
        }
    }

    /// Drains because the machine is taken away in `time_left`. After several calls the earliest end counts.
    pub fn machine_ends_in(&self, time_left: Duration, reason: &str) {
        let at = Instant::now() + time_left;
        self.state.send_if_modified(|now| {
            let sooner = now.machine_ends_at.is_none_or(|before| at < before);
            if sooner {
                now.machine_ends_at = Some(at);
            }
            sooner
        });
        self.advance(Phase::Draining, reason);
    }

    /// Drains because this worker cannot work any more. The process then ends with an error. The first reason counts.
    pub fn fail(&self, reason: &str) {
        tracing::error!(drain.reason = reason, "the worker cannot go on");
        drop(self.failure.set(reason.to_owned()));
        self.advance(Phase::Draining, reason);
    }

    /// The reason of the first [`Self::fail`], if any.
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// Returns once the worker is at least in `phase`.
    pub async fn reached(&self, phase: Phase) {
        let mut now = self.state.subscribe();
        // The sender lives as long as `self`.
        drop(now.wait_for(|now| now.phase >= phase).await);
    }

    /// Returns when the time to finish is over: `longest` after the start of the drain, or shortly before the end of the
    /// machine.
    pub async fn time_is_up(&self, longest: Duration) {
        let mut now = self.state.subscribe();
        loop {
            let state = *now.borrow_and_update();
            let deadline = async {
                match state.draining_since {
                    Some(since) => sleep_until(finish_deadline(&state, since, longest)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = deadline => return,
                _ = now.changed() => {}
            }
        }
    }
}

fn finish_deadline(state: &State, since: Instant, longest: Duration) -> Instant {
    let latest = since + longest;
    match state.machine_ends_at {
        Some(end) => {
            let end = end.checked_sub(RELEASE_TIME).unwrap_or(since);
            latest.min(end.max(since + FINISH_TIME_MIN))
        }
        None => latest,
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Duration, Instant};

    use super::{Drain, Phase, State, finish_deadline};

    #[test]
    fn a_phase_never_goes_back() {
        let drain = Drain::new();
        drain.advance(Phase::Draining, "a notice");
        drain.advance(Phase::Finishing, "an advice");
        assert_eq!(drain.phase(), Phase::Draining);
        drain.advance(Phase::Leaving, "a second signal");
        drain.machine_ends_in(Duration::from_mins(2), "a notice");
        assert_eq!(drain.phase(), Phase::Leaving);
    }

    #[test]
    fn the_time_to_finish_is_what_the_machine_has_left_within_bounds() {
        let since = Instant::now();
        let longest = Duration::from_secs(20);
        let seconds = |machine_left: Option<u64>| {
            let state = State {
                phase: Phase::Draining,
                draining_since: Some(since),
                machine_ends_at: machine_left.map(|left| since + Duration::from_secs(left)),
            };
            (finish_deadline(&state, since, longest) - since).as_secs()
        };
        assert_eq!(seconds(None), 20);
        assert_eq!(seconds(Some(120)), 20, "never longer than the setting");
        assert_eq!(seconds(Some(13)), 10, "three seconds to release jobs");
        assert_eq!(seconds(Some(0)), 2, "at least two seconds");
    }

    #[test]
    fn the_earliest_of_several_notices_counts() {
        let drain = Drain::new();
        drain.machine_ends_in(Duration::from_mins(2), "a notice");
        let first = drain.state.borrow().machine_ends_at;
        drain.machine_ends_in(Duration::from_secs(30), "cut short");
        let second = drain.state.borrow().machine_ends_at;
        assert!(second < first);
        drain.machine_ends_in(Duration::from_mins(2), "longer again");
        assert_eq!(drain.state.borrow().machine_ends_at, second);
    }
}
