//! What waits and runs, as `GET /v1/stats` tells it.

use serde_json::Value;

use super::{
    any::{self, Column},
    bare,
};

const COLUMNS: [Column; 9] = [
    ("MODEL", "/model"),
    ("QUEUED", "/queued"),
    ("RUNNING", "/running"),
    ("SCHEDULED", "/scheduled"),
    ("OLDEST S", "/oldest_age_seconds"),
    ("IN/S", "/arrived_per_second"),
    ("OUT/S", "/finished_per_second"),
    ("WORKERS", "/live_workers"),
    ("DESIRED", "/desired_workers"),
];

/// All models, and their sum.
pub(crate) fn page(stats: &Value) -> String {
    let models = any::rows(&stats["models"], &COLUMNS, "no models yet");
    format!("{}\n\n{models}", line(stats))
}

/// The whole service in one line.
pub(crate) fn line(stats: &Value) -> String {
    let [queued, running, scheduled] = counts(stats).map(bare);
    let rate = |name: &str| stats[name].as_f64().unwrap_or_default();
    let oldest = stats["oldest_age_seconds"].as_f64();
    let oldest = oldest.map_or_else(String::new, |age| format!(", oldest {age:.0} s"));
    format!(
        "{queued} queued{oldest}, {running} running, {scheduled} scheduled; {:.1}/s in, {:.1}/s out",
        rate("arrived_per_second"),
        rate("finished_per_second")
    )
}

/// Whether nothing is queued, running, planned or backing off.
pub(crate) fn is_idle(stats: &Value) -> bool {
    counts(stats).into_iter().all(|count| count == 0)
}

fn counts(stats: &Value) -> [&Value; 3] {
    ["queued", "running", "scheduled"].map(|name| &stats[name])
}

#[cfg(test)]
mod tests {
    use super::{is_idle, page};
    use serde_json::json;

    #[test]
    fn a_page_has_a_sum_and_a_line_for_each_model() {
        let model = json!({"model": "lite", "queued": 3, "running": 1, "scheduled": 0, "oldest_age_seconds": 2.5,
            "arrived_per_second": 1.0, "finished_per_second": 0.5, "live_workers": 1, "desired_workers": 2});
        let stats = json!({"queued": 3, "running": 1, "scheduled": 0, "oldest_age_seconds": 2.5,
            "arrived_per_second": 1.0, "finished_per_second": 0.5, "models": [model]});
        assert_eq!(
            page(&stats),
            "3 queued, oldest 2 s, 1 running, 0 scheduled; 1.0/s in, 0.5/s out\n\n\
             MODEL  QUEUED  RUNNING  SCHEDULED  OLDEST S  IN/S   OUT/S  WORKERS  DESIRED\n\
             lite   3       1        0          2.500     1.000  0.500  1        2"
        );
        assert!(!is_idle(&stats));
        assert!(is_idle(&json!({"queued": 0, "running": 0, "scheduled": 0})));
    }
}
