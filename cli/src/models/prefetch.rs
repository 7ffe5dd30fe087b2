//! `darkroom models prefetch`: workers load a version before an alias moves to it.

use std::time::{Duration, Instant};

use clap::Args;
use reqwest::Method;
use wire::{List, Prefetch as Answer, Worker};

use crate::{
    Ended,
    failure::Failure,
    service::{Client, Service, path_part},
    terminal,
};

/// Between two looks at the workers.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Has the workers load a version before an alias moves to it
///
/// Asks every worker that runs the model to load the version now, so that the first jobs after a rollout do not wait for a load.
/// A worker that starts within ten minutes loads it too. Waits until all of them have it, and prints how many do. Needs a key
/// that may `operate`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  darkroom models prefetch resnet:8 && darkroom models alias resnet default 8
  darkroom models prefetch resnet:8 --timeout 10m")]
pub(crate) struct Prefetch {
    /// `NAME:VERSION`
    #[arg(value_name = "NAME:VERSION", value_parser = version_reference)]
    version: (String, i32),
    /// Wait no longer than this: `90s`, `10m`. `0s` does not wait
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// The last answer as a JSON document: `{"model", "version", "workers", "loaded"}`
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    service: Service,
}

fn version_reference(text: &str) -> Result<(String, i32), String> {
    let (name, version) = text
        .split_once(':')
        .ok_or("want NAME:VERSION, for example resnet:8")?;
    let version = version
        .parse()
        .map_err(|_| "the version is not a number: `darkroom models show NAME` lists them")?;
    Ok((path_part(name)?, version))
}

impl Prefetch {
    pub(crate) async fn run(self) -> Result<Ended, Failure> {
        let client = Client::new(self.service)?;
        let (name, version) = &self.version;
        let path = format!("/v1/models/{name}/versions/{version}/prefetch");
        let asked = client.send_idempotent(Method::POST, &path).await?;
        let mut answer: Answer = terminal::read_json(&asked)?;
        let began = Instant::now();
        while answer.loaded < answer.workers && began.elapsed() < self.timeout {
            tokio::time::sleep(LOOK_INTERVAL).await;
            let workers: List<Worker> = client.get_json("/v1/workers").await?;
            (answer.workers, answer.loaded) = count(&workers.data, name, *version);
        }
        if self.json {
            terminal::json(serde_json::to_value(&answer).unwrap_or_default())?;
        } else {
            let Answer {
                workers, loaded, ..
            } = answer;
            terminal::line(format!(
                "{name}:{version} is loaded by {loaded} of {workers} workers"
            ))?;
        }
        if answer.workers == 0 {
            return Err(Failure::Away {
                what: format!("no worker runs {name}"),
                next: "start a worker; one that starts within ten minutes loads the version",
            });
        }
        if answer.loaded < answer.workers && !self.timeout.is_zero() {
            let what = "not all workers have loaded the version; `darkroom models show` has the causes of failed loads";
            return Err(Failure::OutOfTime(what.into()));
        }
        Ok(Ended::Well)
    }
}

/// Live workers that run the model, and how many of them have loaded the version.
pub(super) fn count(workers: &[Worker], name: &str, version: i32) -> (i64, i64) {
    let runs = |worker: &&Worker| {
        let models = &worker.models;
        worker.status == "alive" && (models.is_empty() || models.iter().any(|model| model == name))
    };
    let reference = format!("{name}:{version}");
    let has = |worker: &&Worker| worker.loaded.iter().any(|one| one.model == reference);
    let running = workers.iter().filter(runs);
    let loaded = running.clone().filter(has).count();
    (running.count() as i64, loaded as i64)
}

#[cfg(test)]
mod tests {
    use super::{count, version_reference};
    use serde_json::json;
    use wire::Worker;

    #[test]
    fn only_live_workers_that_run_the_model_are_counted() {
        let worker = |status: &str, models: &[&str], loaded: &str| -> Worker {
            let loaded = json!([{"model": loaded, "precision": "fp32", "batch_best": 1}]);
            let worker = json!({"worker_id": 1, "name": "w", "device": "cpu", "build": "1", "models": models,
                "registered_at": "2026-01-01T00:00:00Z", "lease_until": "2026-01-01T00:00:30Z",
                "status": status, "running": 0, "loaded": loaded});
            serde_json::from_value(worker).expect("a worker")
        };
        let workers = [
            worker("alive", &[], "lite:8"),
            worker("alive", &["lite"], "lite:7"),
            worker("alive", &["other"], "other:8"),
            worker("lost", &[], "lite:8"),
        ];
        assert_eq!(count(&workers, "lite", 8), (2, 1));
    }

    #[test]
    fn a_version_is_named_by_its_number() {
        assert_eq!(version_reference("lite:8"), Ok(("lite".into(), 8)));
        for wrong in ["lite", "lite@default", "lite:new", "../x:1"] {
            assert!(version_reference(wrong).is_err(), "{wrong}");
        }
    }
}
