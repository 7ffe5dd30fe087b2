//! Everything that names `tch` or libtorch. It knows manifests, but neither the models of the worker nor the pipeline.

mod aoti;
mod device;
mod forward_error;
mod golden;
mod launch;
mod libtorch;
mod load;
mod memory;
mod module;
mod optimize;
mod output;
mod package;
mod package_folder;
mod program;
mod settings;
mod targets;
mod thread;
mod upload;

pub use self::{
    device::Device,
    forward_error::ForwardError,
    load::load_program,
    memory::give_back_freed_memory,
    output::Output,
    package::load_package,
    program::Program,
    settings::{DeviceChoice, PrecisionChoice},
    targets::targets,
    thread::prepare_thread,
};
