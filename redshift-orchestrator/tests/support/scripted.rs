//! Scripted service for the conformance scenarios, and a fixture for layers in front of it.

use std::time::Duration;

use redshift_data_local::{Latency, Limits, LocalExecutor, Script, Scripted, ScriptedExecution};
use redshift_orchestrator::{
    Column, Field, StatementExecutor,
    catalog::Table,
    conformance::{Fixture, SampleSql},
};

/// Creates a service on which each statement is submitted, picked and running for `step` each. Only `nap`
/// runs for an hour.
pub(crate) fn service(step: Duration) -> LocalExecutor<Scripted> {
    let rows = (1..=3).map(|n| vec![Field::Long(n)]).collect();
    let mut limits = Limits::default();
    limits.rows_per_page = 2;
    let script = Script::new()
        .with_limits(limits)
        .with_table(Table::new("mystore", "fact_sales"), [Column::new("id", "int8")])
        .with_latency(Latency { submitted: step, picked: step })
        .on("SELECT n", ScriptedExecution::finished(step).with_result(vec![Column::new("n", "int4")], rows))
        .on("1 / 0", ScriptedExecution::failed(step, "ERROR: division by zero"))
        .on("nap", ScriptedExecution::finished(Duration::from_hours(1)))
        .otherwise(ScriptedExecution::finished(step));
    LocalExecutor::scripted(script)
}

/// Fixture for an executor in front of the scripted service.
pub(crate) struct Over<E> {
    pub(crate) executor: E,
    pub(crate) service: LocalExecutor<Scripted>,
    /// `true` if time is paused, so that waiting for hours takes no time. If it is `false`, scenarios that
    /// wait for hours are skipped.
    pub(crate) is_paused: bool,
}

impl<E: StatementExecutor> Fixture for Over<E> {
    type Executor = E;

    fn executor(&self) -> &E {
        &self.executor
    }

    fn sql(&self, sample: SampleSql<'_>) -> String {
        match sample {
            SampleSql::Rows => "SELECT n FROM three".to_owned(),
            SampleSql::Failure => "SELECT 1 / 0".to_owned(),
            SampleSql::LongRunning => "CALL nap()".to_owned(),
            SampleSql::Effect(what) => format!("CALL effect('{what}')"),
            SampleSql::EffectOf(parameter) => format!("CALL effect(:{parameter})"),
        }
    }

    async fn effects(&self, what: &str) -> usize {
        self.service.effects().iter().filter(|effect| effect.sql.contains(&format!("'{what}'"))).count()
    }

    async fn advance(&self, time: Duration) -> bool {
        if self.is_paused {
            tokio::time::sleep(time).await;
        }
        self.is_paused
    }
}
