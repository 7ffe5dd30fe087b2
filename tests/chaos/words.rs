//! Parts of the statements and requests that faults wait for.

use crate::cluster::BUCKET;

pub const ENQUEUE: &str = "insert into live_jobs";
pub const CLAIM: &str = "set state = 'running'";
pub const COMPLETE: &str = "select settle(";
pub const HEARTBEAT: &str = "update workers set lease_until";
pub const SUBMIT: &str = "POST /v1/jobs";
pub const PUT: &str = "PUT /darkroom/images/";
pub const GET: &str = "GET /darkroom/images/";

const _: () = assert!(
    BUCKET.len() == "darkroom".len(),
    "these texts contain the name of the bucket"
);
// A fault that waits for other words than the program sends would never happen.
const _: () = assert!(
    occurs(ENQUEUE, include_str!("../../jobs/src/queue/enqueue.sql"))
        && occurs(CLAIM, include_str!("../../jobs/src/queue/claim.sql"))
        && occurs(COMPLETE, include_str!("../../jobs/src/queue/settle.sql"))
        && occurs(
            HEARTBEAT,
            include_str!("../../jobs/src/queue/heartbeat.sql")
        ),
    "a statement does not contain its words"
);

/// `str::contains` for constants.
const fn occurs(words: &str, statement: &str) -> bool {
    let (words, statement) = (words.as_bytes(), statement.as_bytes());
    let mut at = 0;
    while at + words.len() <= statement.len() {
        let mut same = 0;
        while same < words.len() && statement[at + same] == words[same] {
            same += 1;
        }
        if same == words.len() {
            return true;
        }
        at += 1;
    }
    false
}
