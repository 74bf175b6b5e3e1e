//! The scenarios, over the executors that need no server. `tests/postgres` has the one that does.

use std::time::Duration;

use redshift_orchestrator::{
    Column, Field, StatementExecutor,
    catalog::Table,
    conformance::{self, Fixture, Need},
    layer::{Fleet, Limit, Rate, RequestRates, Retry, Traced},
    local::{Dwell, Effect, Fault, Faults, Faulty, Limits, LocalExecutor, Run, Script, Scripted},
};

/// An executor in front of a script; `effects` gets at the script's.
struct Over<E> {
    executor: E,
    effects: Box<dyn Fn() -> Vec<Effect> + Sync + Send>,
}

impl<E: StatementExecutor> Fixture for Over<E> {
    type Executor = E;

    fn executor(&self) -> &E {
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
        (self.effects)().iter().filter(|effect| effect.sql.contains(&format!("'{what}'"))).count()
    }

    async fn pass(&self, time: Duration) -> bool {
        tokio::time::sleep(time).await;
        true
    }
}

fn scripted() -> LocalExecutor<Scripted> {
    let rows = (1..=3).map(|n| vec![Field::Long(n)]).collect();
    let mut limits = Limits::default();
    limits.rows_per_page = 2;
    let script = Script::new()
        .with_limits(limits)
        .with_table(Table::new("mystore", "fact_sales"), [Column::new("id", "int8")])
        .with_dwell(Dwell { submitted: Duration::from_millis(100), picked: Duration::from_millis(100) })
        .on(
            "SELECT n",
            Run::finished(Duration::from_secs(1)).with_result(vec![Column::new("n", "int4")], rows),
        )
        .on("1 / 0", Run::failed(Duration::from_secs(1), "ERROR: division by zero"))
        .on("nap", Run::finished(Duration::from_hours(1)))
        .otherwise(Run::finished(Duration::from_secs(2)));
    LocalExecutor::scripted(script)
}

fn over<E: StatementExecutor>(wrap: impl FnOnce(LocalExecutor<Scripted>) -> E) -> Over<E> {
    let service = scripted();
    let effects = service.clone();
    Over { executor: wrap(service), effects: Box::new(move || effects.effects()) }
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
