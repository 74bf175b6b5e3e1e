//! Simple client with the Rust SDK: it submits, polls with growing pauses, and stops at the first error.

use std::time::Duration;

use redshift_orchestrator::{Result, pipeline::Step};
use tokio::time::sleep;

use super::{Books, Process, sdk::Client, sql_of};

pub(super) async fn run(process: &Process, books: &Books, step: &Step) -> Result<bool> {
    let client = Client::rust(process);
    let id = client.submit(&sql_of(step.name())).await?;
    let mut pause = 1;
    loop {
        let description = client.describe(&id).await?;
        if description.status.is_terminal() {
            return Ok(books.report(&process.fate, step, &id, &description.status).await);
        }
        sleep(Duration::from_secs(pause)).await;
        pause = (pause * 2).min(30);
    }
}
