//! Airflow's operator, durable and not deferred. It saves the id after the submit. A retry of the task
//! describes the statement, and submits another one unless the first is running or has finished. The task
//! polls every 10 s, and once more at the end. At its timeout, it cancels the statement.

use std::time::Duration;

use redshift_orchestrator::{ErrorKind, Result, StatementId, Status, pipeline::Step};
use tokio::time::{Instant, sleep};

use super::{Books, Process, sdk::Client, sql_of};

pub(super) async fn run(process: &Process, books: &Books, step: &Step) -> Result<bool> {
    let begun = Instant::now();
    let client = Client::boto3(process);
    let saved = books.open().ids.get(step.name()).cloned();
    let id = match saved {
        Some(id) => match client.describe(&id).await {
            Ok(known) if known.status == Status::Finished => {
                return Ok(books.report(&process.fate, step, &id, &known.status).await);
            }
            Ok(known) if known.status.is_terminal() => {
                books.report(&process.fate, step, &id, &known.status).await;
                submit(&client, books, step).await?
            }
            Ok(_) => id,
            Err(error) if matches!(error.kind(), ErrorKind::RecordExpired | ErrorKind::NotFound) => {
                submit(&client, books, step).await?
            }
            Err(error) => return Err(error),
        },
        None => submit(&client, books, step).await?,
    };
    loop {
        if client.describe(&id).await?.status.is_terminal() {
            let last = client.describe(&id).await?;
            return Ok(books.report(&process.fate, step, &id, &last.status).await);
        }
        if step.timeout().is_some_and(|limit| begun.elapsed() >= limit) {
            client.cancel(&id).await?;
            return Ok(false);
        }
        sleep(Duration::from_secs(10)).await;
    }
}

async fn submit(client: &Client<'_>, books: &Books, step: &Step) -> Result<StatementId> {
    let id = client.submit(&sql_of(step.name())).await?;
    let save = async { books.open().ids.insert(step.name().to_owned(), id.clone()) };
    client.process.fate.meet(save).await;
    Ok(id)
}
