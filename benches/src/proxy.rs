//! A proxy in front of an S3 server on this machine: it delays each request like a network, and counts requests and
//! bytes by kind.

#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, Response, StatusCode, Uri,
    body::{Body, Incoming},
    header::{EXPECT, TRANSFER_ENCODING},
    service::service_fn,
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use tokio::net::TcpListener;

use crate::remote::{RATE, REQUEST, Traffic};

/// The proxy. It ends with the runtime.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    requests: Requests,
}

/// The traffic by kind of request, such as `PUT` or `PUT part`.
type Requests = Arc<Mutex<BTreeMap<String, Traffic>>>;

impl Proxy {
    /// Starts a proxy for the server at a URL.
    pub async fn start(server: &str) -> Result<Self> {
        let server: Uri = server.parse()?;
        let authority = server.authority().context("the server's URL has no host")?.clone();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let requests = Requests::default();
        let client = Client::builder(TokioExecutor::new()).build_http();
        let passing = Passing { client, authority: authority.to_string(), requests: requests.clone() };
        let accepting = async move {
            while let Ok((stream, _)) = listener.accept().await {
                let passing = passing.clone();
                let pass = service_fn(move |request| {
                    let passing = passing.clone();
                    async move { Ok::<_, Infallible>(passing.pass(request).await) }
                });
                let connection =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), pass);
                // A client may close its connection at any time.
                drop(tokio::spawn(async move { drop(connection.await) }));
            }
        };
        drop(tokio::spawn(accepting));
        Ok(Self { address, requests })
    }

    /// Returns its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the traffic since the last call, by kind.
    pub fn lap(&self) -> BTreeMap<String, Traffic> {
        std::mem::take(&mut self.requests.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[derive(Clone)]
struct Passing {
    client: Client<HttpConnector, Full<Bytes>>,
    authority: String,
    requests: Requests,
}

impl Passing {
    async fn pass(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let begun = Instant::now();
        let kind = kind(&request);
        let passed = self.forward(request).await;
        let (response, up) = passed.unwrap_or_else(|error| {
            let mut response = Response::new(Full::from(format!("{error:#}")));
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            (response, 0)
        });
        let down = response.body().size_hint().exact().unwrap_or(0);
        {
            let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
            let traffic = requests.entry(kind).or_default();
            traffic.requests += 1;
            traffic.up += up;
            traffic.down += down;
        }
        let wanted = REQUEST + Duration::from_secs_f64((up + down) as f64 / RATE);
        // The server's own time is part of it.
        tokio::time::sleep(wanted.saturating_sub(begun.elapsed())).await;
        response
    }

    async fn forward(&self, request: Request<Incoming>) -> Result<(Response<Full<Bytes>>, u64)> {
        let (mut parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let up = body.len() as u64;
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        parts.uri = format!("http://{}{path}", self.authority).parse()?;
        // The body has arrived.
        parts.headers.remove(EXPECT);
        parts.headers.remove(TRANSFER_ENCODING);
        let response = self.client.request(Request::from_parts(parts, Full::from(body))).await?;
        let (mut parts, body) = response.into_parts();
        let body = body.collect().await?.to_bytes();
        parts.headers.remove(TRANSFER_ENCODING);
        Ok((Response::from_parts(parts, Full::from(body)), up))
    }
}

/// Returns the kind of a request.
fn kind(request: &Request<Incoming>) -> String {
    let query = request.uri().query().unwrap_or_default();
    let names: Vec<&str> = query.split('&').map(|pair| pair.split('=').next().unwrap_or_default()).collect();
    let has = |name: &str| names.contains(&name);
    let copies = request.headers().contains_key("x-amz-copy-source");
    let ranged = request.headers().contains_key("range");
    match request.method() {
        &Method::GET if has("list-type") || has("prefix") => "LIST".to_owned(),
        &Method::GET if ranged => "GET range".to_owned(),
        &Method::PUT if has("partNumber") && copies => "COPY part".to_owned(),
        &Method::PUT if has("partNumber") => "PUT part".to_owned(),
        &Method::PUT if copies => "COPY".to_owned(),
        &Method::POST if has("delete") => "DELETE many".to_owned(),
        &Method::POST if has("uploads") || has("uploadId") => "POST upload".to_owned(),
        method => method.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn upper(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
        let path = request.uri().to_string();
        let body = request.into_body().collect().await?.to_bytes().to_ascii_uppercase();
        Ok(Response::new(Full::from([path.as_bytes(), &body].concat())))
    }

    #[tokio::test]
    async fn a_request_is_passed_on_and_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        let serving = async move {
            let (stream, _) = listener.accept().await.unwrap();
            let connection = hyper::server::conn::http1::Builder::new();
            connection.serve_connection(TokioIo::new(stream), service_fn(upper)).await.unwrap();
        };
        drop(tokio::spawn(serving));
        let proxy = Proxy::start(&server).await.unwrap();
        let client: Client<HttpConnector, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
        let url = format!("{}/bucket/key?partNumber=1&uploadId=u", proxy.url());
        let request = Request::put(url).body(Full::from("abc")).unwrap();
        let response = client.request(request).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, "/bucket/key?partNumber=1&uploadId=uABC");
        let laps = proxy.lap();
        let traffic = laps["PUT part"];
        assert_eq!((laps.len(), traffic.requests, traffic.up, traffic.down), (1, 1, 3, 38));
        assert!(proxy.lap().is_empty());
    }
}
