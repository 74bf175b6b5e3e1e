//! The handler `statement`: runs the statements of a state machine.

mod list;
mod poll;
mod result;
mod submit;

use redshift_orchestrator::{Catalog, StatementExecutor};

use crate::{
    Error, Invocation,
    contract::{
        MAX_REPLY,
        statement::{Action, Cancel, Identity, Poll, Reply, Request, State},
    },
    sentence::{LONGEST_ID, cut, unknown_status},
};

/// Runs the action of an event.
///
/// # At most once
///
/// The client token of a submit is a digest of the event's identity, the target, the SQL and the parameters.
/// If an invocation is repeated after a lost reply, it returns the statement of the first invocation.
///
/// # Deadline
///
/// Shortly before the function's timeout, `wait` returns the status of the last poll. A submit with a wait
/// always returns the id.
///
/// # Errors
/// Returns [`Error::BadInput`] for an invalid event, [`Error::Service`] for an error of the service,
/// [`Error::Deadline`] if the service does not respond in time, [`Error::TooLarge`] if the reply exceeds
/// [`MAX_REPLY`], and [`Error::Statement`] if the event asks for an error (`raise`).
pub async fn statement<E, C>(
    executor: &E,
    catalog: &C,
    invocation: &Invocation,
    event: &str,
) -> Result<Reply, Error>
where
    E: StatementExecutor + ?Sized,
    C: Catalog + ?Sized,
{
    let request = Request::parse(event)?;
    let span = tracing::Span::current();
    span.record("action", request.action.name());
    if let Some(identity) = &request.identity {
        span.record("run", identity.execution.as_str()).record("step", identity.step.as_str());
    }
    let identity = request.identity.as_ref();
    let state = |state: Result<State, Error>| state.map(|state| Reply::State(Box::new(state)));
    let reply = match &request.action {
        Action::Submit(submit) => state(submit::submit(executor, invocation, identity, submit).await),
        Action::Status(poll) => state(poll::status(executor, invocation, poll).await),
        Action::Wait(poll) => state(poll::wait(executor, invocation, poll).await),
        Action::Cancel(cancel) => state(poll::cancel(executor, invocation, cancel).await),
        Action::Result(read) => result::read(executor, invocation, read).await.map(Reply::Result),
        Action::List(list) => list::list(executor, catalog, invocation, list).await.map(Reply::List),
    };
    check_size(reply.map_err(|error| error.unfinished(|| unfinished(&request)))?)
}

/// Returns a sentence about what is unknown if the service did not respond.
fn unfinished(request: &Request) -> String {
    match &request.action {
        Action::Submit(submit) => {
            let name =
                submit.name.clone().or_else(|| request.identity.as_ref().map(Identity::statement_name));
            let name = name.map(|name| format!(" {}", cut(&name, LONGEST_ID))).unwrap_or_default();
            format!("the statement{name} may run")
        }
        Action::Status(Poll { id, .. }) | Action::Wait(Poll { id, .. }) => unknown_status(id),
        Action::Cancel(Cancel { id, .. }) => {
            format!("statement {} may not be cancelled, and may keep running", cut(id, LONGEST_ID))
        }
        Action::Result(read) => format!("the result of statement {} was not read", cut(&read.id, LONGEST_ID)),
        Action::List(_) => "nothing was listed".to_owned(),
    }
}

fn check_size(reply: Reply) -> Result<Reply, Error> {
    let size = serde_json::to_string(&reply).map_or(usize::MAX, |text| text.len());
    if size <= MAX_REPLY {
        return Ok(reply);
    }
    let most = MAX_REPLY / 1024;
    let text = match &reply {
        Reply::Result(page) => match &page.rows {
            Some(rows) => format!(
                "the page of statement {} has {} rows and {} KiB, but a reply has at most {most} KiB; read fewer rows at a time \
                 with `max_rows`, or write the result to S3 with UNLOAD",
                page.id,
                rows.len(),
                size / 1024
            ),
            None => format!(
                "the page of statement {} has {} KiB, but a reply has at most {most} KiB; store the result as JSON and read it \
                 with `max_rows`, or write it to S3 with UNLOAD",
                page.id,
                size / 1024
            ),
        },
        Reply::List(listing) => format!(
            "the listing has {} entries and {} KiB, but a reply has at most {most} KiB; set a smaller `page_size`",
            listing.entries.len(),
            size / 1024
        ),
        Reply::State(state) => {
            format!("the state of statement {} exceeds {most} KiB; poll it without its batch", state.id)
        }
    };
    Err(Error::TooLarge(text))
}

#[cfg(test)]
mod tests;
