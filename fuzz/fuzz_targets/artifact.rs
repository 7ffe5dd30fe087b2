#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| jobs::fuzz_targets::artifact(bytes));
