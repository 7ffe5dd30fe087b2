//! The best batch: the size of a forward batch that costs the least CPU time for each image
//! (docs/adr/0015-the-best-batch-at-work.md).
//!
//! The measurement at load is a first guess: the machine is idle then, and sizes differ by a few percent only. At work
//! the best size is compared with a neighbor, by turns, in full forward batches of real images. All threads have the same
//! turn, because a large forward batch beside a small one gains at the cost of the small one.

use std::{
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// Full forward batches of each size in one comparison. Their medians are compared: single passes vary by a tenth and more.
const SAMPLES: usize = 48;
/// Full forward batches of one turn.
const TURN: usize = 12;
/// The other size must be cheaper by this factor for each image.
const GAIN_LEAST: f64 = 1.03;
/// A comparison ends after half of the samples if the costs differ by this factor.
const CLEAR_GAIN: f64 = 1.08;
/// A comparison is given up if so many forward batches of a turn were not full: then there is too little load.
const UNFILLED_MAX: usize = 12;
/// Full forward batches between a comparison that was given up and the next one.
const REST: usize = 1_000;

/// The result of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ComparisonResult {
    /// The other size won and is the best batch now.
    NewBest(usize),
    /// The best batch did not change. The memory that the other size took is free.
    BestStays,
}

/// The best batch so far, and the size of the next forward batch.
#[derive(Debug)]
pub(super) struct BestBatch {
    best: AtomicUsize,
    next: AtomicUsize,
    search: Mutex<Search>,
}

#[derive(Debug)]
struct Search {
    /// Ascending. Sizes that failed are removed.
    sizes: Vec<usize>,
    /// Passes at the start of a turn that do not count: other threads may still run a pass of the turn before.
    settling: usize,
    /// Whether the next comparison is with the next larger size.
    is_upward: bool,
    /// Comparisons in a row that the neighbors of the best batch lost.
    lost: usize,
    /// Full forward batches until the next comparison.
    rest: usize,
    comparison: Option<Comparison>,
}

/// A comparison of the best batch with another size, by turns.
#[derive(Debug)]
struct Comparison {
    best: Side,
    other: Side,
    is_turn_of_other: bool,
    /// Full forward batches of this turn.
    in_turn: usize,
    /// Forward batches of this turn that were not full, or that belong to the turn before.
    skipped: usize,
}

#[derive(Debug)]
struct Side {
    images: usize,
    /// CPU time for each image, one entry for each full forward batch.
    costs: Vec<Duration>,
}

impl BestBatch {
    /// Starts with `best`, one of `sizes`, as the first guess; `threads` threads run forward batches.
    pub(super) fn new(best: usize, sizes: &[usize], threads: usize) -> Self {
        Self {
            best: best.into(),
            next: best.into(),
            search: Mutex::new(Search {
                sizes: sizes.to_vec(),
                settling: 2 * threads,
                is_upward: false, // smaller sizes are compared faster, and take less memory
                lost: 0,
                rest: 0,
                comparison: None,
            }),
        }
    }

    pub(super) fn best(&self) -> usize {
        self.best.load(Ordering::Relaxed)
    }

    /// The most images of the next forward batch.
    pub(super) fn next(&self) -> usize {
        self.next.load(Ordering::Relaxed)
    }

    /// Records the CPU time of a pass over `images` images. Returns a result if the pass ended a comparison.
    pub(super) fn record_pass(&self, images: usize, cost: Duration) -> Option<ComparisonResult> {
        let mut search = self.search();
        let best = self.best();
        let result = search.record_pass(best, images, cost / images.max(1) as u32);
        let best = match result {
            Some(ComparisonResult::NewBest(size)) => size,
            _ => best,
        };
        self.best.store(best, Ordering::Relaxed);
        self.next.store(search.next(best), Ordering::Relaxed);
        result
    }

    /// Records that a pass over `images` images ran out of memory. Returns the new best batch if it became smaller.
    pub(super) fn record_out_of_memory(&self, images: usize) -> Option<usize> {
        self.lower_limit(images / 2)
    }

