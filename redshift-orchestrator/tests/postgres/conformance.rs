//! The scenarios, over PostgreSQL.

use redshift_orchestrator::{
    conformance::{self, Fixture, Need},
    local::{LocalExecutor, Postgres},
};

use crate::harness::Database;

struct OnPostgres {
    database: Database,
    executor: LocalExecutor<Postgres>,
}

impl Fixture for OnPostgres {
    type Executor = LocalExecutor<Postgres>;

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
    let executor = database.start().await;
    conformance::all(&OnPostgres { database, executor }).await;
}
