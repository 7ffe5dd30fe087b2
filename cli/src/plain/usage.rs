//! What was used, as `GET /v1/usage` tells it.

use serde_json::Value;

use super::any::{self, Column};

/// There as far as they are grouped by.
const GROUPS: [Column; 3] = [("DAY", "/day"), ("OWNER", "/owner"), ("MODEL", "/model")];
const SUMS: [Column; 5] = [
    ("JOBS", "/jobs"),
    ("SUCCEEDED", "/succeeded"),
    ("IMAGE BYTES", "/image_bytes"),
    ("INFER S", "/infer_seconds"),
    ("ATTEMPT S", "/attempt_seconds"),
];

/// What it is grouped by, then the sums.
pub(crate) fn table(usage: &Value) -> String {
    let groups = usage["group_by"].as_array().map_or(&[][..], Vec::as_slice);
    let is_asked = |(_, at): &&Column| groups.iter().any(|name| *name == at[1..]);
    let columns: Vec<_> = GROUPS
        .iter()
        .filter(is_asked)
        .chain(&SUMS)
        .copied()
        .collect();
    any::rows(&usage["data"], &columns, "no job has ended yet")
}

#[cfg(test)]
mod tests {
    use super::table;
    use serde_json::json;

    #[test]
    fn what_it_is_grouped_by_comes_first() {
        let sums = json!({"model": "lite", "jobs": 2, "succeeded": 1, "image_bytes": 10, "infer_seconds": 0.25, "attempt_seconds": 1.5});
        assert_eq!(
            table(&json!({"group_by": ["model"], "data": [sums]})),
            "MODEL  JOBS  SUCCEEDED  IMAGE BYTES  INFER S  ATTEMPT S\n\
             lite   2     1          10           0.250    1.500"
        );
    }
}
