//! awswrangler: polls 16 times with pauses of 0.25 s × 1.5^k, and then raises an exception while the
//! statement continues to run. It saves no id.

use std::time::Duration;

use redshift_orchestrator::{Error, ErrorKind, Result, pipeline::Step};
use tokio::time::sleep;

use super::{Books, Process, sdk::Client, sql_of};

pub(super) async fn run(process: &Process, books: &Books, step: &Step) -> Result<bool> {
    let client = Client::boto3(process);
    let id = client.submit(&sql_of(step.name())).await?;
    for tried in 0..16 {
        let description = client.describe(&id).await?;
        if description.status.is_terminal() {
            return Ok(books.report(&process.fate, step, &id, &description.status).await);
        }
        sleep(Duration::from_secs_f64(0.25 * 1.5_f64.powi(tried))).await;
    }
    Err(Error::new(ErrorKind::Other, "statement execution timed out"))
}
