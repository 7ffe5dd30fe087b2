//! The journal: a file with the images that were submitted, so that a killed command can be started again.
//!
//! NDJSON: the first line names the run, each further line names an image and its job. A line is written after the service
//! has answered. An image whose line is lost is sent again under its `Idempotency-Key`, and the service answers with its
//! job: a lost line costs a request, not a second job.

use std::{
    collections::HashMap,
    env, fs,
    io::{self, BufRead, BufReader, Seek, Write},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use jobs::Sha256Digest;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::failure::Failure;

/// The first line has `run`, each further line the other fields.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Line {
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
}

#[derive(Debug)]
pub(crate) struct Journal {
    /// Part of every `Idempotency-Key`: another run makes other jobs.
    run: Uuid,
    jobs: HashMap<String, String>,
    file: Option<Mutex<fs::File>>,
}

impl Journal {
    /// For a run that cannot be continued.
    pub(crate) fn none() -> Self {
        Self {
            run: Uuid::now_v7(),
            jobs: HashMap::new(),
            file: None,
        }
    }

    /// Continues the run of this file; begins a new one if the file is empty or `again` is set.
    pub(crate) fn open(path: &Path, again: bool) -> Result<Self, Failure> {
        let cannot = |error: io::Error| {
            let path = path.display();
            Failure::Usage(format!(
                "cannot write the journal {path}: {error}; --journal FILE puts it elsewhere"
            ))
        };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(cannot)?;
        }
        let mut options = fs::OpenOptions::new();
        let options = options.read(true).append(true).create(true);
        let mut file = options.open(path).map_err(cannot)?;
        if file.try_lock().is_err() {
            let path = path.display();
            return Err(Failure::Usage(format!(
                "these images are being submitted by another `darkroom submit` (it holds {path})"
            )));
        }
        if again {
            file.set_len(0).map_err(cannot)?;
        }
        let known = read(&mut file).map_err(cannot)?;
        let (run, jobs) = if let Some(known) = known {
            known
        } else {
            let run = Uuid::now_v7();
            file.set_len(0).map_err(cannot)?;
            let first = Line {
                run: Some(run),
                ..Line::default()
            };
            append(&mut file, &first).map_err(cannot)?;
            (run, HashMap::new())
        };
        Ok(Self {
            run,
            jobs,
            file: Some(Mutex::new(file)),
        })
    }

    pub(crate) fn is_kept(&self) -> bool {
        self.file.is_some()
    }

    /// The id of the job of an image that was submitted before.
    pub(crate) fn job_of(&self, image: &str) -> Option<&str> {
        self.jobs.get(image).map(String::as_str)
    }

    /// The key of an image with these parameters in this run: equal for every try.
    pub(crate) fn idempotency_key(&self, image: &str, query: &[(String, String)]) -> String {
        let asked = json!([self.run, image, query]).to_string();
        Sha256Digest::of(asked.as_bytes()).hex()
    }

    /// Records a job that the service accepted.
    pub(crate) fn record(&self, image: &str, job: &str, source: &str) -> io::Result<()> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let line = Line {
            image: Some(image.to_owned()),
            job: Some(job.to_owned()),
            source: Some(source.to_owned()),
            run: None,
        };
        append(
            &mut file.lock().unwrap_or_else(PoisonError::into_inner),
            &line,
        )
    }
}

/// The run and its jobs; `None` if the file has no whole line. The first line that a kill cut short is dropped with all
/// lines after it.
fn read(file: &mut fs::File) -> io::Result<Option<(Uuid, HashMap<String, String>)>> {
    file.rewind()?;
    let (mut run, mut jobs, mut whole) = (None, HashMap::new(), 0);
    let mut reader = BufReader::new(&*file);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 && line.ends_with('\n') {
        let Ok(recorded) = serde_json::from_str::<Line>(&line) else {
            break;
        };
        if run.is_none() {
            run = recorded.run;
        } else if let (Some(image), Some(job)) = (recorded.image, recorded.job) {
            jobs.insert(image, job);
        }
        whole += line.len() as u64;
        line.clear();
    }
    file.set_len(whole)?;
    Ok(run.map(|run| (run, jobs)))
}

/// One `write` a line: after a kill the file has the whole line or a part of it, never a mixture of two.
fn append(file: &mut fs::File, line: &Line) -> io::Result<()> {
    let line = serde_json::to_string(line)?;
    file.write_all(format!("{line}\n").as_bytes())
}

/// The default path of the journal of these sources, service, key and parameters:
/// `$XDG_STATE_HOME/darkroom/submit/….ndjson`. Not beside the photos: their folder may be read-only, synchronized or shared.
pub(crate) fn default_path(about: &Value) -> Result<PathBuf, Failure> {
    let state = env::var_os("XDG_STATE_HOME").filter(|folder| Path::new(folder).is_absolute());
    let state = match (state, env::home_dir()) {
        (Some(state), _) => state.into(),
        (None, Some(home)) => home.join(".local/state"),
        (None, None) => {
            let what = "neither XDG_STATE_HOME nor HOME is set; say --journal FILE";
            return Err(Failure::Usage(what.into()));
        }
    };
    let name = Sha256Digest::of(about.to_string().as_bytes()).hex();
    Ok(state
        .join("darkroom/submit")
        .join(&name[..24])
        .with_extension("ndjson"))
}

#[cfg(test)]
mod tests {
    use std::{env, fs, io::Write, process};

    use super::Journal;

    #[test]
    fn a_journal_cut_short_goes_on_with_the_same_run() {
        let path = env::temp_dir().join(format!("darkroom-journal-{}.ndjson", process::id()));
        let first = Journal::open(&path, false).expect("opens");
        let query = [("top_k".to_owned(), "3".to_owned())];
        let key = first.idempotency_key("sha256:1", &query);
        first
            .record("sha256:1", "job_1", "a.jpg")
            .expect("recorded");
        assert!(Journal::open(&path, false).is_err(), "two at once");
        drop(first);
        let mut file = fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .expect("there");
        file.write_all(b"{\"image\": \"sha256:2\", \"jo")
            .expect("torn");

        let second = Journal::open(&path, false).expect("opens");
        assert_eq!(second.job_of("sha256:1"), Some("job_1"));
        assert_eq!(second.job_of("sha256:2"), None);
        assert_eq!(second.idempotency_key("sha256:1", &query), key);
        assert_ne!(second.idempotency_key("sha256:1", &[]), key);
        second
            .record("sha256:2", "job_2", "b.jpg")
            .expect("recorded");
        drop(second);

        let third = Journal::open(&path, false).expect("opens");
        assert_eq!(third.job_of("sha256:2"), Some("job_2"));
        drop(third);
        let anew = Journal::open(&path, true).expect("opens");
        assert_eq!(anew.job_of("sha256:1"), None);
        assert_ne!(anew.idempotency_key("sha256:1", &query), key);
        fs::remove_file(path).expect("gone");
    }
}
