//! Runs the emulator on loopback, and configures the SDK for it.

use std::{net::SocketAddr, thread};

use anyhow::{Context, Result};
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_redshiftdata::config::{Credentials, SharedCredentialsProvider};
use redshift_data_emulator::Emulator;
use redshift_data_local::{LocalExecutor, Script};

/// Starts an emulator with a script on a separate thread, where it serves until the process ends. Returns its
/// URL.
pub fn emulate(script: Script) -> Result<String> {
    let (sender, receiver) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let serve = async {
            let any = SocketAddr::from(([127, 0, 0, 1], 0));
            let listening = Emulator::new(LocalExecutor::scripted(script)).bind(any).await?;
            // Sending fails if the caller is gone.
            let _ = sender.send(listening.url());
            listening.serve_until(std::future::pending()).await;
            Ok::<_, anyhow::Error>(())
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let served = runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(serve));
        if let Err(error) = served {
            eprintln!("the emulator failed: {error:#}");
        }
    });
    receiver.recv().context("the emulator did not start")
}

/// Returns the configuration that `aws-config` would load, with an endpoint on loopback.
pub fn sdk_config(url: &str) -> SdkConfig {
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .endpoint_url(url)
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new(
            "any", "any", None, None, "bench",
        )))
        .build()
}
