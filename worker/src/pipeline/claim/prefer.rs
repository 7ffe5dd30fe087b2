//! Which models to ask for: while more are in use than fit, those that are loaded, so that not every job costs a loading.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jobs::queue::LowWater;

/// How long the loaded ones may be asked for alone: then whatever is due comes, one job of it.
const LOADED_ONLY_FOR: Duration = Duration::from_secs(2);

/// What to ask the queue for.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    /// Empty: any.
    pub models: Vec<String>,
    /// Of asking for these.
    pub low_water: Arc<LowWater>,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// For all that this worker runs.
    Open,
    /// The same, while not all of that fits.
    OpenInACrowd,
    Loaded,
}

impl Ask {
    pub(super) fn is_for_loaded(&self) -> bool {
        self.kind == Kind::Loaded
    }

    pub(super) fn is_open_in_a_crowd(&self) -> bool {
        self.kind == Kind::OpenInACrowd
    }
}

/// Whose turn it is in a crowd.
#[derive(Debug, Clone, Copy, Default)]
enum Turn {
    #[default]
    All,
    /// All had theirs.
    Loaded,
    LoadedSince(Instant),
}

#[derive(Debug, Default)]
pub(super) struct Preference {
    turn: Turn,
    any: Arc<LowWater>,
    loaded: Arc<LowWater>,
}

impl Preference {
    /// - `crowded`: the loaded models, if not all fit.
    /// - `configured`: those that this worker runs; empty for any.
    pub(super) fn ask(
        &mut self,
        crowded: Option<Vec<String>>,
        configured: &[String],
        now: Instant,
    ) -> Ask {
        let is_crowded = crowded.is_some();
        let mut loaded = crowded.unwrap_or_default();
        loaded.retain(|name| configured.is_empty() || configured.contains(name));
        let since = match self.turn {
            Turn::All => None,
            Turn::Loaded => Some(now),
            Turn::LoadedSince(since) => Some(since),
        };
        let since = since.filter(|since| now.duration_since(*since) < LOADED_ONLY_FOR);
        let Some(since) = since.filter(|_| !loaded.is_empty()) else {
            self.turn = Turn::Loaded;
            return Ask {
                models: configured.to_vec(),
                low_water: self.any.clone(),
                kind: if is_crowded {
                    Kind::OpenInACrowd
                } else {
                    Kind::Open
                },
            };
        };
        self.turn = Turn::LoadedSince(since);
        Ask {
            models: loaded,
            low_water: self.loaded.clone(),
            kind: Kind::Loaded,
        }
    }

    /// The loaded ones have nothing to do: the next ask is for all.
    pub(super) fn open(&mut self) {
        self.turn = Turn::All;
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{LOADED_ONLY_FOR, Preference};

    fn loaded() -> Vec<String> {
        vec!["a".into(), "b".into()]
    }

    #[test]
    fn while_all_fit_nothing_is_preferred() {
        let mut preference = Preference::default();
        for _ in 0..3 {
            let ask = preference.ask(None, &[], Instant::now());
            assert!(ask.models.is_empty() && !ask.is_for_loaded() && !ask.is_open_in_a_crowd());
        }
    }

    #[test]
    fn in_a_crowd_the_loaded_come_first_and_the_others_get_their_turn() {
        let mut preference = Preference::default();
        let begin = Instant::now();
        assert!(
            preference
                .ask(Some(loaded()), &[], begin)
                .is_open_in_a_crowd()
        );
        let soon = begin + Duration::from_millis(10);
        let ask = preference.ask(Some(loaded()), &[], soon);
        assert!(ask.is_for_loaded());
        assert_eq!(ask.models, ["a", "b"]);
        let due = soon + LOADED_ONLY_FOR;
        assert!(
            preference
                .ask(Some(loaded()), &[], due)
                .is_open_in_a_crowd()
        );
        let after = due + Duration::from_millis(10);
        assert!(preference.ask(Some(loaded()), &[], after).is_for_loaded());
    }

    #[test]
    fn when_the_loaded_have_nothing_to_do_nobody_waits() {
        let mut preference = Preference::default();
        let now = Instant::now();
        preference.ask(Some(loaded()), &[], now);
        assert!(preference.ask(Some(loaded()), &[], now).is_for_loaded());
        preference.open();
        assert!(
            preference
                .ask(Some(loaded()), &[], now)
                .is_open_in_a_crowd()
        );
    }

    #[test]
    fn a_loaded_model_that_is_not_this_workers_is_not_asked_for() {
        let mut preference = Preference::default();
        let now = Instant::now();
        let configured = ["b".to_owned(), "c".to_owned()];
        assert_eq!(
            preference.ask(Some(loaded()), &configured, now).models,
            configured
        );
        assert_eq!(
            preference.ask(Some(loaded()), &configured, now).models,
            ["b"]
        );
    }
}
