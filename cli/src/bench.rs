//! `darkroom bench`: a closed loop of clients.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use bytes::Bytes;
use clap::Args;
use futures_util::future::join_all;
use serde_json::json;

use crate::{
    Ended,
    failure::Failure,
    service::{CallError, Client, Content, Service, Submission},
    terminal,
    wait::{has_failed, until_ended},
};

const WAIT_SECONDS: u64 = 30;

/// Measures a service with a closed loop of clients: images per second and latency
///
/// Each client submits a photo, waits until the job has ended, and submits the next. Every submit asks for a new
/// prediction. These are real jobs: they wait in the queue with other jobs, and are kept as long as other jobs.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  darkroom bench cat.jpg
  darkroom bench --clients 64 --seconds 60 photos/*.jpg --json")]
pub(crate) struct Bench {
    /// Photos, submitted in turn
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Clients that submit at the same time
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1024))]
    clients: u16,
    /// How long to submit; jobs that run at the end are waited for and counted
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// The service's default model if left out
    #[arg(long)]
    model: Option<String>,
    /// One JSON document: `{"images", "failed", "seconds", "images_per_second", "p50_ms", "p99_ms", "max_ms"}`
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    service: Service,
}

/// Latencies from the first byte of a submit until the client saw the end of the job.
#[derive(Debug, Default)]
struct Tally {
    latencies_ms: Vec<f64>,
    failed: usize,
}

impl Bench {
    pub(crate) async fn run(self) -> Result<Ended, Failure> {
        let mut photos = Vec::new();
        for file in &self.files {
            let bytes = std::fs::read(file).map_err(|error| {
                Failure::Usage(format!("cannot read {}: {error}", file.display()))
            })?;
            photos.push(Content::Bytes(Bytes::from(bytes)));
        }
        let client = Client::new(self.service.clone())?;
        let begun_at = Instant::now();
        let until = begun_at + Duration::from_secs(self.seconds);
        let clients = (0..self.clients).map(|first| {
            let photos = photos.iter().cycle().skip(first.into());
            self.one_client(&client, photos, until)
        });
        let mut all = Tally::default();
        for tally in join_all(clients).await {
            let tally = tally?;
            all.latencies_ms.extend(tally.latencies_ms);
            all.failed += tally.failed;
        }
        self.show(all, begun_at.elapsed())
    }

    async fn one_client(
        &self,
        client: &Client,
        photos: impl Iterator<Item = &Content>,
        until: Instant,
    ) -> Result<Tally, CallError> {
        let model = self
            .model
            .iter()
            .map(|model| ("model".to_owned(), model.clone()));
        let query: Vec<_> = model.collect();
        let mut tally = Tally::default();
        for photo in photos {
            let begun_at = Instant::now();
            if begun_at >= until {
                break;
            }
            let submission = Submission {
                content: photo,
                query: &query,
                idempotency_key: &uuid::Uuid::now_v7().to_string(),
                wait_seconds: Some(WAIT_SECONDS),
                no_cache: true,
            };
            let accepted = client.submit(&submission).await?;
            let ended = until_ended(client, accepted, |_| {}).await?;
            tally.failed += usize::from(has_failed(&ended.job));
            tally
                .latencies_ms
                .push(begun_at.elapsed().as_secs_f64() * 1e3);
        }
        Ok(tally)
    }

    fn show(&self, tally: Tally, took: Duration) -> Result<Ended, Failure> {
        let (mut ms, failed) = (tally.latencies_ms, tally.failed);
        ms.sort_by(f64::total_cmp);
        let (images, seconds) = (ms.len(), took.as_secs_f64());
        let rate = images as f64 / seconds;
        let (p50, p99, max) = (
            percentile(&ms, 0.5),
            percentile(&ms, 0.99),
            percentile(&ms, 1.0),
        );
        if self.json {
            terminal::json(json!({
                "images": images, "failed": failed, "seconds": seconds, "images_per_second": rate,
                "p50_ms": p50, "p99_ms": p99, "max_ms": max,
            }))?;
        } else {
            let clients = self.clients;
            terminal::line(format!(
                "{rate:.1} images/s  p50 {p50:.0} ms  p99 {p99:.0} ms  max {max:.0} ms  \
                 ({images} images, {failed} failed, {clients} clients, {seconds:.1} s)"
            ))?;
        }
        Ok(if failed > 0 {
            Ended::WithFailedJobs
        } else {
            Ended::Well
        })
    }
}

/// The value that this share of all values does not exceed, by nearest rank; zero if there are no values.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #[test]
    fn percentiles_are_ranks() {
        let ms: Vec<_> = (1..=100).map(f64::from).collect();
        let ranks = [0.5, 0.99, 1.0].map(|share| super::percentile(&ms, share).to_string());
        assert_eq!(ranks, ["50", "99", "100"]);
        assert!(super::percentile(&[], 0.5) < 1.0);
    }
}
