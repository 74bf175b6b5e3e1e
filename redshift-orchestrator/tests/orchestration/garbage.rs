//! Damaged files are read or cause an error, but never a panic.

use proptest::prelude::*;
use redshift_orchestrator::{ErrorKind, Pipeline, Run, journal::FileJournal};

const CYCLE: &str = include_str!("../data/cycle.toml");

/// Applies edits to a text. Each edit replaces some characters at a position with a piece of text.
fn damaged(text: &str, edits: &[(prop::sample::Index, usize, String)]) -> String {
    let mut letters: Vec<char> = text.chars().collect();
    for (at, length, piece) in edits {
        let at = at.index(letters.len() + 1);
        let end = (at + length).min(letters.len());
        letters.splice(at..end, piece.chars());
    }
    letters.into_iter().collect()
}

fn edits() -> impl Strategy<Value = Vec<(prop::sample::Index, usize, String)>> {
    let piece =
        prop_oneof!["[\\]\\[\"'=,{}$:\n]{0,3}", "(name|steps|after|sql|retry|on|ü|😀){0,2}", any::<String>()];
    prop::collection::vec((any::<prop::sample::Index>(), 0_usize..12, piece), 1..4)
}

fn read(text: &str, read: fn(&str) -> redshift_orchestrator::Result<Pipeline>) -> Result<(), TestCaseError> {
    match read(text) {
        Ok(pipeline) => {
            let _ = (
                pipeline.plan().to_string(),
                pipeline.statements(&Run::new("r").with_parameter("cycle", "7")),
            );
        }
        Err(error) => prop_assert_eq!(error.kind(), ErrorKind::Definition),
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn a_damaged_toml_file_is_read_or_rejected(edits in edits()) {
        read(&damaged(CYCLE, &edits), Pipeline::from_toml)?;
    }

    #[test]
    fn a_damaged_json_file_is_read_or_rejected(edits in edits()) {
        let value: toml::Value = toml::from_str(CYCLE).unwrap();
        let text = serde_json::to_string_pretty(&value).unwrap();
        read(&damaged(&text, &edits), Pipeline::from_json)?;
    }

    #[test]
    fn a_damaged_journal_is_read_or_rejected(edits in edits()) {
        let line = r#"{"at":"2026-11-23T06:30:00Z","run":"r","step":"a","attempt":1,"event":"intent","token":"t","name":"n"}"#;
        let ended = r#"{"at":"2026-11-23T06:30:00Z","run":"r","step":"a","attempt":1,"event":"ended","status":"FAILED","executing":1.5}"#;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.jsonl");
        std::fs::write(&path, damaged(&format!("{line}\n{ended}\n"), &edits)).unwrap();
        if let Err(error) = FileJournal::open(&path) {
            prop_assert_eq!(error.kind(), ErrorKind::Journal);
        }
    }
}
