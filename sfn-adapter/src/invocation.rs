//! [`Invocation`]: one invocation of the function, its remaining time, and the retries within it.

use std::{future::Future, time::Duration};

use jiff::Timestamp;
use redshift_orchestrator::{Clock, Error as ServiceError, ErrorKind, SystemClock, TokioClock, WaitTime};
use tokio::time::{Instant, sleep, timeout_at};

use crate::Error;

/// Time reserved for the reply, so that the function reports an error instead of being killed.
const MARGIN: Duration = Duration::from_millis(500);

/// The maximum number of times that a request is sent.
const ATTEMPTS: u32 = 3;

/// The pause after the first attempt. It doubles after each attempt. It is short, because a function is
/// billed while it waits. For more attempts, use a `Retry` in the state machine.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// Time after which a response counts as lost. A request other than a long poll takes well under a second.
const PATIENCE: Duration = Duration::from_secs(8);

/// One invocation of the function.
#[derive(Clone, Debug)]
pub struct Invocation {
    request_id: String,
    deadline: Instant,
    clock: TokioClock,
}

impl Invocation {
    /// Creates the invocation with this request id. It may take `remaining`, counted from now.
    pub fn new(request_id: impl Into<String>, remaining: Duration) -> Self {
        Self {
            request_id: request_id.into(),
            deadline: Instant::now() + remaining.saturating_sub(MARGIN),
            clock: TokioClock::starting_at(SystemClock.now()),
        }
    }

    /// Sets the current time, in place of the machine's clock.
    #[must_use]
    pub fn at(mut self, now: Timestamp) -> Self {
        self.clock = TokioClock::starting_at(now);
        self
    }

    /// Returns AWS Lambda's id of the invocation.
    pub fn request_id(&self) -> &str {
        &self.request_id
    }

    /// Returns the current time.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Returns the clock.
    #[cfg(feature = "glue")]
    pub(crate) fn clock(&self) -> TokioClock {
        self.clock
    }

    /// Returns the time that remains before the reply must be sent.
    pub fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Sends a request. Repeats it after a transient failure while time remains.
    ///
    /// The request must be safe to repeat: a poll, or a submit with a client token.
    pub(crate) async fn request<T, F>(&self, send: impl FnMut() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, ServiceError>>,
    {
        self.patient_request(PATIENCE, send).await
    }

    /// Like [`request`](Self::request), for a request whose response the service delays for `wait`.
    pub(crate) async fn delayed_request<T, F>(
        &self,
        wait: Option<WaitTime>,
        send: impl FnMut() -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, ServiceError>>,
    {
        self.patient_request(PATIENCE + wait.map_or(Duration::ZERO, WaitTime::duration), send).await
    }

    /// Like [`request`](Self::request), for a request that may take all of the remaining time. A listing took
    /// up to 120 s in a busy account.
    pub(crate) async fn long_request<T, F>(&self, send: impl FnMut() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, ServiceError>>,
    {
        self.patient_request(self.remaining(), send).await
    }

    /// Runs a future until the deadline. At the deadline, returns the error of `late`.
    #[cfg(any(feature = "callback", feature = "glue", feature = "hudi"))]
    pub(crate) async fn before_deadline<T, E: From<Error>>(
        &self,
        late: impl FnOnce() -> Error,
        future: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        timeout_at(self.deadline, future).await.unwrap_or_else(|_| Err(late().into()))
    }

    async fn patient_request<T, F>(&self, patience: Duration, mut send: impl FnMut() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, ServiceError>>,
    {
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            let limit = self.deadline.min(Instant::now() + patience);
            let error = match timeout_at(limit, send()).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => error,
                Err(_) if limit == self.deadline => return Err(late()),
                Err(_) => lost(patience),
            };
            let wait = error.retry_after().unwrap_or(pause).max(pause);
            if attempt == ATTEMPTS || !may_pass(error.kind()) || Instant::now() + wait >= self.deadline {
                return Err(Error::Service(error));
            }
            tracing::warn!(kind = error.kind().as_str(), code = error.code(), attempt, "trying again");
            sleep(wait).await;
            pause *= 2;
        }
        Err(late())
    }
}

/// Returns the error at the deadline. A handler replaces its text by a sentence about what is unknown.
pub(crate) fn late() -> Error {
    Error::Deadline("its effect is not known".to_owned())
}

fn lost(patience: Duration) -> ServiceError {
    ServiceError::new(ErrorKind::Disconnected, format!("no response within {} seconds", patience.as_secs()))
}

/// Returns `true` for failures that often end within a second. A full cluster is not one of them.
fn may_pass(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Throttled | ErrorKind::NotSent | ErrorKind::Disconnected | ErrorKind::ServiceFault
    )
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, future::pending};

