//! Closed-loop clients: each sends a photo, waits for its labels, sends the next.

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
use serde_json::Value;
use tests::Client;

use self::connection::{Connection, Parts};

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

/// The photo with a comment of its own: the same picture, but bytes that no cache has seen.
pub(crate) fn unique(photo: &Bytes) -> Parts {
    let comment = uuid::Uuid::new_v4();
    let start = [
        &[0xff, 0xd8, 0xff, 0xfe, 0, 18],
        comment.as_bytes().as_slice(),
    ];
    Parts::from([start.concat().into(), photo.slice(2..)])
}

/// When a closed loop ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Until {
    Seconds(f64),
    Jobs(usize),
}

/// Milliseconds of every request that `clients` began before the end, and the seconds that all took.
pub(crate) async fn closed_loop(
    client: &Client,
    photos: &Photos,
    clients: usize,
    until: Until,
) -> (Vec<f64>, f64) {
    let (next, began) = (Arc::new(AtomicUsize::new(0)), Instant::now());
    let goes_on = move |turn: usize| match until {
        Until::Seconds(seconds) => began.elapsed() < Duration::from_secs_f64(seconds),
        Until::Jobs(jobs) => turn < jobs,
    };
    let loops = (0..clients).map(|_| {
        let (mut connection, photos, next) = (Connection::of(client), photos.clone(), next.clone());
        tokio::spawn(async move {
            let mut took = Vec::new();
            loop {
                let turn = next.fetch_add(1, Ordering::Relaxed);
                if !goes_on(turn) {
                    return took;
                }
                let photo = unique(&photos[turn % photos.len()]);
                let started = Instant::now();
                predict(&mut connection, photo).await;
                took.push(started.elapsed().as_secs_f64() * 1e3);
            }
        })
    });
    let mut took = Vec::new();
    for client in loops.collect::<Vec<_>>() {
        took.extend(client.await.unwrap());
    }
    (took, began.elapsed().as_secs_f64())
}

/// Labels in hand, or the bench fails.
async fn predict(connection: &mut Connection, photo: Parts) {
    let path = "/v1/jobs?model=efficientnet-lite0&top_k=5";
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
}
