//! Threads that run forward passes.

use super::launch;

/// Prepares the calling thread for inference, as thread `number` of those that run passes at the same time.
///
/// The thread gets one libtorch thread: there are as many inference threads as cores. Two pools of spinning threads on one
/// core are slower by a factor of ten. On a GPU each number has its own stream, so passes of several threads overlap.
pub fn prepare_thread(number: usize) {
    tch::set_num_threads(1);
    launch::choose_stream(number);
}
