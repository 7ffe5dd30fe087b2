//! Low-water marks: where a claim starts to read each lane (docs/adr/0009-low-water-marks.md).
//!
//! Claimed jobs leave dead index entries at the head of their lane. While a transaction holds an old snapshot, vacuum cannot
//! remove them, and a claim from the start of the lane reads all of them. With a mark the claim starts at the highest place
//! that was claimed two seconds ago. Late commits and returned jobs may lie below the mark; a sweep from the start finds them.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

/// Longest time between two sweeps.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// Longest time to the next sweep after a claim above the marks returned fewer jobs than requested.
const SWEEP_WHEN_SHORT: Duration = Duration::from_millis(100);
/// A place becomes the mark two to three generations after it was claimed. Commits that are later still are found by a sweep.
const GENERATION: Duration = Duration::from_secs(1);
/// Most lanes with marks; other lanes are read from the start.
const LANES_MAX: usize = 64;
/// Below every place in a lane.
const START: i64 = -1;

/// The marks of one claimer. Marks only save time, so each claimer has its own.
#[derive(Debug, Default)]
pub struct LowWater(Mutex<Marks>);

/// The place of a claimed job in its lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub model_id: i64,
    pub priority: i16,
    pub seq: i64,
}

/// The ranges that one claim reads, as columns; no ranges for a sweep.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ScanRanges {
    pub model_ids: Vec<i64>,
    pub highest: Vec<i16>,
    pub lowest: Vec<i16>,
    pub marks: Vec<i64>,
}

#[derive(Debug, Default)]
struct Marks {
    /// By model and priority.
    lanes: BTreeMap<(i64, i16), Lane>,
    swept_at: Option<Instant>,
    turned_at: Option<Instant>,
    /// Whether the last claim used marks and returned fewer jobs than requested.
    short: bool,
}

#[derive(Debug, Clone, Copy)]
struct Lane {
    mark: i64,
    /// Highest claimed places of this generation and of the two before.
    highest: [i64; 3],
    claimed_at: Instant,
}

impl ScanRanges {
    pub(super) fn is_sweep(&self) -> bool {
        self.model_ids.is_empty()
    }

    fn add(&mut self, model_id: i64, highest: i16, lowest: i16, mark: i64) {
        self.model_ids.push(model_id);
        self.highest.push(highest);
        self.lowest.push(lowest);
        self.marks.push(mark);
    }
}

impl LowWater {
    /// When to claim again without a wake-up, because returned jobs may lie below the marks; `None` if there is no need.
    pub fn look_again_in(&self) -> Option<Duration> {
        let marks = self.marks();
        marks
            .short
            .then(|| SWEEP_WHEN_SHORT.saturating_sub(marks.swept_ago(Instant::now())))
    }

    /// Whether claims skip the beginning of a lane.
    pub fn is_marked(&self) -> bool {
        self.marks().lanes.values().any(|lane| lane.mark > START)
    }

    /// The ranges that the next claim should read.
    pub(super) fn look(&self, now: Instant) -> ScanRanges {
        let mut marks = self.marks();
        marks.turn(now);
        let sweep_after = if marks.short {
            SWEEP_WHEN_SHORT
        } else {
            SWEEP_EVERY
        };
        if marks.swept_ago(now) >= sweep_after {
            return ScanRanges::default();
        }
        marks.ranges()
    }

    /// Makes the next claim a sweep.
    pub(super) fn sweep_next(&self) {
        self.marks().swept_at = None;
    }

    /// Records the result of a claim that read `ranges`.
    pub(super) fn note(
        &self,
        ranges: &ScanRanges,
        claimed: &[Position],
        is_full: bool,
        now: Instant,
    ) {
        self.marks().note(ranges, claimed, is_full, now);
    }

    fn marks(&self) -> MutexGuard<'_, Marks> {
        self.0.lock().expect("no panic holds it")
    }
}

impl Marks {
    fn swept_ago(&self, now: Instant) -> Duration {
        self.swept_at
            .map_or(Duration::MAX, |at| now.saturating_duration_since(at))
    }

    /// Each marked lane from its mark on, and the priorities between those lanes from the start: new priorities must be read in
    /// their order too.
    fn ranges(&self) -> ScanRanges {
        let mut ranges = ScanRanges::default();
        let mut before: Option<(i64, i16)> = None;
        // Highest priority first, as the index has it.
        let mut lanes: Vec<_> = self
            .lanes
            .iter()
            .filter(|(_, lane)| lane.mark > START)
            .collect();
        lanes.sort_by_key(|((model_id, priority), _)| (*model_id, std::cmp::Reverse(*priority)));
        for (&(model_id, priority), lane) in lanes {
            let above = match before {
                Some((model, lowest)) if model == model_id => lowest,
                Some((model, lowest)) => {
                    ranges.add(model, lowest - 1, i16::MIN, START);
                    i16::MAX
                }
                None => i16::MAX,
            };
            if above - 1 > priority {
                ranges.add(model_id, above - 1, priority + 1, START);
            }
            ranges.add(model_id, priority, priority, lane.mark);
            before = Some((model_id, priority));
        }
        if let Some((model, lowest)) = before {
            ranges.add(model, lowest - 1, i16::MIN, START);
        }
        ranges
    }

