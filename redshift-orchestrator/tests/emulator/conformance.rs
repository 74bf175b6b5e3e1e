//! `DataApiExecutor`, over the real SDK and the emulator, passes every scenario.

use std::time::Duration;

use redshift_orchestrator::{
    Column, DataApiExecutor, Field,
    conformance::{self, Fixture, Need},
    local::{Limits, LocalExecutor, Run, Script, Scripted},
};

use crate::support::Served;

struct OverTheWire {
    executor: DataApiExecutor,
    service: LocalExecutor<Scripted>,
}

impl Fixture for OverTheWire {
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
}

#[tokio::test]
async fn the_data_api_over_the_emulator_conforms() {
    let rows = (1..=3).map(|n| vec![Field::Long(n)]).collect();
    let short = Duration::from_millis(5);
    let mut limits = Limits::default();
    limits.rows_per_page = 2;
    let script = Script::new()
        .with_limits(limits)
        .on("SELECT n", Run::finished(short).with_result(vec![Column::new("n", "int4")], rows))
        .on("1 / 0", Run::failed(short, "ERROR: division by zero"))
        .on("nap", Run::finished(Duration::from_hours(1)))
        .otherwise(Run::finished(short));
    let service = LocalExecutor::scripted(script);
    let executor = Served::new(service.clone()).await.into_executor();
    let fixture = OverTheWire { executor, service };
    conformance::all(&fixture).await;
    conformance::catalog(&fixture).await;
}
