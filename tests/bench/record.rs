//! `--record`: dated rows for the table of the bench in `docs/performance.md`.

use serde_json::Value;

use crate::{depth, queue, waiters};

/// Puts the rows above the line that marks the end of the bench's table.
pub(crate) fn row(name: &str, figures: &Value) {
    let path = local::checkout().unwrap().join("docs/performance.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let mark = format!("<!-- rows of {name} -->\n");
    let figure = |key: &str| figures[key].to_string();
    let rows = match name {
        "e2e" => vec![
            ["bare_images_per_s", "e2e_images_per_s", "ratio"]
                .map(figure)
                .join(" | "),
        ],
        "overhead" => vec![
            [
                "bare_cpu_ms_per_image",
                "all_cpu_ms_per_job",
                "cpu_ms_per_job",
            ]
            .map(figure)
            .join(" | "),
        ],
        "queue" => queue::rows(figures),
        "depth" => depth::rows(figures),
        "waiters" => vec![waiters::row(figures)],
        _ => vec![
            ["bare_p50_ms", "e2e_p50_ms", "bare_p99_ms", "e2e_p99_ms"]
                .map(figure)
                .join(" | "),
        ],
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
