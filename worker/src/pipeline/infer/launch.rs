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
    let (answer, answered) = sync_channel(1);
    let task = move || {
        let work = AssertUnwindSafe(|| {
            libtorch::use_stream(gpu, stream)?;
            work()
        });
        // Nobody waits only if the caller is gone.
        let _ = answer.send(catch_unwind(work));
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
