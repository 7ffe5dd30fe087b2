//! The memory that all decodes of a worker share.

use tokio::{
    runtime::Handle,
    sync::{Semaphore, SemaphorePermit},
};

use crate::drain::{Drain, Phase};

/// A budget of bytes that concurrent decodes share. Each takes its bytes before it begins, in the order of asking. So a large
/// image waits until others have ended, and is not overtaken by small ones.
#[derive(Debug)]
pub(super) struct DecodeBudget {
    /// In KiB: a semaphore hands out 2³² permits at once at most.
    free_kib: Semaphore,
    kib_max: u32,
    runtime: Handle,
}

impl DecodeBudget {
    pub(super) fn new(bytes_max: u64, runtime: Handle) -> Self {
        let kib_max = u32::try_from(bytes_max / 1024).unwrap_or(u32::MAX);
        Self {
            free_kib: Semaphore::new(kib_max as usize),
            kib_max,
            runtime,
        }
    }

    /// Takes `bytes`, at most the whole budget, until the guard is dropped. Blocks the thread until they are free.
    ///
    /// Returns `None` if the worker drains first.
    pub(super) fn take(&self, bytes: u64, drain: &Drain) -> Option<SemaphorePermit<'_>> {
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        let kib = kib.min(self.kib_max);
        if let Ok(taken) = self.free_kib.try_acquire_many(kib) {
            return Some(taken);
        }
        self.runtime.block_on(async {
            tokio::select! {
                taken = self.free_kib.acquire_many(kib) => taken.ok(),
                () = drain.reached(Phase::Draining) => None,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::runtime::Handle;

    use super::DecodeBudget;
    use crate::drain::{Drain, Phase};

    const MIB: u64 = 1 << 20;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_large_decode_waits_for_the_others_and_is_not_overtaken() {
        let budget = DecodeBudget::new(10 * MIB, Handle::current());
        let drain = Drain::new();
        std::thread::scope(|scope| {
            let first = budget.take(6 * MIB, &drain).expect("free");
            let (say, said) = mpsc::channel();
            let (budget, drain, say_small) = (&budget, &drain, say.clone());
            scope.spawn(move || {
                let taken = budget.take(9 * MIB, drain);
                say.send("large").expect("heard");
                drop(taken);
            });
            // The large one waits: it has taken what is left.
            while budget.free_kib.available_permits() > 0 {
                std::thread::yield_now();
            }
            scope.spawn(move || {
                let taken = budget.take(2 * MIB, drain);
                say_small.send("small").expect("heard");
                drop(taken);
            });
            drop(first);
            assert_eq!(said.recv(), Ok("large"));
            assert_eq!(said.recv(), Ok("small"));
        });
        assert_eq!(budget.free_kib.available_permits() as u64, 10 * MIB / 1024);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_decode_of_more_than_the_budget_takes_all_of_it() {
        let budget = DecodeBudget::new(MIB, Handle::current());
        let drain = Drain::new();
        std::thread::scope(|scope| {
            scope.spawn(|| drop(budget.take(u64::MAX, &drain).expect("all of it")));
        });
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_drain_ends_the_wait() {
        let budget = DecodeBudget::new(MIB, Handle::current());
        let drain = Drain::new();
        std::thread::scope(|scope| {
            let all = budget.take(MIB, &drain).expect("free");
            let waiting = scope.spawn(|| budget.take(MIB, &drain).is_none());
            drain.advance(Phase::Draining, "a test");
            assert!(waiting.join().expect("no panic"));
            drop(all);
        });
    }
}
