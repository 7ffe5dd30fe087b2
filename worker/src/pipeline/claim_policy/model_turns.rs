//! The models to claim jobs of, while more models are in use than fit into memory.
//!
//! Jobs of loaded models come first, so that not every job costs a load. The other models get their turn in between.

use std::time::Duration;

use super::Scope;

/// How long only jobs of loaded models are claimed. Then one job of any model is claimed.
const LOADED_ONLY_FOR: Duration = Duration::from_secs(2);

/// The models of one claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ModelChoice {
    /// Empty: any model.
    pub models: Vec<String>,
    pub scope: Scope,
}

/// Chooses the models of each claim.
#[derive(Debug, Clone, Copy, Default)]
pub(super) enum ModelTurns {
    /// The next claim is for all models.
    #[default]
    All,
    /// The last claim was for all models.
    AllDone,
    /// The claims have been for loaded models since this time.
    LoadedSince(Duration),
}

impl ModelTurns {
    /// Chooses the models of the next claim.
    ///
    /// - `crowded`: names of the loaded models, if not all models in use fit.
    /// - `configured`: the models that this worker runs; empty for any model.
    /// - `now`: since the claim loop started.
    pub(super) fn choose(
        &mut self,
        crowded: Option<&[String]>,
        configured: &[String],
        now: Duration,
    ) -> ModelChoice {
        let is_configured = |name: &&String| configured.is_empty() || configured.contains(name);
        let loaded = crowded.unwrap_or_default().iter().filter(is_configured);
        let loaded: Vec<String> = loaded.cloned().collect();
        let since = match *self {
            Self::All => None,
            Self::AllDone => Some(now),
            Self::LoadedSince(since) => Some(since),
        };
        match since.filter(|since| now.saturating_sub(*since) < LOADED_ONLY_FOR) {
            Some(since) if !loaded.is_empty() => {
                *self = Self::LoadedSince(since);
                ModelChoice {
                    models: loaded,
                    scope: Scope::Loaded,
                }
            }
            _ => {
                *self = Self::AllDone;
                ModelChoice {
                    models: configured.to_vec(),
                    scope: if crowded.is_some() {
                        Scope::AllWhileCrowded
                    } else {
                        Scope::All
                    },
                }
            }
        }
    }

    /// Makes the next claim one for all models, because the loaded ones have no more jobs.
    pub(super) fn open(&mut self) {
        *self = Self::All;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{LOADED_ONLY_FOR, ModelTurns, Scope};

    const START: Duration = Duration::from_mins(1);

    fn loaded() -> Vec<String> {
        vec!["a".into(), "b".into()]
    }

    #[test]
    fn while_all_models_fit_each_claim_is_for_all() {
        let mut turns = ModelTurns::default();
        for _ in 0..3 {
            let choice = turns.choose(None, &[], START);
            assert_eq!((choice.models.len(), choice.scope), (0, Scope::All));
        }
    }

    #[test]
    fn while_crowded_loaded_models_come_first_and_the_others_get_their_turn() {
        let mut turns = ModelTurns::default();
        let soon = START + Duration::from_millis(10);
        let due = soon + LOADED_ONLY_FOR;
        let after = due + Duration::from_millis(10);
        for (now, scope) in [
            (START, Scope::AllWhileCrowded),
            (soon, Scope::Loaded),
            (due, Scope::AllWhileCrowded),
            (after, Scope::Loaded),
        ] {
            let choice = turns.choose(Some(&loaded()), &[], now);
            assert_eq!(choice.scope, scope, "at {now:?}");
        }
    }

    #[test]
    fn when_the_loaded_models_have_no_jobs_the_next_claim_is_for_all() {
        let mut turns = ModelTurns::default();
        let scope = |turns: &mut ModelTurns| turns.choose(Some(&loaded()), &[], START).scope;
        assert_eq!(scope(&mut turns), Scope::AllWhileCrowded);
        assert_eq!(scope(&mut turns), Scope::Loaded);
        turns.open();
        assert_eq!(scope(&mut turns), Scope::AllWhileCrowded);
    }

    #[test]
    fn a_loaded_model_that_is_not_configured_is_not_claimed() {
        let mut turns = ModelTurns::default();
        let configured = ["b".to_owned(), "c".to_owned()];
        let mut models = || turns.choose(Some(&loaded()), &configured, START).models;
        assert_eq!(models(), configured);
        assert_eq!(models(), ["b"]);
    }
}
