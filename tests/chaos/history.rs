//! The record of a run: lines of JSON in a file, lines for people on standard output, and the violations.

use std::{
    collections::{BTreeMap, HashSet},
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    sync::Mutex,
    time::Instant,
};

use serde_json::{Value, json};

#[derive(Debug)]
pub struct History {
    folder: PathBuf,
    began: Instant,
    records: Mutex<Records>,
}

#[derive(Debug)]
struct Records {
    file: File,
    submits: BTreeMap<String, u64>,
    /// Tags of the submits whose client does not know whether they created a job.
    unknown: HashSet<String>,
    violations: Vec<String>,
}

/// Outcome of a submit whose client gave up.
pub const UNKNOWN: &str = "unknown";

/// A violation may repeat a thousand times. The first ones are enough.
const VIOLATIONS_MAX: usize = 50;

impl History {
    pub fn begin() -> Self {
        let folder = tempfile::Builder::new().prefix("darkroom-chaos-").tempdir();
        let folder = folder.unwrap().keep();
        let file = File::create(folder.join("history.jsonl")).unwrap();
        Self {
            folder,
            began: Instant::now(),
            records: Mutex::new(Records {
                file,
                submits: BTreeMap::new(),
                unknown: HashSet::new(),
                violations: vec![],
            }),
        }
    }

    /// The folder for all files of the run.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes a line to the history.
    pub fn note(&self, what: &str, facts: &Value) {
        let line = json!({ "s": self.seconds(), "what": what, "facts": facts });
        let mut records = self.records.lock().unwrap();
        writeln!(records.file, "{line}").unwrap();
    }

    /// Writes a line to the history and one to standard output.
    pub fn phase(&self, what: &str) {
        println!("{:>7.1} s  {what}", self.seconds());
        self.note("phase", &json!(what));
    }

    /// Records the outcome of a submit (`ok`, `refused`, `unknown`) or of one try.
    pub fn submit(&self, outcome: &str, facts: &Value) {
        self.note(outcome, facts);
        let mut records = self.records.lock().unwrap();
        *records.submits.entry(outcome.to_owned()).or_default() += 1;
        if outcome == UNKNOWN {
            records
                .unknown
                .extend(facts["tag"].as_str().map(str::to_owned));
        }
    }

    pub fn is_unknown(&self, tag: &str) -> bool {
        self.records.lock().unwrap().unknown.contains(tag)
    }

    pub fn submits(&self) -> Value {
        json!(self.records.lock().unwrap().submits)
    }

    /// Records that a promise was broken.
    pub fn violation(&self, promise: &str, how: impl std::fmt::Display) {
        let line = format!("{promise}: {how}");
        println!("{:>7.1} s  VIOLATION {line}", self.seconds());
        self.note("violation", &json!(line));
        let mut records = self.records.lock().unwrap();
        if records.violations.len() < VIOLATIONS_MAX {
            records.violations.push(line);
        }
    }

    pub fn violations(&self) -> Vec<String> {
        self.records.lock().unwrap().violations.clone()
    }

    fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }
}
