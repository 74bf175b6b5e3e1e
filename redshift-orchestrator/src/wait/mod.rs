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
//! time is over: cancel, ask again ---> ABORTED by us -------> TimedOut, Cancelled
//!                                 |--> ended by itself -----> TimedOut, EndedBefore
//!                                 `--> still running -------> TimedOut, NotCancelled
//! ```
//!
//! A question that stands in the queue of a [layer](crate::layer) is not on its way yet: that time counts neither as a lost answer nor
//! against the service, and when the statement's time is over meanwhile, the question is not sent any more.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

use crate::{
    Backoff, Description, Error, ErrorKind, FailureKind, Result, StatementExecutor, StatementId, Status,
    WaitTime,
    patience::{GivenUp, bounded},
};

mod durations;
mod exponential;
mod fixed;
mod jittered;
mod learned;
mod long_poll;
mod strategy;

pub use durations::Durations;
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
    /// The statement was cancelled, by this cancellation as far as the service's answers tell.
    Cancelled(Description),
    /// The statement had ended just before: finished, failed, or aborted by somebody else.
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
    check: &'a (dyn Fn(&Description) -> Result<()> + Send + Sync),
}

/// The least pause before a question that the service does not hold: no strategy may turn a wait into a busy loop.
const LEAST_PAUSE: Duration = Duration::from_millis(10);
/// How much longer than the wait it asked for a question may take before it is given up and asked again.
const SLACK: Duration = Duration::from_secs(10);
/// After so many held questions in a row without an answer, something on the way does not let them be held for that long.
const LOST_IN_A_ROW: u32 = 2;

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
            check: &|_| Ok(()),
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

    /// How long a cancellation may take, once it was answered for the first time. 60 seconds unless said otherwise.
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

    /// Checks each description. An error ends the wait as [`Ending::Lost`].
    #[must_use]
    pub(crate) fn with_check(
        mut self,
        check: &'a (dyn Fn(&Description) -> Result<()> + Send + Sync),
    ) -> Self {
        self.check = check;
        self
    }

    /// Waits until the statement ended, the time is over, or the service cannot tell any more. Adds what it took to `effort`.
    ///
    /// Throttles, lost answers and faults of the service are survived with growing pauses for as long as the limit allows.
    pub fn until_ended(self, effort: &mut Effort) -> impl Future<Output = Ending> {
        let mut state = self.state(effort);
        let deadline =
            self.limit.map(|limit| self.started + limit.saturating_sub(self.age.unwrap_or_default()));
        async move {
            match self.poll_until(deadline, self.age.is_some(), &mut state).await {
                Polled::Ended(description) => Ending::Ended(*description),
                Polled::Lost(error) => Ending::Lost(error),
                Polled::OutOfTime => Ending::TimedOut {
                    limit: self.limit.unwrap_or_default(),
                    // Few waits come here: apart, it takes no memory of the others.
                    cancellation: Box::pin(self.cancel_now(&mut state)).await,
                },
            }
        }
    }

    /// Cancels the statement now, and finds out what came of it. Adds what it took to `effort`.
    pub async fn cancel(self, effort: &mut Effort) -> Cancellation {
        let mut state = self.state(effort);
        self.cancel_now(&mut state).await
    }

    fn state<'s>(&self, effort: &'s mut Effort) -> State<'s> {
        let mut hasher = DefaultHasher::new();
        self.id.hash(&mut hasher);
        let progress = Progress { expected: self.expected, salt: hasher.finish(), ..Progress::default() };
        State { progress, refused_at: None, lost: 0, effort }
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
            let answer = match self.describe(wait, deadline.filter(|_| !first), state).await {
                Some(answer) => answer,
                None => return Polled::OutOfTime,
            };
            let error = match answer {
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
                    let pauses =
                        pauses.get_or_insert_with(|| Box::new(self.backoff.pauses(state.progress.salt)));
                    error_pause = Some(pauses.after(&error));
                }
                _ => return Polled::Lost(error),
            }
            (self.watch)(WaitEvent::Survived(&error));
        }
    }

    /// Asks once, and learns whether the service held the question as it was asked to. `None` when it was not its turn before the
    /// deadline.
    async fn describe(
        &self,
        wait: Option<WaitTime>,
        deadline: Option<Instant>,
        state: &mut State<'_>,
    ) -> Option<Result<Description>> {
        let asked = Instant::now();
        let held = wait.map_or(Duration::ZERO, WaitTime::duration);
        let answer = match bounded(held + SLACK, deadline, self.executor.describe(self.id, wait)).await {
            Ok(answer) => answer.and_then(|seen| (self.check)(&seen).map(|()| seen)),
            Err(GivenUp::Unsent) => return None,
            Err(GivenUp::Late) => Err(self.no_answer()),
        };
        state.effort.describes += 1;
        if wait.is_some() {
            let is_lost = matches!(&answer, Err(error) if error.kind() == ErrorKind::Disconnected);
            state.lost = if is_lost { state.lost + 1 } else { 0 };
        }
        match &answer {
            Ok(description) => {
                state.progress.polls += 1;
                (self.watch)(WaitEvent::Polled(&description.status));
                let early = wait.is_some() && asked.elapsed() < held / 2 && !description.status.is_terminal();
                state.learn(wait.is_some(), early);
            }
            Err(error) if error.kind() == ErrorKind::TooManyWaiters => state.learn(wait.is_some(), true),
            Err(_) if wait.is_some() && state.lost >= LOST_IN_A_ROW => state.learn(true, true),
            Err(_) => {}
        }
        Some(answer)
    }

    fn no_answer(&self) -> Error {
        Error::new(ErrorKind::Disconnected, "no answer in time").with_context("statement_id", self.id)
    }

    async fn cancel_now(&self, state: &mut State<'_>) -> Cancellation {
        let mut deadline = None;
        let mut pauses = self.backoff.pauses(state.progress.salt);
        let mut last = Error::new(ErrorKind::Other, "the service refused to cancel the statement");
        // Whether an abort may be ours: a cancel was accepted, or its answer was lost.
        let mut is_ours = false;
        loop {
            state.effort.cancels += 1;
            let answer = bounded(self.grace.min(SLACK), None, self.executor.cancel(self.id)).await;
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + self.grace);
            let accepted = match answer.unwrap_or_else(|_| Err(self.no_answer())) {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Others say what is wrong with the statement, which the next answer tells better.
                    if error.kind().is_transient() {
                        state.effort.survived(error.kind());
                        (self.watch)(WaitEvent::Survived(&error));
                    }
                    is_ours |= error.kind().may_have_taken_effect();
                    last = error;
                    false
                }
            };
            is_ours |= accepted;
            // The question is asked in any case: a refusal is also the answer to a statement that has ended, and a lost answer
            // to a cancel that worked. Without a clear yes, it is asked once, and the cancel repeated after a pause.
            let until = if accepted { deadline } else { Instant::now() };
            match self.poll_until(Some(until), true, state).await {
                Polled::Ended(description) if is_ours && is_cancelled(&description) => {
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

/// The service says `ABORTED`; a database that was quicker than its service says why it failed.
fn is_cancelled(description: &Description) -> bool {
    match &description.status {
        Status::Aborted => true,
        Status::Failed => description
            .error
            .as_deref()
            .is_some_and(|text| FailureKind::of_text(text) == FailureKind::Aborted),
        _ => false,
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
    /// Held questions in a row without an answer.
    lost: u32,
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
