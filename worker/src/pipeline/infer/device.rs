//! Which device this worker runs models on.

use std::{fmt, panic::catch_unwind};

use anyhow::{Context, bail};
use jobs::manifest::Precision;
use tch::{Kind, TchError, Tensor};

use super::{launch, program::ForwardError};
use crate::config::{DeviceChoice, PrecisionChoice};

/// A device that was found to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device(tch::Device);

impl Device {
    /// Opens the device that was asked for. One binary serves machines with and without a GPU: the CUDA part of libtorch
    /// is loaded here, if it is there.
    ///
    /// # Errors
    /// A GPU was asked for and is not there.
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
                tracing::info!(error.cause = format!("{error:#}"), "no GPU: using the CPU");
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

    pub(crate) fn raw(self) -> tch::Device {
        self.0
    }

    /// Whether it still takes a number and gives it back.
    pub fn answers(self) -> bool {
        let there_and_back = || -> Result<f32, TchError> {
            let number = Tensor::f_from_slice(&[1.0_f32])?.f_to_device(self.0)?;
            let number = number.f_to_device(tch::Device::Cpu)?;
            f32::try_from(number)
        };
        match catch_unwind(there_and_back) {
            Ok(Ok(_)) => true,
            // That is an answer.
            Ok(Err(error)) => matches!(error.into(), ForwardError::OutOfMemory(_)),
            Err(_) => false,
        }
    }

    /// What the rows of workers and jobs say: `cpu AMD EPYC 9B45`, `cuda:0 NVIDIA L4`.
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

    /// The precision for a model that allows `allowed`, its default first.
    pub fn precision(self, choice: PrecisionChoice, allowed: &[Precision]) -> Precision {
        let good_at = if self.is_gpu() {
            GoodAt::LowPrecision
        } else if has_cpu_flag("amx_bf16") {
            GoodAt::Bf16
        } else {
            GoodAt::Fp32
        };
        let chosen = choose(choice, good_at, allowed);
        if chosen == Precision::Bf16 && !self.is_gpu() && !has_bf16() {
            tracing::warn!("bf16 is emulated on this CPU: slower than fp32, and no more exact");
        }
        chosen
    }
}

/// What a device is fastest in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GoodAt {
    /// A GPU.
    LowPrecision,
    /// A CPU with matrix units for it.
    Bf16,
    /// Any other CPU: bf16 is slower there than fp32, where it has to be emulated by far.
    Fp32,
}

fn choose(choice: PrecisionChoice, good_at: GoodAt, allowed: &[Precision]) -> Precision {
    let default = allowed.first().copied().unwrap_or(Precision::Fp32);
    let wanted: &[Precision] = match (choice, good_at) {
        (PrecisionChoice::Default, _) => return default,
        (PrecisionChoice::Auto, GoodAt::LowPrecision) => {
            &[Precision::Fp16, Precision::Bf16, Precision::Fp32]
        }
        (PrecisionChoice::Auto, GoodAt::Bf16) => &[Precision::Bf16, Precision::Fp32],
        (PrecisionChoice::Auto, GoodAt::Fp32) | (PrecisionChoice::Fp32, _) => &[Precision::Fp32],
        (PrecisionChoice::Bf16, _) => &[Precision::Bf16],
        (PrecisionChoice::Fp16, _) => &[Precision::Fp16],
    };
    let found = wanted
        .iter()
        .copied()
        .find(|precision| allowed.contains(precision));
    found.unwrap_or_else(|| {
        tracing::warn!(precision = %default, "the manifest does not allow the precision asked for: using its default");
        default
    })
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe())
    }
}

pub(crate) fn kind(precision: Precision) -> Kind {
    match precision {
        Precision::Fp32 => Kind::Float,
        Precision::Bf16 => Kind::BFloat16,
        Precision::Fp16 => Kind::Half,
    }
}

/// Readies the calling thread for inference, as the `number`th of those that do it at once.
///
/// It gets one libtorch thread: as many inference threads as cores do the rest, and two pools of spinning threads on one core
/// cost a factor of ten. On a GPU its batches are in flight beside those of the others.
pub fn ready_thread(number: usize) {
    tch::set_num_threads(1);
    launch::choose_stream(number);
}

fn open_cuda(index: usize) -> anyhow::Result<()> {
    load_cuda_library()?;
    let count = tch::Cuda::device_count();
    if !tch::Cuda::is_available() || usize::try_from(count).is_ok_and(|count| count <= index) {
        bail!("CUDA finds {count} GPUs");
    }
    Ok(())
}

/// Loads the CUDA part of libtorch: its kernels register themselves.
#[allow(unsafe_code)] // dlopen runs the library's initializers: it is libtorch's own other half, from beside it
fn load_cuda_library() -> anyhow::Result<()> {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    let library = unsafe { Library::open(Some("libtorch_cuda.so"), RTLD_NOW | RTLD_GLOBAL) };
    // Never unloaded: libtorch keeps pointers into it.
    std::mem::forget(library.context("the CUDA part of libtorch is not there")?);
    Ok(())
}

fn gpu_name(index: usize) -> Option<String> {
    // In the order of CUDA as long as CUDA_DEVICE_ORDER and CUDA_VISIBLE_DEVICES leave it alone; it is for people only.
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

/// Whether the CPU has instructions for bf16 at all. `auto` asks for more: matrix units.
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

    use super::{GoodAt, choose};
    use crate::config::PrecisionChoice;

    #[test]
    fn auto_takes_what_the_device_is_fastest_in_and_never_an_emulated_one() {
        let all = [Fp32, Bf16, Fp16];
        let auto = |good_at, allowed| choose(PrecisionChoice::Auto, good_at, allowed);
        assert_eq!(auto(GoodAt::LowPrecision, &all), Fp16);
        assert_eq!(auto(GoodAt::LowPrecision, &[Fp32, Bf16]), Bf16);
        assert_eq!(auto(GoodAt::Bf16, &all), Bf16);
        assert_eq!(auto(GoodAt::Fp32, &all), Fp32);
        assert_eq!(
            auto(GoodAt::Fp32, &[Bf16]),
            Bf16,
            "the manifest allows no other"
        );
    }

    #[test]
    fn a_fixed_precision_is_taken_where_the_manifest_allows_it() {
        let fixed = |choice, allowed| choose(choice, GoodAt::Fp32, allowed);
        assert_eq!(fixed(PrecisionChoice::Bf16, &[Fp32, Bf16]), Bf16);
        assert_eq!(fixed(PrecisionChoice::Fp16, &[Fp32, Bf16]), Fp32);
        assert_eq!(fixed(PrecisionChoice::Default, &[Fp16, Fp32]), Fp16);
    }
}
