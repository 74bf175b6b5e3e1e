//! Runs a stored procedure only once, although the network loses a response and the program is started twice.
//!
//! ```text
//! first run: finished after 0.5 s; 2 submits, 1 fault retried, 340 rows
//! second run: finished; 0 submits, taken from the journal
//! the warehouse ran it 1 time
//! ```
//!
//! The warehouse is scripted. In production, use `DataApiExecutor::new(&config, Target::workgroup("dwh",
//! "mystore"))` and a `FileJournal` instead.

use std::{sync::Arc, time::Duration};

use redshift_data_local::{Fault, Faults, Faulty, LocalExecutor, Operation, Script, ScriptedExecution};
use redshift_orchestrator::{Orchestrator, Result, Statement, StepKey, journal::MemoryJournal};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let call = ScriptedExecution::finished(Duration::from_millis(500)).with_affected_rows(340);
    let warehouse = LocalExecutor::scripted(Script::new().on("CALL mystore.load_sale", call));
    // The first response is lost, so the client cannot know whether the statement was submitted.
    let network =
        Faulty::new(warehouse.clone(), Faults::seeded(SEED).with(Operation::Submit, Fault::LostReply, 0.5));
    let journal = Arc::new(MemoryJournal::new());
    let orchestrator = Orchestrator::new(network).with_journal(journal.clone());

    // The key identifies the work. Work with the same key never runs twice.
    let key = StepKey::new("sales-2025-03-01T12:30", "load_sale");
    let statement = Statement::sql("CALL mystore.load_sale(:cycle)").with_parameter("cycle", "25");

    let first = orchestrator.run(&key, statement.clone()).await?;
    println!(
        "first run: {} after {:.1} s; {} submits, {} fault retried, {} rows",
        first.kind,
        first.execution_time().unwrap_or_default().as_secs_f64(),
        first.requests.submits,
        first.requests.total_retried_errors(),
        first.description.and_then(|description| description.result_rows).unwrap_or_default(),
    );

    // Simulates a restart after the process was killed: only the journal remains.
    let restarted = Orchestrator::new(warehouse.clone()).with_journal(journal);
    let second = restarted.run(&key, statement).await?;
    println!("second run: {}; {} submits, taken from the journal", second.kind, second.requests.submits);
    println!("the warehouse ran it {} time", warehouse.effects().len());
    Ok(())
}

/// Seed with which the first response is lost but not the second.
const SEED: u64 = 2;
