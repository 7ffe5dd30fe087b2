//! After the storm: does every process work again, or did only the others do its work?

use std::{sync::Arc, time::Duration};

use local::Signal;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::{arena::Arena, history::History, member::Member, photos::Photos, plans::CLASSIFIER};

/// Long enough for every connection that leads nowhere to be found out.
const RECOVERY_MAX: Duration = Duration::from_secs(40);

/// Each API takes a job, and each worker does one while the other workers are stopped.
pub async fn all_work(arena: &Arena, photos: &Photos, history: &History) {
    for (api, front) in arena.apis.iter().zip(arena.fronts()) {
        if submitted(arena, &front, photos).await.is_none() {
            history.violation("liveness", format!("{} takes no jobs any more", api.name));
        }
    }
    for worker in &arena.workers {
        let others = || {
            arena
                .workers
                .iter()
                .filter(|other| !Arc::ptr_eq(other, worker))
        };
        others().for_each(|other| other.signal(Signal::SIGSTOP));
        if !works(arena, photos).await {
            history.violation("liveness", format!("{} does no jobs any more", worker.name));
        }
        others().for_each(|other: &Arc<Member>| other.signal(Signal::SIGCONT));
    }
}

async fn works(arena: &Arena, photos: &Photos) -> bool {
    // Any API will do: what is asked here is the worker.
    for front in arena.fronts() {
        let Some(job) = submitted(arena, &front, photos).await else {
            continue;
        };
        let until = Instant::now() + RECOVERY_MAX;
        let sql = "select to_jsonb(j) - 'result' from ops.jobs j where status = 'succeeded'";
        while Instant::now() < until {
            if arena.rows(sql).await.iter().any(|row| row["id"] == job) {
                return true;
            }
            sleep(Duration::from_millis(200)).await;
        }
        return false;
    }
    false
}

async fn submitted(arena: &Arena, front: &str, photos: &Photos) -> Option<Value> {
    let http = reqwest::Client::builder()
        .timeout(Duration::from_secs(8))
        .build()
        .unwrap();
    let until = Instant::now() + RECOVERY_MAX;
    while Instant::now() < until {
        let submit = http
            .post(format!("{front}/v1/jobs"))
            .query(&[("model", CLASSIFIER)])
            .bearer_auth(&arena.key)
            .header("Cache-Control", "no-cache")
            .body(photos.good[0].bytes.clone());
        if let Ok(answer) = submit.send().await
            && answer.status().as_u16() == 202
            && let Ok(body) = answer.json::<Value>().await
        {
            return Some(body["id"].clone());
        }
        sleep(Duration::from_millis(200)).await;
    }
    None
}
