//! Parses untrusted bytes of the format. Each function returns an error or a value, and never panics. The
//! targets of cargo-fuzz call these functions. The ordinary tests call them too, with bytes generated from a
//! seed.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each target uses one of them; a failure must panic"
)]

use hudi_format::{
    bloom::BloomFilter,
    schema,
    timeline::{
        CommitMetadata, Timeline, archive,
        avro::{
            CleanMetadata, CleanPlan, RequestedReplace, RollbackMetadata, RollbackPlan, SavepointMetadata,
        },
    },
};

/// Decodes each kind of Avro file on the timeline and in the archive. Decoded records are encoded and decoded
/// again.
pub fn avro(bytes: &[u8]) {
    macro_rules! again {
        ($($record:ty),*) => {$(
            if let Ok(record) = <$record>::decode(bytes) {
                assert_eq!(<$record>::decode(&record.encode()).unwrap(), record);
            }
        )*};
    }
    again!(CleanPlan, CleanMetadata, RollbackPlan, RollbackMetadata, SavepointMetadata, RequestedReplace);
    let _ = archive::decode(bytes);
}

/// Decodes the metadata of a commit in JSON or Avro. Errors name the file.
pub fn commit(bytes: &[u8]) {
    match CommitMetadata::parse(bytes, "a file") {
        Ok(commit) => {
            let json = commit.to_json().unwrap();
            assert_eq!(CommitMetadata::parse(&json, "a file").unwrap().to_json().unwrap(), json);
        }
        Err(error) => assert_eq!(error.context("file"), Some("a file"), "{error}"),
    }
}

/// Parses lines that are file names of a timeline with completion times.
pub fn names(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let timeline = Timeline::from_timed_file_names(text.lines());
    for entry in timeline.entries() {
        assert_eq!(timeline.entries().iter().filter(|other| *other == entry).count(), 1, "{text}");
        timeline.lacks(entry.instant);
    }
    for (requested, completed) in timeline.completions() {
        assert!(text.contains(&format!("{requested}_{completed}.")), "{text}");
    }
}

/// Parses the Avro form of a schema. Supported schemas survive a round trip.
pub fn schema(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let Ok(kept) = schema::from_avro(&text).and_then(|schema| schema::canonical(&schema)) else { return };
    let again = schema::to_avro(&kept, "t").and_then(|text| schema::from_avro(&text)).unwrap();
    assert_eq!(schema::canonical(&again).unwrap(), kept);
}

/// Parses a bloom filter in base64. The first byte selects its type.
pub fn bloom(bytes: &[u8]) {
    let Some((first, text)) = bytes.split_first() else { return };
    let kind = ["SIMPLE", "DYNAMIC_V0", "other"].get(usize::from(first % 4)).copied();
    if let Ok(filter) = BloomFilter::parse(&String::from_utf8_lossy(text), kind) {
        let _ = filter.contains("a key");
        assert_eq!(BloomFilter::parse(&filter.to_base64(), filter.type_code()).unwrap(), filter);
    }
}

/// Returns valid bytes for the target with this name, as seeds.
pub fn sound(target: &str) -> Vec<Vec<u8>> {
    let texts = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    match target {
        "avro" => vec![
            include_bytes!("../tests/data/timeline/customer-0.15.clean").to_vec(),
            include_bytes!("../tests/data/timeline/customer-0.15.clean.requested").to_vec(),
            include_bytes!("../tests/data/timeline/rolledback-0.15.rollback").to_vec(),
            include_bytes!("../tests/data/timeline/rolledback-0.15.rollback.requested").to_vec(),
            include_bytes!("../tests/data/archive/commits_.archive.1_1-0-1").to_vec(),
        ],
        "commit" => vec![
            include_bytes!("../tests/data/timeline/v8-1.0.commit").to_vec(),
            include_bytes!("../tests/data/timeline/v8-1.0.replacecommit").to_vec(),
            br#"{"partitionToWriteStats":{"a=1":[{"fileId":"f-0","path":"a=1/f-0_0-1-1_20260101000001000.parquet","numWrites":3}]},
            "partitionToReplaceFileIds":{"a=1":["g-0"]},"extraMetadata":{"schema":"{}"},"operationType":"UPSERT"}"#.to_vec(),
        ],
        "names" => texts(&[
            "20260101000001000.commit.requested\n20260101000001000.inflight\n20260101000001000_20260101000002000.commit\n\
             20260101000003000.clean.requested\n20260101000003000.clean.inflight\n20260101000003000_20260101000004000.clean\n\
             20260101000005000.clustering.inflight\n20260101000005000_20260101000006000.replacecommit\n\
             20260101000007000_20260101000008000.rollback\n20260101000009000_20260101000010000.savepoint",
            "20260101000001000_20260101000002000.commit",
            "20260101000001000_20260101000000000.commit\n20260101000001000_20260101000002000.commit",
        ]),
        "schema" => texts(&[
            r#"{"type":"record","name":"r","namespace":"n","fields":[{"name":"a","type":["null","int"],"default":null},
            {"name":"b","type":{"type":"array","items":{"type":"fixed","name":"f","size":3,"logicalType":"decimal","precision":5,"scale":2}}},
            {"name":"c","type":{"type":"map","values":["null",{"type":"record","name":"x","fields":[{"name":"y","type":"bytes"}]}]}}]}"#,
            "\"int\"",
            "{}",
            "[]",
        ]),
        "bloom" => {
            let filter = BloomFilter::dynamic(10, 1e-3, 10).to_base64();
            vec![format!("\u{1}{filter}").into(), format!("\u{3}{filter}").into(), Vec::new()]
        }
        _ => Vec::new(),
    }
}

/// Replaces an empty input by a valid one and returns its length. Returns `None` for any other input, which
/// is mutated as usual.
pub fn begin(target: &str, bytes: &mut [u8], size: usize, max_size: usize, seed: u32) -> Option<usize> {
    let sound = if size > 1 { Vec::new() } else { sound(target) };
    let first = sound.get(seed as usize % sound.len().max(1))?;
    let fits = first.len() <= max_size;
    fits.then(|| {
        bytes[..first.len()].copy_from_slice(first);
        first.len()
    })
}
