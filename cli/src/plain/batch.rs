//! A batch on a page.

use serde_json::Value;

use super::{bare, job::pairs, table};

/// In the order in which lines go through them.
const COUNTS: [&str; 8] = [
    "scheduled",
    "queued",
    "running",
    "succeeded",
    "failed",
    "canceled",
    "expired",
    "refused",
];

/// What a person wants to know of a batch; its id comes first.
pub(crate) fn page(batch: &Value) -> String {
    let counts = &batch["counts"];
    let there = COUNTS.iter().filter(|name| counts[**name] != 0);
    let parts: Vec<_> = there
        .map(|name| format!("{} {name}", bare(&counts[*name])))
        .collect();
    let lines = format!("{}: {}", bare(&counts["total"]), parts.join(", "));
    let facts = [
        ("lines", lines),
        ("upload", bare(&batch["upload"])),
        ("metadata", pairs(&batch["metadata"])),
        ("created", bare(&batch["created_at"])),
        ("finished", bare(&batch["finished_at"])),
    ];
    let facts: Vec<_> = facts
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| vec![name.to_owned(), value])
        .collect();
    let asked = batch["cancel_requested"] == true && batch["status"] == "running";
    let asked = if asked { " (cancel requested)" } else { "" };
    format!(
        "{}  {}{asked}\n\n{}",
        bare(&batch["id"]),
        bare(&batch["status"]),
        table::aligned(&facts)
    )
}

#[cfg(test)]
mod tests {
    use super::page;
    use serde_json::json;

    #[test]
    fn a_batch_begins_with_its_id_and_counts_only_what_there_is() {
        let batch = json!({
            "id": "batch_1", "status": "partly_failed", "upload": "complete", "metadata": {},
            "counts": {"total": 5, "queued": 0, "running": 0, "scheduled": 0, "succeeded": 3, "failed": 0, "canceled": 0, "expired": 0, "refused": 2},
            "created_at": "2026-01-31T12:00:00Z", "finished_at": null,
        });
        assert_eq!(
            page(&batch),
            "batch_1  partly_failed\n\nlines    5: 3 succeeded, 2 refused\nupload   complete\ncreated  2026-01-31T12:00:00Z"
        );
    }
}
