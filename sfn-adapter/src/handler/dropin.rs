//! The drop-in replacement for the reference solution's Lambda.

use redshift_orchestrator::{Statement, StatementExecutor, StepKey};

use crate::{Call, Error, Invocation, Reply, Request, sentence::unknown_status};

/// Submits the procedure call, or returns the status of an earlier call, depending on the event.
///
/// # At most once
///
/// Every submit has a client token, so a retry within the invocation cannot run the procedure twice. The
/// token is derived from the SQL, the compute and the database. If the event came from EventBridge, it is
/// also derived from the event's id: a repetition of the same event within 8 hours, for example by the
/// `Retry` of a state machine, then returns the first statement's id. For any other event, each invocation is
/// a separate run.
///
/// # Errors
/// Returns [`Error::BadInput`] for an invalid event, [`Error::Service`] for an error of the service, and
/// [`Error::Deadline`] if the service does not respond in time.
pub async fn redshift<E>(
    executor: &E,
    call: &Call,
    invocation: &Invocation,
    event: &str,
) -> Result<Reply, Error>
where
    E: StatementExecutor + ?Sized,
{
    match Request::parse(event)? {
        Request::Submit { event_id } => {
            let source = match &event_id {
                Some(id) => ("event", id.as_str()),
                None => ("invocation", invocation.request_id()),
            };
            let statement = Statement::sql(call.as_str());
            let key = StepKey::new(source.1, format!("sfn-adapter {}", source.0));
            let token = key.client_token(executor.target().as_ref(), &statement).map_err(Error::Service)?;
            let statement = statement.with_client_token(token);
            let submitted = invocation.request(|| executor.submit(&statement, None)).await;
            let submitted =
                submitted.map_err(|error| error.unfinished(|| "the procedure may be running".to_owned()))?;
            tracing::info!(statement_id = submitted.id.as_str(), token_from = source.0, "submitted");
            Ok(Reply::Submitted { query_id: submitted.id.as_str().to_owned() })
        }
        Request::Status { id } => {
            // Not a long poll, because the function is billed while the service delays the response.
            let description = invocation.request(|| executor.describe(&id, None)).await;
            let description =
                description.map_err(|error| error.unfinished(|| unknown_status(id.as_str())))?;
            tracing::info!(
                statement_id = id.as_str(),
                status = description.status.as_str(),
                duration_ms = description.execution_time.map(|duration| duration.as_millis() as u64),
                rows = description.result_rows,
                "described"
            );
            Ok(Reply::status(description))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Mutex},
        time::Duration,
    };

    use redshift_orchestrator::{
        Description, Error as ServiceError, ErrorKind, MockStatementExecutor, StatementId, Status, Submitted,
        Target,
    };
    use serde_json::json;

    use super::*;

    const ID: &str = "d9b6c0c9-0747-4bf4-b142-e8883122f766";

    fn call() -> Call {
        Call::new("mystore", "sp_run_incremental_load").unwrap()
    }

    fn invocation(request_id: &str) -> Invocation {
        Invocation::new(request_id, Duration::from_secs(30))
    }

    fn scheduled(id: &str) -> String {
        json!({ "id": id, "source": "aws.events", "detail-type": "Scheduled Event", "detail": {} })
            .to_string()
    }

    /// Returns the client tokens that are submitted for these events. Each event has its own invocation.
    async fn tokens(invocations: &[(&str, &str)]) -> Vec<String> {
        tokens_on(None, invocations).await
    }

    async fn tokens_on(target: Option<Target>, invocations: &[(&str, &str)]) -> Vec<String> {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut executor = MockStatementExecutor::new();
        executor.expect_target().returning(move || target.clone());
        let tokens = seen.clone();
        executor.expect_submit().returning(move |statement, wait| {
            assert_eq!(wait, None, "no billed waiting");
            assert_eq!(statement.sqls(), ["CALL mystore.sp_run_incremental_load();"]);
            tokens.lock().unwrap().push(statement.client_token().unwrap().to_string());
            Ok(Submitted::new(StatementId::new(ID)))
        });
        for (request_id, event) in invocations {
            let reply = redshift(&executor, &call(), &invocation(request_id), event).await.unwrap();
            assert_eq!(reply, Reply::Submitted { query_id: ID.to_owned() });
        }
        Arc::try_unwrap(seen)
            .map(Mutex::into_inner)
            .map_or_else(|seen| seen.lock().unwrap().clone(), Result::unwrap)
    }

    #[tokio::test]
    async fn a_scheduled_event_sent_again_gets_the_same_token() {
        let event = scheduled("53dc4d37");
        let tokens = tokens(&[("r-1", &event), ("r-2", &event), ("r-3", &scheduled("another"))]).await;
        assert_eq!(tokens[0], tokens[1]);
        assert_ne!(tokens[0], tokens[2]);
        assert_eq!(tokens[0].len(), 64);
    }

    /// AWS does not document the scope of a token. If it is the account, a submit to another database
    /// returned the statement of the first database, and its procedure never ran.
    #[tokio::test]
    async fn one_event_for_two_databases_is_two_statements() {
        let event = scheduled("53dc4d37");
        let targets = [
            Target::cluster("dwh", "mystore"),
            Target::cluster("dwh", "other"),
            Target::cluster("dev", "mystore"),
            Target::workgroup("dwh", "mystore"),
        ];
        let mut seen = std::collections::BTreeSet::new();
        for target in targets {
            let tokens = tokens_on(Some(target.clone()), &[("r-1", &event), ("r-2", &event)]).await;
            assert_eq!(tokens[0], tokens[1]);
            let as_user = tokens_on(Some(target.with_database_user("etl")), &[("r-1", &event)]).await;
            // A different database user does not make it different work.
            assert_eq!(tokens[0], as_user[0]);
            seen.insert(tokens[0].clone());
        }
        assert_eq!(seen.len(), 4);
    }

    #[tokio::test]
    async fn an_empty_event_is_a_run_of_its_own_every_time() {
        let tokens = tokens(&[("r-1", "{}"), ("r-2", "{}"), ("r-2", "{}")]).await;
        assert_ne!(tokens[0], tokens[1]);
        assert_eq!(
            tokens[1], tokens[2],
            "Lambda delivers an asynchronous invocation again under the same id"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_answer_to_a_submit_is_asked_for_with_the_same_token() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let tokens = seen.clone();
        let mut executor = MockStatementExecutor::new();
        executor.expect_target().returning(|| None);
        executor.expect_submit().times(2).returning(move |statement, _| {
            let mut tokens = tokens.lock().unwrap();
            tokens.push(statement.client_token().cloned());
            match tokens.len() {
                1 => Err(ServiceError::new(ErrorKind::Disconnected, "no response in time")),
                _ => Ok(Submitted::new(StatementId::new(ID))),
            }
        });
        redshift(&executor, &call(), &invocation("r-1"), "{}").await.unwrap();
        let seen = seen.lock().unwrap();
        assert_eq!(seen[0], seen[1]);
    }

    #[tokio::test]
    async fn a_status_is_asked_for_once_and_without_a_wait() {
        let mut executor = MockStatementExecutor::new();
        executor
            .expect_describe()
            .times(1)
            .withf(|id, wait| id.as_str() == ID && wait.is_none())
            .returning(|id, _| Ok(Description::new(id.clone(), Status::Started)));
        let event = json!({ "QueryId": ID, "Result": { "Status": "PICKED", "Error": "null" } }).to_string();
        let reply = redshift(&executor, &call(), &invocation("r-1"), &event).await.unwrap();
        assert_eq!(serde_json::to_value(reply).unwrap(), json!({ "Status": "STARTED", "Error": "null" }));
    }

    #[tokio::test]
    async fn a_refusal_is_told_at_once() {
        let mut executor = MockStatementExecutor::new();
        executor
            .expect_describe()
            .times(1)
            .returning(|_, _| Err(ServiceError::new(ErrorKind::NotFound, "Query does not exist.")));
        let event = json!({ "QueryId": ID }).to_string();
        let error = redshift(&executor, &call(), &invocation("r-1"), &event).await.unwrap_err();
        assert!(matches!(error, Error::Service(error) if error.kind() == ErrorKind::NotFound));
    }

    #[tokio::test]
    async fn bad_input_reaches_nobody() {
        let executor = MockStatementExecutor::new();
        let outcome = redshift(&executor, &call(), &invocation("r-1"), r#"{"QueryId":null}"#).await;
        assert!(matches!(outcome, Err(Error::BadInput(_))));
    }
}
