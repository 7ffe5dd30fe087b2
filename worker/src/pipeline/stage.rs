//! The stages by name, and the measurement of their times.

use std::time::{Duration, Instant};

use serde_json::{Map, Value};

/// A stage, as named in the `timings` of a job and in `darkroom_stage_seconds`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Fetch,
    Decode,
    Preprocess,
    BatchWait,
    /// The forward pass of the whole forward batch.
    Infer,
    Postprocess,
    /// Drawing a mask, and putting a result into S3.
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

    /// Records the time of one run of the stage for `/metrics`.
    pub fn observe(self, took: Duration) {
        metrics::histogram!("darkroom_stage_seconds", "stage" => self.as_str()).record(took);
    }
}

/// The time that one job took in each stage so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timings([Option<Duration>; Stage::ALL.len()]);

impl Timings {
    /// Sets the time of a stage, without recording it for `/metrics`.
    pub fn set(&mut self, stage: Stage, took: Duration) {
        self.0[stage as usize] = Some(took);
    }

    /// Sets the time of a stage, and records it for `/metrics`.
    pub fn record(&mut self, stage: Stage, took: Duration) {
        self.set(stage, took);
        stage.observe(took);
    }

    /// Runs `work`, and records its time as that of `stage`.
    pub fn measure<T>(&mut self, stage: Stage, work: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let result = work();
        self.record(stage, began.elapsed());
        result
    }

    /// A map from the stages to milliseconds, with three decimals.
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
    fn timings_are_milliseconds_of_the_stages_so_far() {
        let mut timings = Timings::default();
        timings.set(Stage::Fetch, Duration::from_nanos(1_234_567));
        timings.set(Stage::BatchWait, Duration::ZERO);
        let expected = serde_json::json!({"fetch": 1.234, "batch_wait": 0.0});
        assert_eq!(timings.to_json(), expected);
    }
}
