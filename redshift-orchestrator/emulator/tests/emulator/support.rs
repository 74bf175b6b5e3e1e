//! An emulator in the test process.

#![allow(dead_code, reason = "some of the tests that include this file use only a part of it")]

use std::net::SocketAddr;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_redshiftdata::{
    Client,
    config::{Credentials, SharedCredentialsProvider},
};
use redshift_data_emulator::Emulator;
use redshift_data_local::{LocalExecutor, Script};
use redshift_orchestrator::{DataApiExecutor, StatementExecutor, Target, catalog::Catalog};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
};

/// An emulator that serves until it is dropped or stopped.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<()>,
}

impl Served {
    pub(crate) async fn scripted(script: &str) -> Self {
        Self::new(LocalExecutor::scripted(Script::from_toml(script).unwrap())).await
    }

    pub(crate) async fn new(executor: impl StatementExecutor + Catalog + 'static) -> Self {
        let emulator = Emulator::new(executor).bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = emulator.address();
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(emulator.serve_until(async { stopped.await.unwrap_or(()) }));
        Self { address, stop: Some(stop), serving }
    }

    /// Stops the emulator and waits until it has stopped.
    pub(crate) async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        (&mut self.serving).await.unwrap();
    }

    pub(crate) fn client(&self) -> Client {
        Client::from_conf(DataApiExecutor::config(&self.sdk_config()).build())
    }

    /// Returns an executor that uses this emulator. All emulators of a test are one service, although each
    /// has a port of its own.
    pub(crate) fn executor(&self) -> DataApiExecutor {
        let target = Target::cluster("dwh", "dev").with_service_name("emulator");
        DataApiExecutor::new(&self.sdk_config(), target)
    }

    /// Returns an [executor](Self::executor). The emulator serves until the test's runtime ends.
    pub(crate) fn into_executor(self) -> DataApiExecutor {
        let executor = self.executor();
        std::mem::forget(self);
        executor
    }

    fn sdk_config(&self) -> SdkConfig {
        sdk_config(&format!("http://{}", self.address))
    }

    /// Sends a request as is. Returns the status, the head and the body of the response, or `None` if the
    /// connection is closed without a response.
    pub(crate) async fn raw(&self, request: &str) -> Option<(u16, String, Value)> {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, head.to_ascii_lowercase(), serde_json::from_str(body).unwrap_or_default()))
    }

    /// Calls an operation with this body.
    pub(crate) async fn call(&self, operation: &str, body: &str) -> Option<(u16, String, Value)> {
        self.raw(&format!(
            "POST / HTTP/1.1\r\nhost: emulator\r\nconnection: close\r\ncontent-type: application/x-amz-json-1.1\r\n\
             x-amz-target: RedshiftData.{operation}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ))
        .await
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

pub(crate) fn sdk_config(endpoint: &str) -> SdkConfig {
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .endpoint_url(endpoint)
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new(
            "any", "any", None, None, "test",
        )))
        .build()
}
