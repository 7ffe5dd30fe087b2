//! Everything that names `tch` or libtorch. It knows manifests, but neither the models of the worker nor the pipeline.

mod device;
mod forward_error;
mod launch;
mod libtorch;
mod load;
mod memory;
mod optimize;
mod output;
mod program;
mod settings;
mod thread;
mod upload;

pub use self::{
    device::Device,
    forward_error::ForwardError,
    load::load_program,
    memory::give_back_freed_memory,
    output::Output,
    program::Program,
    settings::{DeviceChoice, PrecisionChoice},
    thread::prepare_thread,
};
