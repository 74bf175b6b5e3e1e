//! Runs the conformance suite on PostgreSQL.

use redshift_data_local::Limits;
use redshift_orchestrator::conformance;

use crate::{fixture::OnPostgres, harness::Database};

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
