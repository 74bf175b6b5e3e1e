//! The program `redshift-orchestrator` as a process, against the emulator.
#![allow(clippy::unwrap_used)]

mod cancel;
mod input;
mod interrupts;
#[cfg(feature = "postgres")]
mod postgres;
mod runs;
mod schema;
mod support;
