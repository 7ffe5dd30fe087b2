use serde_json::{Value, json};
use tests::{Stack, stack::Running};

use crate::{
    Bench,
    load::{self, Until},
    rounded,
};

/// Images after which all one-time allocations are done.
const WARM: usize = 1_000;

/// Memory after a thousand images and after `jobs` images. Growth between the two is a leak.
pub(crate) async fn measure(bench: &Bench, jobs: usize) -> Value {
    let photos = load::read(&bench.photos);
    let stack = Stack::with_models().await;
    let model = bench.pushed_model(&stack).await;
    let worker = bench.worker(&stack, "bench").await;
    let load = async |until| {
        let (_, seconds, _) =
            load::closed_loop_of(&model, &stack.client, &photos, bench.clients, until).await;
        seconds
    };
    load(Until::Jobs(WARM)).await;
    let [api_warm, worker_warm] = [&stack.api, &worker].map(Running::memory_mib);
    eprintln!("after {WARM}: api {api_warm:.1} MiB, worker {worker_warm:.1} MiB");
    let seconds = load(Until::Jobs(jobs.saturating_sub(WARM))).await;
    let [api, worker] = [&stack.api, &worker].map(Running::memory_mib);
    eprintln!("after {jobs}: api {api:.1} MiB, worker {worker:.1} MiB");
    json!({
        "images": jobs, "warm_images": WARM, "device": bench.device, "seconds": rounded(seconds),
        "api_warm_mib": rounded(api_warm), "api_mib": rounded(api),
        "worker_warm_mib": rounded(worker_warm), "worker_mib": rounded(worker),
        "worker_ratio": rounded(worker / worker_warm),
    })
}
