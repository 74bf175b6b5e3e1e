//! Tests the real SDK client with a connector that calls the emulator in process, on paused time.

use std::{sync::Arc, time::Duration};

use futures::FutureExt;
use redshift_data_emulator::Emulator;
use redshift_data_local::{
    Fault, Faults, Faulty, LocalExecutor, Operation, Script, Scripted, ScriptedExecution,
};
use redshift_orchestrator::{
    DataApiExecutor, ErrorKind, Orchestrator, OutcomeKind, Pipeline, Run as PipelineRun, Statement,
    StatementExecutor, StepKey, Target, WaitTime, catalog::Catalog, conformance, pipeline::Step,
};
use tokio::time::Instant;

use crate::{
    connector,
    scripted::{self, Over},
};

fn executor(service: impl StatementExecutor + Catalog + 'static) -> DataApiExecutor {
    let emulator = Emulator::new(service).in_process();
    let config = connector::sdk_config(move |request| {
        let emulator = emulator.clone();
        async move { emulator.handle(request).await }.boxed()
    });
    DataApiExecutor::new(&config, Target::cluster("dwh", "dev"))
}

fn service() -> LocalExecutor<Scripted> {
    scripted::service(Duration::from_secs(1))
}

#[tokio::test(start_paused = true)]
async fn the_data_api_on_a_connector_conforms() {
    let service = service();
    let fixture = Over { executor: executor(service.clone()), service, is_paused: true };
    conformance::all(&fixture).await;
    conformance::catalog(&fixture).await;
}

#[tokio::test(start_paused = true)]
async fn a_statement_of_four_hours_takes_one_poll_per_30_seconds() {
    let takes = Duration::from_secs(4 * 3_600 - 10);
    let script = Script::new().otherwise(ScriptedExecution::finished(takes));
    let orchestrator = Orchestrator::new(executor(LocalExecutor::scripted(script)));
    let begin = Instant::now();
    let outcome =
        orchestrator.run(&StepKey::new("night", "load"), Statement::sql("CALL load()")).await.unwrap();
    assert!(matches!(outcome.kind, OutcomeKind::Finished), "{outcome:?}");
    assert_eq!(begin.elapsed().as_secs(), takes.as_secs());
    assert_eq!((outcome.requests.submits, outcome.requests.describes), (1, 480));
}

#[tokio::test(start_paused = true)]
async fn a_pipeline_over_the_sdk_survives_a_bad_network_and_runs_each_step_once() {
    let faults = Faults::seeded(7)
        .with_everywhere(Fault::LostReply, 0.2)
        .with_everywhere(Fault::Throttle, 0.1)
        .with_everywhere(Fault::WrappedThrottle, 0.1)
        .with_everywhere(Fault::InternalError, 0.1)
        .with(Operation::Submit, Fault::DroppedConnection, 0.1);
    let service = service();
    let faulty = Arc::new(Faulty::new(service.clone(), faults));
    let orchestrator = Orchestrator::new(executor(faulty.clone()));
    let names: Vec<_> = (0..20).map(|number| format!("s{number}")).collect();
    let builder = Pipeline::builder("night").with_concurrency(4);
    let builder = names
        .iter()
        .fold(builder, |builder, name| builder.with_step(Step::sql(name, format!("CALL {name}()"))));
    let report = builder.build().unwrap().run(&orchestrator, PipelineRun::new("r")).await.unwrap();
    assert!(report.is_success(), "{report}");
    assert!(faulty.injected().total() > 10);
    let mut effects: Vec<_> = service.effects().into_iter().map(|effect| effect.sql).collect();
    effects.sort();
    let mut expected: Vec<_> = names.iter().map(|name| format!("CALL {name}()")).collect();
    expected.sort();
    assert_eq!(effects, expected);
}

#[tokio::test(start_paused = true)]
async fn a_missing_response_is_given_up_after_40_seconds() {
    let config = connector::sdk_config(|_| futures::future::pending().boxed());
    let executor = DataApiExecutor::new(&config, Target::cluster("dwh", "dev"));
    let begin = Instant::now();
    let error = executor.submit(&Statement::sql("SELECT 1"), Some(WaitTime::MAX)).await.unwrap_err();
    assert_eq!((error.kind(), begin.elapsed().as_secs()), (ErrorKind::Disconnected, 40));
}
