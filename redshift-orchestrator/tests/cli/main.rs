//! The program `redshift-orchestrator` as a process, against the emulator.
#![allow(clippy::unwrap_used)]

mod cancel;
#[path = "../support/emulator.rs"]
mod emulator;
mod input;
mod interrupts;
#[cfg(feature = "postgres")]
mod postgres;
mod runs;
mod schema;
mod support;
