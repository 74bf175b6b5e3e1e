//! [`PollStrategy`]: when to ask next.

use std::{fmt, sync::Arc, time::Duration};

use crate::WaitTime;

/// When to ask next where a statement is: a pure function of what happened so far.
///
/// | strategy | first question | then | for |
/// |---|---|---|---|
/// | [`LongPoll`](super::LongPoll) | at once, held by the service for up to 30 s | at once, held again | everything; the default |
/// | [`Fixed`](super::Fixed) | after the interval | after the interval | a known rhythm |
/// | [`Exponential`](super::Exponential) | after the first pause | after growing pauses, up to a cap | services without long polling |
/// | [`Learned`](super::Learned) | shortly before this step usually ends, held | at once, held again | long work, the same every time |
/// | [`Jittered`](super::Jittered) | around any of them | around any of them | many waits that began together |
pub trait PollStrategy: fmt::Debug + Send + Sync {
    /// The next question, given what happened so far.
    fn next(&self, progress: &Progress) -> NextPoll;
}

impl<S: PollStrategy + ?Sized> PollStrategy for Arc<S> {
    fn next(&self, progress: &Progress) -> NextPoll {
        (**self).next(progress)
    }
}

/// The next question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextPoll {
    /// How long to leave the service alone before it.
    pub pause: Duration,
    /// How long the service may hold the answer back.
    pub wait: Option<WaitTime>,
}

impl NextPoll {
    /// A question after a pause, answered at once.
    pub fn after(pause: Duration) -> Self {
        Self { pause, wait: None }
    }
}

/// What happened so far in waiting for one statement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Answers so far.
    pub polls: u32,
    /// Time since the statement was submitted, as far as this process knows.
    pub elapsed: Duration,
    /// How long a statement of this step took before, if that is known.
    pub expected: Option<Duration>,
    /// What the service does with questions that ask it to wait.
    pub holding: Holding,
    /// A number that differs from statement to statement, and is the same in every run.
    pub salt: u64,
}

/// What the service does with questions that ask it to wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Holding {
    /// It holds them, or was not asked yet.
    #[default]
    Held,
    /// It answers that the statement has as many waiting requests as it takes, or answers too soon with a status that is not
    /// final. Other waiters may leave: worth another try some time later.
    Refused {
        /// How often in a row.
        times: u32,
        /// How long ago the last time.
        ago: Duration,
    },
    /// It does not know the request's field for waiting.
    Unsupported {
        /// Answers since that was found out.
        polls: u32,
    },
}
