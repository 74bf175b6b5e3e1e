//! [`StepWork`]: what a step does, in its definition or with the values of a run.

use std::fmt;

use super::StepStatement;
use crate::{Statement, task::TaskWork};

/// Work of a step: a statement, a batch or a task.
///
/// `S` is the type of the statement. In the definition of a step, it is a [`StepStatement`]; with the values
/// of a run, it is a [`Statement`].
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StepWork<S = StepStatement> {
    /// A statement or batch of Redshift.
    Statement(S),
    /// The run of a Glue job, or raw files for a Hudi table.
    Task(TaskWork),
}

impl StepWork {
    /// Returns a description without SQL and values: `CALL mystore.load_sales`, `batch of 3`, `Glue job
    /// clean`.
    pub fn summary(&self) -> String {
        match self {
            Self::Statement(statement) => statement.summary(),
            Self::Task(work) => work.summary(),
        }
    }

    /// Returns the SQL texts with `${…}` unreplaced. A task has none.
    pub fn sqls(&self) -> Vec<String> {
        match self {
            Self::Statement(statement) => statement.sqls(),
            Self::Task(_) => Vec::new(),
        }
    }

    /// Returns all texts that may contain `${…}`.
    pub(in crate::pipeline) fn texts(&self) -> Vec<String> {
        match self {
            Self::Statement(statement) => statement.sqls(),
            Self::Task(work) => work.texts().into_iter().cloned().collect(),
        }
    }
}

impl StepWork<Statement> {
    /// Returns the statement, or `None` for a task.
    pub fn statement(&self) -> Option<&Statement> {
        match self {
            Self::Statement(statement) => Some(statement),
            Self::Task(_) => None,
        }
    }
}

impl fmt::Debug for StepWork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.summary())
    }
}

impl fmt::Debug for StepWork<Statement> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Statement(statement) => statement.fmt(f),
            Self::Task(work) => work.fmt(f),
        }
    }
}
