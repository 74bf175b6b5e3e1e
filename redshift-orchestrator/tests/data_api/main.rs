//! `DataApiExecutor` on the real SDK client, against a loopback server that simulates the service.

#![cfg(feature = "data-api")]
#![allow(clippy::unwrap_used)]

#[path = "../support/http.rs"]
mod http;

mod failures;
mod garbage;
mod requests;
mod responses;
mod settings;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_redshiftdata::config::{Credentials, SharedCredentialsProvider};
use redshift_orchestrator::{DataApiExecutor, Target};

const SECRET: &str = "arn:aws:secretsmanager:eu-west-1:111122223333:secret:dwh-AbCdEf";
const ID: &str = "d9b6c0c9-0747-4bf4-b142-e8883122f766";

fn sdk(endpoint: &str) -> SdkConfig {
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .endpoint_url(endpoint)
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new(
            "AKID", "key", None, None, "test",
        )))
        .build()
}

fn target() -> Target {
    Target::cluster("dwh", "mystore").with_secret(SECRET)
}

fn executor(endpoint: &str) -> DataApiExecutor {
    DataApiExecutor::new(&sdk(endpoint), target())
}
