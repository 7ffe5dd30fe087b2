//! The device on which the worker runs models.

use std::{fmt, panic::catch_unwind};

use anyhow::{Context, bail};
use jobs::manifest::Precision;
use tch::{Kind, TchError, Tensor};

use super::{
    forward_error::ForwardError,
    settings::{DeviceChoice, PrecisionChoice},
};

/// A device that exists on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device(tch::Device);

impl Device {
    /// Opens the device of `choice`. One binary serves machines with and without a GPU: this loads the CUDA part of
    /// libtorch if it is installed.
    ///
    /// # Errors
    /// `choice` names a GPU that does not exist.
    pub fn open(choice: DeviceChoice) -> anyhow::Result<Self> {
        let (index, required) = match choice {
            DeviceChoice::Cpu => return Ok(Self(tch::Device::Cpu)),
            DeviceChoice::Auto => (0, false),
            DeviceChoice::Cuda(index) => (index, true),
        };
        match open_cuda(index) {
            Ok(()) => Ok(Self(tch::Device::Cuda(index))),
            Err(error) if required => Err(error),
            Err(error) => {
                tracing::info!(
                    error.cause = format!("{error:#}"),
                    "no GPU found; using the CPU"
                );
                Ok(Self(tch::Device::Cpu))
            }
        }
    }

    pub fn is_gpu(self) -> bool {
        self.0.is_cuda()
    }

    pub(super) fn gpu(self) -> Option<usize> {
        match self.0 {
            tch::Device::Cuda(index) => Some(index),
            _ => None,
        }
    }

    pub(super) fn raw(self) -> tch::Device {
        self.0
    }

    /// Whether a number can still be copied to the device and back.
    pub fn responds(self) -> bool {
        let copy_there_and_back = || -> Result<f32, TchError> {
            let number = Tensor::f_from_slice(&[1.0_f32])?.f_to_device(self.0)?;
            let number = number.f_to_device(tch::Device::Cpu)?;
            f32::try_from(number)
        };
        match catch_unwind(copy_there_and_back) {
            Ok(Ok(_)) => true,
            // A device that reports too little memory still responds.
            Ok(Err(error)) => matches!(error.into(), ForwardError::OutOfMemory(_)),
            Err(_) => false,
        }
    }

    /// The name of the device in the rows of workers and jobs: `cpu AMD EPYC 9B45`, `cuda:0 NVIDIA L4`.
    pub fn describe(self) -> String {
        match self.0 {
            tch::Device::Cuda(index) => match gpu_name(index) {
                Some(name) => format!("cuda:{index} {name}"),
                None => format!("cuda:{index}"),
            },
            _ => match cpu_fact("model name") {
                Some(name) => format!("cpu {name}"),
                None => "cpu".into(),
            },
        }
    }

    /// The precision for a model whose manifest lists `allowed`, its default first.
    pub fn precision(self, choice: PrecisionChoice, allowed: &[Precision]) -> Precision {
        let fast = if self.is_gpu() {
            FastPrecision::LowPrecision
        } else if has_cpu_flag("amx_bf16") {
            FastPrecision::Bf16
        } else {
            FastPrecision::Fp32
        };
        let chosen = choose(choice, fast, allowed);
        if chosen == Precision::Bf16 && !self.is_gpu() && !has_bf16() {
            tracing::warn!("this CPU emulates bf16: it is slower than fp32 and less exact");
        }
        chosen
    }
}

/// The precision in which a device is fastest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FastPrecision {
    /// A GPU: fp16 or bf16.
    LowPrecision,
    /// A CPU with matrix units for bf16.
    Bf16,
    /// Any other CPU. bf16 is slower than fp32 there, and much slower where it is emulated.
    Fp32,
}

fn choose(choice: PrecisionChoice, fast: FastPrecision, allowed: &[Precision]) -> Precision {
    let default = allowed.first().copied().unwrap_or(Precision::Fp32);
    let wanted: &[Precision] = match (choice, fast) {
        (PrecisionChoice::Default, _) => return default,
        (PrecisionChoice::Auto, FastPrecision::LowPrecision) => {
            &[Precision::Fp16, Precision::Bf16, Precision::Fp32]
        }
        (PrecisionChoice::Auto, FastPrecision::Bf16) => &[Precision::Bf16, Precision::Fp32],
        (PrecisionChoice::Auto, FastPrecision::Fp32) | (PrecisionChoice::Fp32, _) => {
            &[Precision::Fp32]
        }
        (PrecisionChoice::Bf16, _) => &[Precision::Bf16],
        (PrecisionChoice::Fp16, _) => &[Precision::Fp16],
    };
    let found = wanted
        .iter()
        .copied()
        .find(|precision| allowed.contains(precision));
    found.unwrap_or_else(|| {
        tracing::warn!(precision = %default, "the manifest does not list the requested precision; using its default");
        default
    })
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe())
    }
}

