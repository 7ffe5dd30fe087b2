//! Objects in a row that the database names and this worker's bucket lacks.
//!
//! One such object is lost. Many in a row mean that this worker has another bucket than the API, or that the store has lost its
//! data. Then the worker nearly stops to claim, so that other workers run the jobs.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard},
};

/// The missing objects since the last object that was there. All stages share it.
#[derive(Debug)]
pub(super) struct StoreFaults {
    max: usize,
    /// One text for each missing object. A job that is tried again misses its image again, which counts once.
    in_a_row: Mutex<HashSet<String>>,
}

impl StoreFaults {
    /// `max`: this many faults in a row are too many.
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            in_a_row: Mutex::default(),
        }
    }

    /// Records a missing object; `fault` names it, each time in equal words. Returns whether too many objects in a row are
    /// missing.
    pub(super) fn report(&self, fault: String) -> bool {
        let mut faults = self.faults();
        if faults.len() < self.max {
            faults.insert(fault);
        }
        faults.len() >= self.max
    }

    /// Records that an object was there.
    pub(super) fn report_success(&self) {
        self.faults().clear();
    }

    /// What an operator should know; `None` while there are not too many faults in a row.
    pub(super) fn description(&self) -> Option<String> {
        let faults = self.faults();
        // The least one, so that the text does not change while the faults last.
        let example = faults.iter().min()?;
        (faults.len() >= self.max).then(|| {
            format!(
                "{} objects in a row are missing, for example: {example}; this bucket may not be the one of the API",
                faults.len()
            )
        })
    }

    fn faults(&self) -> MutexGuard<'_, HashSet<String>> {
        self.in_a_row.lock().expect("no panic while it is held")
    }
}

#[cfg(test)]
mod tests {
    use super::StoreFaults;

    #[test]
    fn only_faults_of_different_objects_in_a_row_are_too_many() {
        let faults = StoreFaults::new(2);
        assert!(!faults.report("no object a".into()));
        assert!(!faults.report("no object a".into()), "counts once");
        faults.report_success();
        assert!(!faults.report("no object b".into()));
        assert_eq!(faults.description(), None);
        assert!(faults.report("no object a".into()));
        let described = faults.description().expect("there are too many");
        assert!(described.contains("no object a"), "{described}");
        assert!(faults.report("no object c".into()));
        assert_eq!(faults.description(), Some(described), "the text stays");
        faults.report_success();
        assert_eq!(faults.description(), None);
    }
}
