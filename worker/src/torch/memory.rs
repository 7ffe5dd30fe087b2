//! Memory that the C library keeps after it was freed.

/// Returns freed memory to the operating system. Arenas of ended threads keep their freed memory otherwise.
pub fn give_back_freed_memory() {
    #[cfg(target_env = "gnu")]
    #[allow(unsafe_code)]
    // SAFETY: `malloc_trim` only touches memory that is free.
    unsafe {
        libc::malloc_trim(0);
    }
}
