//! Receivers, and what was sent to them.

use serde_json::{Value, json};

use super::any::{self, Column};

const RECEIVERS: [Column; 4] = [
    ("ID", "/id"),
    ("URL", "/url"),
    ("EVENTS", "/events"),
    ("DISABLED", "/disabled_at"),
];

const DELIVERIES: [Column; 7] = [
    ("ID", "/id"),
    ("EVENT", "/type"),
    ("ABOUT", "/about"),
    ("STATUS", "/status"),
    ("TRIES", "/tries"),
    ("NEXT", "/next_attempt_at"),
    ("LAST ANSWER", "/last"),
];

pub(crate) fn receivers(list: &Value) -> String {
    any::rows(&list["data"], &RECEIVERS, "no receivers")
}

/// One line each, with what came of the last attempt.
pub(crate) fn deliveries(list: &Value) -> String {
    let deliveries = list["data"].as_array().into_iter().flatten();
    let rows: Vec<_> = deliveries.map(row).collect();
    any::rows(&rows.into(), &DELIVERIES, "nothing was sent")
}

fn row(delivery: &Value) -> Value {
    let mut row = delivery.clone();
    let attempts = delivery["attempts"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    row["tries"] = attempts.len().into();
    row["about"] = match &delivery["job_id"] {
        Value::Null => delivery["batch_id"].clone(),
        job => job.clone(),
    };
    if let Some(last) = attempts.last() {
        // What was wrong says the status, too.
        row["last"] = match &last["error"] {
            Value::Null => last["status"].clone(),
            error => json!(error),
        };
    }
    row
}

#[cfg(test)]
mod tests {
    use super::deliveries;
    use serde_json::json;

    #[test]
    fn a_delivery_shows_what_came_of_its_last_attempt() {
        let failing = json!({"id": "d1", "type": "job.failed", "job_id": "job_1", "status": "pending", "next_attempt_at": "12:00",
            "attempts": [{"status": null, "error": "no connection"}, {"status": 500, "error": "500: not a 2xx"}]});
        let done = json!({"id": "d2", "type": "batch.completed", "job_id": null, "batch_id": "batch_1", "status": "delivered",
            "attempts": [{"status": 200, "error": null}]});
        assert_eq!(
            deliveries(&json!({"data": [failing, done]})),
            "ID  EVENT            ABOUT    STATUS     TRIES  NEXT   LAST ANSWER\n\
             d1  job.failed       job_1    pending    2      12:00  500: not a 2xx\n\
             d2  batch.completed  batch_1  delivered  1             200"
        );
    }
}
