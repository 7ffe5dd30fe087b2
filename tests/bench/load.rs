//! Closed-loop clients: each sends a photo, waits for its labels, sends the next.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde_json::Value;
use tests::Client;

/// JPEGs in memory.
pub(crate) type Photos = Arc<Vec<Vec<u8>>>;

pub(crate) fn read(folder: &std::path::Path) -> Photos {
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
    Arc::new(
        paths
            .iter()
            .map(|path| std::fs::read(path).unwrap())
            .collect(),
    )
}

/// The photo with a comment of its own: the same picture, but bytes that no cache has seen.
pub(crate) fn unique(photo: &[u8]) -> Bytes {
    let comment = uuid::Uuid::new_v4();
    let parts = [
        &[0xff, 0xd8, 0xff, 0xfe, 0, 18],
        comment.as_bytes().as_slice(),
        &photo[2..],
    ];
    parts.concat().into()
}

/// Milliseconds of every request of `clients` that began within `seconds`.
pub(crate) async fn closed_loop(
    client: &Client,
    photos: &Photos,
    clients: usize,
    seconds: f64,
) -> (Vec<f64>, f64) {
    let (next, began) = (Arc::new(AtomicUsize::new(0)), Instant::now());
    let ends = began + Duration::from_secs_f64(seconds);
    let loops = (0..clients).map(|_| {
        let (client, photos, next) = (client.clone(), photos.clone(), next.clone());
        tokio::spawn(async move {
            let mut took = Vec::new();
            while Instant::now() < ends {
                let turn = next.fetch_add(1, Ordering::Relaxed);
                let photo = unique(&photos[turn % photos.len()]);
                let started = Instant::now();
                predict(&client, photo).await;
                took.push(started.elapsed().as_secs_f64() * 1e3);
            }
            took
        })
    });
    let mut took = Vec::new();
    for client in loops.collect::<Vec<_>>() {
        took.extend(client.await.unwrap());
    }
    (took, began.elapsed().as_secs_f64())
}

/// Labels in hand, or the bench fails.
async fn predict(client: &Client, photo: Bytes) {
    let request = client
        .request(
            reqwest::Method::POST,
            "/v1/jobs?model=efficientnet-lite0&top_k=5",
        )
        .header("Content-Type", "image/jpeg")
        .header("Prefer", "wait=30");
    let response = request.body(photo).send().await.unwrap();
    let mut job: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    while job["status"] != "succeeded" {
        let status = job["status"].as_str().unwrap_or_default();
        assert!(
            ["queued", "running", "scheduled"].contains(&status),
            "{job}"
        );
        let path = format!("/v1/jobs/{}", job["id"].as_str().unwrap());
        let response = client
            .request(reqwest::Method::GET, &path)
            .header("Prefer", "wait=30")
            .send()
            .await;
        job = serde_json::from_slice(&response.unwrap().bytes().await.unwrap()).unwrap();
    }
    assert!(
        job["result"]["labels"]
            .as_array()
            .is_some_and(|labels| labels.len() == 5),
        "{job}"
    );
}
