//! Settings of the SDK that the executor changes, and their effects.

use std::time::Duration;

use aws_config::{retry::RetryConfig, timeout::TimeoutConfig};
use aws_smithy_http_client::test_util::NeverClient;
use redshift_orchestrator::{
    DataApiExecutor, ErrorKind, Statement, StatementExecutor, StatementFilter, StatementId, WaitTime,
};
use tokio::time::Instant;

use crate::{ID, SECRET, executor, sdk, target};

/// Returns settings of a user that would break long polls or retry requests.
fn hostile() -> aws_config::SdkConfig {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(1))
        .read_timeout(Duration::from_secs(2))
        .operation_attempt_timeout(Duration::from_secs(3))
        .operation_timeout(Duration::from_secs(4));
    sdk("http://127.0.0.1:1")
        .into_builder()
        .http_client(NeverClient::new())
        .timeout_config(timeouts.build())
        .retry_config(RetryConfig::standard().with_max_attempts(5))
        .build()
}

#[tokio::test(start_paused = true)]
async fn a_missing_response_is_given_up_after_the_longest_long_poll() {
    let executor = DataApiExecutor::new(&hostile(), target());
    let id = StatementId::new(ID);
    let start = Instant::now();
    let error = executor.describe(&id, Some(WaitTime::MAX)).await.unwrap_err();
    assert_eq!(start.elapsed().as_secs(), 40);
    assert_eq!(error.kind(), ErrorKind::Disconnected);

    let start = Instant::now();
    let error = executor.submit(&Statement::sql("SELECT 1"), None).await.unwrap_err();
    assert_eq!(start.elapsed().as_secs(), 40);
    assert!(error.kind().may_have_taken_effect());
}

#[tokio::test(start_paused = true)]
async fn a_listing_has_a_longer_timeout() {
    let executor = DataApiExecutor::new(&hostile(), target());
    let start = Instant::now();
    executor.list(&StatementFilter::default(), None).await.unwrap_err();
    assert_eq!(start.elapsed().as_secs(), 150);
}

#[tokio::test(start_paused = true)]
async fn a_custom_configuration_is_not_changed() {
    let timeouts = TimeoutConfig::builder().operation_attempt_timeout(Duration::from_secs(7)).build();
    let conf = DataApiExecutor::config(&hostile()).timeout_config(timeouts).build();
    let executor = DataApiExecutor::from_conf(conf, target());
    let start = Instant::now();
    executor.list(&StatementFilter::default(), None).await.unwrap_err();
    assert_eq!(start.elapsed().as_secs(), 7);
}

#[test]
fn the_sdk_neither_retries_nor_interrupts_a_long_poll() {
    let conf = DataApiExecutor::config(&hostile()).build();
    assert!(!conf.retry_config().unwrap().has_retry());
    assert!(!conf.stalled_stream_protection().unwrap().is_enabled());
    assert_eq!(conf.timeout_config().unwrap().connect_timeout(), Some(Duration::from_secs(1)));
}

#[test]
fn debug_prints_the_target_without_its_secret() {
    let printed = format!("{:?}", executor("http://127.0.0.1:1"));
    assert!(printed.contains("mystore") && !printed.contains(SECRET), "{printed}");
}
