//! Which batch is best at work. What was measured at load was measured on an otherwise idle machine, and sizes are some
//! percent apart: there 1, 2 and 4 won by chance, while beside the other programs batches of 2 took 10 % less CPU than lone
//! images (two cores, EfficientNet-Lite0). So sizes are tried in turns, in full batches of real images. All threads have
//! the same turn: a large batch beside a small one gains at the other's cost.

use std::{
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// Full batches of each size in one comparison; their medians count. Single passes vary by a tenth and more.
const SAMPLES: usize = 48;
/// So many of them in one turn.
const TURN: usize = 12;
/// The other size must cost so much less an image.
const GAIN_LEAST: f64 = 1.03;
/// So much apart after half of them, sizes are told from each other already.
const CLEAR: f64 = 1.08;
/// A comparison is given up in a turn in which so many batches were not full: there is not enough to do for it.
const UNFILLED_MAX: usize = 12;
/// Full batches until it is tried again.
const REST: usize = 1_000;

/// How a comparison ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tried {
    /// So many images are the best batch from now on.
    Won(usize),
    /// The best one stays; the memory that the other took is free.
    Kept,
}

/// The best batch as far as it is known, and the size to try next.
#[derive(Debug)]
pub(super) struct BestBatch {
    best: AtomicUsize,
    next: AtomicUsize,
    trials: Mutex<Trials>,
}

#[derive(Debug)]
struct Trials {
    /// Ascending; those that did not fit are gone.
    sizes: Vec<usize>,
    /// Passes of a turn that do not count: others are still at the turn before.
    settling: usize,
    upwards: bool,
    /// Neighbours of the best that lost in a row.
    lost: usize,
    rest: usize,
    trial: Option<Trial>,
}

/// The best and another, by turns.
#[derive(Debug)]
struct Trial {
    best: Side,
    other: Side,
    others_turn: bool,
    /// Full batches of this turn.
    in_turn: usize,
    /// Batches of this turn that were not full, or still of the turn before.
    strays: usize,
}

#[derive(Debug)]
struct Side {
    images: usize,
    /// Of an image, in full batches.
    costs: Vec<Duration>,
}

impl BestBatch {
    /// `best`, one of the `sizes`, is a first guess; so many threads run batches.
    pub(super) fn new(best: usize, sizes: &[usize], threads: usize) -> Self {
        Self {
            best: best.into(),
            next: best.into(),
            trials: Mutex::new(Trials {
                sizes: sizes.to_vec(),
                settling: 2 * threads,
                upwards: false, // smaller ones are sooner tried, and take less memory
                lost: 0,
                rest: 0,
                trial: None,
            }),
        }
    }

    pub(super) fn best(&self) -> usize {
        self.best.load(Ordering::Relaxed)
    }

    /// Most images of the next batch.
    pub(super) fn next(&self) -> usize {
        self.next.load(Ordering::Relaxed)
    }

    /// A pass over so many images cost so much of a core; it may have been the last of a comparison.
    pub(super) fn passed(&self, images: usize, cost: Duration) -> Option<Tried> {
        let mut trials = self.trials();
        let best = self.best();
        let tried = trials.passed(best, images, cost / images.max(1) as u32);
        let best = match tried {
            Some(Tried::Won(size)) => size,
            _ => best,
        };
        self.best.store(best, Ordering::Relaxed);
        self.next.store(trials.next(best), Ordering::Relaxed);
        tried
    }

    /// So many did not fit: answers the size that is half as large or less, if the best was larger.
    pub(super) fn too_much(&self, images: usize) -> Option<usize> {
        let half = (images / 2).max(1);
        let mut trials = self.trials();
        trials.sizes.retain(|&size| size <= half);
        trials.trial = None;
        let before = self.best.fetch_min(half, Ordering::Relaxed);
        self.next.store(before.min(half), Ordering::Relaxed);
        (half < before).then_some(half)
    }

    fn trials(&self) -> MutexGuard<'_, Trials> {
        self.trials.lock().expect("no panic while it is held")
    }
}

impl Trials {
    fn passed(&mut self, best: usize, images: usize, each: Duration) -> Option<Tried> {
        let Some(trial) = &mut self.trial else {
            // Once both neighbours have lost, the best is settled: later comparisons would only take more memory.
            if images == best && self.lost < 2 {
                match self.rest {
                    0 => self.begin(best),
                    _ => self.rest -= 1,
                }
            }
            return None;
        };
        trial.passed(images, each, self.settling);
        let is_over = trial.is_over();
        if !is_over && trial.strays < self.settling + UNFILLED_MAX {
            return None;
        }
        let mut trial = self.trial.take()?;
        let gain = trial.gain();
        let won = is_over && gain > GAIN_LEAST;
        tracing::debug!(
            batch.images = trial.other.images,
            best.images = trial.best.images,
            gain,
            trial.strays,
            won,
            "tried"
        );
        if is_over {
            self.ended(won);
        } else {
            self.rest = REST;
        }
        Some(if won {
            Tried::Won(trial.other.images)
        } else {
            Tried::Kept
        })
    }