    fn note(&mut self, ranges: &ScanRanges, claimed: &[Position], is_full: bool, now: Instant) {
        let mut highest = BTreeMap::<(i64, i16), i64>::new();
        for place in claimed {
            let lane = (place.model_id, place.priority);
            let seq = highest.entry(lane).or_insert(place.seq);
            *seq = place.seq.max(*seq);
        }
        for (lane, seq) in highest {
            let lane = self.lanes.entry(lane).or_insert(Lane {
                mark: START,
                highest: [START; 3],
                claimed_at: now,
            });
            lane.claimed_at = now;
            if ranges.is_sweep() && is_full && seq < lane.mark {
                // Many jobs were returned, and more of them may lie between here and the mark.
                lane.mark = seq;
                lane.highest = [START; 3];
            } else {
                lane.highest[0] = lane.highest[0].max(seq);
            }
        }
        self.short = !ranges.is_sweep() && !is_full;
        if ranges.is_sweep() {
            self.swept_at = Some(now);
        }
        while self.lanes.len() > LANES_MAX {
            let idlest = self.lanes.iter().min_by_key(|(_, lane)| lane.claimed_at);
            let idlest = idlest.map(|(&lane, _)| lane).expect("there are lanes");
            self.lanes.remove(&idlest);
        }
    }

    /// The highest place that was claimed two generations ago becomes the mark.
    fn turn(&mut self, now: Instant) {
        let turned_at = *self.turned_at.get_or_insert(now);
        if now.saturating_duration_since(turned_at) < GENERATION {
            return;
        }
        self.turned_at = Some(now);
        for lane in self.lanes.values_mut() {
            lane.mark = lane.mark.max(lane.highest[2]);
            lane.highest = [START, lane.highest[0], lane.highest[1]];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(priority: i16, seq: i64) -> Position {
        Position {
            model_id: 1,
            priority,
            seq,
        }
    }

    fn bounds(ranges: &ScanRanges) -> Vec<(i16, i16, i64)> {
        let columns = ranges.highest.iter().zip(&ranges.lowest).zip(&ranges.marks);
        columns
            .map(|((highest, lowest), mark)| (*highest, *lowest, *mark))
            .collect()
    }

    /// A claimer that took these from the start, three generations ago.
    fn marked(claimed: &[Position], now: Instant) -> LowWater {
        let low_water = LowWater::default();
        let look = low_water.look(now);
        assert!(look.is_sweep(), "the first look is from the start");
        low_water.note(&look, claimed, true, now);
        for generation in 1..=3 {
            low_water.look(now + GENERATION * generation);
        }
        low_water.marks().swept_at = Some(now + GENERATION * 3);
        low_water
    }

    #[test]
    fn a_place_becomes_the_mark_no_sooner_than_two_generations_later() {
        let now = Instant::now();
        let low_water = LowWater::default();
        low_water.note(&low_water.look(now), &[at(0, 70)], true, now);
        low_water.marks().swept_at = Some(now + GENERATION * 9);
        for generation in 1..=2 {
            let look = low_water.look(now + GENERATION * generation);
            assert_eq!(bounds(&look), [], "generation {generation}");
        }
        let look = low_water.look(now + GENERATION * 3);
        assert_eq!(
            bounds(&look),
            [(i16::MAX - 1, 1, -1), (0, 0, 70), (-1, i16::MIN, -1)]
        );
    }

    #[test]
    fn lanes_that_were_never_seen_are_looked_at_in_their_order() {
        let now = Instant::now();
        let low_water = marked(&[at(0, 5), at(7, 9), at(1, 3)], now);
        let look = low_water.look(now + GENERATION * 3);
        let all = [
            (i16::MAX - 1, 8, -1),
            (7, 7, 9),
            (6, 2, -1),
            (1, 1, 3),
            (0, 0, 5),
            (-1, i16::MIN, -1),
        ];
        assert_eq!(bounds(&look), all);
    }

    #[test]
    fn a_short_claim_is_followed_by_a_sweep_soon() {
        let now = Instant::now();
        let low_water = marked(&[at(0, 5)], now);
        let soon = now + GENERATION * 3;
        let look = low_water.look(soon);
        assert!(!look.is_sweep());
        low_water.note(&look, &[], false, soon);
        assert!(low_water.look_again_in().is_some());
        assert!(low_water.look(soon + SWEEP_WHEN_SHORT).is_sweep());
    }

    #[test]
    fn a_full_claim_is_followed_by_a_sweep_within_a_second() {
        let now = Instant::now();
        let low_water = marked(&[at(0, 5)], now);
        let soon = now + GENERATION * 3;
        let look = low_water.look(soon);
        low_water.note(&look, &[at(0, 6)], true, soon);
        assert_eq!(low_water.look_again_in(), None);
        assert!(!low_water.look(soon + SWEEP_WHEN_SHORT).is_sweep());
        assert!(low_water.look(soon + SWEEP_EVERY).is_sweep());
    }

    /// A worker gave back more than one claim takes: the next ones go on where the sweep ended, not at the old mark.
    #[test]
    fn a_sweep_full_of_what_came_back_lowers_the_mark() {
        let now = Instant::now();
        let low_water = marked(&[at(0, 500)], now);
        let swept = now + GENERATION * 4;
        let sweep = low_water.look(swept);
        assert!(sweep.is_sweep());
        low_water.note(&sweep, &[at(0, 20), at(0, 21)], true, swept);
        let look = low_water.look(swept);
        assert!(bounds(&look).contains(&(0, 0, 21)));
    }

    #[test]
    fn one_job_that_came_back_leaves_the_mark() {
        let now = Instant::now();
        let low_water = marked(&[at(0, 500)], now);
        let swept = now + GENERATION * 4;
        let sweep = low_water.look(swept);
        low_water.note(&sweep, &[at(0, 20), at(0, 501)], true, swept);
        assert!(bounds(&low_water.look(swept)).contains(&(0, 0, 500)));
    }
}
