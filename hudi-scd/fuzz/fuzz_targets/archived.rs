#![no_main]

#[path = "../entries.rs"]
mod entries;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| entries::archived(bytes));
libfuzzer_sys::fuzz_mutator!(|bytes: &mut [u8], size: usize, max_size: usize, seed: u32| {
    entries::begin("archived", bytes, size, max_size, seed)
        .unwrap_or_else(|| libfuzzer_sys::fuzzer_mutate(bytes, size, max_size))
});
