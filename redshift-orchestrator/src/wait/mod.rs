//! Waiting for a statement: when to ask, what to survive, how it ends.
//!
//! ```text
//!            .--- running: ask again when the strategy says --.
//!            v                                                |
//! ask ---> answer ---> FINISHED, FAILED, ABORTED -----------> Ended
//!  ^         |-------> throttled, lost, service fault: back off, ask again
//!  |         |-------> no waiters taken: ask without a wait
//!  |         `-------> unknown id, expired, denied ---------> Lost
//!  |
//! time is over: cancel, ask again ---> ABORTED -------------> TimedOut, Cancelled
//!                                 |--> FINISHED, FAILED ----> TimedOut, EndedBefore
//!                                 `--> still running -------> TimedOut, NotCancelled
//! ```

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::{
    Backoff, Description, Error, ErrorKind, Result, StatementExecutor, StatementId, Status, WaitTime,
};

mod exponential;
mod fixed;
mod jittered;
mod learned;
mod long_poll;
mod strategy;

pub use exponential::Exponential;
pub use fixed::Fixed;
pub use jittered::Jittered;
pub use learned::Learned;
pub use long_poll::LongPoll;
pub use strategy::{Holding, NextPoll, PollStrategy, Progress};

/// How waiting for a statement ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum Ending {
    /// The statement ended by itself: `FINISHED`, `FAILED` or `ABORTED`.
    Ended(Description),
    /// The time was over first.
    TimedOut {
        /// How long the statement was given.
        limit: Duration,
        /// What became of the cancellation.
        cancellation: Cancellation,
    },
    /// The service cannot or will not tell any more where the statement is.
    Lost(Error),
}

/// What became of a cancellation.
#[derive(Debug)]
#[non_exhaustive]
pub enum Cancellation {
    /// The statement was cancelled.
    Cancelled(Description),
    /// The statement had ended by itself just before.
    EndedBefore(Description),
    /// The statement could not be cancelled, and runs on as far as is known.
    NotCancelled(Error),
}

/// What waiting took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Effort {
    /// Submits sent.
    pub submits: u32,
    /// Questions asked.
    pub describes: u32,
    /// Cancellations sent.
    pub cancels: u32,
    /// Listings asked for.
    pub lists: u32,
    /// Errors that were survived, by kind.
    pub faults: BTreeMap<ErrorKind, u32>,
}

impl Effort {
    /// Errors that were survived, in all.
    pub fn faults_survived(&self) -> u32 {
        self.faults.values().sum()
    }

    /// Requests sent, in all.
    pub fn requests(&self) -> u32 {
        self.submits + self.describes + self.cancels + self.lists
    }

    /// Adds what something else took.
    pub fn add(&mut self, other: &Self) {
        self.submits += other.submits;
        self.describes += other.describes;
        self.cancels += other.cancels;
        self.lists += other.lists;
        for (kind, count) in &other.faults {
            *self.faults.entry(*kind).or_default() += count;
        }
    }

    pub(crate) fn survived(&mut self, kind: ErrorKind) {
        *self.faults.entry(kind).or_default() += 1;
    }
}

/// What happened while waiting, for those who watch.
#[derive(Debug)]
#[non_exhaustive]
pub enum WaitEvent<'a> {
    /// The service said where the statement is.
    Polled(&'a Status),
    /// An error was survived.
    Survived(&'a Error),
}

/// A wait for one statement.
///
/// Dropping the future of [`until_ended`](Self::until_ended) leaves the statement as it is.
pub struct Wait<'a> {
    executor: &'a dyn StatementExecutor,
    id: &'a StatementId,
    strategy: &'a dyn PollStrategy,
    backoff: Backoff,
    started: Instant,
    /// How long ago the statement had been submitted when the wait started.
    age: Option<Duration>,
    limit: Option<Duration>,
    grace: Duration,
    expected: Option<Duration>,
    watch: &'a (dyn Fn(WaitEvent<'_>) + Send + Sync),
}

/// The least pause before a question that the service does not hold: no strategy may turn a wait into a busy loop.
const LEAST_PAUSE: Duration = Duration::from_millis(10);
/// How much longer than the wait it asked for a question may take before it is given up and asked again.
const SLACK: Duration = Duration::from_secs(10);

impl<'a> Wait<'a> {
    /// A wait for a statement that was just submitted, without a limit.
    pub fn new(
        executor: &'a dyn StatementExecutor,
        id: &'a StatementId,
        strategy: &'a dyn PollStrategy,
    ) -> Self {
        Self {
            executor,
            id,
            strategy,
            backoff: Backoff::default(),
            started: Instant::now(),
            age: None,
            limit: None,
            grace: Duration::from_secs(60),
            expected: None,
            watch: &|_| {},
        }
    }

