//! [`TaskTokens`]: answers of tasks that wait for a token.

use std::fmt;

use async_trait::async_trait;

use crate::Error;

/// Completes tasks of state machines by their tokens.
///
/// # For implementors
///
/// A task that can no longer be completed gives [`Answered::Over`] and not an error, because events may be
/// delivered more than once. After an error, a later call may succeed.
#[cfg_attr(test, mockall::automock)]
#[async_trait]
pub trait TaskTokens: fmt::Debug + Send + Sync {
    /// Reports the success of a task, with its output as JSON.
    async fn succeed(&self, token: &str, output: &str) -> Result<Answered, Error>;

    /// Reports the failure of a task: a name of at most 256 characters, which `Catch` matches, and a cause of
    /// at most 32,768.
    async fn fail(&self, token: &str, error: &str, cause: &str) -> Result<Answered, Error>;
}

/// Result of completing a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answered {
    /// The service accepted the result.
    Delivered,
    /// The task was already completed or has timed out, its execution has ended, or the token does not belong
    /// to a task.
    Over,
}
