//! [`LocalExecutor`]: the Redshift Data API's state machine, in process.
//!
//! [`LocalExecutor`] accepts a statement like the service and moves it through the same states: `SUBMITTED`,
//! `PICKED`, `STARTED`, then `FINISHED`, `FAILED` or `ABORTED`. It covers batches with sub-statements,
//! sessions, client tokens, long polls, cancels, paged results, listings, and the service's limits and error
//! responses. One of two back ends runs the statements:
//!
//! | back end | definition of a statement | use for |
//! |---|---|---|
//! | [`Scripted`] | a declared duration and outcome | unit tests and simulation, on tokio's clock, which can be paused |
//! | `Postgres` (feature `postgres`) | SQL, run by a PostgreSQL server that also stores the records | laptops and integration tests |
//!
//! [`Faulty`] wraps any executor and injects faults such as throttling and lost replies. One seed determines
//! all of them.
//!
//! ```
//! use std::time::Duration;
//! use redshift_data_local::{LocalExecutor, Script, ScriptedExecution};
//! use redshift_orchestrator::{Statement, StatementExecutor, Status, WaitTime};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> redshift_orchestrator::Result<()> {
//! let script = Script::new().on("CALL load_sales", ScriptedExecution::finished(Duration::from_secs(90)).with_affected_rows(17));
//! let service = LocalExecutor::scripted(script);
//!
//! let id = service.submit(&Statement::sql("CALL load_sales(7)"), None).await?.id;
//! assert_eq!(service.describe(&id, Some(WaitTime::MAX)).await?.status, Status::Started);
//! tokio::time::sleep(Duration::from_secs(45)).await;
//! assert_eq!(service.describe(&id, Some(WaitTime::MAX)).await?.result_rows, Some(17));
//! assert_eq!(service.effects().len(), 1);
//! # Ok(()) }
//! ```
//!
//! # Versions
//!
//! The public signatures contain types of `redshift-orchestrator` and of `jiff` (0.2), which is re-exported
//! as [`redshift_orchestrator::jiff`]. An update of `jiff` is not a breaking change of this crate.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod backend;
mod catalog;
mod faults;
mod files;
mod limits;
mod machine;
#[cfg(feature = "postgres")]
mod postgres;
mod record;
mod scripted;
mod session;
mod table;

#[doc = include_str!("../docs/postgres.md")]
#[cfg(feature = "postgres")]
pub mod on_postgres {}

pub use backend::Backend;
pub use faults::{Fault, Faults, Faulty, InjectedFaults, Operation};
pub use limits::Limits;
pub use machine::{Latency, LocalExecutor};
#[cfg(feature = "postgres")]
pub use postgres::{Notice, Postgres, PostgresBuilder};
pub use scripted::{Effect, Script, Scripted, ScriptedExecution};