    /// From now on no forward batch has more than `limit` images. Returns the new best batch if it became smaller.
    pub(super) fn lower_limit(&self, limit: usize) -> Option<usize> {
        let limit = limit.max(1);
        let mut search = self.search();
        search.sizes.retain(|&size| size <= limit);
        search.comparison = None;
        let before = self.best.fetch_min(limit, Ordering::Relaxed);
        self.next.store(before.min(limit), Ordering::Relaxed);
        (limit < before).then_some(limit)
    }

    fn search(&self) -> MutexGuard<'_, Search> {
        self.search.lock().expect("no panic while it is held")
    }
}

impl Search {
    fn record_pass(
        &mut self,
        best: usize,
        images: usize,
        each: Duration,
    ) -> Option<ComparisonResult> {
        let Some(comparison) = &mut self.comparison else {
            // The best batch is settled once both neighbors have lost. More comparisons would only take more memory.
            if images == best && self.lost < 2 {
                match self.rest {
                    0 => self.begin(best),
                    _ => self.rest -= 1,
                }
            }
            return None;
        };
        comparison.record_pass(images, each, self.settling);
        let is_over = comparison.is_over();
        if !is_over && comparison.skipped < self.settling + UNFILLED_MAX {
            return None;
        }
        let mut comparison = self.comparison.take()?;
        let gain = comparison.gain();
        let won = is_over && gain > GAIN_LEAST;
        tracing::debug!(
            batch.images = comparison.other.images,
            best.images = comparison.best.images,
            gain,
            comparison.skipped,
            won,
            "compared two sizes of forward batches"
        );
        if is_over {
            self.end(won);
        } else {
            self.rest = REST;
        }
        Some(if won {
            ComparisonResult::NewBest(comparison.other.images)
        } else {
            ComparisonResult::BestStays
        })
    }

    /// Begins a comparison with the next neighbor of the best batch, if there is one.
    fn begin(&mut self, best: usize) {
        let other = if self.is_upward {
            self.sizes.iter().copied().find(|&size| size > best)
        } else {
            self.sizes.iter().rev().copied().find(|&size| size < best)
        };
        match other {
            Some(other) => {
                self.comparison = Some(Comparison {
                    best: Side::new(best),
                    other: Side::new(other),
                    is_turn_of_other: true,
                    in_turn: 0,
                    skipped: 0,
                });
            }
            None => self.end(false),
        }
    }

    /// Decides the direction of the next comparison: the same one after a gain, the other one after a loss.
    fn end(&mut self, won: bool) {
        if won {
            self.lost = 0;
            return;
        }
        self.lost += 1;
        self.is_upward = !self.is_upward;
    }

    fn next(&self, best: usize) -> usize {
        match &self.comparison {
            Some(comparison) if comparison.is_turn_of_other => comparison.other.images,
            _ => best,
        }
    }
}

impl Comparison {
    fn record_pass(&mut self, images: usize, each: Duration, settling: usize) {
        let side = if self.is_turn_of_other {
            &mut self.other
        } else {
            &mut self.best
        };
        if images != side.images {
            self.skipped += 1;
            return;
        }
        self.in_turn += 1;
        if self.in_turn > settling {
            side.costs.push(each);
        }
        if self.in_turn == settling + TURN {
            self.is_turn_of_other = !self.is_turn_of_other;
            self.in_turn = 0;
            self.skipped = 0;
        }
    }

    /// Whether the comparison can be decided; only after a turn of the best batch.
    fn is_over(&mut self) -> bool {
        if !self.is_turn_of_other || self.in_turn > 0 {
            return false;
        }
        let samples = self.best.costs.len();
        let is_clear = |gain: f64| gain.max(1.0 / gain) > CLEAR_GAIN;
        samples >= SAMPLES || (samples >= SAMPLES / 2 && is_clear(self.gain()))
    }

    /// Cost of an image in the best size divided by its cost in the other size.
    fn gain(&mut self) -> f64 {
        self.best.median_cost().as_secs_f64() / self.other.median_cost().as_secs_f64()
    }
}

impl Side {
    fn new(images: usize) -> Self {
        let costs = Vec::with_capacity(SAMPLES);
        Self { images, costs }
    }

