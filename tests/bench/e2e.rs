use serde_json::{Value, json};
use tests::Stack;

use crate::{
    Bench, bare,
    cpu::{self, Ledger},
    load::{self, Until},
    median, rounded,
};

/// The bare loop takes the best of these. On a CPU, fp32 gains little from batches.
fn bare_batches(device: &str) -> &'static [usize] {
    match device {
        "cpu" => &[1, 8],
        // EfficientNet-Lite0 on an H100 takes 3.1 ms for 64 images, 1.7 for one.
        _ => &[64],
    }
}

/// Until a worker has settled on its batch: it compares sizes on real images for that long (ADR 15). Four rounds of 15 s
/// after 2 s of warm-up were 0.71, 0.80, 0.84 and 0.84.
const WARM_UP_SECONDS: f64 = 30.0;

/// Bare, whole, bare, whole …: medians of the rounds, of each to the one right before.
pub(crate) async fn measure(bench: &Bench) -> Value {
    let photos = load::read(&bench.photos);
    let stack = Stack::with_models().await;
    let model = bench.pushed_model(&stack).await;
    let _worker = bench.worker(&stack, "bench").await;
    let load = async |seconds| {
        let until = Until::Seconds(seconds);
        load::closed_loop_of(&model, &stack.client, &photos, bench.clients, until).await
    };
    load(WARM_UP_SECONDS).await;

    let rate = |figures: &Value| figures["images_per_s"].as_f64().unwrap();
    let tried = bare_batches(&bench.device).iter();
    let tried = tried.map(|&batch| (batch, rate(&bare::run(bench, batch, bare::cores()))));
    let best = tried.max_by(|(_, a), (_, b)| a.total_cmp(b));
    let best = best.map(|(batch, _)| batch);
    let (mut bares, mut bare_cpus, mut wholes, mut ledgers) = (vec![], vec![], vec![], vec![]);
    let mut stages = Value::Null;
    for round in 1..=bench.rounds {
        let figures = bare::run(bench, best.unwrap(), bare::cores());
        bares.push(rate(&figures));
        bare_cpus.push(figures["cpu_ms_per_image"].as_f64().unwrap());

        let before = Ledger::now();
        let (took, seconds, spent) = load(bench.seconds).await;
        let images = took.len() as f64;
        stages = spent.mean(took.len());
        stages["client"] = rounded(took.iter().sum::<f64>() / images);
        wholes.push(images / seconds);
        ledgers.push(Ledger::now().since(&before, images));
        eprintln!(
            "round {round}: bare {:.1} images/s, end to end {:.1}; CPU ms an image {:.1}, a job {:.1}",
            bares[round - 1],
            wholes[round - 1],
            bare_cpus[round - 1],
            ledgers[round - 1].service_cpu_seconds() * 1e3,
        );
    }
    let cpu_ms = |of: &dyn Fn(&Ledger) -> f64| median(ledgers.iter().map(of).collect()) * 1e3;
    let ratio = median(wholes.iter().zip(&bares).map(|(w, b)| w / b).collect());
    let pairs = ledgers.iter().zip(&bare_cpus);
    let beside = pairs.map(|(all, bare)| all.service_cpu_seconds() * 1e3 - bare);
    let beside = median(beside.collect());
    let (bare, whole) = (median(bares), median(wholes));
    let (cpu, bare_cpu) = (cpu_ms(&Ledger::service_cpu_seconds), median(bare_cpus));
    let mut figures = json!({
        "bare_images_per_s": rounded(bare), "e2e_images_per_s": rounded(whole), "ratio": rounded(ratio),
        "cpu_ms_per_job": rounded(beside), "all_cpu_ms_per_job": rounded(cpu), "bare_cpu_ms_per_image": rounded(bare_cpu),
        "bare_batch": best, "clients": bench.clients, "device": bench.device, "precision": bench.precision, "model": model,
         "rounds": bench.rounds, "seconds": bench.seconds, "photos": photos.len(),
    });
    figures["stages_ms_of_the_last_round"] = stages;
    for program in ["api", "worker", "postgres", "s3", cpu::CLIENTS] {
        let cpu = cpu_ms(&|ledger| ledger.of(program).cpu_seconds);
        figures[format!("{program}_cpu_ms_per_job")] = rounded(cpu);
    }
    let faults = ledgers.iter().map(|ledger| ledger.of("worker").page_faults);
    figures["worker_page_faults_per_job"] = rounded(median(faults.collect()));
    figures
}
