//! `LocalExecutor` on a real PostgreSQL server: `REDSHIFT_ORCHESTRATOR_POSTGRES_URL`, which `scripts/postgres
//! start` prints.
//!
//! Each test has its own database, so that tests run in parallel.

#![allow(clippy::unwrap_used)]

mod batches;
mod conformance;
mod dialect;
mod fixture;
mod growth;
mod harness;
mod recovery;
mod sessions;
mod statements;
#[path = "../../../tests/support/turned.rs"]
mod turned;
