//! A job on a page, and its outcome on a line.

use wire::{Attempt, Extensible, InputWarning, Job};

use super::{aligned, facts, one_line, pairs, result, some, some_time, table};

/// The outcome of a job in one line: its prediction, or its error; empty while there is neither.
pub(crate) fn outcome(job: &Job) -> String {
    let text = match (&job.error, job.problem()) {
        (_, Some(problem)) => format!("{}: {}", problem.code.as_str(), problem.detail),
        (Some(error), None) => error.to_string(),
        (None, None) => job
            .task_result()
            .as_ref()
            .map(result::summary)
            .unwrap_or_default(),
    };
    one_line(&text)
}

/// The id, the status and the outcome of a job, separated by tabs.
pub(crate) fn line(job: &Job) -> String {
    format!("{}\t{}\t{}", job.id, job.status, outcome(job))
}

/// Everything that a person wants to know of a job.
pub(crate) fn page(job: &Job, with_attempts: bool) -> String {
    let (resolved, input, attempts) = (&job.resolved_model, &job.input, &job.attempts);
    let due = (job.run_at != job.created_at).then_some(&job.run_at);
    let facts = facts([
        (
            "model",
            format!(
                "{}  ({}:{} {})",
                job.model, resolved.name, resolved.version, resolved.digest
            ),
        ),
        (
            "image",
            format!(
                "{}  ({}, {} × {} px, {} bytes)",
                input.image,
                some(input.content_type.as_ref()),
                some(input.width),
                some(input.height),
                some(input.bytes)
            ),
        ),
        ("warnings", warnings(job)),
        ("params", pairs(&job.params)),
        ("metadata", pairs(&job.metadata)),
        ("created", wire::rfc3339(&job.created_at)),
        ("due", some_time(due)),
        ("started", some_time(job.started_at.as_ref())),
        ("finished", some_time(job.finished_at.as_ref())),
        ("deadline", some_time(job.deadline.as_ref())),
        ("kept until", some_time(job.retain_until.as_ref())),
        (
            "attempts",
            format!(
                "{} charged of {}, {} interrupted",
                attempts.charged, attempts.max, attempts.interruptions
            ),
        ),
        ("timings ms", timings(job)),
        (
            "batch",
            some(
                job.batch
                    .map(|batch| format!("image {} of {}", batch.position + 1, batch.size)),
            ),
        ),
        ("precision", some(job.precision())),
        ("model warning", some(job.model_warning())),
    ]);
    let mut page = format!("{}  {}\n\n{facts}\n", job.id, status(job));
    let outcome = outcome_block(job);
    if !outcome.is_empty() {
        page.extend(["\n", outcome.as_str(), "\n"]);
    }
    if with_attempts {
        let items = attempts.items.as_deref().unwrap_or_default();
        page.extend(["\n", attempts_block(items).as_str(), "\n"]);
    }
    page
}

/// `scheduled (backing_off)`. The code of an error stands further down.
fn status(job: &Job) -> String {
    match &job.status_reason {
        Some(reason) if job.error.is_none() => format!("{} ({reason})", job.status),
        _ => job.status.to_string(),
    }
}

fn warnings(job: &Job) -> String {
    let codes = job.input.warnings.iter();
    let codes = codes.map(Extensible::<InputWarning>::as_str);
    codes.collect::<Vec<_>>().join(", ")
}

fn timings(job: &Job) -> String {
    let timings = job.timings_ms.iter().flatten();
    let timings = timings.map(|(stage, ms)| format!("{stage}={ms:.1}"));
    timings.collect::<Vec<_>>().join(" ")
}

fn outcome_block(job: &Job) -> String {
    let Some(problem) = job.problem() else {
        return match &job.error {
            Some(error) => error.to_string(),
            None => job
                .task_result()
                .as_ref()
                .map(result::block)
                .unwrap_or_default(),
        };
    };
    let again = if problem.retryable {
        "may succeed later"
    } else {
        "will not succeed later"
    };
    let (title, detail, code) = (&problem.title, &problem.detail, problem.code.as_str());
    format!("{title}: {detail} ({code}; the same request {again})")
}

