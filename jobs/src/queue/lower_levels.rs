//! Turns of the lower priorities. Higher priorities go first, and without turns a steady stream of them would keep all other jobs
//! from ever being claimed.
//!
//! A claim that comes back full may leave jobs of lower priorities behind. The claimer counts the jobs of such claims. Once the
//! lower priorities have missed a whole job of their share, a turn claims as many jobs below the priorities of those claims. The
//! turns go down: each begins below the lowest priority of the turn before, and starts again at the top when it finds nothing.

use std::{
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use super::LowWater;

/// How long to wait after a turn that found no job at all: most queues have one priority.
const PAUSE_AFTER_NOTHING: Duration = Duration::from_secs(1);

/// What one claimer owes to lower priorities. Never shared, and may be lost.
#[derive(Debug, Default)]
pub struct LowerLevels {
    /// Jobs of lower priorities that are claimed for each job of a full claim.
    for_each_job: f64,
    /// Turns read other parts of the queue than claims do.
    pub(super) low_water: LowWater,
    turns: Mutex<Turns>,
}

#[derive(Debug, Default)]
struct Turns {
    /// Jobs that the lower priorities may claim.
    owed: f64,
    /// Lowest priority of the last claim, if the claim was full.
    lowest_claimed: Option<i16>,
    /// Lowest priority of the last turn, if the turn found jobs.
    lowest_of_turn: Option<i16>,
    paused_until: Option<Instant>,
}

/// A claim of jobs of lower priorities only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turn {
    pub limit: u16,
    /// Highest priority to claim.
    pub highest: i16,
}

impl LowerLevels {
    /// `share`: the part of all claimed jobs that lower priorities get while higher ones could take all claims; from 0 (none) to
    /// 0.5.
    pub fn with_share(share: f64) -> Self {
        let share = share.clamp(0.0, 0.5);
        Self {
            for_each_job: share / (1.0 - share),
            ..Self::default()
        }
    }

    /// Whether [`claim_lower`](super::claim_lower) would ask for jobs.
    pub fn is_turn_due(&self, limit: u16) -> bool {
        self.turn(limit, Instant::now()).is_some()
    }

    /// The turn that is due now, for up to `limit` jobs.
    pub(super) fn turn(&self, limit: u16, now: Instant) -> Option<Turn> {
        let turns = self.turns();
        let lowest_claimed = turns.lowest_claimed?;
        let is_paused = turns.paused_until.is_some_and(|until| now < until);
        if turns.owed < 1.0 || is_paused || limit == 0 {
            return None;
        }
        let above = turns.lowest_of_turn.unwrap_or(lowest_claimed);
        Some(Turn {
            limit: limit.min(turns.owed as u16),
            highest: above.min(lowest_claimed).checked_sub(1)?,
        })
    }

    /// Records the priorities of the jobs that a turn claimed.
    pub(super) fn note_turn(&self, priorities: impl Iterator<Item = i16>, now: Instant) {
        let mut turns = self.turns();
        let lowest = priorities.inspect(|_| turns.owed -= 1.0).min();
        if lowest.is_none() && turns.lowest_of_turn.is_none() {
            turns.paused_until = Some(now + PAUSE_AFTER_NOTHING);
        }
        turns.lowest_of_turn = lowest;
    }

    /// Records the priorities of the jobs that a claim of all priorities took.
    pub(super) fn note_claim(&self, priorities: impl ExactSizeIterator<Item = i16>, is_full: bool) {
        let mut turns = self.turns();
        let claimed = priorities.len() as f64;
        turns.lowest_claimed = priorities.min().filter(|_| is_full);
        if turns.lowest_claimed.is_none() {
            // It took all jobs, or could have.
            turns.owed = 0.0;
            turns.lowest_of_turn = None;
            return;
        }
        // No more than a claim takes: what was missed long ago is not made good later.
        turns.owed = (turns.owed + claimed * self.for_each_job).min(claimed.max(1.0));
    }

    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().expect("no panic holds it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Claims by tens from levels that never run out. Returns how many jobs of each level were claimed.
    fn claim_from(levels: &[i16], share: f64, claims: u32) -> Vec<f64> {
        let (lower, now) = (LowerLevels::with_share(share), Instant::now());
        let mut claimed = vec![0.0; levels.len()];
        let mut take = |highest: i16, limit: u16| {
            let at = levels.iter().position(|level| *level <= highest)?;
            claimed[at] += f64::from(limit);
            Some(levels[at])
        };
        for _ in 0..claims {
            let mut left = 10;
            while let Some(turn) = lower.turn(left, now) {
                let level = take(turn.highest, turn.limit);
                let jobs = level.map_or(0, |_| turn.limit);
                lower.note_turn((0..jobs).filter_map(|_| level), now);
                if jobs > 0 {
                    left -= jobs;
                    break;
                }
            }
            if left > 0 {
                let level = take(i16::MAX, left).expect("there is a highest level");
                lower.note_claim((0..left).map(|_| level), true);
            }
        }
        let all: f64 = claimed.iter().sum();
        claimed.iter().map(|jobs| jobs / all).collect()
    }

    #[test]
    fn a_lower_level_gets_its_share() {
        for share in [0.1, 0.25, 0.5] {
            let shares = claim_from(&[100, 0], share, 1_000);
            assert!((shares[1] - share).abs() < 0.02, "{share}: {shares:?}");
        }
        assert_eq!(claim_from(&[100, 0], 0.0, 1_000), [1.0, 0.0]);
    }

    #[test]
    fn every_lower_level_gets_a_part_of_the_share() {
        let shares = claim_from(&[100, 50, 0, -100], 0.3, 1_000);
        for share in &shares[1..] {
            assert!((0.05..0.15).contains(share), "{shares:?}");
        }
    }

    #[test]
    fn a_queue_of_one_level_is_asked_once_a_second() {
        let (lower, now) = (LowerLevels::with_share(0.1), Instant::now());
        let claim = || lower.note_claim([0; 20].into_iter(), true);
        claim();
        let turn = lower.turn(20, now);
        assert_eq!(
            turn,
            Some(Turn {
                limit: 2,
                highest: -1
            })
        );
        lower.note_turn(std::iter::empty(), now);
        claim();
        assert_eq!(lower.turn(20, now), None);
        assert!(lower.turn(20, now + PAUSE_AFTER_NOTHING).is_some());
    }

    #[test]
    fn nothing_is_owed_after_a_claim_that_took_all_jobs() {
        let (lower, now) = (LowerLevels::with_share(0.5), Instant::now());
        lower.note_claim([7; 20].into_iter(), true);
        assert!(lower.turn(20, now).is_some());
        lower.note_claim([7; 3].into_iter(), false);
        assert_eq!(lower.turn(20, now), None);
    }

    #[test]
    fn below_the_lowest_priority_there_is_no_turn() {
        let (lower, now) = (LowerLevels::with_share(0.5), Instant::now());
        lower.note_claim([i16::MIN; 20].into_iter(), true);
        assert_eq!(lower.turn(20, now), None);
    }
}
