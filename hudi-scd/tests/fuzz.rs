//! Runs the functions behind the targets of cargo-fuzz (`fuzz/`) with bytes generated from a seed. This is a
//! quick check that they do not panic.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../fuzz/entries.rs"]
mod entries;

mod common;

use common::damage::damaged;
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
fn properties() {
    try_all(entries::properties, &sound("properties"));
}

#[test]
fn timeline() {
    try_all(entries::timeline, &sound("timeline"));
}

#[test]
fn commit() {
    try_all(entries::commit, &sound("commit")[..1]);
}

#[test]
fn clean() {
    try_all(entries::clean, &sound("clean"));
}

#[test]
fn parquet() {
    try_all(entries::parquet, &sound("parquet")[..1]);
}

#[test]
fn footer() {
    try_all(entries::footer, &sound("footer")[..1]);
}

#[test]
fn manifest() {
    try_all(entries::manifest, &sound("manifest"));
}

#[test]
fn archived() {
    try_all(entries::archived, &sound("archived"));
}

#[test]
fn later_timeline() {
    try_all(entries::later_timeline, &sound("later_timeline"));
}