fn attempts_block(items: &[Attempt]) -> String {
    let heads = [
        "attempt", "outcome", "charged", "started", "ended", "worker", "device", "error",
    ];
    let row = |item: &Attempt| {
        let problem = item.problem();
        vec![
            item.number.to_string(),
            item.outcome.clone().unwrap_or_else(|| "running".into()),
            if item.charged { "yes" } else { "no" }.to_owned(),
            wire::rfc3339(&item.started_at),
            some_time(item.ended_at.as_ref()),
            some(item.worker.as_ref()),
            some(item.device.as_ref()),
            some(problem.map(|problem| problem.code.as_str().to_owned())),
        ]
    };
    let heads_alone = aligned(&[heads.map(str::to_owned).to_vec()]);
    table(&heads, items.iter().map(row).collect(), &heads_alone)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::{line, outcome, page};
    use serde_json::{Value, json};
    use wire::Job;

    /// A queued job with these fields changed.
    pub(crate) fn job(changed: &Value) -> Job {
        let mut job = json!({
            "id": "job_1", "object": "job", "version": 1, "status": "queued", "status_reason": null, "task": "classify",
            "model": "lite@default", "resolved_model": {"name": "lite", "version": 3, "digest": "sha256:9c"},
            "input": {"image": "sha256:4f", "content_type": "image/jpeg", "bytes": 10, "width": 4, "height": 2, "warnings": []},
            "params": {"top_k": 5}, "result": null, "error": null, "priority": 0, "batch_id": null, "metadata": {},
            "created_at": "2026-01-31T12:00:00Z", "run_at": "2026-01-31T12:00:00Z", "started_at": null,
            "finished_at": null, "deadline": null, "retain_until": null,
            "attempts": {"charged": 1, "max": 3, "interruptions": 0}, "timings_ms": null, "batch": null, "cache": "miss",
            "trace_id": null, "urls": {"self": "/", "result": "/", "events": "/", "cancel": "/"},
        });
        for (name, value) in changed.as_object().into_iter().flatten() {
            job[name] = value.clone();
        }
        serde_json::from_value(job).expect("a job")
    }

    #[test]
    fn an_outcome_is_the_prediction_or_the_reason() {
        let labels = json!({"labels": [{"label": "tab\tby", "index": 1, "score": 0.8312}]});
        let done = job(&json!({"status": "succeeded", "result": labels}));
        assert_eq!(line(&done), "job_1\tsucceeded\ttab by 0.831");
        let torn = json!({"type": "/problems/image_undecodable", "title": "The image cannot be decoded", "status": 422,
            "code": "image_undecodable", "detail": "cut\tshort", "retryable": false});
        let failed = job(&json!({"status": "failed", "error": torn}));
        assert_eq!(outcome(&failed), "image_undecodable: cut short");
        assert!(page(&failed, false).ends_with(
            "\nThe image cannot be decoded: cut\tshort (image_undecodable; the same request will not succeed later)\n"
        ));
        assert_eq!(outcome(&job(&json!({}))), "");
        let odd = job(&json!({"error": {"code": 7}}));
        assert_eq!(outcome(&odd), r#"{"code":7}"#);
    }

    #[test]
    fn a_page_has_what_there_is() {
        let waiting = job(&json!({"status": "scheduled", "status_reason": "backing_off"}));
        assert_eq!(
            page(&waiting, false),
            "job_1  scheduled (backing_off)\n\n\
             model     lite@default  (lite:3 sha256:9c)\n\
             image     sha256:4f  (image/jpeg, 4 × 2 px, 10 bytes)\n\
             params    top_k=5\n\
             created   2026-01-31T12:00:00.000000Z\n\
             attempts  1 charged of 3, 0 interrupted\n"
        );
        let done = job(&json!({
            "input": {"image": "sha256:4f", "content_type": "image/jpeg", "bytes": 10, "width": 4, "height": 2,
                      "warnings": ["stray_bytes", "a_newer_one"]},
            "status": "succeeded", "result": {"value": 36.6, "unit": "°C", "precision": "bf16"},
            "timings_ms": {"infer": 19.44, "total": 93.5}, "batch": {"size": 16, "position": 4},
            "attempts": {"charged": 1, "max": 3, "interruptions": 0, "items": [
                {"number": 1, "worker": "w", "device": null, "started_at": "2026-01-31T12:00:00Z", "ended_at": null,
                 "outcome": null, "charged": true, "error": null}]},
        }));
        let page = page(&done, true);
        assert!(
            page.contains("warnings    stray_bytes, a_newer_one\n"),
            "{page}"
        );
        assert!(
            page.contains("timings ms  infer=19.4 total=93.5\n"),
            "{page}"
        );
        assert!(page.contains("batch       image 5 of 16\n"), "{page}");
        assert!(
            page.contains("precision   bf16\n\n36.6 °C\n\nattempt  outcome"),
            "{page}"
        );
    }
}
