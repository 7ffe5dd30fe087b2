//! Everything that names `tch` or libtorch. It knows manifests, but neither the models of the worker nor the pipeline.

mod answer;
mod aoti;
mod compare;
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
mod probe_image;
mod program;
mod script_module;
mod settings;
mod targets;
mod thread;
mod torchscript;
mod torchvision;
mod upload;

pub use self::{
    compare::{are_alike, are_nearly_all_alike},
    device::Device,
    forward_error::ForwardError,
    load::load_program,
    memory::{give_back_freed_memory, memory_in_use},
    output::Output,
    package::load_package,
    probe_image::{other_probe_images, probe_images},
    program::Program,
    settings::{DeviceChoice, PrecisionChoice},
    targets::targets,
    thread::prepare_thread,
};
