//! Runs the functions behind the targets of cargo-fuzz (`fuzz/`) with bytes generated from a seed. This is a
//! quick check that they do not panic.

#![allow(clippy::unwrap_used, unreachable_pub, reason = "a test may panic, and shares functions with others")]

#[path = "../fuzz/entries.rs"]
mod entries;

#[path = "../../tests/common/damage.rs"]
mod damage;

use damage::damaged;
use entries::sound;

const TRIES: u64 = 60;

/// Runs a target on valid bytes and on mutations of them.
fn try_all(target: fn(&[u8]), sound: &[impl AsRef<[u8]>]) {
    for (index, sound) in sound.iter().enumerate() {
        target(sound.as_ref());
        for seed in 0..TRIES {
            let mut random = fastrand::Rng::with_seed(seed * 1_000 + index as u64);
            let bytes = damaged(sound.as_ref(), &mut random);
            let done = std::panic::catch_unwind(|| target(&bytes));
            assert!(done.is_ok(), "sample {index}, seed {seed}");
        }
    }
}

#[test]
fn avro() {
    try_all(entries::avro, &sound("avro"));
}

#[test]
fn commit() {
    try_all(entries::commit, &sound("commit"));
}

#[test]
fn names() {
    try_all(entries::names, &sound("names"));
}

#[test]
fn schema() {
    try_all(entries::schema, &sound("schema"));
}

#[test]
fn bloom() {
    try_all(entries::bloom, &sound("bloom"));
}
