//! The stages by name, and the one place where their time is taken.

use std::time::{Duration, Instant};

use serde_json::{Map, Value};

/// A stage as `timings` of a job and `darkroom_stage_seconds` name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Fetch,
    Decode,
    Preprocess,
    BatchWait,
    /// The forward pass of the whole batch.
    Infer,
    Postprocess,
    /// Drawing and putting a result that is an object of its own.
    Store,
    Complete,
}

impl Stage {
    const ALL: [Self; 8] = [
        Self::Fetch,
        Self::Decode,
        Self::Preprocess,
        Self::BatchWait,
        Self::Infer,
        Self::Postprocess,
        Self::Store,
        Self::Complete,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fetch => "fetch",
            Self::Decode => "decode",
            Self::Preprocess => "preprocess",
            Self::BatchWait => "batch_wait",
            Self::Infer => "infer",
            Self::Postprocess => "postprocess",
            Self::Store => "store",
            Self::Complete => "complete",
        }
    }

    /// Shows one passage through the stage on `/metrics`.
    pub fn observe(self, took: Duration) {
        metrics::histogram!("darkroom_stage_seconds", "stage" => self.as_str()).record(took);
    }
}

/// How long one job took in each stage that it has passed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timings([Option<Duration>; Stage::ALL.len()]);

impl Timings {
    /// Notes what a stage took, here only.
    pub fn note(&mut self, stage: Stage, took: Duration) {
        self.0[stage as usize] = Some(took);
    }

    /// Notes what a stage took, here and on `/metrics`.
    pub fn record(&mut self, stage: Stage, took: Duration) {
        self.note(stage, took);
        stage.observe(took);
    }

    /// Runs a piece of work as one passage through a stage.
    pub fn measure<T>(&mut self, stage: Stage, work: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let done = work();
        self.record(stage, began.elapsed());
        done
    }

    /// Stage to milliseconds, with microseconds behind the point.
    pub fn to_json(self) -> Value {
        let passed = Stage::ALL.into_iter().filter_map(|stage| {
            let took = self.0[stage as usize]?;
            let ms = took.as_micros() as f64 / 1000.0;
            Some((stage.as_str().to_owned(), Value::from(ms)))
        });
        Value::Object(passed.collect::<Map<_, _>>())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Stage, Timings};

    #[test]
    fn timings_are_milliseconds_of_the_stages_that_were_passed() {
        let mut timings = Timings::default();
        timings.note(Stage::Fetch, Duration::from_nanos(1_234_567));
        timings.note(Stage::BatchWait, Duration::ZERO);
        let expected = serde_json::json!({"fetch": 1.234, "batch_wait": 0.0});
        assert_eq!(timings.to_json(), expected);
    }
}
