//! [`StepFunctions`]: answers of tasks through `aws-sdk-sfn`.

use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_sfn::{
    Client, config,
    config::timeout::TimeoutConfig,
    error::{ProvideErrorMetadata, SdkError},
};
use aws_types::SdkConfig;

use crate::{Answered, Error, TaskTokens, sentence::cut};

/// Time after which a response counts as lost; the SDK then repeats the request.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(8);

/// Error codes of the service for a task that can no longer be completed.
const OVER: [&str; 3] = ["TaskDoesNotExist", "TaskTimedOut", "InvalidToken"];

/// Maximum length of a cause in characters (`SensitiveCause`).
const LONGEST_CAUSE: usize = 32_000;

/// Completes tasks through AWS Step Functions.
#[derive(Clone, Debug)]
pub struct StepFunctions {
    client: Client,
}

impl StepFunctions {
    /// Creates the client.
    pub fn new(sdk: &SdkConfig) -> Self {
        let connect = sdk.timeout_config().and_then(TimeoutConfig::connect_timeout);
        let mut timeouts = TimeoutConfig::builder().operation_attempt_timeout(ATTEMPT_TIMEOUT);
        timeouts.set_connect_timeout(connect);
        let conf = config::Builder::from(sdk).timeout_config(timeouts.build()).build();
        Self { client: Client::from_conf(conf) }
    }
}

#[async_trait]
impl TaskTokens for StepFunctions {
    async fn succeed(&self, token: &str, output: &str) -> Result<Answered, Error> {
        let request = self.client.send_task_success().task_token(token).output(output);
        answered("SendTaskSuccess", request.send().await)
    }

    async fn fail(&self, token: &str, error: &str, cause: &str) -> Result<Answered, Error> {
        let request = self.client.send_task_failure().task_token(token).error(error);
        answered("SendTaskFailure", request.cause(cut(cause, LONGEST_CAUSE)).send().await)
    }
}

fn answered<T, E>(operation: &str, response: Result<T, SdkError<E>>) -> Result<Answered, Error>
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    match response {
        Ok(_) => Ok(Answered::Delivered),
        Err(SdkError::ServiceError(error)) => {
            // The service's message may quote the cause, which is text of the database.
            let code = error.err().code().unwrap_or("no code");
            if OVER.contains(&code) {
                tracing::info!(code, "the task is over");
                return Ok(Answered::Over);
            }
            Err(Error::Tasks(format!(
                "Step Functions rejected {operation} with {code}; the event is delivered again"
            )))
        }
        Err(error) => Err(Error::Tasks(format!(
            "Step Functions did not respond to {operation} ({}); the event is delivered again",
            cut(&reasons(&error), 300)
        ))),
    }
}

/// Returns the messages of an error and of its causes.
fn reasons(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
