//! The launching thread: the one thread that starts forward passes on a GPU (docs/adr/0014-one-thread-asks-a-gpu.md).
//!
//! cuDNN keeps its plans by thread and by shape, and takes seconds to make them. So one thread starts all passes. The calling
//! threads copy images in and outputs out, each on its own stream, so several forward batches are in flight.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        OnceLock,
        mpsc::{Sender, channel, sync_channel},
    },
};

use tch::TchError;

use super::{device::Device, forward_error::ForwardError, libtorch};

thread_local! {
    static STREAM: Cell<usize> = const { Cell::new(0) };
}

/// From here on the passes of the calling thread run on stream `number`. Streams run at the same time.
pub(super) fn choose_stream(number: usize) {
    STREAM.set(number);
}

/// Runs `work` on the launching thread, on the stream of the calling thread, and returns its result. On a CPU `work` runs
/// at once.
///
/// The GPU may still be computing when this returns. Later work of the caller is on the same stream, so it comes after.
pub(super) fn launch<T: Send + 'static>(
    device: Device,
    work: impl FnOnce() -> Result<T, ForwardError> + Send + 'static,
) -> Result<T, ForwardError> {
    let Some(gpu) = device.gpu() else {
        return work();
    };
    let stream = STREAM.get();
    libtorch::use_stream(gpu, stream)?;
    on_launching_thread(move || {
        libtorch::use_stream(gpu, stream)?;
        work()
    })
}

/// Runs `work` on the launching thread. A panic of `work` becomes a panic of the caller.
fn on_launching_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ForwardError> + Send + 'static,
) -> Result<T, ForwardError> {
    let (to_caller, result) = sync_channel(1);
    let task = move || {
        // Fails only if the caller is gone.
        let _ = to_caller.send(catch_unwind(AssertUnwindSafe(work)));
    };
    let gone = || ForwardError::from(TchError::Torch("the launching thread has ended".into()));
    launching_thread()
        .send(Box::new(task))
        .map_err(|_| gone())?;
    match result.recv().map_err(|_| gone())? {
        Ok(done) => done,
        Err(panic) => resume_unwind(panic),
    }
}

type Task = Box<dyn FnOnce() + Send>;

fn launching_thread() -> &'static Sender<Task> {
    static TASKS: OnceLock<Sender<Task>> = OnceLock::new();
    TASKS.get_or_init(|| {
        let (sender, tasks) = channel::<Task>();
        std::thread::spawn(move || tasks.into_iter().for_each(|task| task()));
        sender
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_of_all_callers_run_on_one_thread() {
        let runs_on = || on_launching_thread(|| Ok(std::thread::current().id())).expect("it runs");
        let here = runs_on();
        let elsewhere = std::thread::spawn(runs_on).join().expect("no panic");
        assert_eq!(here, elsewhere);
        assert_ne!(here, std::thread::current().id());
    }

    #[test]
    fn a_panic_of_a_pass_reaches_only_its_caller() {
        let caller = std::thread::spawn(|| on_launching_thread::<()>(|| panic!("of one image")));
        assert!(caller.join().is_err());
        assert_eq!(on_launching_thread(|| Ok(1)), Ok(1));
    }
}
