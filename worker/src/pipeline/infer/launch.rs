//! One thread asks a GPU for forward passes: cuDNN keeps its plans by thread and by shape, and makes them slowly.
//!
//! EfficientNet-Lite0 on an H100: 2.2 s for each size of a batch and each thread, before passes of 2 ms. Whoever wants a pass
//! copies its images in and its output out by itself, on a stream of its own, so that several batches are in flight.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        OnceLock,
        mpsc::{Sender, channel, sync_channel},
    },
};

use tch::TchError;

use super::{device::Device, libtorch, program::ForwardError};

thread_local! {
    static STREAM: Cell<usize> = const { Cell::new(0) };
}

/// The calling thread's passes run on this stream from here on, beside those of threads with others.
pub(super) fn choose_stream(number: usize) {
    STREAM.set(number);
}

/// Runs `work` on the thread that asks the device, on the stream of the calling thread; what it made is the calling thread's.
/// A GPU may still be at it then: what the caller asks of it comes after.
pub(super) fn launch<T: Send + 'static>(
    device: Device,
    work: impl FnOnce() -> Result<T, ForwardError> + Send + 'static,
) -> Result<T, ForwardError> {
    let Some(gpu) = device.gpu() else {
        return work();
    };
    let stream = STREAM.get();
    libtorch::use_stream(gpu, stream)?;
    on_launcher(move || {
        libtorch::use_stream(gpu, stream)?;
        work()
    })
}

/// Runs `work` on the one thread; its panic is the caller's.
fn on_launcher<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ForwardError> + Send + 'static,
) -> Result<T, ForwardError> {
    let (answer, answered) = sync_channel(1);
    let task = move || {
        // Nobody waits only if the caller is gone.
        let _ = answer.send(catch_unwind(AssertUnwindSafe(work)));
    };
    let gone = || ForwardError::from(TchError::Torch("the launching thread is gone".into()));
    launcher().send(Box::new(task)).map_err(|_| gone())?;
    match answered.recv().map_err(|_| gone())? {
        Ok(done) => done,
        Err(panic) => resume_unwind(panic),
    }
}

type Task = Box<dyn FnOnce() + Send>;

fn launcher() -> &'static Sender<Task> {
    static LAUNCHER: OnceLock<Sender<Task>> = OnceLock::new();
    LAUNCHER.get_or_init(|| {
        let (sender, tasks) = channel::<Task>();
        std::thread::spawn(move || tasks.into_iter().for_each(|task| task()));
        sender
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_passes_run_on_one_thread_whoever_wants_them() {
        let runs_on = || on_launcher(|| Ok(std::thread::current().id())).expect("it runs");
        let here = runs_on();
        let elsewhere = std::thread::spawn(runs_on).join().expect("no panic");
        assert_eq!(here, elsewhere);
        assert_ne!(here, std::thread::current().id());
    }

    #[test]
    fn a_pass_that_panics_is_its_callers_trouble_alone() {
        let caller = std::thread::spawn(|| on_launcher::<()>(|| panic!("of one image")));
        assert!(caller.join().is_err());
        assert_eq!(on_launcher(|| Ok(1)), Ok(1));
    }
}
