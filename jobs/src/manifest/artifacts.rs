//! The artifacts of a version: one for all devices, and more for devices of a kind.

use std::{path::Path, str::FromStr};

use super::{Manifest, Precision};

/// Devices of a kind: a key of `artifacts` in the manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, derive_more::Display)]
pub enum Target {
    #[display("cpu")]
    Cpu,
    /// x86-64 with AVX2, FMA, BMI and F16C: the level x86-64-v3.
    #[display("cpu-avx2")]
    CpuAvx2,
    /// x86-64 with AVX-512 F, BW, CD, DQ and VL: the level x86-64-v4.
    #[display("cpu-avx512")]
    CpuAvx512,
    #[display("cuda")]
    Cuda,
    /// Nvidia GPUs of one compute capability: 90 is 9.0.
    #[display("cuda-sm{_0}")]
    CudaSm(u16),
}

impl FromStr for Target {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = "is no kind of device: wants cpu, cpu-avx2, cpu-avx512, cuda or cuda-smNN";
        match text {
            "cpu" => Ok(Self::Cpu),
            "cpu-avx2" => Ok(Self::CpuAvx2),
            "cpu-avx512" => Ok(Self::CpuAvx512),
            "cuda" => Ok(Self::Cuda),
            _ => {
                let number = text.strip_prefix("cuda-sm").ok_or(unknown)?;
                let is_plain = number.bytes().all(|byte| byte.is_ascii_digit());
                let number = number.parse().ok().filter(|&n: &u16| is_plain && n >= 10);
                number.map(Self::CudaSm).ok_or(unknown)
            }
        }
    }
}

/// Whether an artifact is an AOTInductor package. Any other name means TorchScript.
pub fn is_package(artifact: &str) -> bool {
    Path::new(artifact)
        .extension()
        .is_some_and(|kind| kind == "pt2")
}

impl Manifest {
    /// The artifacts that fit a device, best first. The last one is `artifact`.
    ///
    /// - `targets`: what the device is, the narrowest kind first.
    /// - Packages among `artifacts` are compiled for fp32, so another `precision` skips them.
    pub fn fitting_artifacts(&self, targets: &[Target], precision: Precision) -> Vec<&str> {
        let special = targets
            .iter()
            .filter_map(|target| self.artifacts.get(&target.to_string()))
            .filter(|artifact| precision == Precision::Fp32 || !is_package(artifact));
        let mut fitting: Vec<&str> = special.map(String::as_str).collect();
        fitting.push(&self.artifact);
        fitting.dedup();
        fitting
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Manifest, Precision, Target};

    fn manifest() -> Manifest {
        serde_json::from_value(json!({
            "name": "lite0", "task": "raw", "artifact": "model.pt",
            "artifacts": {"cpu-avx2": "avx2.pt2", "cpu-avx512": "avx512.pt2", "cuda": "gpu.pt", "cuda-sm90": "sm90.pt2"},
            "input": {"width": 8, "height": 8, "resize": "stretch", "mean": [0, 0, 0], "std": [1, 1, 1]}
        }))
        .expect("manifest")
    }

    #[test]
    fn the_narrowest_fitting_artifact_comes_first_and_the_general_one_last() {
        let (manifest, fp32) = (manifest(), Precision::Fp32);
        let avx512 = [Target::CpuAvx512, Target::CpuAvx2, Target::Cpu];
        assert_eq!(
            manifest.fitting_artifacts(&avx512, fp32),
            ["avx512.pt2", "avx2.pt2", "model.pt"]
        );
        assert_eq!(
            manifest.fitting_artifacts(&[Target::Cpu], fp32),
            ["model.pt"]
        );
        let hopper = [Target::CudaSm(90), Target::Cuda];
        assert_eq!(
            manifest.fitting_artifacts(&hopper, fp32),
            ["sm90.pt2", "gpu.pt", "model.pt"]
        );
    }

    #[test]
    fn a_package_is_for_fp32_only() {
        let hopper = [Target::CudaSm(90), Target::Cuda];
        assert_eq!(
            manifest().fitting_artifacts(&hopper, Precision::Bf16),
            ["gpu.pt", "model.pt"]
        );
    }

    #[test]
    fn a_target_reads_back_as_it_is_written() {
        for text in [
            "cpu",
            "cpu-avx2",
            "cpu-avx512",
            "cuda",
            "cuda-sm90",
            "cuda-sm120",
        ] {
            assert_eq!(text.parse::<Target>().expect("known").to_string(), text);
        }
        for text in [
            "",
            "gpu",
            "cpu-sse",
            "cuda-sm",
            "cuda-sm9",
            "cuda-sm+90",
            "CPU",
        ] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_manifest_without_special_artifacts_is_written_as_before() {
        let mut manifest = manifest();
        manifest.artifacts.clear();
        let text = serde_json::to_string(&manifest).expect("JSON");
        assert!(!text.contains("artifacts"), "{text}");
    }
}
