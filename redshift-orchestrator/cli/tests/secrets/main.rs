//! What must not be told is marked, everything is driven, and all that was said is searched for the marks.
//!
//! Searched are `Debug` and `Display` of what the library hands out, everything that it tells `tracing` at any level, reports, journals,
//! and what the programs print. The guide (`docs/pipelines.md`) says what a journal holds.
#![allow(clippy::unwrap_used)]

mod capture;
#[path = "../support/emulator.rs"]
mod emulator;
mod files;
mod postgres;
mod programs;
mod services;
mod values;

/// It is part of every secret, and of nothing else.
pub(crate) const MARK: &str = "sesame";

/// A statement with a mark wherever there can be one.
pub(crate) const SQL: &str =
    "UPDATE account SET secret_column = 'sesame-literal', pin = :pin WHERE 'sesame-2' <> note";
pub(crate) const PIN: &str = "sesame-value";
/// What a database says that quotes all of it.
pub(crate) const SAID: &str = "ERROR: syntax error at or near \"sesame-literal\" in UPDATE account SET secret_column = \
                               'sesame-literal', pin = 'sesame-value' WHERE 'sesame-2' <> note\n  Detail: Key (pin)=(sesame-value)";
pub(crate) const ARN: &str = "arn:aws:secretsmanager:eu-west-1:1:secret:sesame-arn";

/// Panics if a text has a mark.
#[track_caller]
pub(crate) fn search(what: &str, said: impl AsRef<str>) {
    let said = said.as_ref();
    if let Some(at) = said.find(MARK) {
        let from = said.floor_char_boundary(at.saturating_sub(300));
        let to = said.ceil_char_boundary((at + 300).min(said.len()));
        panic!("{what} tells a secret: …{}…", &said[from..to]);
    }
    // As bytes are printed, too.
    assert!(!said.contains("115, 101, 115, 97, 109, 101"), "{what} tells the bytes of a secret");
}
