//! The actions `status`, `wait` and `cancel`.

use std::time::Duration;

use redshift_orchestrator::{Description, ErrorKind, StatementExecutor, StatementId, WaitTime};
use tokio::time::{Instant, sleep};

use crate::{
    Error, Invocation,
    contract::statement::{Cancel, Outcome, Poll, State},
};

/// Time reserved for the transfer of a response, so that a long poll ends before the deadline.
const NETWORK: Duration = Duration::from_millis(500);

/// Pause between polls while the service refuses further long polls for the statement.
const PAUSE: Duration = Duration::from_secs(2);

/// Pause between long polls, which prevents a busy loop.
const LEAST_PAUSE: Duration = Duration::from_millis(100);

pub(super) async fn status<E: StatementExecutor + ?Sized>(
    executor: &E,
    invocation: &Invocation,
    poll: &Poll,
) -> Result<State, Error> {
    let id = StatementId::new(&poll.id);
    let described = invocation.request(|| executor.describe(&id, None)).await;
    raised(poll, reported(invocation, &id, described, poll.poll_seconds)?)
}

pub(super) async fn wait<E: StatementExecutor + ?Sized>(
    executor: &E,
    invocation: &Invocation,
    poll: &Poll,
) -> Result<State, Error> {
    let id = StatementId::new(&poll.id);
    let described = until_ended(executor, invocation, &id, poll.wait_seconds).await;
    raised(poll, reported(invocation, &id, described, poll.poll_seconds)?)
}

pub(super) async fn cancel<E: StatementExecutor + ?Sized>(
    executor: &E,
    invocation: &Invocation,
    cancel: &Cancel,
) -> Result<State, Error> {
    let id = StatementId::new(&cancel.id);
    let described = match invocation.request(|| executor.cancel(&id)).await {
        Ok(accepted) => {
            tracing::info!(statement_id = id.as_str(), accepted, "cancellation requested");
            until_ended(executor, invocation, &id, cancel.wait_seconds.or(Some(0))).await
        }
        Err(error) => Err(error),
    };
    reported(invocation, &id, described, None)
}

/// Polls until the statement has ended, `seconds` have passed, or the function's time is over. Returns the
/// last description.
pub(super) async fn until_ended<E: StatementExecutor + ?Sized>(
    executor: &E,
    invocation: &Invocation,
    id: &StatementId,
    seconds: Option<u32>,
) -> Result<Description, Error> {
    let limit = seconds.map_or(Duration::MAX, |seconds| Duration::from_secs(seconds.into()));
    let limit = limit.min(invocation.remaining().saturating_sub(NETWORK));
    let start = Instant::now();
    let (mut held, mut last) = (true, None);
    loop {
        let left = limit.saturating_sub(start.elapsed());
        let wait = WaitTime::at_most(left).filter(|_| held);
        match invocation.delayed_request(wait, || executor.describe(id, wait)).await {
            Ok(description) if description.status.is_terminal() => return Ok(description),
            Ok(description) => last = Some(description),
            Err(Error::Service(error)) if error.kind() == ErrorKind::TooManyWaiters && held => {
                held = false;
                continue;
            }
            // The status of the last poll is more useful than the reason why there is no newer one.
            Err(error) if !is_final(&error) && last.is_some() => {}
            Err(error) => return Err(error),
        }
        let left = limit.saturating_sub(start.elapsed());
        match last {
            Some(description) if left.is_zero() || invocation.remaining().is_zero() => {
                return Ok(description);
            }
            // The service may respond early. A long poll waits for at least one second.
            _ => {
                let holds = held && WaitTime::at_most(left).is_some();
                sleep(if holds { LEAST_PAUSE } else { PAUSE }.min(left)).await;
            }
        }
    }
}

fn is_final(error: &Error) -> bool {
    !matches!(error, Error::Deadline(_))
        && !matches!(error, Error::Service(error) if error.kind().is_transient())
}

/// Returns the state with the pause before the next poll.
pub(super) fn state(invocation: &Invocation, description: &Description, first: Option<u32>) -> State {
    tracing::info!(
        statement_id = description.id.as_str(),
        status = description.status.as_str(),
        duration_ms = description.execution_time.map(|duration| duration.as_millis() as u64),
        rows = description.result_rows,
        "described"
    );
    let age = description.created_at.map(|at| invocation.now().duration_since(at));
    let age = age.and_then(|age| Duration::try_from(age).ok()).unwrap_or_default();
    State::described(description).with_age(age, first)
}

/// Converts a description to a state. A record that the service has deleted also gives a state.
fn reported(
    invocation: &Invocation,
    id: &StatementId,
    described: Result<Description, Error>,
    first: Option<u32>,
) -> Result<State, Error> {
    match described {
        Ok(description) => Ok(state(invocation, &description, first)),
        Err(Error::Service(error)) if error.kind() == ErrorKind::RecordExpired => {
            tracing::warn!(statement_id = id.as_str(), "the record has expired");
            Ok(State::expired(id.as_str(), &error))
        }
        Err(error) => Err(error),
    }
}

/// Turns every state except `FINISHED` into an error if the event asks for it.
fn raised(poll: &Poll, state: State) -> Result<State, Error> {
    let name = match state.outcome {
        Outcome::Running => "Statement.Running",
        outcome => match outcome.error_name() {
            Some(name) => name,
            None => return Ok(state),
        },
    };
    if !poll.raise {
        return Ok(state);
    }
    let running = || format!("statement {} has the status {}; poll it again", state.id, state.status);
    Err(Error::Statement { name, cause: state.cause.clone().unwrap_or_else(running) })
}
