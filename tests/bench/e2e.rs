use serde_json::{Value, json};
use tests::Stack;

use crate::{
    Bench, bare,
    cpu::{self, Ledger},
    load::{self, Until},
    median, rounded,
};

const CLIENTS: usize = 32;
/// On a CPU, fp32 gains little from batches: the bare loop takes the better of these.
const BARE_BATCHES: [usize; 2] = [1, 8];

/// Bare, whole, bare, whole …: medians of the rounds.
pub(crate) async fn measure(bench: &Bench) -> Value {
    let photos = load::read(&bench.photos);
    let stack = Stack::with_models().await;
    let _worker = stack.worker("bench", &[]).await;
    load::closed_loop(&stack.client, &photos, CLIENTS, Until::Seconds(2.0)).await; // warm-up

    let rate = |figures: &Value| figures["images_per_s"].as_f64().unwrap();
    let best = BARE_BATCHES.into_iter().max_by(|a, b| {
        let [a, b] = [a, b].map(|batch| rate(&bare::run(bench, *batch, bare::cores())));
        a.total_cmp(&b)
    });
    let (mut bares, mut bare_cpus, mut wholes, mut ledgers) = (vec![], vec![], vec![], vec![]);
    for round in 1..=bench.rounds {
        let figures = bare::run(bench, best.unwrap(), bare::cores());
        bares.push(rate(&figures));
        bare_cpus.push(figures["cpu_ms_per_image"].as_f64().unwrap());

        let (before, until) = (Ledger::now(), Until::Seconds(bench.seconds));
        let (took, seconds) = load::closed_loop(&stack.client, &photos, CLIENTS, until).await;
        let images = took.len() as f64;
        wholes.push(images / seconds);
        ledgers.push(Ledger::now().since(&before, images));
        eprintln!(
            "round {round}: bare {:.1} images/s, end to end {:.1}",
            bares[round - 1],
            wholes[round - 1]
        );
    }
    let cpu_ms = |of: &dyn Fn(&Ledger) -> f64| median(ledgers.iter().map(of).collect()) * 1e3;
    let (bare, whole) = (median(bares), median(wholes));
    let (cpu, bare_cpu) = (cpu_ms(&Ledger::service_cpu_seconds), median(bare_cpus));
    let mut figures = json!({
        "bare_images_per_s": rounded(bare), "e2e_images_per_s": rounded(whole), "ratio": rounded(whole / bare),
        "cpu_ms_per_job": rounded(cpu - bare_cpu), "all_cpu_ms_per_job": rounded(cpu), "bare_cpu_ms_per_image": rounded(bare_cpu),
        "bare_batch": best, "clients": CLIENTS, "rounds": bench.rounds, "seconds": bench.seconds, "photos": photos.len(),
    });
    for program in ["api", "worker", "postgres", "s3", cpu::CLIENTS] {
        let cpu = cpu_ms(&|ledger| ledger.of(program).cpu_seconds);
        figures[format!("{program}_cpu_ms_per_job")] = rounded(cpu);
    }
    let faults = ledgers.iter().map(|ledger| ledger.of("worker").page_faults);
    figures["worker_page_faults_per_job"] = rounded(median(faults.collect()));
    figures
}
