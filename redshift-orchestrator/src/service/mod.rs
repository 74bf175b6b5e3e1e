//! Types of the Data API: statements, targets, statuses, results and errors, and the traits that executors
//! implement.

pub mod catalog;
mod error;
mod executor;
mod failure;
mod pages;
mod results;
mod statement;
mod status;
mod target;

pub use catalog::Catalog;
#[cfg(feature = "data-api")]
pub(crate) use error::causes;
pub use error::{Error, ErrorKind, Result};
pub(crate) use executor::LISTING_TIMEOUT;
#[cfg(any(test, feature = "mock"))]
pub use executor::MockStatementExecutor;
pub use executor::{
    Description, StatementExecutor, StatementFilter, StatementPage, StatementSummary, SubStatement,
    Submitted, WaitTime,
};
pub use failure::FailureKind;
pub(crate) use pages::Pages;
#[cfg(feature = "arrow")]
pub use results::arrow;
pub use results::{Column, Field, PageData, ResultPage, StatementExecutorExt};
pub use statement::{
    ClientToken, Commits, ExecutionMode, MAX_BATCH, PageToken, Parameter, ResultFormat, SessionId, SqlText,
    Statement, StatementId, Value,
};
pub use status::Status;
pub use target::{Auth, Compute, Target};
