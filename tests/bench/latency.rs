use serde_json::{Value, json};
use tests::Stack;

use crate::{
    Bench, bare,
    load::{self, Until},
    median, rounded,
};

/// Latency of one image at a time on an idle system, in turns with the bare call.
pub(crate) async fn measure(bench: &Bench) -> Value {
    let photos = load::read(&bench.photos);
    let stack = Stack::with_models().await;
    let _worker = bench.worker(&stack, "bench").await;
    load::closed_loop(&stack.client, &photos, 1, Until::Seconds(2.0)).await; // warm-up

    let percentile = |took: &mut Vec<f64>, part: f64| {
        took.sort_by(f64::total_cmp);
        took[((took.len() - 1) as f64 * part) as usize]
    };
    let (mut bare50, mut bare99, mut e2e50, mut e2e99) = (vec![], vec![], vec![], vec![]);
    for round in 1..=bench.rounds {
        let figures = bare::run(bench, 1, 1);
        bare50.push(figures["p50_ms"].as_f64().unwrap());
        bare99.push(figures["p99_ms"].as_f64().unwrap());
        let until = Until::Seconds(bench.seconds);
        let (mut took, _) = load::closed_loop(&stack.client, &photos, 1, until).await;
        e2e50.push(percentile(&mut took, 0.5));
        e2e99.push(percentile(&mut took, 0.99));
        eprintln!(
            "round {round}: bare p50 {:.1} ms, end to end {:.1}",
            bare50[round - 1],
            e2e50[round - 1]
        );
    }
    let [bare50, bare99, e2e50, e2e99] = [bare50, bare99, e2e50, e2e99].map(median);
    json!({
        "bare_p50_ms": rounded(bare50), "bare_p99_ms": rounded(bare99),
        "e2e_p50_ms": rounded(e2e50), "e2e_p99_ms": rounded(e2e99),
        "added_p50_ms": rounded(e2e50 - bare50), "added_p99_ms": rounded(e2e99 - bare99),
        "device": bench.device, "rounds": bench.rounds, "seconds": bench.seconds, "photos": photos.len(),
    })
}
