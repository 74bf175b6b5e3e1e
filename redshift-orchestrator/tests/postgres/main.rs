//! `LocalExecutor` on a real PostgreSQL server: `REDSHIFT_ORCHESTRATOR_POSTGRES_URL`, which `scripts/postgres
//! start` prints.
//!
//! Each test has its own database, so that tests run in parallel.

#![allow(clippy::unwrap_used)]

#[cfg(feature = "arrow")]
mod batches;
mod conformance;
mod dialect;
#[cfg(all(feature = "data-api", feature = "emulator"))]
#[path = "../support/dying.rs"]
mod dying;
#[cfg(all(feature = "data-api", feature = "emulator"))]
#[path = "../emulator/support.rs"]
mod emulator;
#[cfg(all(feature = "data-api", feature = "emulator"))]
mod expiry;
mod growth;
mod harness;
#[cfg(all(unix, feature = "data-api", feature = "emulator"))]
mod kill;
#[cfg(all(unix, feature = "data-api", feature = "emulator"))]
#[path = "../support/emulator.rs"]
mod process;
mod recovery;
mod sessions;
mod statements;
