//! `darkroom workers`: list workers, and let one leave.

use clap::{Args, Subcommand};
use reqwest::Method;
use wire::{List as WireList, Worker};

use crate::{
    Ended,
    failure::Failure,
    service::{Client, Service},
    terminal,
};

/// Lists the workers, or lets one leave
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  darkroom workers
  darkroom workers drain 17"
)]
pub(crate) struct Workers {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    list: List,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Drain(Drain),
}

impl Workers {
    pub(crate) async fn run(self) -> Result<Ended, Failure> {
        match self.verb {
            None => self.list.run().await,
            Some(Verb::Drain(drain)) => drain.run().await,
        }
    }
}

#[derive(Debug, Args)]
struct List {
    /// The list as the service wrote it
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    service: Service,
}

impl List {
    async fn run(self) -> Result<Ended, Failure> {
        let text = Client::new(self.service)?.get("/v1/workers").await?;
        terminal::answer(&text, self.json, table)?;
        Ok(Ended::Well)
    }
}

fn table(workers: &WireList<Worker>) -> String {
    let row = |worker: &Worker| {
        vec![
            worker.worker_id.to_string(),
            worker.name.clone(),
            worker.status.clone(),
            worker.running.to_string(),
            worker.device.clone(),
            worker.models.join(", "),
            loaded(worker),
            wire::rfc3339(&worker.registered_at),
            worker.build.clone(),
        ]
    };
    let heads = [
        "ID", "NAME", "STATUS", "RUNNING", "DEVICE", "MODELS", "LOADED", "SINCE", "BUILD",
    ];
    let none = "no worker was there within the last hour";
    terminal::table(&heads, workers.data.iter().map(row).collect(), none)
}

/// `efficientnet-lite0:1 fp32 ×8 model.pt`: forward batches of eight images by this artifact.
fn loaded(worker: &Worker) -> String {
    let loaded = worker.loaded.iter();
    let loaded = loaded.map(|one| {
        let artifact = one.artifact.as_ref().map(|artifact| format!(" {artifact}"));
        let artifact = artifact.unwrap_or_default();
        let warning = one.warning.as_ref().map(|warning| format!(" ({warning})"));
        let warning = warning.unwrap_or_default();
        format!(
            "{} {} ×{}{artifact}{warning}",
            one.model, one.precision, one.batch_best
        )
    });
    loaded.collect::<Vec<_>>().join(", ")
}

/// Asks a worker to claim no more jobs, to finish its jobs, and to end
///
/// Does not wait for the worker; `darkroom workers` shows its status. Repeating is fine.
#[derive(Debug, Args)]
struct Drain {
    /// `ID` of `darkroom workers`
    id: i64,
    #[command(flatten)]
    service: Service,
}

impl Drain {
    async fn run(self) -> Result<Ended, Failure> {
        let client = Client::new(self.service)?;
        let path = format!("/v1/workers/{}/drain", self.id);
        client.send_idempotent(Method::POST, &path).await?;
        Ok(Ended::Well)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use wire::Worker;

    use super::loaded;

    #[test]
    fn a_loaded_model_is_shown_with_its_artifact_and_its_warning() {
        let shown = |model: serde_json::Value| {
            let worker = json!({
                "worker_id": 1, "name": "w", "device": "cpu", "build": "b", "models": [], "status": "alive", "running": 0,
                "registered_at": "2026-01-31T12:00:00Z", "lease_until": "2026-01-31T12:00:30Z", "loaded": [model],
            });
            loaded(&serde_json::from_value::<Worker>(worker).expect("a worker"))
        };
        let mut model = json!({"model": "lite:1", "precision": "fp32", "batch_best": 8});
        assert_eq!(shown(model.clone()), "lite:1 fp32 ×8", "of an older worker");
        model["artifact"] = json!("model.pt");
        model["warning"] = json!("cpu.pt2 is refused");
        assert_eq!(shown(model), "lite:1 fp32 ×8 model.pt (cpu.pt2 is refused)");
    }
}
