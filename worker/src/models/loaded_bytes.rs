//! How much a loaded model counts against `--loaded-bytes-max`.

/// The most that a model can count, as a multiple of its file. A file in fp16 that runs in fp32 takes twice its bytes, and a second
/// copy of the weights in the layout of the kernels doubles that. What a measurement shows beyond belongs to something else: to
/// the images of jobs that run meanwhile, or to libtorch, which sets itself up in the first load.
const FACTOR_MAX: u64 = 4;

/// A smaller file counts as it is: a measurement would show only what else happened in the process.
const MEASURED_FILE_BYTES_MIN: u64 = 1 << 20;

/// The bytes that a model counts, by the size of its file and the memory in use before and after its load. Never less than the
/// file.
pub(super) fn loaded_bytes(file_bytes: u64, before: Option<u64>, after: Option<u64>) -> u64 {
    if file_bytes < MEASURED_FILE_BYTES_MIN {
        return file_bytes;
    }
    let grown = before.zip(after);
    let grown = grown.map_or(0, |(before, after)| after.saturating_sub(before));
    grown.clamp(file_bytes, file_bytes.saturating_mul(FACTOR_MAX))
}

#[cfg(test)]
mod tests {
    use super::loaded_bytes;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_model_counts_the_memory_of_its_load_within_the_bounds_of_its_file() {
        for (file, before, after, counts) in [
            (20, 100, 145, 45),
            (20, 100, 105, 20),
            // Jobs have ended meanwhile.
            (20, 100, 60, 20),
            // The first load sets libtorch up.
            (20, 100, 500, 80),
        ] {
            let counted = loaded_bytes(file * MIB, Some(before * MIB), Some(after * MIB));
            assert_eq!(counted, counts * MIB, "{file} {before} {after}");
        }
    }

    #[test]
    fn a_small_file_or_a_missing_measurement_counts_as_the_file() {
        assert_eq!(loaded_bytes(2000, Some(0), Some(100 * MIB)), 2000);
        assert_eq!(loaded_bytes(20 * MIB, None, Some(100 * MIB)), 20 * MIB);
        assert_eq!(loaded_bytes(20 * MIB, Some(0), None), 20 * MIB);
    }
}
