//! The conformance scenarios on executors that need no server. The PostgreSQL executor is tested in
//! `tests/postgres` of its package.

use std::time::Duration;

use redshift_data_local::{Fault, Faults, Faulty, LocalExecutor, Scripted};
use redshift_orchestrator::{
    StatementExecutor, conformance,
    layer::{Fleet, Limit, Rate, RequestRates, Retry, Traced},
};

#[path = "support/scripted.rs"]
mod scripted;

use scripted::Over;

fn over<E: StatementExecutor>(wrap: impl FnOnce(LocalExecutor<Scripted>) -> E) -> Over<E> {
    let service = scripted::service(Duration::from_secs(1));
    Over { executor: wrap(service.clone()), service, is_paused: true }
}

#[tokio::test(start_paused = true)]
async fn scripted_conforms() {
    conformance::all(&over(|service| service)).await;
    conformance::catalog(&over(|service| service)).await;
}

#[tokio::test(start_paused = true)]
async fn faulty_without_faults_conforms() {
    let fixture =
        over(|service| Faulty::new(service, Faults::seeded(1).with_everywhere(Fault::LostReply, 0.0)));
    conformance::all(&fixture).await;
    conformance::catalog(&fixture).await;
    assert_eq!(fixture.executor.injected().total(), 0);
}

#[tokio::test(start_paused = true)]
async fn faulty_with_late_answers_conforms() {
    let late = Fault::Delay(Duration::from_millis(300));
    let fixture = over(|service| Faulty::new(service, Faults::seeded(1).with_everywhere(late, 0.5)));
    conformance::all(&fixture).await;
    conformance::catalog(&fixture).await;
    assert!(fixture.executor.injected().total() > 10);
}

#[tokio::test(start_paused = true)]
async fn every_layer_conforms() {
    conformance::all(&over(Retry::new)).await;
    conformance::all(&over(|service| Limit::new(service, 50))).await;
    conformance::all(&over(|service| Rate::new(service, RequestRates::default()))).await;
    conformance::all(&over(Traced::new)).await;
    conformance::all(&over(Fleet::new)).await;
    let stack =
        |service| Retry::new(Limit::new(Rate::new(Traced::new(service), RequestRates::default()), 50));
    conformance::all(&over(stack)).await;
}

#[tokio::test(start_paused = true)]
async fn every_layer_shows_the_catalog() {
    conformance::catalog(&over(Retry::new)).await;
    conformance::catalog(&over(|service| Limit::new(service, 50))).await;
    conformance::catalog(&over(|service| Rate::new(service, RequestRates::default()))).await;
    conformance::catalog(&over(Traced::new)).await;
    conformance::catalog(&over(Fleet::new)).await;
}

#[tokio::test(start_paused = true)]
async fn an_executor_behind_a_pointer_conforms() {
    conformance::all(&over(|service| std::sync::Arc::new(service) as std::sync::Arc<dyn StatementExecutor>))
        .await;
}
