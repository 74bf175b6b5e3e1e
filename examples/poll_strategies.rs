//! Compares poll strategies: how many requests each one sends for a statement of 100 seconds, and how late it
//! notices the end.
//!
//! ```text
//! strategy                      requests   notices the end after
//! LongPoll, the default                4   0.0 s
//! Learned, after earlier runs          1   0.0 s
//! Fixed, every 30 s                    4   20.0 s
//! Exponential, 1 s to 60 s             7   23.0 s
//! ```
//!
//! Use `LongPoll` unless you have a reason to use another strategy. `Learned` suits steps with a steady
//! duration, and the other two suit services without long polling. The clock is paused, so the example does
//! not actually wait.

use std::time::Duration;

use redshift_data_local::{LocalExecutor, Script, ScriptedExecution};
use redshift_orchestrator::{
    Result, Statement, StatementExecutor, Status,
    wait::{Exponential, Fixed, Learned, LongPoll, PollStrategy, RequestCounts, Wait, WaitOutcome},
};
use tokio::time::Instant;

/// Execution time of the statement.
const EXECUTING: Duration = Duration::from_secs(100);

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<()> {
    let fixed = Fixed::new(Duration::from_secs(30));
    let exponential =
        Exponential::new(Duration::from_secs(1)).with_factor(2.0).with_max(Duration::from_secs(60));

    println!("strategy                      requests   notices the end after");
    let long_poll = measure("LongPoll, the default", &LongPoll::default()).await?;
    let learned = measure("Learned, after earlier runs", &Learned::default()).await?;
    let fixed = measure("Fixed, every 30 s", &fixed).await?;
    let exponential = measure("Exponential, 1 s to 60 s", &exponential).await?;

    assert_eq!([long_poll.0, learned.0, fixed.0, exponential.0], [4, 1, 4, 7]);
    assert_eq!([long_poll.1, learned.1, fixed.1, exponential.1].map(|late| late.as_secs()), [0, 0, 20, 23]);
    Ok(())
}

/// Waits for the statement with a strategy. Prints and returns the number of polls and the delay.
async fn measure(name: &str, strategy: &dyn PollStrategy) -> Result<(u32, Duration)> {
    let service = LocalExecutor::scripted(Script::new().otherwise(ScriptedExecution::finished(EXECUTING)));
    let started = Instant::now();
    let id = service.submit(&Statement::sql("CALL load_sales()"), None).await?.id;

    let mut requests = RequestCounts::default();
    // Only `Learned` uses the expected duration.
    let wait = Wait::new(&service, &id, strategy).with_expected(Some(EXECUTING));
    let outcome = wait.until_ended(&mut requests).await;
    assert!(matches!(outcome, WaitOutcome::Ended(description) if description.status == Status::Finished));

    let late = started.elapsed() - EXECUTING;
    println!("{name:<29}{:>9}   {:.1} s", requests.describes, late.as_secs_f64());
    Ok((requests.describes, late))
}
