use serde_json::{Value, json};
use tests::Stack;

use crate::{
    Bench, bare,
    cpu::{self, Ledger},
    load::{self, Until},
    median, rounded,
};

/// Batch sizes of the bare loop; the fastest one counts. On a CPU, fp32 gains little from batches.
fn bare_batches(device: &str) -> &'static [usize] {
    match device {
        "cpu" => &[1, 8],
        // EfficientNet-Lite0 on an H100 takes 3.1 ms for 64 images, 1.7 for one.
        _ => &[64],
    }
}

/// Time for a worker to find its best batch: it compares sizes on real images (ADR 15). With 2 s of warm-up, four rounds of
/// 15 s had ratios of 0.71, 0.80, 0.84 and 0.84.
const WARM_UP_SECONDS: f64 = 30.0;

/// Measures the bare loop and the whole service in turns. Returns medians; a ratio compares the two runs of one round.
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
    let candidates = bare_batches(&bench.device).iter();
    let candidates =
        candidates.map(|&batch| (batch, rate(&bare::run(bench, batch, bare::cores()))));
    let best = candidates.max_by(|(_, a), (_, b)| a.total_cmp(b));
    let best = best.map(|(batch, _)| batch);
    let (mut bare_rates, mut bare_cpu_ms, mut e2e_rates, mut ledgers) =
        (vec![], vec![], vec![], vec![]);
    let mut stages = Value::Null;
    for round in 1..=bench.rounds {
        let figures = bare::run(bench, best.unwrap(), bare::cores());
        bare_rates.push(rate(&figures));
        bare_cpu_ms.push(figures["cpu_ms_per_image"].as_f64().unwrap());

        let before = Ledger::now();
        let (took, seconds, spent) = load(bench.seconds).await;
        let images = took.len() as f64;
        stages = spent.mean(took.len());
        stages["client"] = rounded(took.iter().sum::<f64>() / images);
        e2e_rates.push(images / seconds);
        ledgers.push(Ledger::now().since(&before, images));
        eprintln!(
            "round {round}: bare {:.1} images/s, end to end {:.1}; CPU ms an image {:.1}, a job {:.1}",
            bare_rates[round - 1],
            e2e_rates[round - 1],
            bare_cpu_ms[round - 1],
            ledgers[round - 1].service_cpu_seconds() * 1e3,
        );
    }
    let cpu_ms = |of: &dyn Fn(&Ledger) -> f64| median(ledgers.iter().map(of).collect()) * 1e3;
    let ratio = median(
        e2e_rates
            .iter()
            .zip(&bare_rates)
            .map(|(e2e, bare)| e2e / bare)
            .collect(),
    );
    let pairs = ledgers.iter().zip(&bare_cpu_ms);
    let overhead = pairs.map(|(all, bare)| all.service_cpu_seconds() * 1e3 - bare);
    let overhead = median(overhead.collect());
    let (bare, e2e) = (median(bare_rates), median(e2e_rates));
    let (cpu, bare_cpu) = (cpu_ms(&Ledger::service_cpu_seconds), median(bare_cpu_ms));
    let mut figures = json!({
        "bare_images_per_s": rounded(bare), "e2e_images_per_s": rounded(e2e), "ratio": rounded(ratio),
        "cpu_ms_per_job": rounded(overhead), "all_cpu_ms_per_job": rounded(cpu), "bare_cpu_ms_per_image": rounded(bare_cpu),
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
