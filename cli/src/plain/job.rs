//! A job on a page, and what came of it on a line.

use serde_json::Value;

use super::{bare, table};

/// What came of a job, in one line: its labels, or why there are none. Never contains a tab.
pub(crate) fn outcome(job: &Value) -> String {
    let text = if job["error"].is_object() {
        format!(
            "{}: {}",
            bare(&job["error"]["code"]),
            bare(&job["error"]["detail"])
        )
    } else {
        result(&job["result"])
    };
    text.replace(['\t', '\n'], " ")
}

fn result(result: &Value) -> String {
    if let Some(labels) = result["labels"].as_array() {
        let label = |label: &Value| format!("{} {}", bare(&label["label"]), score(&label["score"]));
        return labels.iter().map(label).collect::<Vec<_>>().join(", ");
    }
    if result["embedding"].is_array() {
        return format!("embedding of {} numbers", bare(&result["dim"]));
    }
    bare(result)
}

fn score(score: &Value) -> String {
    score
        .as_f64()
        .map_or_else(String::new, |score| format!("{score:.3}"))
}

/// Everything that a person wants to know of a job.
pub(crate) fn page(job: &Value, with_attempts: bool) -> String {
    let mut page = format!("{}  {}\n\n", bare(&job["id"]), status(job));
    let resolved = &job["resolved_model"];
    let (input, batch) = (&job["input"], &job["batch"]);
    let charged = &job["attempts"];
    let facts = [
        (
            "model",
            format!(
                "{}  ({}:{} {})",
                bare(&job["model"]),
                bare(&resolved["name"]),
                bare(&resolved["version"]),
                bare(&resolved["digest"])
            ),
        ),
        (
            "image",
            format!(
                "{}  ({}, {} × {} px, {} bytes)",
                bare(&input["image"]),
                bare(&input["content_type"]),
                bare(&input["width"]),
                bare(&input["height"]),
                bare(&input["bytes"])
            ),
        ),
        ("params", pairs(&job["params"])),
        ("metadata", pairs(&job["metadata"])),
        ("created", bare(&job["created_at"])),
        (
            "due",
            if job["run_at"] == job["created_at"] {
                String::new()
            } else {
                bare(&job["run_at"])
            },
        ),
        ("started", bare(&job["started_at"])),
        ("finished", bare(&job["finished_at"])),
        ("deadline", bare(&job["deadline"])),
        ("kept until", bare(&job["retain_until"])),
        (
            "attempts",
            format!(
                "{} charged of {}, {} interrupted",
                bare(&charged["charged"]),
                bare(&charged["max"]),
                bare(&charged["interruptions"])
            ),
        ),
        ("timings ms", pairs(&job["timings_ms"])),
        (
            "batch",
            if batch.is_object() {
                format!(
                    "image {} of {}",
                    batch["position"].as_i64().map_or(0, |at| at + 1),
                    bare(&batch["size"])
                )
            } else {
                String::new()
            },
        ),
    ];
    let facts = facts.into_iter().filter(|(_, value)| !value.is_empty());
    let facts: Vec<_> = facts
        .map(|(name, value)| vec![name.to_owned(), value])
        .collect();
    page.push_str(&table::aligned(&facts));
    page.push('\n');
    page.push_str(&came_of_it(job));
    if with_attempts {
        page.push_str(&attempts(
            charged["items"].as_array().map_or(&[], Vec::as_slice),
        ));
    }
    page
}

/// `scheduled (backing_off)`; the code of an error is said further down.
fn status(job: &Value) -> String {
    let status = bare(&job["status"]);
    match job["status_reason"].as_str() {
        Some(reason) if !job["error"].is_object() => format!("{status} ({reason})"),
        _ => status,
    }
}

/// `top_k=5 normalize=true`
pub(super) fn pairs(object: &Value) -> String {
    let pairs = object.as_object().into_iter().flatten();
    pairs
        .map(|(name, value)| format!("{name}={}", bare(value)))
        .collect::<Vec<_>>()
        .join(" ")
}

fn came_of_it(job: &Value) -> String {
    let (error, labels) = (&job["error"], &job["result"]["labels"]);
    if error.is_object() {
        let fields = ["title", "detail", "code"].map(|name| bare(&error[name]));
        let again = if error["retryable"] == true {
            "may succeed later"
        } else {
            "will not succeed later"
        };
        format!(
            "\n{}: {} ({}; the same request {again})\n",
            fields[0], fields[1], fields[2]
        )
    } else if let Some(labels) = labels.as_array() {
        let row = |label: &Value| vec![score(&label["score"]), bare(&label["label"])];
        format!(
            "\n{}\n",
            table::aligned(&labels.iter().map(row).collect::<Vec<_>>())
        )
    } else if job["result"].is_null() {
        String::new()
    } else {
        format!("\n{}\n", result(&job["result"]))
    }
}

fn attempts(items: &[Value]) -> String {
    let heads = [
        "attempt", "outcome", "charged", "started", "ended", "worker", "device", "error",
    ];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    rows.extend(items.iter().map(|item| {
        vec![
            bare(&item["number"]),
            item["outcome"].as_str().unwrap_or("running").to_owned(),
            if item["charged"] == true { "yes" } else { "no" }.to_owned(),
            bare(&item["started_at"]),
            bare(&item["ended_at"]),
            bare(&item["worker"]),
            bare(&item["device"]),
            bare(&item["error"]["code"]),
        ]
    }));
    format!("\n{}\n", table::aligned(&rows))
}

#[cfg(test)]
mod tests {
    use super::{outcome, page};
    use serde_json::json;

    #[test]
    fn an_outcome_is_the_labels_or_the_reason() {
        let job = json!({"error": null, "result": {"labels": [{"label": "tabby", "score": 0.8312}, {"label": "lynx", "score": 0.01}]}});
        assert_eq!(outcome(&job), "tabby 0.831, lynx 0.010");
        let job =
            json!({"error": {"code": "image_undecodable", "detail": "cut\tshort"}, "result": null});
        assert_eq!(outcome(&job), "image_undecodable: cut short");
        let job = json!({"error": null, "result": {"embedding": [0.1, 0.2], "dim": 2}});
        assert_eq!(outcome(&job), "embedding of 2 numbers");
    }

    #[test]
    fn a_page_survives_a_job_with_fields_missing() {
        let page = page(&json!({"id": "job_1", "status": "queued"}), true);
        assert!(page.starts_with("job_1  queued\n"));
    }
}
