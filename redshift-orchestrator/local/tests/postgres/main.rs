//! Tests `LocalExecutor` on the PostgreSQL server at `REDSHIFT_ORCHESTRATOR_POSTGRES_URL`, which
//! `scripts/postgres start` prints.
//!
//! Each test uses a separate database, so the tests can run in parallel.

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