    /// The pauses after errors.
    #[must_use]
    pub fn with_backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// How long the statement may take, counted from its submit; then it is cancelled.
    #[must_use]
    pub fn with_limit(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// How long a cancellation may take. 60 seconds unless said otherwise.
    #[must_use]
    pub fn with_grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// How long a statement of this kind took before.
    #[must_use]
    pub fn with_expected(mut self, expected: Option<Duration>) -> Self {
        self.expected = expected;
        self
    }

    /// The statement was submitted this long ago: it may have ended already, so the first question is asked at once.
    #[must_use]
    pub fn attached_after(mut self, age: Duration) -> Self {
        self.age = Some(age);
        self
    }

    /// Tells `watch` what happens.
    #[must_use]
    pub fn with_watch(mut self, watch: &'a (dyn Fn(WaitEvent<'_>) + Send + Sync)) -> Self {
        self.watch = watch;
        self
    }

    /// Waits until the statement ended, the time is over, or the service cannot tell any more. Adds what it took to `effort`.
    ///
    /// Throttles, lost answers and faults of the service are survived with growing pauses for as long as the limit allows.
    pub async fn until_ended(self, effort: &mut Effort) -> Ending {
        let mut hasher = DefaultHasher::new();
        self.id.hash(&mut hasher);
        let mut state = State {
            progress: Progress { expected: self.expected, salt: hasher.finish(), ..Progress::default() },
            refused_at: None,
            effort,
        };
        let deadline =
            self.limit.map(|limit| self.started + limit.saturating_sub(self.age.unwrap_or_default()));
        match self.poll_until(deadline, self.age.is_some(), &mut state).await {
            Polled::Ended(description) => Ending::Ended(*description),
            Polled::Lost(error) => Ending::Lost(error),
            Polled::OutOfTime => Ending::TimedOut {
                limit: self.limit.unwrap_or_default(),
                cancellation: self.cancel(&mut state).await,
            },
        }
    }

    /// Asks until the statement ended or `deadline`. With `at_once`, the first question has no pause and comes even after the
    /// deadline: a statement that ended long ago is not cancelled.
    async fn poll_until(
        &self,
        deadline: Option<Instant>,
        mut at_once: bool,
        state: &mut State<'_>,
    ) -> Polled {
        let mut pauses = None;
        let mut error_pause = None;
        loop {
            let now = Instant::now();
            state.refresh(now, now - self.started + self.age.unwrap_or_default());
            let mut next = self.strategy.next(&state.progress);
            let first = std::mem::take(&mut at_once);
            if first {
                next.pause = Duration::ZERO;
            } else if deadline.is_some_and(|deadline| deadline <= now) {
                return Polled::OutOfTime;
            }
            let mut instant = now + error_pause.take().unwrap_or(next.pause);
            if next.wait.is_none() && !first {
                instant = instant.max(now + LEAST_PAUSE);
            }
            // The service holds a question for whole seconds; a rest of the time that is shorter is slept through.
            let least = if next.wait.is_some() { Duration::from_secs(1) } else { Duration::ZERO };
            if let Some(deadline) = deadline.filter(|deadline| !first && *deadline <= instant + least) {
                sleep_until(deadline).await;
                return Polled::OutOfTime;
            }
            if now < instant {
                sleep_until(instant).await;
            }
            let wait = next.wait.and_then(|wait| match deadline {
                None => Some(wait),
                Some(deadline) => {
                    WaitTime::at_most(wait.duration().min(deadline.saturating_duration_since(instant)))
                }
            });
            let error = match self.describe(wait, state).await {
                Ok(description) if description.status.is_terminal() => {
                    return Polled::Ended(Box::new(description));
                }
                Ok(_) => {
                    pauses = None;
                    continue;
                }
                Err(error) => error,
            };
            match error.kind() {
                ErrorKind::TooManyWaiters if wait.is_some() => state.effort.survived(error.kind()),
                // Whether it is the wait that the service finds invalid shows when the question comes without it.
                ErrorKind::Invalid | ErrorKind::Unsupported if wait.is_some() => {
                    state.progress.holding = Holding::Unsupported { polls: 0 };
                    error_pause = Some(Duration::ZERO);
                    state.effort.survived(error.kind());
                }
                kind if kind.is_transient() => {
                    state.effort.survived(kind);
                    let pauses = pauses.get_or_insert_with(|| self.backoff.pauses(state.progress.salt));
                    error_pause = Some(pauses.after(&error));
                }
                _ => return Polled::Lost(error),
            }
            (self.watch)(WaitEvent::Survived(&error));
        }
    }

    /// Asks once, and learns whether the service held the question as it was asked to.
    async fn describe(&self, wait: Option<WaitTime>, state: &mut State<'_>) -> Result<Description> {
        state.effort.describes += 1;
        let asked = Instant::now();
        let held = wait.map_or(Duration::ZERO, WaitTime::duration);
        let answer = match timeout(held + SLACK, self.executor.describe(self.id, wait)).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::new(ErrorKind::Disconnected, "no answer in time")
                .with_context("statement_id", self.id)),
        };
        match &answer {
            Ok(description) => {
                state.progress.polls += 1;
                (self.watch)(WaitEvent::Polled(&description.status));
                let early = wait.is_some() && asked.elapsed() < held / 2 && !description.status.is_terminal();
                state.learn(wait.is_some(), early);
            }
            Err(error) if error.kind() == ErrorKind::TooManyWaiters => state.learn(wait.is_some(), true),
            Err(_) => {}
        }
        answer
    }

    /// Cancels the statement, and finds out what came of it.
    async fn cancel(&self, state: &mut State<'_>) -> Cancellation {
        let deadline = Instant::now() + self.grace;
        let mut pauses = self.backoff.pauses(state.progress.salt);
        let mut last = Error::new(ErrorKind::Other, "the service refused to cancel the statement");
        loop {
            state.effort.cancels += 1;
            let accepted = match timeout_at(deadline, self.executor.cancel(self.id)).await {
                Ok(Ok(accepted)) => accepted,
                Ok(Err(error)) => {
                    // Others say that the statement ended, which the next answer tells better.
                    if error.kind().is_transient() {
                        state.effort.survived(error.kind());
                        (self.watch)(WaitEvent::Survived(&error));
                    }
                    last = error;
                    false
                }
                Err(_) => false,
            };
            // The question is asked in any case: a refusal is also the answer to a statement that has ended, and a lost answer
            // to a cancel that worked. Without a clear yes, it is asked once, and the cancel repeated after a pause.
            let until = if accepted { deadline } else { Instant::now() };
            match self.poll_until(Some(until), true, state).await {
                Polled::Ended(description) if description.status == Status::Aborted => {
                    return Cancellation::Cancelled(*description);
                }
                Polled::Ended(description) => return Cancellation::EndedBefore(*description),
                Polled::Lost(error) => return Cancellation::NotCancelled(error),
                Polled::OutOfTime => {}
            }
            let again = Instant::now() + pauses.after(&last);
            if accepted || deadline <= again {
                let message = if accepted {
                    "the service took the cancellation, and the statement runs on"
                } else {
                    "the statement could not be cancelled"
                };
                return Cancellation::NotCancelled(
                    Error::new(last.kind(), message).with_context("statement_id", self.id).with_source(last),
                );
            }
            sleep_until(again).await;
        }
    }
}

