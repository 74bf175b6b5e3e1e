//! Runs the conformance suite against `DataApiExecutor`, with the real SDK and the emulator.

use std::time::Duration;

use redshift_orchestrator::conformance;

use crate::{
    scripted::{Over, service},
    support::Served,
};

#[tokio::test]
async fn the_data_api_over_the_emulator_conforms() {
    let service = service(Duration::from_millis(5));
    let executor = Served::new(service.clone()).await.into_executor();
    let fixture = Over { executor, service, is_paused: false };
    conformance::all(&fixture).await;
    conformance::catalog(&fixture).await;
}
