//! The action `submit`.

use redshift_orchestrator::{ClientToken, Statement, StatementExecutor};

use super::poll;
use crate::{
    Error, ErrorNames, Invocation,
    contract::statement::{Identity, State, Submit},
    identity::task_name,
};

/// Submits the statement, and waits for its end if the event asks for it.
pub(super) async fn submit<E: StatementExecutor + ?Sized>(
    executor: &E,
    invocation: &Invocation,
    identity: Option<&Identity>,
    event: &Submit,
) -> Result<State, Error> {
    let statement = event.statement()?;
    let token = token(executor, identity, event, &statement)?;
    let statement = match name(identity, event)? {
        Some(name) => statement.with_name(name),
        None => statement,
    };
    let statement = statement.with_client_token(token);
    let submitted = invocation.request(|| executor.submit(&statement, None)).await?;
    tracing::info!(statement_id = submitted.id.as_str(), "submitted");
    let state = State::submitted(&submitted).with_age(std::time::Duration::ZERO, event.poll_seconds);
    match event.wait_seconds {
        None | Some(0) => Ok(state),
        Some(seconds) => {
            let waited = poll::until_ended(executor, invocation, &submitted.id, Some(seconds)).await;
            // The statement is running, so its id is returned even if the wait failed.
            Ok(match waited {
                Ok(description) => {
                    let ended = poll::state(invocation, &description, event.poll_seconds);
                    State { session: ended.session.clone().or(state.session), ..ended }
                }
                Err(error) => {
                    let error = error.name(ErrorNames::Qualified);
                    tracing::warn!(
                        statement_id = submitted.id.as_str(),
                        error = error.as_ref(),
                        "the wait ended with an error"
                    );
                    state
                }
            })
        }
    }
}

fn token<E: StatementExecutor + ?Sized>(
    executor: &E,
    identity: Option<&Identity>,
    event: &Submit,
    statement: &Statement,
) -> Result<ClientToken, Error> {
    match (&event.token, identity) {
        (Some(token), _) => ClientToken::new(token)
            .map_err(|_| Error::BadInput("`token` must have 1 to 64 characters".to_owned())),
        (None, Some(identity)) => identity.client_token(executor.target().as_ref(), statement),
        (None, None) => Err(Error::BadInput(
            "the event lacks the member `identity`, from which the client token is derived; send it, or a `token`"
                .to_owned(),
        )),
    }
}

fn name(identity: Option<&Identity>, event: &Submit) -> Result<Option<String>, Error> {
    let name = event.name.clone().or_else(|| identity.map(Identity::statement_name));
    match &event.task_token {
        None => Ok(name),
        Some(token) => task_name(name.as_deref().unwrap_or("statement"), token).map(Some),
    }
}
