//! SDK configuration with an HTTP client that calls a closure. It needs no sockets, so time can be paused.

use std::{fmt, sync::Arc};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_redshiftdata::config::{Credentials, SharedCredentialsProvider};
use aws_smithy_runtime_api::client::{
    http::{HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector},
    orchestrator::{HttpRequest, HttpResponse},
    result::ConnectorError,
    runtime_components::RuntimeComponents,
};
use bytes::Bytes;
use futures::future::BoxFuture;
use hyper::{Request, Response};

type Answer = dyn Fn(Request<Bytes>) -> BoxFuture<'static, Option<Response<Bytes>>> + Send + Sync;

/// HTTP client that passes each request to a closure. If the closure returns `None`, the connection is
/// closed.
#[derive(Clone)]
struct Connector(Arc<Answer>);

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let answer = self.0.clone();
        HttpConnectorFuture::new(async move {
            let other = |error: Box<dyn std::error::Error + Send + Sync>| ConnectorError::other(error, None);
            let request = request.try_into_http1x().map_err(|error| other(error.into()))?;
            let request = request.map(|body| Bytes::copy_from_slice(body.bytes().unwrap_or_default()));
            match answer(request).await {
                Some(response) => HttpResponse::try_from(response.map(|body| body.to_vec().into()))
                    .map_err(|error| other(error.into())),
                None => Err(ConnectorError::io("connection closed".into())),
            }
        })
    }
}

impl HttpClient for Connector {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

/// Returns an SDK configuration that passes each request to `answer`.
pub(crate) fn sdk_config(
    answer: impl Fn(Request<Bytes>) -> BoxFuture<'static, Option<Response<Bytes>>> + Send + Sync + 'static,
) -> SdkConfig {
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .endpoint_url("http://in-process/")
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new(
            "any", "any", None, None, "test",
        )))
        .http_client(Connector(Arc::new(answer)))
        .build()
}
