//! [`Invocation`]: one invocation of the function, its remaining time, and the retries within it.

use std::{future::Future, time::Duration};

use redshift_orchestrator::{Error as ServiceError, ErrorKind};
use tokio::time::{Instant, sleep, timeout_at};

use crate::Error;

/// Time reserved for the reply, so that the function reports an error instead of being killed.
const MARGIN: Duration = Duration::from_millis(500);

/// The maximum number of times that a request is sent.
const ATTEMPTS: u32 = 3;

/// The pause after the first attempt; it doubles. It is short, because a waiting function is billed. For more
/// attempts, give the state machine a `Retry`.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// One invocation of the function.
#[derive(Clone, Debug)]
pub struct Invocation {
    request_id: String,
    deadline: Instant,
}

impl Invocation {
    /// Creates the invocation with this request id, which may take `remaining` from now on.
    pub fn new(request_id: impl Into<String>, remaining: Duration) -> Self {
        Self { request_id: request_id.into(), deadline: Instant::now() + remaining.saturating_sub(MARGIN) }
    }

    /// Returns AWS Lambda's id of the invocation.
    pub fn request_id(&self) -> &str {
        &self.request_id
    }

    /// Sends a request, and repeats it after a transient failure while time remains.
    ///
    /// The request must be repeatable: a poll, or a submit with a client token.
    pub(crate) async fn request<T, F>(&self, mut send: impl FnMut() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, ServiceError>>,
    {
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            let error = match timeout_at(self.deadline, send()).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => error,
                Err(_) => return Err(Error::Deadline),
            };
            let wait = error.retry_after().unwrap_or(pause).max(pause);
            if attempt == ATTEMPTS || !may_pass(error.kind()) || Instant::now() + wait >= self.deadline {
                return Err(Error::Service(error));
            }
            tracing::warn!(kind = error.kind().as_str(), code = error.code(), attempt, "trying again");
            sleep(wait).await;
            pause *= 2;
        }
        Err(Error::Deadline)
    }
}

/// Returns `true` for failures that are often over within a second. A full cluster is not one of them.
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

    /// Returns the instants of the attempts in milliseconds, and the error.
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
    async fn an_answer_that_does_not_come_ends_before_the_function_is_killed() {
        let start = Instant::now();
        let invocation = Invocation::new("r-1", Duration::from_secs(10));
        let outcome = invocation.request(pending::<Result<(), _>>).await;
        assert!(matches!(outcome, Err(Error::Deadline)));
        assert_eq!(start.elapsed(), Duration::from_millis(9_500));
    }
}
