//! The HTTP client of the SDK: rustls with ring, as in `object_store`, so that the executable has one TLS
//! stack.

use std::sync::{Arc, OnceLock};

use aws_smithy_http_client::{
    Builder,
    tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::{
    http::{
        HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
        SharedHttpConnector,
    },
    orchestrator::HttpRequest,
    runtime_components::RuntimeComponents,
};

/// Returns the client. It reads the system's root certificates at the first request to an `https` endpoint;
/// the SDK's own client reads them when a service is configured, in every process.
pub(super) fn client() -> SharedHttpClient {
    SharedHttpClient::new(Lazy::default())
}

/// A client for each scheme, built when it is first used. Both pool their connections.
#[derive(Clone, Debug, Default)]
struct Lazy(Arc<Clients>);

#[derive(Debug, Default)]
struct Clients {
    plain: OnceLock<SharedHttpClient>,
    tls: OnceLock<SharedHttpClient>,
}

impl Lazy {
    fn of(&self, request: &HttpRequest) -> &SharedHttpClient {
        match request.uri().starts_with("http://") {
            true => self.0.plain.get_or_init(|| built(TrustStore::empty())),
            false => self.0.tls.get_or_init(|| built(TrustStore::default())),
        }
    }
}

fn built(roots: TrustStore) -> SharedHttpClient {
    let builder = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring));
    match TlsContext::builder().with_trust_store(roots).build() {
        Ok(context) => builder.tls_context(context).build_https(),
        // A context without certificates of its own is always valid.
        Err(_) => builder.build_https(),
    }
}

impl HttpClient for Lazy {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(Connector {
            client: self.clone(),
            settings: settings.clone(),
            components: components.clone(),
        })
    }
}

/// Passes a request to the client of its scheme.
#[derive(Debug)]
struct Connector {
    client: Lazy,
    settings: HttpConnectorSettings,
    components: RuntimeComponents,
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        self.client.of(&request).http_connector(&self.settings, &self.components).call(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(uri: &str) -> HttpRequest {
        let mut request = HttpRequest::empty();
        request.set_uri(uri).unwrap();
        request
    }

    #[test]
    fn certificates_are_read_for_the_first_request_that_needs_them() {
        let lazy = Lazy::default();
        lazy.of(&request("http://127.0.0.1:4566/"));
        assert!(lazy.0.tls.get().is_none() && lazy.0.plain.get().is_some());
        lazy.of(&request("https://redshift-data.eu-west-1.amazonaws.com/"));
        assert!(lazy.0.tls.get().is_some());
    }
}
