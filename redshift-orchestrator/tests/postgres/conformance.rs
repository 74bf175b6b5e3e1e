//! The conformance scenarios on PostgreSQL.

use redshift_orchestrator::{
    StatementExecutor,
    conformance::{self, Fixture, Need},
    local::Limits,
};

use crate::harness::Database;

struct OnPostgres<E> {
    database: Database,
    executor: E,
}

impl<E: StatementExecutor> Fixture for OnPostgres<E> {
    type Executor = E;

    fn executor(&self) -> &Self::Executor {
        &self.executor
    }

    fn sql(&self, need: Need<'_>) -> String {
        match need {
            Need::Rows => "SELECT n FROM generate_series(1, 3) AS n".to_owned(),
            Need::Failure => "SELECT 1 / 0".to_owned(),
            Need::Nap => "SELECT pg_sleep(600)".to_owned(),
            Need::Effect(what) => format!("INSERT INTO effects VALUES ('{what}')"),
            Need::EffectOf(parameter) => format!("INSERT INTO effects VALUES (:{parameter})"),
        }
    }

    async fn effects(&self, what: &str) -> usize {
        self.database.effects(what).await as usize
    }
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn postgres_conforms() {
    let database = Database::new("conforms").await;
    let mut limits = Limits::default();
    limits.rows_per_page = 2;
    let executor = database.service().with_limits(limits).start().await.unwrap();
    let fixture = OnPostgres { database, executor };
    conformance::all(&fixture).await;
    conformance::catalog(&fixture).await;
}

#[cfg(all(feature = "data-api", feature = "emulator"))]
#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn the_data_api_over_the_emulator_on_postgres_conforms() {
    let database = Database::new("conforms_over_the_wire").await;
    let executor = crate::emulator::Served::new(database.start().await).await.into_executor();
    let fixture = OnPostgres { database, executor };
    conformance::all(&fixture).await;
    conformance::catalog(&fixture).await;
}
