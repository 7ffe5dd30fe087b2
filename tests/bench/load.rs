//! Closed-loop clients: each sends a photo, waits for its labels, and sends the next photo.

mod connection;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde_json::{Map, Value};
use tests::Client;

use self::connection::{Connection, Parts};
use crate::rounded;

/// JPEGs in memory.
pub(crate) type Photos = Arc<Vec<Bytes>>;

pub(crate) fn read(folder: &Path) -> Photos {
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|kind| kind == "jpg" || kind == "jpeg")
        })
        .collect();
    paths.sort();
    let photos = paths.iter().map(|path| std::fs::read(path).unwrap().into());
    Arc::new(photos.collect())
}

/// The photo with a random comment: equal pixels, but bytes that no cache knows.
pub(crate) fn with_unique_comment(photo: &Bytes) -> Parts {
    let comment = uuid::Uuid::new_v4();
    let start = [
        &[0xff, 0xd8, 0xff, 0xfe, 0, 18],
        comment.as_bytes().as_slice(),
    ];
    Parts::from([start.concat().into(), photo.slice(2..)])
}

/// The default model of the benches.
pub(crate) const MODEL: &str = "efficientnet-lite0";

/// When a closed loop ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Until {
    Seconds(f64),
    Jobs(usize),
}

/// Runs closed-loop clients. Returns the milliseconds of every job, and the seconds of the whole loop.
pub(crate) async fn closed_loop(
    client: &Client,
    photos: &Photos,
    clients: usize,
    until: Until,
) -> (Vec<f64>, f64) {
    let (took, seconds, _) = closed_loop_of(MODEL, client, photos, clients, until).await;
    (took, seconds)
}

/// As [`closed_loop`], for any model. Also returns the summed milliseconds of each stage.
pub(crate) async fn closed_loop_of(
    model: &str,
    client: &Client,
    photos: &Photos,
    clients: usize,
    until: Until,
) -> (Vec<f64>, f64, Stages) {
    let path = format!("/v1/jobs?model={model}&top_k=5");
    let (next, began) = (Arc::new(AtomicUsize::new(0)), Instant::now());
    let has_next = move |turn: usize| match until {
        Until::Seconds(seconds) => began.elapsed() < Duration::from_secs_f64(seconds),
        Until::Jobs(jobs) => turn < jobs,
    };
    let loops = (0..clients).map(|_| {
        let (mut connection, photos, next) = (Connection::of(client), photos.clone(), next.clone());
        let path = path.clone();
        tokio::spawn(async move {
            let (mut took, mut stages) = (Vec::new(), Stages::default());
            loop {
                let turn = next.fetch_add(1, Ordering::Relaxed);
                if !has_next(turn) {
                    return (took, stages);
                }
                let photo = with_unique_comment(&photos[turn % photos.len()]);
                let started = Instant::now();
                let job = predict(&mut connection, &path, photo).await;
                stages.add(&job["timings_ms"]);
                took.push(started.elapsed().as_secs_f64() * 1e3);
            }
        })
    });
    let (mut took, mut stages) = (Vec::new(), Stages::default());
    for client in loops.collect::<Vec<_>>() {
        let (client_took, client_stages) = client.await.unwrap();
        took.extend(client_took);
        stages.add(&client_stages.0.into());
    }
    let seconds = began.elapsed().as_secs_f64();
    (took, seconds, stages)
}

/// Sums of milliseconds by stage.
#[derive(Debug, Default)]
pub(crate) struct Stages(Map<String, Value>);

impl Stages {
    fn add(&mut self, timings: &Value) {
        for (stage, ms) in timings.as_object().into_iter().flatten() {
            let sum = self.0.get(stage).and_then(Value::as_f64).unwrap_or(0.0);
            let ms = ms.as_f64().unwrap_or(0.0);
            self.0.insert(stage.clone(), (sum + ms).into());
        }
    }

    /// Mean milliseconds by stage of one job.
    pub(crate) fn mean(&self, jobs: usize) -> Value {
        let each = |ms: &Value| rounded(ms.as_f64().unwrap_or(0.0) / jobs as f64);
        let means = self.0.iter().map(|(stage, ms)| (stage.clone(), each(ms)));
        means.collect::<Map<_, _>>().into()
    }
}

/// Submits a photo and waits for its labels. Panics if the job does not succeed.
async fn predict(connection: &mut Connection, path: &str, photo: Parts) -> Value {
    let mut job = connection.request("POST", path, photo).await;
    while job["status"] != "succeeded" {
        let status = job["status"].as_str().unwrap_or_default();
        assert!(
            ["queued", "running", "scheduled"].contains(&status),
            "{job}"
        );
        let path = format!("/v1/jobs/{}", job["id"].as_str().unwrap());
        job = connection.request("GET", &path, Parts::default()).await;
    }
    let labels: Option<&Vec<Value>> = job["result"]["labels"].as_array();
    assert!(labels.is_some_and(|labels| labels.len() == 5), "{job}");
    job
}
