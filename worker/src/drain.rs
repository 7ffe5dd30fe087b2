//! Leaving, gently or in haste. Gently: claim no more, finish what is in hand. In haste: finish what is on the device and
//! being written, give the rest back at once. Either way deregister, and never turn back.

use std::sync::{Arc, OnceLock};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::{Duration, Instant, sleep_until},
};

/// What of the time before the machine's end is kept for giving jobs back and deregistering.
const TO_GIVE_BACK: Duration = Duration::from_secs(3);
/// However little time a notice leaves, or seems to: so long the device may finish.
const TO_FINISH_LEAST: Duration = Duration::from_secs(2);

/// How far the worker is on its way out. Only ever grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    Working,
    /// Claims no more, finishes what is in hand: nobody is in a hurry.
    Finishing,
    /// Whatever is not on the device yet goes back.
    Draining,
    /// Gives everything back and ends, now.
    Leaving,
}

#[derive(Debug, Clone, Copy)]
struct State {
    phase: Phase,
    /// Since when it drains.
    since: Option<Instant>,
    /// When the machine is taken away, by the least that was said of it.
    machine_ends_at: Option<Instant>,
}

/// The phase, for everyone to read and to advance.
#[derive(Debug, Clone)]
pub struct Drain {
    state: watch::Sender<State>,
    trouble: Arc<OnceLock<String>>,
}

impl Drain {
    pub fn new() -> Self {
        Self {
            state: watch::Sender::new(State {
                phase: Phase::Working,
                since: None,
                machine_ends_at: None,
            }),
            trouble: Arc::default(),
        }
    }

    pub fn phase(&self) -> Phase {
        self.state.borrow().phase
    }

    /// Whether it may claim.
    pub fn is_working(&self) -> bool {
        self.phase() == Phase::Working
    }

    pub fn is_draining(&self) -> bool {
        self.phase() >= Phase::Draining
    }

    /// Advances to `phase`; never goes back.
    pub fn advance(&self, phase: Phase, why: &str) {
        let advanced = self.state.send_if_modified(|now| {
            let later = now.phase < phase;
            now.phase = phase.max(now.phase);
            if now.phase >= Phase::Draining && now.since.is_none() {
                now.since = Some(Instant::now());
            }
            later
        });
        if advanced {
            tracing::info!(drain.phase = ?phase, drain.why = why, "draining");
        }
    }

    /// Drains because the machine is taken away in so long. Said again, the shorter time counts.
    pub fn machine_ends_in(&self, left: Duration, why: &str) {
        let at = Instant::now() + left;
        self.state.send_if_modified(|now| {
            let sooner = now.machine_ends_at.is_none_or(|before| at < before);
            if sooner {
                now.machine_ends_at = Some(at);
            }
            sooner
        });
        self.advance(Phase::Draining, why);
    }

    /// Drains because this machine cannot work any more; the process ends as failed.
    pub fn broken(&self, why: String) {
        self.advance(Phase::Draining, &why);
        drop(self.trouble.set(why));
    }

    /// Why this machine cannot work any more, if so.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.get().map(String::as_str)
    }

    /// Returns once the worker is at least in `phase`.
    pub async fn reached(&self, phase: Phase) {
        let mut now = self.state.subscribe();
        // The sender lives as long as `self`.
        drop(now.wait_for(|now| now.phase >= phase).await);
    }

    /// Returns once there is no time left to finish: `longest` after it began to drain, or the machine is about to end.
    pub async fn time_is_up(&self, longest: Duration) {
        let mut now = self.state.subscribe();
        loop {
            let state = *now.borrow_and_update();
            let up = async {
                match state.since {
                    Some(since) => sleep_until(finished_by(&state, since, longest)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = up => return,
                _ = now.changed() => {}
            }
        }
    }
}

fn finished_by(state: &State, since: Instant, longest: Duration) -> Instant {
    let latest = since + longest;
    match state.machine_ends_at {
        Some(end) => {
            let end = end.checked_sub(TO_GIVE_BACK).unwrap_or(since);
            latest.min(end.max(since + TO_FINISH_LEAST))
        }
        None => latest,
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
}

/// The first SIGTERM or SIGINT drains, the second ends the worker at once.
///
/// # Errors
/// The signals cannot be listened to.
pub fn on_signals(drain: Drain) -> std::io::Result<()> {
    let (mut term, mut int) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    tokio::spawn(async move {
        for phase in [Phase::Draining, Phase::Leaving] {
            tokio::select! {
                _ = term.recv() => drain.advance(phase, "SIGTERM"),
                _ = int.recv() => drain.advance(phase, "SIGINT"),
            }
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::time::{Duration, Instant};

    use super::{Drain, Phase, State, finished_by};

    #[test]
    fn a_drain_never_goes_back() {
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
                since: Some(since),
                machine_ends_at: machine_left.map(|left| since + Duration::from_secs(left)),
            };
            (finished_by(&state, since, longest) - since).as_secs()
        };
        assert_eq!(seconds(None), 20);
        assert_eq!(seconds(Some(120)), 20, "never longer than asked for");
        assert_eq!(seconds(Some(13)), 10, "three seconds to give back");
        assert_eq!(seconds(Some(0)), 2, "a time in the past is not believed");
    }

    #[test]
    fn of_two_notices_the_shorter_counts() {
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
