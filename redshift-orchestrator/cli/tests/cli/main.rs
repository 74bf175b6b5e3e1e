//! Tests the program `redshift-orchestrator` with the emulator.
#![allow(clippy::unwrap_used)]

#[path = "../../../tests/support/bucket.rs"]
#[allow(dead_code, reason = "shared with the tests of the journal")]
mod bucket;
mod cancel;
#[path = "../support/emulator.rs"]
mod emulator;
mod input;
mod interrupts;
mod postgres;
#[path = "../support/proxy.rs"]
mod proxy;
mod runs;
mod s3;
mod schema;
mod support;
