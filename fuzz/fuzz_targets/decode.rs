#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| decode::fuzz_targets::decode(bytes));
