//! Tests the emulator on a PostgreSQL server: the state that clients find hours later, and recovery after the
//! client or the emulator is killed. `scripts/postgres start` prints the value of
//! `REDSHIFT_ORCHESTRATOR_POSTGRES_URL`.
//!
//! Each test uses a separate database, so the tests can run in parallel.

#![allow(clippy::unwrap_used)]

mod conformance;
#[path = "../../../tests/support/dying.rs"]
mod dying;
#[path = "../emulator/support.rs"]
mod emulator;
mod expiry;
#[path = "../../../local/tests/postgres/fixture.rs"]
mod fixture;
#[path = "../../../local/tests/postgres/harness.rs"]
#[allow(dead_code, reason = "shared with the tests of the local service")]
mod harness;
#[path = "../../../tests/support/intercept.rs"]
mod intercept;
#[cfg(unix)]
mod kill;
#[cfg(unix)]
#[path = "../support/process.rs"]
mod process;
#[path = "../../../tests/support/turned.rs"]
mod turned;
