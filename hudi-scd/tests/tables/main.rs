//! Tests of tables. They are one executable, because linking an executable takes longer than most of them.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../common/mod.rs"]
mod common;

mod archive;
mod carry;
mod codecs;
mod crash;
mod faults;
mod fence;
mod field;
mod format;
mod golden;
mod index_cache;
mod intake;
mod key_forms;
mod keys;
mod model;
mod overwrite;
mod query;
mod range_copy;
mod requests;
mod retention;
mod scd2;
mod spark;
mod streams;
mod types;
mod undo;
mod upgrade;
mod upsert;
mod writers;
