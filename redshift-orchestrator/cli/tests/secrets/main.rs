//! Searches all output for secrets. Every secret contains a marker, and the tests search for the marker.
//!
//! The output includes the `Debug` and `Display` forms of the library's values, everything logged with
//! `tracing`, reports, journals, and the output of the programs. `docs/pipelines.md` describes what a journal
//! contains.
#![allow(clippy::unwrap_used)]

mod capture;
#[path = "../support/emulator.rs"]
mod emulator;
mod files;
mod postgres;
mod programs;
mod services;
mod values;

/// Marker that is part of every secret, and of nothing else.
pub(crate) const MARK: &str = "sesame";

/// SQL with the marker in every possible position.
pub(crate) const SQL: &str =
    "UPDATE account SET secret_column = 'sesame-literal', pin = :pin WHERE 'sesame-2' <> note";
pub(crate) const PIN: &str = "sesame-value";
/// Database error that quotes the whole statement.
pub(crate) const SAID: &str = "ERROR: syntax error at or near \"sesame-literal\" in UPDATE account SET secret_column = \
                               'sesame-literal', pin = 'sesame-value' WHERE 'sesame-2' <> note\n  Detail: Key (pin)=(sesame-value)";
pub(crate) const ARN: &str = "arn:aws:secretsmanager:eu-west-1:1:secret:sesame-arn";

/// Panics if the text contains the marker.
#[track_caller]
pub(crate) fn search(what: &str, said: impl AsRef<str>) {
    let said = said.as_ref();
    if let Some(at) = said.find(MARK) {
        let from = said.floor_char_boundary(at.saturating_sub(300));
        let to = said.ceil_char_boundary((at + 300).min(said.len()));
        panic!("{what} contains a secret: …{}…", &said[from..to]);
    }
    // `Debug` prints a byte slice as a list of numbers.
    assert!(!said.contains("115, 101, 115, 97, 109, 101"), "{what} contains the bytes of a secret");
}
