//! [`TaskTokens`]: answers of tasks that wait for a token.

use std::fmt;

use async_trait::async_trait;

use crate::Error;

/// Answers tasks of state machines by their tokens.
///
/// # For implementors
///
/// A task that cannot be answered any more is [`Answered::Over`] and not an error, because events are delivered
/// at least once. An error means that the answer may succeed later.
#[cfg_attr(test, mockall::automock)]
#[async_trait]
pub trait TaskTokens: fmt::Debug + Send + Sync {
    /// Reports the success of a task, with its output as JSON.
    async fn succeed(&self, token: &str, output: &str) -> Result<Answered, Error>;

    /// Reports the failure of a task: a name of at most 256 characters, which `Catch` matches, and a cause of
    /// at most 32,768.
    async fn fail(&self, token: &str, error: &str, cause: &str) -> Result<Answered, Error>;
}

/// Result of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answered {
    /// The task has the answer.
    Delivered,
    /// The task was answered before or has timed out, its execution has ended, or the token is of no task.
    Over,
}
