//! The conformance scenarios on executors that need no server. The PostgreSQL executor is tested in
//! `tests/postgres` of its package.

use std::{panic::AssertUnwindSafe, time::Duration};

use async_trait::async_trait;
use futures::FutureExt;
use redshift_data_local::{Fault, Faults, Faulty, LocalExecutor, Scripted};
use redshift_orchestrator::{
    Description, PageToken, Result, ResultPage, Statement, StatementExecutor, StatementFilter, StatementId,
    StatementPage, Submitted, Target, WaitTime, conformance,
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
async fn faulty_with_late_responses_conforms() {
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
async fn every_layer_forwards_the_catalog() {
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

/// Executor that rejects every cancel and returns empty listings.
#[derive(Debug)]
struct Incomplete(LocalExecutor<Scripted>);

#[async_trait]
impl StatementExecutor for Incomplete {
    async fn submit(&self, statement: &Statement, wait: Option<WaitTime>) -> Result<Submitted> {
        self.0.submit(statement, wait).await
    }

    async fn describe(&self, id: &StatementId, wait: Option<WaitTime>) -> Result<Description> {
        self.0.describe(id, wait).await
    }

    async fn cancel(&self, _: &StatementId) -> Result<bool> {
        Ok(false)
    }

    async fn result(&self, id: &StatementId, page: Option<PageToken>) -> Result<ResultPage> {
        self.0.result(id, page).await
    }

    async fn list(&self, _: &StatementFilter, _: Option<PageToken>) -> Result<StatementPage> {
        Ok(StatementPage::new(Vec::new(), None))
    }

    fn target(&self) -> Option<Target> {
        self.0.target()
    }
}

/// Regression: only the first failure was reported.
#[tokio::test(start_paused = true)]
async fn all_failures_of_an_executor_are_reported() {
    let failures = conformance::failures(&over(Incomplete)).await;
    let names: Vec<_> = failures.iter().map(|failure| failure.scenario).collect();
    let expected = [
        "a_long_poll_ends_after_its_wait_time",
        "cancel_aborts_a_running_statement_and_no_other",
        "a_session_runs_one_statement_at_a_time",
        "a_sub_statement_can_be_described_with_a_wait",
        "an_unknown_id_is_not_found",
        "a_statement_record_expires_after_24_hours",
        "a_listing_filters_by_name_prefix",
    ];
    for name in &expected {
        assert!(names.contains(name), "{name} passed");
    }
    assert_eq!(names.len(), expected.len(), "{names:?}");

    let fixture = over(Incomplete);
    let panic = AssertUnwindSafe(conformance::all(&fixture)).catch_unwind().await.unwrap_err();
    let message = panic.downcast::<String>().unwrap();
    let count = conformance::SCENARIOS.len();
    assert!(message.starts_with(&format!("7 of {count} scenarios failed\n")), "{message}");
    for failure in failures {
        assert!(message.contains(failure.scenario), "{message}");
    }
}
