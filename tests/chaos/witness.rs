//! Reads the rows during the whole run and checks what must always hold.

use std::{collections::HashMap, sync::Arc, time::Duration};

use serde_json::Value;
use tokio::time::sleep;

use crate::{cluster::Cluster, history::History};

const LIVE: &str = "select jsonb_build_object('id', j.job_id, 'lease', j.lease_no, 'version', j.version, 'state', j.state,
    'worker', j.worker_id, 'charged', j.attempts_charged, 'attempts_max', j.attempts_max,
    'finished', exists (select from finished_jobs f where f.job_id = j.job_id)) from live_jobs j";

/// The last state that the witness read of a live job.
#[derive(Debug)]
struct Seen {
    lease: i64,
    version: i64,
    worker: Option<i64>,
}

pub async fn watch(cluster: Arc<Cluster>, history: Arc<History>) {
    let mut seen: HashMap<String, Seen> = HashMap::new();
    loop {
        sleep(Duration::from_millis(150)).await;
        let Ok(rows) = sqlx::query_scalar::<_, Value>(LIVE)
            .fetch_all(&cluster.db)
            .await
        else {
            continue; // a fault has stopped Postgres
        };
        for row in rows {
            let number = |name: &str| row[name].as_i64().unwrap_or(-1);
            let id = row["id"].as_str().unwrap().to_owned();
            let now = Seen {
                lease: number("lease"),
                version: number("version"),
                worker: row["worker"].as_i64(),
            };
            if row["finished"] == true {
                history.violation("I4", format!("{id} is live and finished at once"));
            }
            if number("charged") > number("attempts_max") {
                history.violation("I10", format!("{row}"));
            }
            if let Some(before) = seen.get(&id) {
                if now.lease < before.lease || now.version < before.version {
                    history.violation("I15", format!("{id}: {before:?}, then {now:?}"));
                }
                let moved =
                    now.worker.is_some() && before.worker.is_some() && now.worker != before.worker;
                if moved && now.lease <= before.lease {
                    history.violation("I6", format!("{id} has two holders: {before:?}, {now:?}"));
                }
            }
            seen.insert(id, now);
        }
    }
}
