//! Stacks layers around an executor: 300 statements are run at once on a cluster that accepts 50 active
//! statements, over a network that loses one response in ten.
//!
//! ```text
//! Faulty(Local(Scripted)): 43 finished, 257 with an error
//! Retry(Limit(50, Rate(Traced(Faulty(Local(Scripted)))))): 300 finished, 0 with an error
//! each of the 300 statements took effect once
//! ```
//!
//! The order of the layers matters; the module `layer` explains why. An `Orchestrator` already retries, so it
//! only needs a `Fleet` (`Limit` and `Rate` with the service's quotas). The clock is paused.

use std::{collections::HashSet, time::Duration};

use futures::future::join_all;
use redshift_data_local::{
    Fault, Faults, Faulty, Limits, LocalExecutor, Script, Scripted, ScriptedExecution,
};
use redshift_orchestrator::{
    ClientToken, Result, Statement, StatementExecutor, WaitTime,
    layer::{Limit, Rate, RequestRates, Retry, Traced},
};

const STATEMENTS: usize = 300;
const ACTIVE: usize = 50;

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() {
    let (_, bare) = service();
    let finished = run_all(&bare).await;
    println!("{bare}: {finished} finished, {} with an error", STATEMENTS - finished);
    assert!(finished <= ACTIVE);

    let (cluster, network) = service();
    // From the inside out: log each request, obey the account's request rates, obey the cluster's limit, and
    // retry failed requests. A retried request passes through the inner layers again.
    let layers = Retry::new(Limit::new(Rate::new(Traced::new(network), RequestRates::default()), ACTIVE));
    let finished = run_all(&layers).await;
    println!("{layers}: {finished} finished, {} with an error", STATEMENTS - finished);
    assert_eq!(finished, STATEMENTS);

    let effects = cluster.effects();
    let tokens: HashSet<_> = effects.iter().filter_map(|effect| effect.client_token.clone()).collect();
    assert_eq!((effects.len(), tokens.len()), (STATEMENTS, STATEMENTS));
    println!("each of the {STATEMENTS} statements took effect once");
}

/// Returns a cluster, and the same cluster behind an unreliable network.
fn service() -> (LocalExecutor<Scripted>, Faulty<LocalExecutor<Scripted>>) {
    let mut limits = Limits::default();
    limits.active_statements = ACTIVE;
    let run = ScriptedExecution::finished(Duration::from_secs(20));
    let cluster = LocalExecutor::scripted(Script::new().otherwise(run).with_limits(limits));
    let faults = Faults::seeded(7).with_everywhere(Fault::LostReply, 0.1);
    (cluster.clone(), Faulty::new(cluster, faults))
}

/// Runs all statements at once. Returns the number of statements that finished.
async fn run_all(executor: &impl StatementExecutor) -> usize {
    let results = join_all((0..STATEMENTS).map(|number| run(executor, number))).await;
    results.iter().filter(|result| result.is_ok()).count()
}

/// Submits a statement and waits until it ends. The client token makes repeated submits idempotent.
async fn run(executor: &impl StatementExecutor, number: usize) -> Result<()> {
    let token = ClientToken::new(format!("load-partition-{number:04}"))?;
    let statement = Statement::sql(format!("CALL load_partition({number})")).with_client_token(token);
    let id = executor.submit(&statement, None).await?.id;
    while !executor.describe(&id, Some(WaitTime::MAX)).await?.status.is_terminal() {}
    Ok(())
}
