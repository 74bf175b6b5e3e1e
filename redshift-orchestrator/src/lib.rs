//! Runs SQL and stored procedures on Amazon Redshift through its Data API: submitted once, waited for well, in graphs, resumed
//! after a crash. For services and jobs that load a warehouse and may neither lose a statement nor run one twice.
//!
//! A pipeline runs on anything that is a [`StatementExecutor`]: the service itself ([`DataApiExecutor`](struct.DataApiExecutor.html)), a PostgreSQL server, or, as
//! here, a script in memory:
//!
//! ```
//! use std::time::Duration;
//! use redshift_orchestrator::{Orchestrator, Pipeline, Run, local::{self, Fault, Faults, Faulty, LocalExecutor, Operation, Script}};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> redshift_orchestrator::Result<()> {
//! let pipeline = Pipeline::from_toml(r#"
//!     name = "cycle"
//!     [parameters.cycle]
//!
//!     [[steps]]
//!     name = "customers"
//!     call = "load_customers(:cycle)"
//!     parameters = { cycle = "${cycle}" }
//!
//!     [[steps]]
//!     name = "sales"
//!     call = "load_sales(:cycle)"
//!     parameters = { cycle = "${cycle}" }
//!     after = ["customers"]
//!     retry = { attempts = 3, on = ["serialization-conflict"] }
//! "#)?;
//!
//! // A service whose first load of sales meets another transaction, behind a network that loses every other answer.
//! let script = Script::new().on_each("load_sales", [
//!     local::ScriptedRun::failed(Duration::from_secs(3), "ERROR: 1023 Serializable isolation violation on table"),
//!     local::ScriptedRun::finished(Duration::from_secs(40)),
//! ]);
//! let service = LocalExecutor::scripted(script);
//! let network = Faulty::new(service.clone(), Faults::seeded(7).with(Operation::Submit, Fault::LostReply, 0.5));
//!
//! let orchestrator = Orchestrator::new(network);
//! let report = pipeline.run(&orchestrator, Run::new("cycle-007").with_parameter("cycle", "7")).await?;
//!
//! println!("{report}");
//! assert!(report.is_success());
//! assert_eq!(report.totals().retries, 1);
//! assert_eq!(service.effects().len(), 2, "each step took effect once");
//! # Ok(()) }
//! ```
//!
//! # Where to find what
//!
//! | for | see |
//! |---|---|
//! | what is sent | [`Statement`], [`Target`] |
//! | who runs it | [`StatementExecutor`]; [`DataApiExecutor`](struct.DataApiExecutor.html), [`local::LocalExecutor`], [`MockStatementExecutor`](struct.MockStatementExecutor.html) |
//! | running one statement at most once | [`Orchestrator`], [`Outcome`]; the table in [`journal`] says what a crash can cost |
//! | running graphs of them | [`pipeline`], [`Report`] |
//! | when to ask whether it ended | [`wait`] |
//! | results as your own types | [`StatementExecutorExt::rows`] |
//! | results as Arrow record batches | [`arrow`](arrow/index.html) |
//! | limits of the account, retries, traces | [`layer`] |
//! | watching | [`Observer`]; [`progress`](progress/index.html) draws bars; [`Messages`] tells what procedures `RAISE` |
//! | what went wrong, and what to do next | [`ErrorKind`] for calls, [`FailureKind`] for statements |
//! | databases, schemas, tables, columns, sessions | [`Catalog`] |
//! | a Data API for other programs, on a laptop | [`emulator`](emulator/index.html) |
//! | testing your own executor | [`conformance`](conformance/index.html) |
//!
//! # Testing what you build on this
//!
//! In short; the page [`testing`](testing/index.html) shows each of them at work:
//!
//! | your code | test it with |
//! |---|---|
//! | calls one or two methods of an executor | [`MockStatementExecutor`](struct.MockStatementExecutor.html): expectations, no behaviour |
//! | waits, retries, runs pipelines | [`local::LocalExecutor`] with a [`local::Script`]: the service's behaviour on paused time, faults included |
//! | sends SQL that should be right | [`local::LocalExecutor`] on a PostgreSQL server (feature `postgres`), which understands [Redshift's dialect](on_postgres/index.html) |
//! | is not in Rust, or calls the AWS SDK itself | the [`emulator`](emulator/index.html) in front of either (feature `emulator`) |
//!
//! # Features
//!
//! | feature | adds | default |
//! |---|---|---|
//! | `data-api` | [`DataApiExecutor`](struct.DataApiExecutor.html) and the AWS SDK | yes |
//! | `postgres` | [`local::LocalExecutor`] on a PostgreSQL server | no |
//! | `emulator` | the Data API over HTTP in front of any executor, and the binary `redshift-data-emulator` | no |
//! | `object-store` | a [`journal`] on object storage, such as S3 | no |
//! | `arrow` | [`arrow`](arrow/index.html): CSV results as a stream of Arrow record batches | no |
//! | `progress` | [`progress`](progress/index.html): bars on a terminal | no |
//! | `cli` | the binary `redshift-orchestrator`, and the JSON Schema of pipeline files | no |
//! | `mock` | [`MockStatementExecutor`](struct.MockStatementExecutor.html), made by mockall | no |
//! | `conformance` | [`conformance`](conformance/index.html), the scenarios every executor must pass | no |
//!
//! Without features the crate has no network code. SQL texts and parameter values appear in no `Debug`, error, log or report,
//! unless [asked for](Orchestrator::with_quotations).

mod backoff;
pub mod catalog;
mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(feature = "data-api")]
pub mod data_api;
#[cfg(feature = "emulator")]
pub mod emulator;
mod error;
mod executor;
mod failure;
mod identity;
pub mod journal;
pub mod layer;
pub mod local;
mod mask;
mod messages;
mod observer;
#[doc = include_str!("../docs/postgres.md")]
#[cfg(feature = "postgres")]
pub mod on_postgres {}
mod orchestrator;
mod outcome;
mod pages;
mod patience;
pub mod pipeline;
#[cfg(feature = "progress")]
pub mod progress;
mod rows;
mod seconds;
mod sql;
mod statement;
mod status;
mod target;
mod toml_text;
#[doc = include_str!("../docs/testing.md")]
#[cfg(all(feature = "data-api", feature = "emulator", feature = "mock", feature = "postgres"))]
pub mod testing {}
pub mod wait;

pub use backoff::Backoff;
pub use catalog::Catalog;
pub use clock::{Clock, SystemClock, TokioClock};
#[cfg(feature = "data-api")]
pub use data_api::DataApiExecutor;
pub use error::{Error, ErrorKind, Result};
#[cfg(any(test, feature = "mock"))]
pub use executor::MockStatementExecutor;
pub use executor::{
    Description, StatementExecutor, StatementFilter, StatementPage, StatementSummary, SubStatement,
    Submitted, WaitTime,
};
pub use failure::FailureKind;
pub use identity::{Part, StepKey};
pub use messages::{Message, Messages, SystemMessages};
pub use observer::{Observer, Progressed};
pub use orchestrator::Orchestrator;
pub use outcome::{Conclusion, Origin, Outcome, Overrun, Unknown, UnknownReason};
pub use pipeline::{Pipeline, Report, Run};
#[cfg(feature = "arrow")]
pub use rows::arrow;
pub use rows::{Column, Field, PageData, ResultPage, StatementExecutorExt};
pub use statement::{
    ClientToken, ExecutionMode, MAX_BATCH, PageToken, Parameter, ResultFormat, SessionId, SqlText, Statement,
    StatementId, Value,
};
pub use status::Status;
pub use target::{Auth, Compute, Target};
