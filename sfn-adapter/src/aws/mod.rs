//! Thin implementations of the handlers' traits over the AWS SDK.

#[cfg(feature = "glue")]
mod glue;
#[cfg(feature = "hudi")]
mod lake;
#[cfg(feature = "callback")]
mod step_functions;

use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig, timeout::TimeoutConfig};
use redshift_orchestrator::{DataApiExecutor, Target};

#[cfg(feature = "glue")]
pub use glue::{S3Tables, glue, journal};
#[cfg(feature = "hudi")]
pub use lake::S3Lake;
#[cfg(feature = "callback")]
pub use step_functions::StepFunctions;

/// Time to connect after which a request counts as not sent. A response that is lost is noticed by the
/// [invocation](crate::Invocation), which knows the remaining time.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Loads the SDK's configuration. Credentials come from AWS's default provider chain.
pub async fn sdk(region: &str) -> SdkConfig {
    let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).build();
    let region = Region::new(region.to_owned());
    aws_config::defaults(BehaviorVersion::latest()).region(region).timeout_config(timeouts).load().await
}

/// Returns the executor for a warehouse. The handlers repeat requests, and the SDK does not.
pub fn executor(sdk: &SdkConfig, target: Target) -> DataApiExecutor {
    DataApiExecutor::new(sdk, target)
}