enum Polled {
    Ended(Box<Description>),
    OutOfTime,
    Lost(Error),
}

/// What a wait knows of its statement and of the service.
struct State<'a> {
    progress: Progress,
    refused_at: Option<Instant>,
    effort: &'a mut Effort,
}

impl State<'_> {
    fn refresh(&mut self, now: Instant, elapsed: Duration) {
        self.progress.elapsed = elapsed;
        if let (Holding::Refused { ago, .. }, Some(at)) = (&mut self.progress.holding, self.refused_at) {
            *ago = now - at;
        }
    }

    /// Learns from an answer to a question that asked for a wait (or not) and was refused or answered early (or not).
    fn learn(&mut self, waited: bool, refused: bool) {
        self.progress.holding = match self.progress.holding {
            Holding::Unsupported { polls } => Holding::Unsupported { polls: polls + 1 },
            Holding::Refused { times, .. } if waited && refused => {
                self.refused_at = Some(Instant::now());
                Holding::Refused { times: times + 1, ago: Duration::ZERO }
            }
            Holding::Held if waited && refused => {
                self.refused_at = Some(Instant::now());
                Holding::Refused { times: 1, ago: Duration::ZERO }
            }
            // Plain questions in between let the pauses grow on.
            Holding::Refused { times, ago } if !waited => Holding::Refused { times: times + 1, ago },
            Holding::Refused { .. } | Holding::Held => Holding::Held,
        };
    }
}