    /// The neighbour of the best whose turn it is, if it has one there.
    fn begin(&mut self, best: usize) {
        let other = if self.upwards {
            self.sizes.iter().copied().find(|&size| size > best)
        } else {
            self.sizes.iter().rev().copied().find(|&size| size < best)
        };
        match other {
            Some(other) => {
                self.trial = Some(Trial {
                    best: Side::of(best),
                    other: Side::of(other),
                    others_turn: true,
                    in_turn: 0,
                    strays: 0,
                });
            }
            None => self.ended(false),
        }
    }

    /// After a gain further the same way.
    fn ended(&mut self, won: bool) {
        if won {
            self.lost = 0;
            return;
        }
        self.lost += 1;
        self.upwards = !self.upwards;
    }

    fn next(&self, best: usize) -> usize {
        match &self.trial {
            Some(trial) if trial.others_turn => trial.other.images,
            _ => best,
        }
    }
}

impl Trial {
    fn passed(&mut self, images: usize, each: Duration, settling: usize) {
        let side = if self.others_turn {
            &mut self.other
        } else {
            &mut self.best
        };
        if images != side.images {
            self.strays += 1;
            return;
        }
        self.in_turn += 1;
        if self.in_turn > settling {
            side.costs.push(each);
        }
        if self.in_turn == settling + TURN {
            self.others_turn = !self.others_turn;
            self.in_turn = 0;
            self.strays = 0;
        }
    }

    /// Looked at after each turn of the best.
    fn is_over(&mut self) -> bool {
        if !self.others_turn || self.in_turn > 0 {
            return false;
        }
        let samples = self.best.costs.len();
        let clear = |gain: f64| gain.max(1.0 / gain) > CLEAR;
        samples >= SAMPLES || (samples >= SAMPLES / 2 && clear(self.gain()))
    }

    /// What an image costs in the best size, to what it costs in the other.
    fn gain(&mut self) -> f64 {
        self.best.cost().as_secs_f64() / self.other.cost().as_secs_f64()
    }
}

impl Side {
    fn of(images: usize) -> Self {
        let costs = Vec::with_capacity(SAMPLES);
        Self { images, costs }
    }

    /// The median, as far as it is known.
    fn cost(&mut self) -> Duration {
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

    /// Runs batches by all threads in turns, each as large as is asked for up to `waiting`, at so many µs an image. Answers
    /// their sizes.
    fn work(
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
            batch.passed(images, cost);
            running.push_back(batch.next().min(waiting));
            sizes.push(images);
        }
        sizes
    }

    #[test]
    fn what_is_cheapest_at_work_is_found_from_either_side() {
        let each_us = |images| match images {
            1 => 1_100,
            2 => 1_000,
            4 => 1_150,
            _ => 1_400,
        };
        for guess in SIZES {
            let batch = best_batch(guess);
            work(&batch, 64, 40 * SAMPLES, each_us);
            assert_eq!(batch.best(), 2, "from {guess}");
        }
    }

    #[test]
    fn turns_are_long_enough_for_all_threads_to_run_the_same() {
        let sizes = work(&best_batch(2), 64, 10 * SAMPLES, |_| 1_000);
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
    fn what_is_hardly_cheaper_does_not_win() {
        let batch = best_batch(2);
        work(&batch, 64, 40 * SAMPLES, |images| 1_020 - images as u64);
        assert_eq!(batch.best(), 2);
    }

    #[test]
    fn a_costly_size_is_seldom_tried() {
        let batch = best_batch(2);
        let sizes = work(&batch, 64, 10_000, |images| match images {
            2 => 1_000,
            _ => 2_000,
        });
        let others = sizes.iter().filter(|&&size| size != 2).count();
        assert!((SAMPLES..300).contains(&others), "{others}");
    }

    #[test]
    fn batches_that_do_not_fill_end_a_trial_soon() {
        for waiting in [2, 3] {
            let batch = best_batch(2);
            let mut tries = 0;
            for _ in 0..10_000 {
                tries += usize::from(batch.next() == 4);
                batch.passed(batch.next().min(waiting), Duration::from_millis(1));
            }
            assert!((1..400).contains(&tries), "{tries} with {waiting} waiting");
            assert_eq!(batch.best(), 2);
            work(&batch, 64, 2_000, |images| 1_000 / images as u64);
            assert_eq!(batch.best(), 8, "once there is enough to do");
        }
    }

    #[test]
    fn what_did_not_fit_is_never_tried_again() {
        let batch = best_batch(8);
        assert_eq!(batch.too_much(8), Some(4));
        assert_eq!(batch.too_much(8), None, "known already");
        work(&batch, 64, 40 * SAMPLES, |images| 1_000 / images as u64);
        assert_eq!(batch.best(), 4);
        assert_eq!(batch.too_much(1), Some(1), "there is nothing less");
    }
}
