//! Bucket on a loopback S3 server.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
};

use object_store::aws::{AmazonS3, AmazonS3Builder};

/// Bucket of one test.
pub(crate) struct Bucket {
    pub(crate) endpoint: String,
    pub(crate) name: String,
}

impl Bucket {
    pub(crate) fn new(test: &str) -> Self {
        let endpoint = std::env::var("REDSHIFT_ORCHESTRATOR_S3_ENDPOINT").unwrap_or_else(|_| {
            panic!("REDSHIFT_ORCHESTRATOR_S3_ENDPOINT is not set: scripts/s3/server start prints it")
        });
        let name = format!("{test}-{}", std::process::id());
        let host = endpoint.strip_prefix("http://").unwrap();
        let mut server = TcpStream::connect(host).unwrap();
        let request =
            format!("PUT /{name} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        server.write_all(request.as_bytes()).unwrap();
        let mut response = String::new();
        server.read_to_string(&mut response).unwrap();
        assert!(response.starts_with("HTTP/1.1 200"), "{response}");
        Self { endpoint, name }
    }

    /// Creates another client, to simulate another process.
    pub(crate) fn store(&self) -> Arc<AmazonS3> {
        let builder = AmazonS3Builder::new()
            .with_endpoint(&self.endpoint)
            .with_allow_http(true)
            .with_bucket_name(&self.name)
            .with_region("us-east-1")
            .with_access_key_id("any")
            .with_secret_access_key("any");
        Arc::new(builder.build().unwrap())
    }
}
