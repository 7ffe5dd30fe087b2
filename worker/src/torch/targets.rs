//! The kinds of devices that artifacts are compiled for.

use jobs::manifest::Target;

use super::{aoti::compute_capability, device::Device};

/// What a device is, the narrowest kind first.
pub fn targets(device: Device) -> Vec<Target> {
    match device.gpu() {
        Some(gpu) => gpu_targets(compute_capability(gpu)),
        None => cpu_targets(),
    }
}

/// Code for a compute capability also runs on later ones of its generation.
fn gpu_targets(capability: Option<u16>) -> Vec<Target> {
    let generation =
        capability.map(|own| (own / 10 * 10..=own).rev().map(Target::CudaSm).collect());
    let mut targets: Vec<_> = generation.unwrap_or_default();
    targets.push(Target::Cuda);
    targets
}

#[cfg(target_arch = "x86_64")]
fn cpu_targets() -> Vec<Target> {
    use std::arch::is_x86_feature_detected as has;
    // The levels x86-64-v3 and x86-64-v4 are what compilers assume.
    let level_3 = has!("avx2")
        && has!("fma")
        && has!("f16c")
        && has!("bmi1")
        && has!("bmi2")
        && has!("lzcnt")
        && has!("movbe");
    let level_4 = level_3
        && has!("avx512f")
        && has!("avx512bw")
        && has!("avx512cd")
        && has!("avx512dq")
        && has!("avx512vl");
    let special = [(level_4, Target::CpuAvx512), (level_3, Target::CpuAvx2)];
    let special = special.into_iter().filter(|(has_it, _)| *has_it);
    special
        .map(|(_, target)| target)
        .chain([Target::Cpu])
        .collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn cpu_targets() -> Vec<Target> {
    vec![Target::Cpu]
}

#[cfg(test)]
mod tests {
    use jobs::manifest::Target::{Cuda, CudaSm};

    use super::gpu_targets;

    #[test]
    fn a_gpu_runs_code_of_its_generation_that_is_not_newer() {
        assert_eq!(
            gpu_targets(Some(82)),
            [CudaSm(82), CudaSm(81), CudaSm(80), Cuda]
        );
        assert_eq!(gpu_targets(Some(120)), [CudaSm(120), Cuda]);
        assert_eq!(gpu_targets(None), [Cuda]);
    }
}
