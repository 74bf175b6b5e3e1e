//! Secrets contain a mark. The tests run every part of the packages and search all output for the mark.
//!
//! The output consists of `Debug` and `Display` of the library's values, the output of `tracing` at any
//! level, reports, journals, and the output of the programs. The guide (`docs/pipelines.md`) describes the
//! contents of a journal.
#![allow(clippy::unwrap_used)]

mod capture;
#[path = "../support/emulator.rs"]
mod emulator;
mod files;
mod postgres;
mod programs;
mod services;
mod values;

/// Part of every secret, and of nothing else.
pub(crate) const MARK: &str = "sesame";

/// A statement with a mark in every possible position.
pub(crate) const SQL: &str =
    "UPDATE account SET secret_column = 'sesame-literal', pin = :pin WHERE 'sesame-2' <> note";
pub(crate) const PIN: &str = "sesame-value";
/// An error text that quotes the entire statement.
pub(crate) const SAID: &str = "ERROR: syntax error at or near \"sesame-literal\" in UPDATE account SET secret_column = \
                               'sesame-literal', pin = 'sesame-value' WHERE 'sesame-2' <> note\n  Detail: Key (pin)=(sesame-value)";
pub(crate) const ARN: &str = "arn:aws:secretsmanager:eu-west-1:1:secret:sesame-arn";

/// Panics if a text contains a mark.
#[track_caller]
pub(crate) fn search(what: &str, said: impl AsRef<str>) {
    let said = said.as_ref();
    if let Some(at) = said.find(MARK) {
        let from = said.floor_char_boundary(at.saturating_sub(300));
        let to = said.ceil_char_boundary((at + 300).min(said.len()));
        panic!("{what} contains a secret: …{}…", &said[from..to]);
    }
    // The mark could also be printed as a list of bytes.
    assert!(!said.contains("115, 101, 115, 97, 109, 101"), "{what} tells the bytes of a secret");
}
