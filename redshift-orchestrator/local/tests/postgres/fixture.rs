//! Fixture for running the conformance suite on PostgreSQL.

use redshift_orchestrator::{
    StatementExecutor,
    conformance::{Fixture, SampleSql},
};

use crate::harness::Database;

/// An executor and the database that it uses.
pub(crate) struct OnPostgres<E> {
    pub(crate) database: Database,
    pub(crate) executor: E,
}

impl<E: StatementExecutor> Fixture for OnPostgres<E> {
    type Executor = E;

    fn executor(&self) -> &Self::Executor {
        &self.executor
    }

    fn sql(&self, sample: SampleSql<'_>) -> String {
        match sample {
            SampleSql::Rows => "SELECT n FROM generate_series(1, 3) AS n".to_owned(),
            SampleSql::Failure => "SELECT 1 / 0".to_owned(),
            SampleSql::LongRunning => "SELECT pg_sleep(600)".to_owned(),
            SampleSql::Effect(what) => format!("INSERT INTO effects VALUES ('{what}')"),
            SampleSql::EffectOf(parameter) => format!("INSERT INTO effects VALUES (:{parameter})"),
        }
    }

    async fn effects(&self, what: &str) -> usize {
        self.database.effects(what).await as usize
    }
}
