//! Logs and metrics, the same in every process.
//!
//! Logs are JSON lines with dotted field names (`job.id`, `lease.no`, `worker.id`, `request.id`, `error.code`); a cause
//! chain is logged once, where it is decided. `DARKROOM_LOG` takes the filters of `tracing-subscriber`.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io::IsTerminal,
    time::Duration,
};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::{EnvFilter, layer::SubscriberExt, util::SubscriberInitExt};

/// Seconds, from half a millisecond to a minute.
const LATENCY_BUCKETS_SECONDS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0,
];

/// Readings are kept one by one until the next upkeep folds them into their buckets, whether anybody scrapes or not.
const UPKEEP: Duration = Duration::from_secs(5);

/// Starts logging: JSON lines, or readable ones when a person looks at a terminal.
pub fn start_logs() {
    let filter = EnvFilter::try_from_env("DARKROOM_LOG").unwrap_or_else(|_| {
        EnvFilter::new("info,sqlx::query=error,sqlx::postgres::notice=warn,aws_config=warn")
    });
    let logs = tracing_subscriber::registry().with(filter);
    if std::io::stderr().is_terminal() {
        let readable = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
        let readable = readable.log_internal_errors(false);
        logs.with(readable).init();
    } else {
        let json = tracing_subscriber::fmt::layer().json().flatten_event(true);
        // A line that cannot be written, of a full disk, is lost: to tell of it there too would be a panic.
        let json = json.log_internal_errors(false);
        logs.with(
            json.with_current_span(true)
                .with_span_list(false)
                .with_writer(std::io::stderr),
        )
        .init();
    }
    log_panics();
}

/// A panic is a line like all others, also where somebody catches it. It has its backtrace where `RUST_BACKTRACE` says so.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let backtrace = Backtrace::capture();
        let is_there = backtrace.status() == BacktraceStatus::Captured;
        let backtrace = is_there.then(|| backtrace.to_string());
        tracing::error!(error.cause = %panic, backtrace, "panicked");
    }));
}

/// Installs the recorder of all metrics; what it hands back renders the page of `/metrics`.
///
/// # Errors
/// Called twice in one process.
pub fn start_metrics() -> anyhow::Result<PrometheusHandle> {
    let handle = install()?;
    describe();
    Ok(handle)
}

/// What each series tells, for the page of `/metrics`.
fn describe() {
    for (name, help) in [
        (
            "darkroom_problems_total",
            "Requests that were refused, by code of the problem",
        ),
        (
            "darkroom_jobs_total",
            "Jobs that left this worker, by outcome",
        ),
        (
            "darkroom_rescued_total",
            "Jobs taken back from lost workers by this process",
        ),
        (
            "darkroom_timed_out_total",
            "Attempts taken back by this process because they took too long",
        ),
        (
            "darkroom_expired_total",
            "Jobs that this process ended because their deadline had passed",
        ),
        (
            "darkroom_stale_results_total",
            "Results that came too late: the lease was another's by then",
        ),
        (
            "darkroom_leases_lost_total",
            "Times that this worker found its lease run out",
        ),
        (
            "darkroom_batch_splits_total",
            "Batches that failed and were tried in halves",
        ),
        (
            "darkroom_spot_notices_total",
            "Notices that the cloud takes this machine back",
        ),
        (
            "darkroom_metadata_faults_total",
            "Questions to the cloud's metadata service without an answer",
        ),
    ] {
        metrics::describe_counter!(name, help);
    }
    for (name, help) in [
        (
            "darkroom_http_seconds",
            "Time to the head of an answer, by method, route and status; waits that were asked for count",
        ),
        ("darkroom_enqueue_seconds", "Time of one commit of submits"),
        (
            "darkroom_enqueue_batch_size",
            "Submits that shared a commit",
        ),
        ("darkroom_queue_seconds", "Time from due to claimed"),
        (
            "darkroom_stage_seconds",
            "Time of one stage of one attempt, by stage",
        ),
        ("darkroom_batch_size", "Images that shared a forward pass"),
        ("darkroom_model_load_seconds", "Time to make a model ready"),
    ] {
        metrics::describe_histogram!(name, help);
    }
    for (name, help) in [
        (
            "darkroom_waited_jobs",
            "Jobs that long polls of this process wait for",
        ),
        (
            "darkroom_enqueue_waiting",
            "Submits that wait for their commit",
        ),
    ] {
        metrics::describe_gauge!(name, help);
    }
}

fn install() -> anyhow::Result<PrometheusHandle> {
    let seconds = Matcher::Suffix("_seconds".into());
    let metrics = PrometheusBuilder::new();
    let metrics = metrics
        .set_buckets_for_metric(seconds, &LATENCY_BUCKETS_SECONDS)?
        .set_buckets_for_metric(
            Matcher::Full("darkroom_batch_size".into()),
            &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0],
        )?
        .install_recorder()?;
    let kept = metrics.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP).await;
            kept.run_upkeep();
        }
    });
    Ok(metrics)
}

/// The error and its causes, outermost first, for one field of a log line.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        sync::{Arc, Mutex},
    };

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("no panic holds it").write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_panic_is_one_line_of_the_log() {
        let lines = Lines::default();
        let (writer, before) = (lines.clone(), std::panic::take_hook());
        let json = tracing_subscriber::fmt().json();
        let json = json.with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(json, || {
            super::log_panics();
            let caught = std::panic::catch_unwind(|| panic!("about one row"));
            assert!(caught.is_err());
        });
        std::panic::set_hook(before);
        let lines = lines.0.lock().expect("no panic holds it");
        let line: serde_json::Value = serde_json::from_slice(&lines).expect("one line of JSON");
        let cause = line["fields"]["error.cause"].as_str().expect("a cause");
        assert!(cause.contains("about one row"), "{line}");
        assert!(cause.contains("telemetry.rs"), "{line}");
    }
}
