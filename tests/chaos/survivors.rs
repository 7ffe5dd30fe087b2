//! After the faults: checks that every process works again, each one alone.

use std::{sync::Arc, time::Duration};

use local::Signal;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::{
    cluster::Cluster, history::History, member::Member, photos::Photos, plans::CLASSIFIER,
};

/// Longest time in which a process must find its half-open connections and work again.
const RECOVERY_MAX: Duration = Duration::from_secs(40);

/// Checks that each API accepts a job, and that each worker completes one while the other workers are stopped.
pub async fn check_every_process(cluster: &Cluster, photos: &Photos, history: &History) {
    for (api, front) in cluster.apis.iter().zip(cluster.fronts()) {
        if submit_job(cluster, &front, photos).await.is_none() {
            history.violation("liveness", format!("{} takes no jobs any more", api.name));
        }
    }
    for worker in &cluster.workers {
        let others = || {
            cluster
                .workers
                .iter()
                .filter(|other| !Arc::ptr_eq(other, worker))
        };
        others().for_each(|other| other.signal(Signal::SIGSTOP));
        if !completes_a_job(cluster, photos).await {
            history.violation("liveness", format!("{} does no jobs any more", worker.name));
        }
        others().for_each(|other: &Arc<Member>| other.signal(Signal::SIGCONT));
    }
}

async fn completes_a_job(cluster: &Cluster, photos: &Photos) -> bool {
    // Any API will do: this checks the worker.
    for front in cluster.fronts() {
        let Some(job) = submit_job(cluster, &front, photos).await else {
            continue;
        };
        let until = Instant::now() + RECOVERY_MAX;
        let sql = "select to_jsonb(j) - 'result' from ops.jobs j where status = 'succeeded'";
        while Instant::now() < until {
            if cluster.rows(sql).await.iter().any(|row| row["id"] == job) {
                return true;
            }
            sleep(Duration::from_millis(200)).await;
        }
        return false;
    }
    false
}

async fn submit_job(cluster: &Cluster, front: &str, photos: &Photos) -> Option<Value> {
    let http = reqwest::Client::builder()
        .timeout(Duration::from_secs(8))
        .build()
        .unwrap();
    let until = Instant::now() + RECOVERY_MAX;
    while Instant::now() < until {
        let submit = http
            .post(format!("{front}/v1/jobs"))
            .query(&[("model", CLASSIFIER)])
            .bearer_auth(&cluster.key)
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
