//! Memory that the C library keeps after it was freed.

/// Largest block that comes from the heap. A larger block is mapped, and unmapped when it is freed.
#[cfg(target_env = "gnu")]
const MMAP_THRESHOLD_BYTES: libc::c_int = 32 << 20;
/// Most free memory at the end of a heap. What lies above goes back to the operating system at once.
#[cfg(target_env = "gnu")]
const TRIM_THRESHOLD_BYTES: libc::c_int = 64 << 20;

/// Keeps the memory of a forward pass for the next pass, from the first pass on.
///
/// glibc raises both thresholds to these values when large blocks are freed. Until such a block is freed, the memory of each
/// pass goes back to the operating system: about 1,000 page faults a job (docs/adr/0018-what-made-it-faster.md).
pub fn keep_memory_of_passes() {
    #[cfg(target_env = "gnu")]
    #[allow(unsafe_code)]
    // SAFETY: `mallopt` changes two numbers of the allocator.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, TRIM_THRESHOLD_BYTES);
    }
}

/// Returns freed memory to the operating system. Arenas of ended threads keep their freed memory otherwise.
pub fn give_back_freed_memory() {
    #[cfg(target_env = "gnu")]
    #[allow(unsafe_code)]
    // SAFETY: `malloc_trim` only touches memory that is free.
    unsafe {
        libc::malloc_trim(0);
    }
}
