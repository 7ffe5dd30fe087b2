//! What `models push` does while a worker loads the new version: it waits for the verdict.

use std::time::{Duration, Instant};

use crate::{failure::Failure, terminal};

/// Between two questions.
const ASK_INTERVAL: Duration = Duration::from_millis(500);
/// Between two lines about the wait, while nothing else is new.
const NOTE_INTERVAL: Duration = Duration::from_secs(30);
/// How long a missing worker may take to start.
const NO_WORKER_MAX: Duration = Duration::from_secs(10);
/// Workers give a trial up after a quarter of an hour, and three workers may try.
const WAIT_MAX: Duration = Duration::from_mins(50);

const NEXT_WITHOUT_WORKER: &str = "start a worker: it tries the version, and then the alias moves; `darkroom models show` has the verdict. \
     `models push --no-trial` makes the version ready without a trial";
const NEXT_AFTER_WAIT: &str =
    "`darkroom models show` has the verdict later; the workers' logs say what they do";

/// The trial of a version as the service or Postgres shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TrialView {
    /// `validating`, `ready` or `rejected`.
    pub(crate) state: String,
    /// Of a version that is ready: what the worker that tried it found wrong.
    pub(crate) cause: Option<String>,
    pub(crate) worker: Option<String>,
    /// Live workers that run the model; `None` if that is not known.
    pub(crate) workers: Option<i64>,
}

/// Waits until a worker has loaded the version `reference`. `ask` reads the state.
///
/// Fails if the version is rejected, if no worker runs the model, or if there is no verdict within the time of three trials. The
/// last two leave the version as it is: it becomes ready later.
pub(crate) async fn wait_for_verdict(
    reference: &str,
    mut ask: impl AsyncFnMut() -> Result<TrialView, Failure>,
) -> Result<TrialView, Failure> {
    let began = Instant::now();
    let (mut has_worker_since, mut notes) = (began, Notes::default());
    loop {
        let view = ask().await?;
        match view.state.as_str() {
            "validating" => {}
            "rejected" => return Err(Failure::Rejected(rejection(reference, &view))),
            _ => {
                if let Some(warning) = warning(reference, &view) {
                    terminal::note(warning);
                }
                return Ok(view);
            }
        }
        if view.workers != Some(0) {
            has_worker_since = Instant::now();
        } else if has_worker_since.elapsed() >= NO_WORKER_MAX {
            return Err(Failure::Away {
                what: format!("{reference} is validating, and no worker runs its model"),
                next: NEXT_WITHOUT_WORKER,
            });
        }
        if began.elapsed() >= WAIT_MAX {
            return Err(Failure::Away {
                what: format!("{reference} is still validating"),
                next: NEXT_AFTER_WAIT,
            });
        }
        if let Some(line) = notes.next(reference, &view, began.elapsed()) {
            terminal::note(line);
        }
        tokio::time::sleep(ASK_INTERVAL).await;
    }
}

/// The lines about one wait.
#[derive(Debug, Default)]
struct Notes {
    said: String,
    /// When a line was last written, since the begin of the wait.
    said_at: Duration,
}

impl Notes {
    /// The line to write now, if there is news. Says how long the wait lasts if nothing else has changed for a while.
    fn next(&mut self, reference: &str, view: &TrialView, waited: Duration) -> Option<String> {
        let line = progress(reference, view);
        if line != self.said {
            self.said.clone_from(&line);
            self.said_at = waited;
            return Some(line);
        }
        if waited < self.said_at + NOTE_INTERVAL {
            return None;
        }
        self.said_at = waited;
        Some(format!(
            "{reference} still waits, after {} s",
            waited.as_secs()
        ))
    }
}

fn progress(reference: &str, view: &TrialView) -> String {
    let waits_for = match view.workers {
        Some(0) => "waits for a worker that runs its model".to_owned(),
        Some(1) => "waits until its only worker has loaded it".to_owned(),
        Some(workers) => format!("waits until one of {workers} workers has loaded it"),
        None => "waits until a worker has loaded it".to_owned(),
    };
    match &view.cause {
        Some(cause) => format!("{reference} {waits_for}; so far:\n{cause}"),
        None => format!("{reference} {waits_for}"),
    }
}

/// What to tell about a version that is ready.
fn warning(reference: &str, view: &TrialView) -> Option<String> {
    let cause = view.cause.as_ref()?;
    let worker = view.worker.as_deref().unwrap_or("a worker");
    Some(format!(
        "warning: {reference} on the worker {worker}: {cause}"
    ))
}

fn rejection(reference: &str, view: &TrialView) -> String {
    let cause = view.cause.as_deref().unwrap_or("no cause was kept");
    let by = match &view.worker {
        Some(worker) => format!(" by the worker {worker}"),
        None => String::new(),
    };
    format!("{reference} was rejected{by}; no alias has moved:\n{cause}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Notes, TrialView, progress, rejection, wait_for_verdict, warning};
    use crate::failure::Failure;

    fn view(state: &str, cause: Option<&str>) -> TrialView {
        TrialView {
            state: state.into(),
            cause: cause.map(Into::into),
            worker: Some("gpu-1".into()),
            workers: Some(2),
        }
    }

    #[tokio::test]
    async fn a_push_ends_with_the_verdict() {
        let ready = wait_for_verdict("lite:2", async || Ok(view("ready", None))).await;
        assert_eq!(ready.expect("ready"), view("ready", None));
        let rejected = async || Ok(view("rejected", Some("no operator torchvision::nms")));
        let rejected = wait_for_verdict("lite:2", rejected).await;
        let Err(Failure::Rejected(text)) = rejected else {
            panic!("{rejected:?}");
        };
        assert!(
            text.contains("lite:2 was rejected by the worker gpu-1"),
            "{text}"
        );
        assert!(text.ends_with("\nno operator torchvision::nms"), "{text}");
    }

    #[test]
    fn a_ready_version_with_a_cause_is_a_warning() {
        assert_eq!(warning("lite:2", &view("ready", None)), None);
        let view = view(
            "ready",
            Some("runs model.pt because cpu.pt2 cannot be used"),
        );
        let told =
            "warning: lite:2 on the worker gpu-1: runs model.pt because cpu.pt2 cannot be used";
        assert_eq!(warning("lite:2", &view).as_deref(), Some(told));
    }

    #[test]
    fn a_wait_repeats_no_line() {
        let (mut notes, mut waiting) = (Notes::default(), view("validating", None));
        let mut lines = Vec::new();
        for second in 0..=70 {
            // Another worker tries: no news for the person who waits.
            waiting.worker = Some(format!("gpu-{}", second / 7));
            if second == 5 {
                waiting.workers = Some(1);
            }
            lines.extend(notes.next("lite:2", &waiting, Duration::from_secs(second)));
        }
        assert_eq!(
            lines,
            [
                "lite:2 waits until one of 2 workers has loaded it",
                "lite:2 waits until its only worker has loaded it",
                "lite:2 still waits, after 35 s",
                "lite:2 still waits, after 65 s",
            ]
        );
    }

    #[test]
    fn a_wait_tells_what_it_waits_for() {
        let mut waiting = view("validating", Some("gpu-1: out of memory"));
        let told =
            "lite:2 waits until one of 2 workers has loaded it; so far:\ngpu-1: out of memory";
        assert_eq!(progress("lite:2", &waiting), told);
        (waiting.workers, waiting.cause) = (Some(0), None);
        let told = "lite:2 waits for a worker that runs its model";
        assert_eq!(progress("lite:2", &waiting), told);
        assert!(rejection("lite:2", &waiting).ends_with("no cause was kept"));
    }
}
