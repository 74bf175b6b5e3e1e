//! The handler `callback`: completes tasks when their statements end.

use futures::{StreamExt, stream};
use redshift_orchestrator::{ErrorKind, StatementExecutor, StatementId};
use serde_json::Value;

use super::queue;
use crate::{
    Answered, Error, Invocation, TaskTokens,
    contract::{
        callback::{
            Change, EventBridgeEvent, Reply, Request, Response, SqsBatchResponse, SqsMessage, Task, body,
        },
        statement::{Outcome, State},
    },
    identity::task_token,
    invocation::late,
    sentence::{LONGEST_ID, cut},
};

/// Maximum number of messages that are handled concurrently.
const AT_ONCE: usize = 8;

/// Completes the task of each statement that an event reports as ended.
///
/// The event is only a hint: it contains no error text, and is delivered several times, once, or not at all.
/// The outcome is read from the service. It is not an error if an event is delivered again, is of another
/// kind, is about a statement that completes no task, or is about a task that is over.
///
/// # Errors
/// For an event that was delivered directly, the handler fails if it could not read the outcome or complete
/// the task. EventBridge then delivers the event again. For messages of SQS, only the failed messages are
/// returned to the queue.
pub async fn callback<E, T>(
    executor: &E,
    tasks: &T,
    invocation: &Invocation,
    event: &str,
) -> Result<Response, Error>
where
    E: StatementExecutor + ?Sized,
    T: TaskTokens + ?Sized,
{
    let answerer = Answerer { executor, tasks, invocation };
    match Request::parse(event)? {
        Request::Event(event) => answerer.answer(&event).await.map(Response::Event),
        Request::Messages(messages) => answerer.all(&messages.records).await.map(Response::Messages),
    }
}

struct Answerer<'a, E: ?Sized, T: ?Sized> {
    executor: &'a E,
    tasks: &'a T,
    invocation: &'a Invocation,
}

