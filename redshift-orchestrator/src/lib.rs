//! Submit SQL and stored procedures to Amazon Redshift exactly once, wait for them well, run graphs of them, resume after a crash.

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
pub mod journal;
mod key;
pub mod local;
mod observer;
mod orchestrator;
mod outcome;
pub mod pipeline;
mod rows;
mod seconds;
mod statement;
mod status;
mod target;
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
pub use key::StepKey;
pub use observer::{Observer, Progressed};
pub use orchestrator::Orchestrator;
pub use outcome::{Conclusion, Origin, Outcome, Unknown, UnknownReason};
pub use pipeline::{Pipeline, Report, Run};
pub use rows::{Column, Field, PageData, ResultPage, StatementExecutorExt};
pub use statement::{
    ClientToken, ExecutionMode, MAX_BATCH, PageToken, Parameter, ResultFormat, SessionId, SqlText, Statement,
    StatementId,
};
pub use status::Status;
pub use target::{Auth, Compute, Target};
