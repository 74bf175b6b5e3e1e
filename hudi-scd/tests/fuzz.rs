//! The functions behind the targets of cargo-fuzz (`fuzz/`), with bytes from a seed: enough to see that they hold.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../fuzz/entries.rs"]
mod entries;

mod common;

use common::damaged;
use entries::samples;

const TRIES: u64 = 60;

/// Sound bytes, and what becomes of them.
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
    try_all(entries::properties, &samples(|name| name == "hoodie.properties"));
}

#[test]
fn timeline() {
    let names = "20260101000001000.commit.requested\n20260101000002000.inflight\n20260101000003000.clean.requested\n\
        20260101000004000.rollback.inflight\n20260101000005000.replacecommit\n20260101000006000.savepoint";
    try_all(entries::timeline, &names.lines().chain([names]).collect::<Vec<_>>());
}

#[test]
fn commit() {
    try_all(entries::commit, &samples(|name| name.ends_with(".commit"))[..1]);
}

#[test]
fn avro() {
    try_all(entries::avro, &samples(|name| name.ends_with(".clean") || name.ends_with(".savepoint")));
}

#[test]
fn schema() {
    let text = r#"{"type":"record","name":"r","namespace":"n","fields":[{"name":"a","type":["null","int"],"default":null},
        {"name":"b","type":{"type":"array","items":{"type":"fixed","name":"f","size":3,"logicalType":"decimal","precision":5,"scale":2}}},
        {"name":"c","type":{"type":"map","values":["null",{"type":"record","name":"x","fields":[{"name":"y","type":"bytes"}]}]}}]}"#;
    try_all(entries::schema, &[text, "\"int\"", "{}", "[]"]);
}

#[test]
fn parquet() {
    try_all(entries::parquet, &samples(|name| name.ends_with(".parquet"))[..1]);
}

#[test]
fn footer() {
    let file = samples(|name| name.ends_with(".parquet")).remove(0);
    let length = u32::from_le_bytes(file[file.len() - 8..file.len() - 4].try_into().unwrap()) as usize;
    try_all(entries::footer, &[&file[file.len() - 8 - length..file.len() - 8]]);
}

#[test]
fn bloom() {
    let filter = hudi_scd::bloom::BloomFilter::dynamic(10, 1e-3, 10).to_base64();
    try_all(entries::bloom, &[format!("\u{1}{filter}"), format!("\u{3}{filter}"), String::new()]);
}
