//! AWS's reference solution. A Lambda function submits the statement. The state machine then waits for 30 s
//! and calls the function to poll, until the status is FINISHED or FAILED. The state machine retries failures
//! of the Lambda service 6 times, after 2 s and then doubled pauses, but not failures of the function. It
//! times out after 30 minutes, and does not cancel the statement. A failed step is run again in the next
//! execution.

use std::time::Duration;

use redshift_orchestrator::{Error, ErrorKind, Result, Status, pipeline::Step};
use tokio::time::{sleep, timeout};

use super::{Books, Process, sdk::Client, sql_of};

pub(super) async fn run(process: &Process, books: &Books, step: &Step) -> Result<bool> {
    timeout(Duration::from_secs(1_800), execution(process, books, step))
        .await
        .unwrap_or_else(|_| Err(Error::new(ErrorKind::Other, "States.Timeout")))
}

async fn execution(process: &Process, books: &Books, step: &Step) -> Result<bool> {
    let function = Client::boto3(process);
    let sql = &sql_of(step.name());
    let id = invoked(process, async || function.submit(sql).await).await?;
    loop {
        sleep(Duration::from_secs(30)).await;
        let status = invoked(process, async || function.describe(&id).await).await?.status;
        if matches!(status, Status::Finished | Status::Failed) {
            let mut pages = books.open();
            if status == Status::Finished {
                pages.done.insert(step.name().to_owned());
            }
            let is_done = status == Status::Finished;
            pages.reported.insert(id, status);
            return Ok(is_done);
        }
    }
}

/// Runs a task of the state machine. If the process of the function dies, this counts as a failure of the
/// Lambda service.
async fn invoked<T>(process: &Process, function: impl AsyncFn() -> Result<T>) -> Result<T> {
    let mut pause = Duration::from_secs(2);
    for _ in 0..=6 {
        if let Some(answer) = process.fate.live(function()).await {
            return answer;
        }
        if process.fate.draw(|draw| draw.bool()) {
            return Err(Error::new(ErrorKind::Other, "Lambda.Unknown"));
        }
        sleep(pause).await;
        pause *= 2;
    }
    Err(Error::new(ErrorKind::Other, "Lambda.SdkClientException"))
}
