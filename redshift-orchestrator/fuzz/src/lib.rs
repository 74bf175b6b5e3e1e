//! The targets of cargo-fuzz: [`Input`]s, mutated both by structure and by byte.

mod inputs;

pub use inputs::{Input, mutate};

/// Mutator of the fuzz targets. Half of the mutations are structural; the initial inputs are valid.
pub fn mutate_in_place(input: Input, data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let mut draw = fastrand::Rng::with_seed(seed.into());
    let seeds = input.seeds();
    let valid = seeds[draw.usize(0..seeds.len())].as_bytes();
    if size > 1 && draw.bool() {
        return libfuzzer_sys::fuzzer_mutate(data, size, max_size);
    }
    let begin = if size <= 1 { valid } else { &data[..size] };
    let mutated = mutate(&mut draw, begin, valid);
    let length = mutated.len().min(max_size);
    data[..length].copy_from_slice(&mutated[..length]);
    length
}
