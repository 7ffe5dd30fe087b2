//! Logs and metrics of every process.
//!
//! Logs are JSON lines with dotted field names (`job.id`, `lease.no`, `worker.id`, `request.id`, `error.code`). A cause chain
//! is logged once, where the error is handled. `DARKROOM_LOG` takes the filters of `tracing-subscriber`.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io::IsTerminal,
    time::Duration,
};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::{EnvFilter, layer::SubscriberExt, util::SubscriberInitExt};

use crate::tasks;

/// Seconds, from half a millisecond to a minute.
const LATENCY_BUCKETS_SECONDS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0,
];

/// Longest chain of causes in a log line.
const CAUSE_BYTES_MAX: usize = 4_000;

/// Pause between two upkeeps. An upkeep moves the readings of histograms into their buckets; until then each takes memory.
const UPKEEP_PAUSE: Duration = Duration::from_secs(5);

/// Starts logging to stderr: readable lines if stderr is a terminal, JSON lines otherwise.
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
        // A line that cannot be written (disk full) is lost: to report that to stderr too would panic.
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

/// Logs each panic as one line, also a caught one; with a backtrace if `RUST_BACKTRACE` is set.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let backtrace = Backtrace::capture();
        let is_captured = backtrace.status() == BacktraceStatus::Captured;
        let backtrace = is_captured.then(|| backtrace.to_string());
        tracing::error!(error.cause = %panic, backtrace, "panicked");
    }));
}

/// Installs the recorder of all metrics. The handle renders the page of `/metrics`.
///
/// # Errors
/// Called twice in one process.
pub fn start_metrics() -> anyhow::Result<PrometheusHandle> {
    let handle = install()?;
    describe();
    Ok(handle)
}

/// The help text of each series on the page of `/metrics`.
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
            "Jobs that this process took back from lost workers",
        ),
        (
            "darkroom_timed_out_total",
            "Attempts that this process ended because they took too long",
        ),
        (
            "darkroom_expired_total",
            "Jobs that this process ended because their deadline had passed",
        ),
        (
            "darkroom_stale_results_total",
            "Results that were dropped because the job's lease was lost",
        ),
        (
            "darkroom_leases_lost_total",
            "Times that the lease of this worker ran out",
        ),
        (
            "darkroom_batch_splits_total",
            "Forward batches that failed and were split in halves",
        ),
        (
            "darkroom_decoder_restarts_total",
            "Decoders that ended and were started again, by cause",
        ),
        (
            "darkroom_spot_notices_total",
            "Notices of the cloud that it takes this machine back",
        ),
        (
            "darkroom_metadata_faults_total",
            "Requests to the cloud's metadata service that failed",
        ),
    ] {
        metrics::describe_counter!(name, help);
    }
    for (name, help) in [
        (
            "darkroom_http_seconds",
            "Time until the response headers, by method, route and status; includes waits that the client requested",
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
    let handle = metrics.clone();
    tasks::restart("metrics upkeep", move || {
        let handle = handle.clone();
        async move {
            loop {
                tokio::time::sleep(UPKEEP_PAUSE).await;
                handle.run_upkeep();
            }
        }
    });
    Ok(metrics)
}

/// The error and its causes, outermost first, for one field of a log line. At most 4,000 bytes: a cause may quote a request.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let mut chain = causes
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ");
    if chain.len() > CAUSE_BYTES_MAX {
        chain.truncate(chain.floor_char_boundary(CAUSE_BYTES_MAX));
        chain.push('…');
    }
    chain
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
    fn a_cause_that_quotes_a_request_cannot_fill_the_log() {
        let long = std::io::Error::other("é".repeat(50_000));
        let chain = super::chain(&long);
        assert!(chain.len() < 4_100, "{}", chain.len());
        assert!(chain.ends_with("é…"));
        assert_eq!(super::chain(&std::io::Error::other("short")), "short");
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