pub(super) fn kind(precision: Precision) -> Kind {
    match precision {
        Precision::Fp32 => Kind::Float,
        Precision::Bf16 => Kind::BFloat16,
        Precision::Fp16 => Kind::Half,
    }
}

fn open_cuda(index: usize) -> anyhow::Result<()> {
    load_cuda_library()?;
    let count = tch::Cuda::device_count();
    if !tch::Cuda::is_available() || usize::try_from(count).is_ok_and(|count| count <= index) {
        bail!("CUDA finds {count} GPUs");
    }
    Ok(())
}

/// Loads the CUDA part of libtorch. Its kernels register themselves.
#[allow(unsafe_code)]
fn load_cuda_library() -> anyhow::Result<()> {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    // SAFETY: `dlopen` runs the initializers of the library, which is a part of libtorch itself.
    let library = unsafe { Library::open(Some("libtorch_cuda.so"), RTLD_NOW | RTLD_GLOBAL) };
    // Never unloaded, because libtorch keeps pointers into it.
    std::mem::forget(library.context("the CUDA part of libtorch cannot be loaded")?);
    Ok(())
}

fn gpu_name(index: usize) -> Option<String> {
    // Wrong if CUDA_DEVICE_ORDER or CUDA_VISIBLE_DEVICES changes the order. Only people read this name.
    let mut gpus: Vec<_> = std::fs::read_dir("/proc/driver/nvidia/gpus")
        .ok()?
        .flatten()
        .collect();
    gpus.sort_by_key(std::fs::DirEntry::file_name);
    let facts = std::fs::read_to_string(gpus.get(index)?.path().join("information")).ok()?;
    fact(&facts, "Model")
}

fn cpu_fact(name: &str) -> Option<String> {
    fact(&std::fs::read_to_string("/proc/cpuinfo").ok()?, name)
}

fn has_cpu_flag(flag: &str) -> bool {
    ["flags", "Features"]
        .iter()
        .find_map(|name| cpu_fact(name))
        .is_some_and(|flags| flags.split_whitespace().any(|known| known == flag))
}

/// Whether the CPU has any instructions for bf16. `auto` requires matrix units for bf16.
fn has_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx512bf16") || has_cpu_flag("amx_bf16");
    #[cfg(not(target_arch = "x86_64"))]
    return has_cpu_flag("bf16");
}

fn fact(facts: &str, name: &str) -> Option<String> {
    let mut pairs = facts.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = pairs.find(|(key, _)| key.trim() == name)?;
    Some(value.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use jobs::manifest::Precision::{Bf16, Fp16, Fp32};

    use super::{FastPrecision, choose};
    use crate::torch::PrecisionChoice;

    #[test]
    fn auto_takes_the_fastest_precision_of_the_device_and_never_an_emulated_one() {
        let all = [Fp32, Bf16, Fp16];
        let auto = |fast, allowed| choose(PrecisionChoice::Auto, fast, allowed);
        assert_eq!(auto(FastPrecision::LowPrecision, &all), Fp16);
        assert_eq!(auto(FastPrecision::LowPrecision, &[Fp32, Bf16]), Bf16);
        assert_eq!(auto(FastPrecision::Bf16, &all), Bf16);
        assert_eq!(auto(FastPrecision::Fp32, &all), Fp32);
        assert_eq!(
            auto(FastPrecision::Fp32, &[Bf16]),
            Bf16,
            "the manifest allows no other"
        );
    }

    #[test]
    fn a_fixed_precision_is_taken_where_the_manifest_allows_it() {
        let fixed = |choice, allowed| choose(choice, FastPrecision::Fp32, allowed);
        assert_eq!(fixed(PrecisionChoice::Bf16, &[Fp32, Bf16]), Bf16);
        assert_eq!(fixed(PrecisionChoice::Fp16, &[Fp32, Bf16]), Fp32);
        assert_eq!(fixed(PrecisionChoice::Default, &[Fp16, Fp32]), Fp16);
    }
}
