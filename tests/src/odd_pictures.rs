//! The pictures of `fixtures/inputs`, and whether each picture ended as its manifest says.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{Answer, Client, fixtures};

/// Labels to ask for. A label that is missing in a result has a score below 1 %, and counts as 0.
pub const TOP_K: u32 = 100;

/// Labels of a result that are compared.
const COMPARED: usize = 5;

/// A picture, and how it must end.
#[derive(Debug, Clone)]
pub struct OddPicture {
    pub file: String,
    pub bytes: Vec<u8>,
    expectation: Value,
    /// The file whose labels a success must have.
    reference: Option<String>,
    /// A file whose best label a success must not have.
    unlike: Option<String>,
}

/// What the service made of a picture.
#[derive(Debug)]
pub enum Ending {
    /// The submit was answered with this problem.
    Refused(Value),
    /// The submit became this job, which has ended.
    Ended(Value),
}

/// The endings by the names of the files.
pub type Endings = BTreeMap<String, Ending>;

/// All pictures, as a service with default settings must treat them.
pub fn all() -> Vec<OddPicture> {
    pictures(&manifest(), |entry| Some(entry["expectation"].clone()))
}

/// The BMP and TIFF pictures and their references, as a service must treat them that accepts both formats.
pub fn with_bmp_and_tiff() -> Vec<OddPicture> {
    let manifest = manifest();
    let expectation = |entry: &Value| entry.get("when_bmp_and_tiff_are_on").cloned();
    let mut odd = pictures(&manifest, expectation);
    let is_reference = |file: &str| {
        let mut references = odd.iter().filter_map(|odd| odd.reference.as_deref());
        references.any(|reference| reference == file)
    };
    let references = pictures(&manifest, |entry| {
        let file = entry["file"].as_str().unwrap();
        is_reference(file).then(|| entry["expectation"].clone())
    });
    odd.extend(references);
    odd
}

/// What became of a submit, from its answer. Waits until its job has ended.
pub async fn ending(client: &Client, answer: &Answer) -> Ending {
    let answered = answer.json();
    if answer.status != 202 {
        return Ending::Refused(answered);
    }
    Ending::Ended(client.ended(answered["id"].as_str().unwrap()).await)
}

/// Asserts that every picture ended as its manifest says. The message lists all pictures that did not.
#[track_caller]
pub fn assert_as_expected(pictures: &[OddPicture], endings: &Endings) {
    assert_eq!(pictures.len(), endings.len(), "each picture has one ending");
    let tolerances = &manifest()["tolerances"];
    let faults = pictures.iter().filter_map(|picture| {
        let fault = picture.check(endings, tolerances).err()?;
        Some(format!("{}: {fault}", picture.file))
    });
    let faults: Vec<_> = faults.collect();
    assert!(
        faults.is_empty(),
        "{} of {} pictures:\n{}",
        faults.len(),
        pictures.len(),
        faults.join("\n")
    );
}

fn manifest() -> Value {
    fixtures::json("inputs/manifest.json")
}

/// The pictures for which `expectation` returns one.
fn pictures(manifest: &Value, expectation: impl Fn(&Value) -> Option<Value>) -> Vec<OddPicture> {
    let name = |entry: &Value, field: &str| entry[field].as_str().map(ToOwned::to_owned);
    let entries = manifest["files"].as_array().unwrap().iter();
    let pictures = entries.filter_map(|entry| {
        let file = name(entry, "file").unwrap();
        Some(OddPicture {
            expectation: expectation(entry)?,
            bytes: fixtures::read(&format!("inputs/{file}")),
            reference: name(entry, "reference"),
            unlike: name(entry, "unlike"),
            file,
        })
    });
    pictures.collect()
}

impl OddPicture {
    fn check(&self, endings: &Endings, tolerances: &Value) -> Result<(), String> {
        let ending = &endings[&self.file];
        if let Ending::Ended(job) = ending {
            check_attempts(job)?;
        }
        let outcome = self.expectation["outcome"].as_str().unwrap();
        match (outcome, ending) {
            ("succeeds" | "either", Ending::Ended(job)) if job["status"] == "succeeded" => {
                self.check_warnings(job)?;
                self.check_labels(job, endings, tolerances)
            }
            ("fails" | "either", Ending::Ended(job)) if job["status"] == "failed" => {
                self.check_code(&job["error"])
            }
            ("refused" | "fails" | "either", Ending::Refused(problem)) => self.check_code(problem),
            (_, Ending::Refused(problem)) => {
                Err(format!("wants {outcome}, was refused: {problem}"))
            }
            (_, Ending::Ended(job)) => {
                let (status, error) = (&job["status"], &job["error"]);
                Err(format!("wants {outcome}, ended as {status}: {error}"))
            }
        }
    }

