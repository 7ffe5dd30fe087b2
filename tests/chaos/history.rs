//! What happened, in order: lines of JSON in a file, lines for people, and what must not have happened.

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
    kept: Mutex<StatementPool>,
}

#[derive(Debug)]
struct StatementPool {
    file: File,
    submits: BTreeMap<String, u64>,
    /// Whose client never learned whether there is a job.
    unknown: HashSet<String>,
    violations: Vec<String>,
}

/// How a submit may end when its client gave up.
pub const UNKNOWN: &str = "unknown";

/// One kind of violation may repeat a thousand times: the first ones tell.
const VIOLATIONS_MAX: usize = 50;

impl History {
    pub fn begin() -> Self {
        let folder = tempfile::Builder::new().prefix("darkroom-chaos-").tempdir();
        let folder = folder.unwrap().keep();
        let file = File::create(folder.join("history.jsonl")).unwrap();
        Self {
            folder,
            began: Instant::now(),
            kept: Mutex::new(StatementPool {
                file,
                submits: BTreeMap::new(),
                unknown: HashSet::new(),
                violations: vec![],
            }),
        }
    }

    /// Where the run keeps everything.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// One more line of the record.
    pub fn note(&self, what: &str, facts: &Value) {
        let line = json!({ "s": self.seconds(), "what": what, "facts": facts });
        let mut kept = self.kept.lock().unwrap();
        writeln!(kept.file, "{line}").unwrap();
    }

    /// The same, and a line for people.
    pub fn phase(&self, what: &str) {
        println!("{:>7.1} s  {what}", self.seconds());
        self.note("phase", &json!(what));
    }

    /// How a submit ended: `ok`, `refused`, `unknown`, or on the way there.
    pub fn submit(&self, outcome: &str, facts: &Value) {
        self.note(outcome, facts);
        let mut kept = self.kept.lock().unwrap();
        *kept.submits.entry(outcome.to_owned()).or_default() += 1;
        if outcome == UNKNOWN {
            kept.unknown
                .extend(facts["tag"].as_str().map(str::to_owned));
        }
    }

    pub fn is_unknown(&self, tag: &str) -> bool {
        self.kept.lock().unwrap().unknown.contains(tag)
    }

    pub fn submits(&self) -> Value {
        json!(self.kept.lock().unwrap().submits)
    }

    /// A promise was broken.
    pub fn violation(&self, promise: &str, how: impl std::fmt::Display) {
        let line = format!("{promise}: {how}");
        println!("{:>7.1} s  VIOLATION {line}", self.seconds());
        self.note("violation", &json!(line));
        let mut kept = self.kept.lock().unwrap();
        if kept.violations.len() < VIOLATIONS_MAX {
            kept.violations.push(line);
        }
    }

    pub fn violations(&self) -> Vec<String> {
        self.kept.lock().unwrap().violations.clone()
    }

    fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }
}
