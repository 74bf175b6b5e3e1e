//! Submit SQL and stored procedures to Amazon Redshift exactly once, wait for them well, run graphs of them, resume after a crash.

mod error;
mod executor;
mod rows;
mod statement;
mod status;
mod target;

pub use error::{Error, ErrorKind, Result};
pub use executor::{
    Description, StatementExecutor, StatementFilter, StatementPage, StatementSummary, SubStatement,
    Submitted, WaitTime,
};
pub use rows::{Column, Field, PageData, ResultPage};
pub use statement::{
    ClientToken, ExecutionMode, MAX_BATCH, PageToken, Parameter, ResultFormat, SessionId, Statement,
    StatementId,
};
pub use status::Status;
pub use target::{Auth, Compute, Target};