    fn check_code(&self, problem: &Value) -> Result<(), String> {
        let codes = self.expectation["codes"].as_array().unwrap();
        if codes.contains(&problem["code"]) {
            return Ok(());
        }
        Err(format!("wants a code of {codes:?}: {problem}"))
    }

    fn check_warnings(&self, job: &Value) -> Result<(), String> {
        let Some(expected) = self.expectation["warnings"].as_array() else {
            return Ok(());
        };
        let found = job["input"]["warnings"].as_array();
        let found = found.map_or(&[] as &[Value], Vec::as_slice);
        if found == expected.as_slice() {
            return Ok(());
        }
        Err(format!("wants the warnings {expected:?}, has {found:?}"))
    }

    fn check_labels(
        &self,
        job: &Value,
        endings: &Endings,
        tolerances: &Value,
    ) -> Result<(), String> {
        let own = Scores::of(job);
        let scores_of = |file: &str| match &endings[file] {
            Ending::Ended(job) if job["status"] == "succeeded" => Ok(Scores::of(job)),
            _ => Err(format!("{file}, which it is compared with, has no labels")),
        };
        if let Some(reference) = &self.reference {
            own.check_equal(&scores_of(reference)?, tolerances)
                .map_err(|fault| format!("differs from {reference}: {fault}"))?;
        }
        if let Some(other) = &self.unlike
            && own.best() == scores_of(other)?.best()
        {
            return Err(format!("has the best label of {other}"));
        }
        Ok(())
    }
}

/// Checks that the job took one attempt: a fault of an image is never tried again, and no image may end its worker.
///
/// # Errors
/// The attempts, as text.
pub fn check_attempts(job: &Value) -> Result<(), String> {
    let attempts = &job["attempts"];
    // The results of a batch have no list of attempts.
    let items = attempts["items"].as_array();
    let is_one = items.is_none_or(|items| items.len() == 1);
    if attempts["charged"] == 1 && attempts["interruptions"] == 0 && is_one {
        return Ok(());
    }
    Err(format!("wants one attempt, which is charged: {attempts}"))
}

/// Scores by the index of the label, best first.
#[derive(Debug)]
struct Scores(Vec<(i64, f64)>);

impl Scores {
    fn of(job: &Value) -> Self {
        let labels = job["result"]["labels"].as_array().unwrap().iter();
        let score = |label: &Value| {
            let score = label["score"].as_f64().unwrap();
            (label["index"].as_i64().unwrap(), score)
        };
        Self(labels.map(score).collect())
    }

    fn best(&self) -> i64 {
        self.0[0].0
    }

    fn of_label(&self, index: i64) -> f64 {
        let found = self.0.iter().find(|(label, _)| *label == index);
        found.map_or(0.0, |(_, score)| *score)
    }

    /// Whether the two best scores are too near to tell which label is the best one.
    fn is_near_tie(&self, tolerances: &Value) -> bool {
        self.0[0].1 - self.0[1].1 <= tolerances["near_tie"].as_f64().unwrap()
    }

    fn check_equal(&self, other: &Self, tolerances: &Value) -> Result<(), String> {
        if self.best() != other.best()
            && !self.is_near_tie(tolerances)
            && !other.is_near_tie(tolerances)
        {
            let (own, other) = (&self.0[..2], &other.0[..2]);
            return Err(format!("the best labels are {own:?} and {other:?}"));
        }
        let difference_max = tolerances["score_difference_max"].as_f64().unwrap();
        for (index, _) in self.0[..COMPARED].iter().chain(&other.0[..COMPARED]) {
            let (own, other) = (self.of_label(*index), other.of_label(*index));
            if (own - other).abs() > difference_max {
                return Err(format!("label {index} has the scores {own} and {other}"));
            }
        }
        Ok(())
    }
}