    use super::*;

    fn error(kind: ErrorKind) -> ServiceError {
        ServiceError::new(kind, "it rains")
    }

    /// Returns the times of the attempts in milliseconds, and the error.
    async fn tried(remaining: Duration, error: impl Fn() -> ServiceError) -> (Vec<u128>, Error) {
        let start = Instant::now();
        let attempts = RefCell::new(Vec::new());
        let invocation = Invocation::new("r-1", remaining);
        let send = || async {
            attempts.borrow_mut().push(start.elapsed().as_millis());
            Err::<(), _>(error())
        };
        let outcome = invocation.request(send).await.unwrap_err();
        (attempts.into_inner(), outcome)
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_pass_is_tried_three_times() {
        for kind in
            [ErrorKind::Throttled, ErrorKind::NotSent, ErrorKind::Disconnected, ErrorKind::ServiceFault]
        {
            let (attempts, outcome) = tried(Duration::from_secs(60), || error(kind)).await;
            assert_eq!(attempts, [0, 200, 600]);
            assert!(matches!(outcome, Error::Service(error) if error.kind() == kind));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_pass_is_told_at_once() {
        for kind in [ErrorKind::Invalid, ErrorKind::NotFound, ErrorKind::TooManyStatements, ErrorKind::Other]
        {
            assert_eq!(tried(Duration::from_secs(60), || error(kind)).await.0, [0]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_service_may_ask_for_a_longer_pause() {
        let patient = || error(ErrorKind::Throttled).with_retry_after(Duration::from_secs(2));
        assert_eq!(tried(Duration::from_secs(60), patient).await.0, [0, 2_000, 4_000]);
    }

    #[tokio::test(start_paused = true)]
    async fn no_attempt_begins_that_the_remaining_time_does_not_allow() {
        let throttled = || error(ErrorKind::Throttled);
        assert_eq!(tried(Duration::from_millis(900), throttled).await.0, [0, 200]);
        let (attempts, outcome) = tried(Duration::from_millis(600), throttled).await;
        assert_eq!(attempts, [0]);
        assert!(matches!(outcome, Error::Service(_)), "the cause is reported, not the lack of time");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_response_is_noticed_while_time_remains() {
        let start = Instant::now();
        let sent = RefCell::new(Vec::new());
        let invocation = Invocation::new("r-1", Duration::from_secs(60));
        let send = || async {
            sent.borrow_mut().push(start.elapsed().as_millis());
            pending::<Result<(), _>>().await
        };
        let outcome = invocation.request(send).await;
        assert!(matches!(outcome, Err(Error::Service(error)) if error.kind() == ErrorKind::Disconnected));
        assert_eq!(sent.into_inner(), [0, 8_200, 16_600]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_does_not_come_ends_before_the_function_is_killed() {
        let start = Instant::now();
        let invocation = Invocation::new("r-1", Duration::from_secs(10));
        let outcome = invocation.request(pending::<Result<(), _>>).await;
        assert!(matches!(outcome, Err(Error::Deadline(_))));
        assert_eq!(start.elapsed(), Duration::from_millis(9_500));
    }
}
