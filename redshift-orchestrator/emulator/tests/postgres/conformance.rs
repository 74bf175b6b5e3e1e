//! Runs the conformance suite through the SDK and the emulator, on PostgreSQL.

use redshift_orchestrator::conformance;

use crate::{emulator::Served, fixture::OnPostgres, harness::Database};

#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn the_data_api_over_the_emulator_on_postgres_conforms() {
    let database = Database::new("conforms_over_the_wire").await;
    let executor = Served::new(database.start().await).await.into_executor();
    let fixture = OnPostgres { database, executor };
    conformance::all(&fixture).await;
    conformance::catalog(&fixture).await;
}
