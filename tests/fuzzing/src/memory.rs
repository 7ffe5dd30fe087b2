use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

thread_local! {
    /// Bytes that this thread has allocated, less those that it has freed.
    static HELD: Cell<isize> = const { Cell::new(0) };
    /// The most of it since the last reset.
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// The allocator of the system. It counts what each thread takes. Allocations of C code are not counted.
#[derive(Debug)]
struct CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

fn count(bytes: isize) {
    // A thread that ends may free memory when its counters are gone.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held.get())));
    });
}

#[expect(unsafe_code, reason = "there is no safe way to write an allocator")]
// SAFETY: every call is passed on as it is.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count(bytes as isize - layout.size() as isize);
        unsafe { System.realloc(pointer, layout, bytes) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Runs `work`, and returns the most bytes that it held at once, beside what it was given. Counts this thread only.
pub fn peak_bytes<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let before = HELD.get();
    PEAK.set(before);
    let done = work();
    (done, PEAK.get().abs_diff(before) as u64)
}

#[cfg(test)]
mod tests {
    use super::peak_bytes;

    #[test]
    fn the_peak_counts_what_is_held_at_once() {
        let held_before = vec![0_u8; 5000];
        let ((), peak) = peak_bytes(|| {
            drop(vec![0_u8; 1000]);
            drop(held_before);
            drop((vec![0_u8; 700], vec![0_u8; 800]));
        });
        assert_eq!(peak, 1000);
        let (grown, peak) = peak_bytes(|| {
            let mut bytes = vec![1_u8; 1000];
            bytes.reserve_exact(1000);
            bytes
        });
        assert_eq!((grown.len(), peak), (1000, 2000));
    }
}
