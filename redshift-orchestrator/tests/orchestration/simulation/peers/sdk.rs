//! Model of an AWS SDK. It retries requests, with the same client token for all attempts of a call and a new
//! token for each call.

use std::time::Duration;

use redshift_orchestrator::{
    ClientToken, Description, Error, ErrorKind, Result, Statement, StatementExecutor, StatementId,
};
use tokio::time::{sleep, timeout};

use super::Process;

/// Client that retries as an SDK does.
pub(super) struct Client<'a> {
    pub(super) process: &'a Process,
    attempts: u32,
    read_timeout: Option<Duration>,
}

impl<'a> Client<'a> {
    /// Creates a client with the defaults of botocore: 5 attempts and a read timeout of 60 s.
    pub(super) fn boto3(process: &'a Process) -> Self {
        Self { process, attempts: 5, read_timeout: Some(Duration::from_secs(60)) }
    }

    /// Creates a client with the defaults of the Rust SDK: 3 attempts and no read timeout.
    pub(super) fn rust(process: &'a Process) -> Self {
        Self { process, attempts: 3, read_timeout: None }
    }

    pub(super) async fn submit(&self, sql: &str) -> Result<StatementId> {
        let token = self.process.fate.draw(|draw| format!("{:032x}", draw.u128(..)));
        let statement = Statement::sql(sql).with_client_token(ClientToken::new(token)?);
        let submitted = self.call(async || self.process.submit(&statement, None).await).await?;
        Ok(submitted.id)
    }

    pub(super) async fn describe(&self, id: &StatementId) -> Result<Description> {
        self.call(async || self.process.describe(id, None).await).await
    }

    pub(super) async fn cancel(&self, id: &StatementId) -> Result<bool> {
        self.call(async || self.process.cancel(id).await).await
    }

    async fn call<T>(&self, request: impl AsyncFn() -> Result<T>) -> Result<T> {
        let mut tried = 1;
        loop {
            let answer = match self.read_timeout {
                None => request().await,
                Some(limit) => timeout(limit, request())
                    .await
                    .unwrap_or_else(|_| Err(Error::new(ErrorKind::Disconnected, "read timed out"))),
            };
            match answer {
                Err(error) if tried < self.attempts && is_retried(&error) => {
                    let pause = self.process.fate.draw(|draw| draw.f64()) * f64::from(1 << tried);
                    sleep(Duration::from_secs_f64(pause.min(20.0))).await;
                    tried += 1;
                }
                answer => return answer,
            }
        }
    }
}

/// Returns `true` for errors that both SDKs retry: lost connections, service faults and plain throttling, but
/// not throttling wrapped in a `ValidationException`.
fn is_retried(error: &Error) -> bool {
    match error.kind() {
        ErrorKind::Disconnected | ErrorKind::NotSent | ErrorKind::ServiceFault => true,
        ErrorKind::Throttled => error.code() == Some("ThrottlingException"),
        _ => false,
    }
}
