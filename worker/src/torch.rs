//! Everything that names `tch` or libtorch. It knows manifests, but neither the models of the worker nor the pipeline.

mod compare;
mod device;
mod forward_error;
mod launch;
mod libtorch;
mod load;
mod memory;
mod optimize;
mod output;
mod probe_image;
mod program;
mod settings;
mod thread;
mod upload;

pub use self::{
    compare::{are_alike, are_nearly_all_alike},
    device::Device,
    forward_error::ForwardError,
    load::load_program,
    memory::give_back_freed_memory,
    output::Output,
    probe_image::probe_images,
    program::Program,
    settings::{DeviceChoice, PrecisionChoice},
    thread::prepare_thread,
};
