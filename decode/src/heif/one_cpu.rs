//! Keeps a thread on one CPU while a codec runs that would start a thread for each CPU.

use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

/// Keeps the calling thread on its present CPU until the value is dropped. Does nothing where the system refuses.
#[derive(Debug)]
pub(super) struct OneCpu {
    before: Option<CpuSet>,
}

impl OneCpu {
    pub fn enter() -> Self {
        let before = sched_getaffinity(None).ok();
        let mut here = CpuSet::new();
        here.set(sched_getcpu());
        let entered = before.filter(|_| sched_setaffinity(None, &here).is_ok());
        Self { before: entered }
    }
}

impl Drop for OneCpu {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // The worst outcome is a slower thread.
            let _ = sched_setaffinity(None, before);
        }
    }
}