impl<E: StatementExecutor + ?Sized, T: TaskTokens + ?Sized> Answerer<'_, E, T> {
    async fn all(&self, messages: &[SqsMessage]) -> Result<SqsBatchResponse, Error> {
        queue::check_ids(messages)?;
        let outcomes: Vec<_> =
            stream::iter(messages).map(|message| self.message(message)).buffered(AT_ONCE).collect().await;
        Ok(queue::returned(messages, outcomes))
    }

    async fn message(&self, message: &SqsMessage) -> Result<Reply, Error> {
        let event = body(message.body.as_deref().unwrap_or_default())?;
        self.answer(&event).await
    }

    async fn answer(&self, event: &EventBridgeEvent<Value>) -> Result<Reply, Error> {
        let Some(change) = Change::of(event)? else { return Ok(Reply::new(None, Task::Foreign)) };
        let token = change.statement_name.as_deref().and_then(task_token);
        let task = match token {
            None => Task::Foreign,
            Some(token) => self.end(token, &change.statement_id).await.map_err(|error| {
                error.unfinished(|| {
                    format!(
                        "the task of statement {} may not be completed",
                        cut(&change.statement_id, LONGEST_ID)
                    )
                })
            })?,
        };
        tracing::info!(statement_id = change.statement_id, ?task, "event handled");
        Ok(Reply::new(Some(change.statement_id), task))
    }

    /// Reports the end of a statement to its task.
    async fn end(&self, token: &str, id: &str) -> Result<Task, Error> {
        self.tell(token, &self.end_of(id).await?).await
    }

    /// Reads the outcome of a statement from the service.
    async fn end_of(&self, id: &str) -> Result<State, Error> {
        let statement = StatementId::new(id);
        match self.invocation.request(|| self.executor.describe(&statement, None)).await {
            Ok(description) if description.status.is_terminal() => Ok(State::described(&description)),
            Ok(description) => Err(Error::Statement {
                name: "Statement.Running",
                cause: format!(
                    "the event reports the end of statement {id}, but the service reports the status {}; deliver the event again",
                    description.status
                ),
            }),
            Err(Error::Service(error)) if error.kind() == ErrorKind::RecordExpired => {
                Ok(State::expired(id, &error))
            }
            Err(error) => Err(error),
        }
    }

    async fn tell(&self, token: &str, state: &State) -> Result<Task, Error> {
        let told = async {
            match (&state.error, &state.cause) {
                (Some(error), Some(cause)) => self.tasks.fail(token, error, cause).await,
                _ => {
                    let output = serde_json::to_string(state).map_err(|_| Error::Internal)?;
                    self.tasks.succeed(token, &output).await
                }
            }
        };
        Ok(match (self.invocation.before_deadline(late, told).await?, state.outcome) {
            (Answered::Over, _) => Task::Over,
            (Answered::Delivered, Outcome::Succeeded) => Task::Succeeded,
            (Answered::Delivered, _) => Task::Failed,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use redshift_orchestrator::{Description, Error as ServiceError, MockStatementExecutor, Status};
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::tasks::MockTaskTokens;

    const ID: &str = "d9b6c0c9-0747-4bf4-b142-e8883122f766";
    const TOKEN: &str = "AQCEAAAAKgAAAAMAAAAAAAAAAdG9rZW4";

    fn invocation() -> Invocation {
        Invocation::new("r-1", Duration::from_secs(30))
    }

    fn ended(name: &str, id: &str) -> String {
        json!({
            "version": "0", "id": "e-1", "detail-type": "Redshift Data Statement Status Change",
            "source": "aws.redshift-data", "detail": { "statementName": name, "statementId": id, "state": "FINISHED" },
        })
        .to_string()
    }

    fn task(id: &str) -> String {
        ended(&format!("sfn-task 7f3a/0/sales/1 {TOKEN}"), id)
    }

    fn messages(bodies: &[(&str, String)]) -> String {
        let record = |(id, body): &(&str, String)| json!({ "messageId": id, "body": body, "eventSource": "aws:sqs", "attributes": {}, "messageAttributes": {} });
        json!({ "Records": bodies.iter().map(record).collect::<Vec<_>>() }).to_string()
    }

    /// A service that uses the id of a statement as its status.
    fn service() -> MockStatementExecutor {
        let mut executor = MockStatementExecutor::new();
        executor.expect_describe().returning(|id, _| match id.as_str() {
            "EXPIRED" => Err(ServiceError::new(ErrorKind::RecordExpired, "it has expired")),
            "DENIED" => Err(ServiceError::new(ErrorKind::Denied, "not allowed")),
            ID => Ok(Description::new(id.clone(), Status::Finished)),
            status => {
                Ok(Description::new(id.clone(), Status::from(status)).with_error("ERROR: division by zero"))
            }
        });
        executor
    }

    #[tokio::test]
    async fn the_true_end_is_that_of_the_service() {
        // The event reports FINISHED.
        let mut tasks = MockTaskTokens::new();
        tasks
            .expect_fail()
            .times(1)
            .withf(|token, error, cause| {
                (token, error, cause) == (TOKEN, "Statement.Failed", "ERROR: division by zero")
            })
            .returning(|_, _, _| Ok(Answered::Delivered));
        let response = callback(&service(), &tasks, &invocation(), &task("FAILED")).await.unwrap();
        let reply = json!({ "version": 1, "id": "FAILED", "task": "failed" });
        assert_eq!(serde_json::to_value(response).unwrap(), reply);
    }

    #[tokio::test]
    async fn a_task_gets_the_state_as_its_output() {
        let mut tasks = MockTaskTokens::new();
        tasks.expect_succeed().times(1).returning(|token, output| {
            assert_eq!(token, TOKEN);
            let state: State = serde_json::from_str(output).unwrap();
            assert_eq!((state.id.as_str(), state.outcome), (ID, Outcome::Succeeded));
            Ok(Answered::Delivered)
        });
        let response = callback(&service(), &tasks, &invocation(), &task(ID)).await.unwrap();
        assert_eq!(serde_json::to_value(response).unwrap()["task"], "succeeded");
    }

    #[rstest]
    #[case::aborted("ABORTED", "Statement.Aborted")]
    #[case::expired("EXPIRED", "Statement.Unknown")]
    #[tokio::test]
    async fn every_other_end_fails_the_task(#[case] id: &str, #[case] name: &'static str) {
        let mut tasks = MockTaskTokens::new();
        tasks
            .expect_fail()
            .times(1)
            .withf(move |_, error, cause| error == name && !cause.is_empty())
            .returning(|_, _, _| Ok(Answered::Delivered));
        callback(&service(), &tasks, &invocation(), &task(id)).await.unwrap();
    }

    #[tokio::test]
    async fn a_second_delivery_and_a_task_that_timed_out_are_no_errors() {
        let mut tasks = MockTaskTokens::new();
        tasks.expect_succeed().times(1).returning(|_, _| Ok(Answered::Over));
        let response = callback(&service(), &tasks, &invocation(), &task(ID)).await.unwrap();
        assert_eq!(serde_json::to_value(response).unwrap()["task"], "over");
    }

    #[rstest]
    #[case(ended("load-sales", ID))]
    #[case(ended("sfn-task ", ID))]
    #[case(json!({ "source": "aws.redshift-data", "detail-type": "Redshift Data Statement Status Change",
        "detail": { "statementId": ID } }).to_string())]
    #[case(json!({ "source": "aws.events", "detail-type": "Scheduled Event", "detail": {} }).to_string())]
    #[tokio::test]
    async fn a_foreign_event_is_no_error_and_reaches_nobody(#[case] event: String) {
        let (executor, tasks) = (MockStatementExecutor::new(), MockTaskTokens::new());
        let response = callback(&executor, &tasks, &invocation(), &event).await.unwrap();
        assert_eq!(serde_json::to_value(response).unwrap()["task"], "foreign");
    }

    #[tokio::test]
    async fn an_event_before_the_end_is_delivered_again() {
        let response = callback(&service(), &MockTaskTokens::new(), &invocation(), &task("STARTED")).await;
        assert!(matches!(response, Err(Error::Statement { name: "Statement.Running", .. })));
    }

    #[tokio::test]
    async fn only_the_messages_that_failed_return_to_the_queue() {
        let mut tasks = MockTaskTokens::new();
        tasks.expect_succeed().times(1).returning(|_, _| Ok(Answered::Delivered));
        tasks.expect_fail().times(1).returning(|_, _, _| Err(Error::Tasks("busy".to_owned())));
        let event = messages(&[
            ("m-1", task(ID)),
            ("m-2", task("DENIED")),
            ("m-3", ended("load-sales", ID)),
            ("m-4", "{".to_owned()),
            ("m-5", task("FAILED")),
        ]);
        let response = callback(&service(), &tasks, &invocation(), &event).await.unwrap();
        assert_eq!(
            serde_json::to_value(response).unwrap(),
            json!({ "batchItemFailures": [
                { "itemIdentifier": "m-2" }, { "itemIdentifier": "m-4" }, { "itemIdentifier": "m-5" },
            ] })
        );
    }

    #[tokio::test]
    async fn messages_without_ids_are_refused_as_a_whole() {
        let event = json!({ "Records": [{ "body": task(ID) }] }).to_string();
        let response = callback(&service(), &MockTaskTokens::new(), &invocation(), &event).await;
        assert!(matches!(response, Err(Error::BadInput(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_does_not_arrive_ends_before_the_function_is_killed() {
        #[derive(Debug)]
        struct Silent;
        #[async_trait::async_trait]
        impl TaskTokens for Silent {
            async fn succeed(&self, _: &str, _: &str) -> Result<Answered, Error> {
                std::future::pending().await
            }
            async fn fail(&self, _: &str, _: &str, _: &str) -> Result<Answered, Error> {
                std::future::pending().await
            }
        }
        let event = messages(&[("m-1", task(ID))]);
        let response = callback(&service(), &Silent, &invocation(), &event).await.unwrap();
        assert_eq!(serde_json::to_value(response).unwrap()["batchItemFailures"][0]["itemIdentifier"], "m-1");
    }
}
