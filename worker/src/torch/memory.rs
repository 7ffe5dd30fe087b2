//! Memory of this process: what it uses on the device of the models, and what the C library keeps after it was freed.

use super::{Device, libtorch};

/// Returns freed memory to the operating system. Arenas of ended threads keep their freed memory otherwise.
pub fn give_back_freed_memory() {
    #[cfg(target_env = "gnu")]
    #[allow(unsafe_code)]
    // SAFETY: `malloc_trim` only touches memory that is free.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Bytes in use: on a GPU those of all tensors, on a CPU the resident memory without mapped files. `None` if the system does not
/// say. On a CPU call [`give_back_freed_memory`] first, or freed memory counts too.
pub fn memory_in_use(device: Device) -> Option<u64> {
    match device.gpu() {
        Some(gpu) => libtorch::gpu_bytes(gpu).ok(),
        None => anonymous_bytes(&std::fs::read_to_string("/proc/self/status").ok()?),
    }
}

/// The line `RssAnon` of `/proc/PID/status`, in bytes.
fn anonymous_bytes(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::{anonymous_bytes, memory_in_use};
    use crate::torch::{Device, DeviceChoice};

    #[test]
    fn the_status_of_a_process_says_its_memory() {
        let status = "Name:\tworker\nVmRSS:\t  900 kB\nRssAnon:\t     123 kB\nRssFile:\t 7 kB\n";
        assert_eq!(anonymous_bytes(status), Some(123 * 1024));
        assert_eq!(anonymous_bytes("Name:\tworker\n"), None);
    }

    #[test]
    fn memory_in_use_grows_with_what_is_written() {
        let cpu = Device::open(DeviceChoice::Cpu).expect("every machine has a CPU");
        let before = memory_in_use(cpu).expect("Linux says it");
        let written = std::hint::black_box(vec![1_u8; 256 << 20]);
        let after = memory_in_use(cpu).expect("Linux says it");
        assert!(after > before + (128 << 20), "{before} {after}");
        drop(written);
    }
}
