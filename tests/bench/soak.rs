use serde_json::{Value, json};
use tests::{Stack, stack::Running};

use crate::{
    Bench,
    load::{self, Until},
    rounded,
};

const CLIENTS: usize = 32;
/// Images after which everything that is allocated once has been.
const WARM: usize = 1_000;

/// Memory after a thousand images and after `jobs`: what grows between them grows for ever.
pub(crate) async fn measure(bench: &Bench, jobs: usize) -> Value {
    let photos = load::read(&bench.photos);
    let stack = Stack::with_models().await;
    let worker = stack.worker("bench", &[]).await;
    load::closed_loop(&stack.client, &photos, CLIENTS, Until::Jobs(WARM)).await;
    let [api_warm, worker_warm] = [&stack.api, &worker].map(Running::memory_mib);
    eprintln!("after {WARM}: api {api_warm:.1} MiB, worker {worker_warm:.1} MiB");
    let rest = Until::Jobs(jobs.saturating_sub(WARM));
    let (_, seconds) = load::closed_loop(&stack.client, &photos, CLIENTS, rest).await;
    let [api, worker] = [&stack.api, &worker].map(Running::memory_mib);
    eprintln!("after {jobs}: api {api:.1} MiB, worker {worker:.1} MiB");
    json!({
        "images": jobs, "warm_images": WARM, "seconds": rounded(seconds),
        "api_warm_mib": rounded(api_warm), "api_mib": rounded(api),
        "worker_warm_mib": rounded(worker_warm), "worker_mib": rounded(worker),
        "worker_ratio": rounded(worker / worker_warm),
    })
}
