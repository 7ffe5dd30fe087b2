//! Everything that names `tch` or libtorch. It knows manifests, but neither the models of the worker nor the pipeline.

mod answer;
mod device;
mod forward_error;
mod launch;
mod libtorch;
mod load;
mod memory;
mod optimize;
mod output;
mod program;
mod script_module;
mod settings;
mod thread;
mod torchscript;
mod torchvision;
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
