#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use redshift_orchestrator_fuzz::{Input, mutate_in_place};

const INPUT: Input = Input::Journal;

fuzz_target!(|data: &[u8]| INPUT.feed(data));
fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate_in_place(INPUT, data, size, max_size, seed)
});