    /// The median of the costs so far.
    fn median_cost(&mut self) -> Duration {
        self.costs.sort_unstable();
        let middle = self.costs.get(self.costs.len() / 2);
        middle.copied().unwrap_or_default()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::{collections::VecDeque, time::Duration};

    use super::{BestBatch, SAMPLES};

    const SIZES: [usize; 4] = [1, 2, 4, 8];
    const THREADS: usize = 3;

    fn best_batch(guess: usize) -> BestBatch {
        BestBatch::new(guess, &SIZES, THREADS)
    }

    /// Runs `passes` forward batches, by all threads in turn, at `each_us` µs for each image. Returns their sizes.
    /// `waiting` images wait at any time.
    fn run_passes(
        batch: &BestBatch,
        waiting: usize,
        passes: usize,
        each_us: impl Fn(usize) -> u64,
    ) -> Vec<usize> {
        let mut sizes = Vec::new();
        let mut running: VecDeque<_> = [batch.next().min(waiting); THREADS].into();
        for _ in 0..passes {
            let images = running.pop_front().unwrap();
            let cost = Duration::from_micros(each_us(images) * images as u64);
            batch.record_pass(images, cost);
            running.push_back(batch.next().min(waiting));
            sizes.push(images);
        }
        sizes
    }

    #[test]
    fn the_cheapest_size_at_work_is_found_from_either_side() {
        let each_us = |images| match images {
            1 => 1_100,
            2 => 1_000,
            4 => 1_150,
            _ => 1_400,
        };
        for guess in SIZES {
            let batch = best_batch(guess);
            run_passes(&batch, 64, 40 * SAMPLES, each_us);
            assert_eq!(batch.best(), 2, "from {guess}");
        }
    }

    #[test]
    fn turns_are_long_enough_for_all_threads_to_run_the_same() {
        let sizes = run_passes(&best_batch(2), 64, 10 * SAMPLES, |_| 1_000);
        let turns: Vec<_> = sizes.chunk_by(|a, b| a == b).map(<[usize]>::len).collect();
        assert!(turns.len() > 8, "{turns:?}");
        assert!(
            turns[1..turns.len() - 1]
                .iter()
                .all(|&batches| batches >= 12),
            "{turns:?}"
        );
    }

    #[test]
    fn a_size_that_is_hardly_cheaper_does_not_win() {
        let batch = best_batch(2);
        run_passes(&batch, 64, 40 * SAMPLES, |images| 1_020 - images as u64);
        assert_eq!(batch.best(), 2);
    }

    #[test]
    fn a_costly_size_is_seldom_compared() {
        let batch = best_batch(2);
        let sizes = run_passes(&batch, 64, 10_000, |images| match images {
            2 => 1_000,
            _ => 2_000,
        });
        let others = sizes.iter().filter(|&&size| size != 2).count();
        assert!((SAMPLES..300).contains(&others), "{others}");
    }

    #[test]
    fn forward_batches_that_are_not_full_end_a_comparison_soon() {
        for waiting in [2, 3] {
            let batch = best_batch(2);
            let mut tries = 0;
            for _ in 0..10_000 {
                tries += usize::from(batch.next() == 4);
                batch.record_pass(batch.next().min(waiting), Duration::from_millis(1));
            }
            assert!((1..400).contains(&tries), "{tries} with {waiting} waiting");
            assert_eq!(batch.best(), 2);
            run_passes(&batch, 64, 2_000, |images| 1_000 / images as u64);
            assert_eq!(batch.best(), 8, "under enough load");
        }
    }

    #[test]
    fn a_lowered_limit_is_never_raised_again() {
        let batch = best_batch(8);
        assert_eq!(batch.lower_limit(1), Some(1));
        assert_eq!(batch.lower_limit(3), None, "lower already");
        let sizes = run_passes(&batch, 64, 40 * SAMPLES, |images| 1_000 / images as u64);
        assert!(sizes[super::TURN..].iter().all(|&size| size == 1));
    }

    #[test]
    fn a_size_that_did_not_fit_is_never_compared_again() {
        let batch = best_batch(8);
        assert_eq!(batch.record_out_of_memory(8), Some(4));
        assert_eq!(batch.record_out_of_memory(8), None, "known already");
        run_passes(&batch, 64, 40 * SAMPLES, |images| 1_000 / images as u64);
        assert_eq!(batch.best(), 4);
        assert_eq!(
            batch.record_out_of_memory(1),
            Some(1),
            "no smaller size exists"
        );
    }
}
