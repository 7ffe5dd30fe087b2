//! `darkroom queues …` and `darkroom stats`: the queues of models.

use clap::{Args, Subcommand};
use reqwest::Method;
use wire::{ModelStats, Stats as WireStats};

use crate::{
    Ended,
    failure::Failure,
    service::{self, Client, Service, path_part},
    terminal,
};

#[derive(Debug, Subcommand)]
pub(crate) enum Queues {
    Pause(Pause),
    Resume(Resume),
}

impl Queues {
    pub(crate) async fn run(self) -> Result<Ended, Failure> {
        match self {
            Self::Pause(pause) => pause.run().await,
            Self::Resume(resume) => resume.run().await,
        }
    }
}

/// Pauses the queue of a model: workers claim none of its jobs; submits are accepted, and running jobs end
///
/// Repeating is fine.
#[derive(Debug, Args)]
pub(crate) struct Pause {
    /// Name of the model
    #[arg(value_parser = path_part)]
    model: String,
    /// The reason, which `explain` and `ops.models` show
    #[arg(long, value_name = "REASON")]
    why: Option<String>,
    #[command(flatten)]
    service: Service,
}

impl Pause {
    async fn run(self) -> Result<Ended, Failure> {
        let why = self.why.map(|why| ("why".to_owned(), why));
        let why: Vec<_> = why.into_iter().collect();
        let path = service::path(&format!("/v1/queues/{}/pause", self.model), &why);
        let client = Client::new(self.service)?;
        client.send_idempotent(Method::POST, &path).await?;
        Ok(Ended::Well)
    }
}

/// Resumes the queue of a model: workers claim its jobs again
///
/// Repeating is fine.
#[derive(Debug, Args)]
pub(crate) struct Resume {
    /// Name of the model
    #[arg(value_parser = path_part)]
    model: String,
    #[command(flatten)]
    service: Service,
}

impl Resume {
    async fn run(self) -> Result<Ended, Failure> {
        let client = Client::new(self.service)?;
        let path = format!("/v1/queues/{}/resume", self.model);
        client.send_idempotent(Method::POST, &path).await?;
        Ok(Ended::Well)
    }
}

/// Shows the backlog, the age of its oldest job, the rates, and how many workers the load needs
#[derive(Debug, Args)]
pub(crate) struct Stats {
    /// As the service wrote it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    service: Service,
}

impl Stats {
    pub(crate) async fn run(self) -> Result<Ended, Failure> {
        let text = Client::new(self.service)?.get("/v1/stats").await?;
        terminal::answer(&text, self.json, page)?;
        Ok(Ended::Well)
    }
}

/// The sum of all models, and a table of them.
pub(crate) fn page(stats: &WireStats) -> String {
    let row = |model: &ModelStats| {
        vec![
            model.model.clone(),
            model.queued.to_string(),
            model.running.to_string(),
            model.scheduled.to_string(),
            terminal::some(model.oldest_age_seconds.map(terminal::decimal)),
            terminal::decimal(model.arrived_per_second),
            terminal::decimal(model.finished_per_second),
            model.live_workers.to_string(),
            model.desired_workers.to_string(),
        ]
    };
    let heads = [
        "MODEL",
        "QUEUED",
        "RUNNING",
        "SCHEDULED",
        "OLDEST S",
        "IN/S",
        "OUT/S",
        "WORKERS",
        "DESIRED",
    ];
    let models = terminal::table(
        &heads,
        stats.models.iter().map(row).collect(),
        "no models yet",
    );
    format!("{}\n\n{models}", line(stats))
}

/// The whole service in one line.
pub(crate) fn line(stats: &WireStats) -> String {
    let oldest = stats.oldest_age_seconds;
    let oldest = terminal::some(oldest.map(|age| format!(", oldest {age:.0} s")));
    format!(
        "{} queued{oldest}, {} running, {} scheduled; {:.1}/s in, {:.1}/s out",
        stats.queued,
        stats.running,
        stats.scheduled,
        stats.arrived_per_second,
        stats.finished_per_second
    )
}

/// Whether no job is queued, running or scheduled.
pub(crate) fn is_idle(stats: &WireStats) -> bool {
    stats.queued == 0 && stats.running == 0 && stats.scheduled == 0
}

#[cfg(test)]
mod tests {
    use super::{is_idle, page};
    use serde_json::json;

    #[test]
    fn a_page_has_a_sum_and_a_line_for_each_model() {
        let model = json!({"model": "lite", "queued": 3, "running": 1, "scheduled": 0, "oldest_age_seconds": 2.5,
            "arrived_per_second": 1.0, "finished_per_second": 0.5, "finished_per_worker_second": null, "work_seconds": null,
            "live_workers": 1, "desired_workers": 2, "paused": false, "pause_reason": null});
        let mut stats = json!({"object": "stats", "queued": 3, "running": 1, "scheduled": 0, "oldest_age_seconds": 2.5,
            "arrived_per_second": 1.0, "finished_per_second": 0.5, "models": [model]});
        let busy = serde_json::from_value(stats.clone()).expect("stats");
        assert_eq!(
            page(&busy),
            "3 queued, oldest 2 s, 1 running, 0 scheduled; 1.0/s in, 0.5/s out\n\n\
             MODEL  QUEUED  RUNNING  SCHEDULED  OLDEST S  IN/S   OUT/S  WORKERS  DESIRED\n\
             lite   3       1        0          2.500     1.000  0.500  1        2"
        );
        assert!(!is_idle(&busy));
        (stats["queued"], stats["running"]) = (0.into(), 0.into());
        assert!(is_idle(&serde_json::from_value(stats).expect("stats")));
    }
}
