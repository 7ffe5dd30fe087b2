//! `--record`: dated rows for the table of the bench in `docs/performance.md`.

use serde_json::Value;

use crate::{decode, depth, infer, queue, waiters};

/// Puts the rows above the line that marks the end of the bench's table.
pub(crate) fn row(name: &str, figures: &Value) {
    let path = local::checkout().unwrap().join("docs/performance.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let mark = format!("<!-- rows of {name} -->\n");
    let figure = |key: &str| figures[key].to_string();
    let one_row = |keys: &[&str]| {
        vec![
            keys.iter()
                .map(|key| figure(key))
                .collect::<Vec<_>>()
                .join(" | "),
        ]
    };
    let rows = match name {
        "e2e" => one_row(&["bare_images_per_s", "e2e_images_per_s", "ratio"]),
        "overhead" => one_row(&[
            "bare_cpu_ms_per_image",
            "all_cpu_ms_per_job",
            "cpu_ms_per_job",
            "api_cpu_ms_per_job",
            "worker_cpu_ms_per_job",
            "postgres_cpu_ms_per_job",
            "s3_cpu_ms_per_job",
        ]),
        "latency" => one_row(&["bare_p50_ms", "e2e_p50_ms", "bare_p99_ms", "e2e_p99_ms"]),
        "cold" => one_row(&["until_claimed_ms", "cold_ms"]),
        "soak" => one_row(&[
            "images",
            "api_warm_mib",
            "api_mib",
            "worker_warm_mib",
            "worker_mib",
        ]),
        "decode" => decode::rows(figures),
        "infer" => infer::rows(figures),
        "queue" => queue::rows(figures),
        "depth" => depth::rows(figures),
        "waiters" => vec![waiters::row(figures)],
        _ => unreachable!("a bench without a table"),
    };
    let today = chrono::Utc::now().date_naive();
    let cores = crate::bare::cores();
    let rows = rows.into_iter().fold(String::new(), |rows, cells| {
        format!("{rows}| {today} | {cores} cores | {cells} |\n")
    });
    assert!(
        text.contains(&mark),
        "{} has no line {mark}",
        path.display()
    );
    std::fs::write(&path, text.replace(&mark, &format!("{rows}{mark}"))).unwrap();
}
