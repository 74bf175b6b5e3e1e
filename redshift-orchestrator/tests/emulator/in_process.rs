//! The real SDK client on a connector that calls the emulator: hours go by in no time.

use std::{sync::Arc, time::Duration};

use futures::FutureExt;
use redshift_orchestrator::{
    Column, Conclusion, DataApiExecutor, ErrorKind, Field, Orchestrator, Pipeline, Run as PipelineRun,
    Statement, StatementExecutor, StepKey, Target, WaitTime,
    conformance::{self, Fixture, Need},
    emulator::Emulator,
    local::{Dwell, Fault, Faults, Faulty, Limits, LocalExecutor, Operation, Run, Script, Scripted},
    pipeline::Step,
};
use tokio::time::Instant;

use crate::connector;

fn executor(
    service: impl StatementExecutor + redshift_orchestrator::catalog::Catalog + 'static,
) -> DataApiExecutor {
    let emulator = Emulator::new(service).in_process();
    let config = connector::sdk_config(move |request| {
        let emulator = emulator.clone();
        async move { emulator.answer(request).await }.boxed()
    });
    DataApiExecutor::new(&config, Target::cluster("dwh", "dev"))
}

struct InProcess {
    executor: DataApiExecutor,
    service: LocalExecutor<Scripted>,
}

impl Fixture for InProcess {
    type Executor = DataApiExecutor;

    fn executor(&self) -> &DataApiExecutor {
        &self.executor
    }

    fn sql(&self, need: Need<'_>) -> String {
        match need {
            Need::Rows => "SELECT n FROM three".to_owned(),
            Need::Failure => "SELECT 1 / 0".to_owned(),
            Need::Nap => "CALL nap()".to_owned(),
            Need::Effect(what) => format!("CALL effect('{what}')"),
            Need::EffectOf(parameter) => format!("CALL effect(:{parameter})"),
        }
    }

    async fn effects(&self, what: &str) -> usize {
        self.service.effects().iter().filter(|effect| effect.sql.contains(&format!("'{what}'"))).count()
    }

    async fn pass(&self, time: Duration) -> bool {
        tokio::time::sleep(time).await;
        true
    }
}

fn service() -> LocalExecutor<Scripted> {
    let rows = (1..=3).map(|n| vec![Field::Long(n)]).collect();
    let mut limits = Limits::default();
    limits.rows_per_page = 2;
    let second = Duration::from_secs(1);
    let script = Script::new()
        .with_limits(limits)
        .with_dwell(Dwell { submitted: second, picked: second })
        .on("SELECT n", Run::finished(second).with_result(vec![Column::new("n", "int4")], rows))
        .on("1 / 0", Run::failed(second, "ERROR: division by zero"))
        .on("nap", Run::finished(Duration::from_hours(1)))
        .otherwise(Run::finished(second));
    LocalExecutor::scripted(script)
}

#[tokio::test(start_paused = true)]
async fn the_data_api_on_a_connector_conforms() {
    let service = service();
    let fixture = InProcess { executor: executor(service.clone()), service };
    conformance::all(&fixture).await;
    conformance::catalog(&fixture).await;
}

#[tokio::test(start_paused = true)]
async fn a_statement_of_four_hours_takes_a_question_every_30_seconds() {
    let takes = Duration::from_secs(4 * 3_600 - 10);
    let script = Script::new().otherwise(Run::finished(takes));
    let orchestrator = Orchestrator::new(executor(LocalExecutor::scripted(script)));
    let begin = Instant::now();
    let outcome =
        orchestrator.run(&StepKey::new("night", "load"), Statement::sql("CALL load()"), None).await.unwrap();
    assert!(matches!(outcome.result, Conclusion::Finished), "{outcome:?}");
    assert_eq!(begin.elapsed().as_secs(), takes.as_secs());
    assert_eq!((outcome.effort.submits, outcome.effort.describes), (1, 480));
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
async fn an_answer_that_never_comes_is_given_up_after_40_seconds() {
    let config = connector::sdk_config(|_| futures::future::pending().boxed());
    let executor = DataApiExecutor::new(&config, Target::cluster("dwh", "dev"));
    let begin = Instant::now();
    let error = executor.submit(&Statement::sql("SELECT 1"), Some(WaitTime::MAX)).await.unwrap_err();
    assert_eq!((error.kind(), begin.elapsed().as_secs()), (ErrorKind::Disconnected, 40));
}
