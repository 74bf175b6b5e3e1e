//! [`Emulator`]: the HTTP server.

use std::{
    fmt, io,
    net::SocketAddr,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    body::{Body, Bytes},
    header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{operation::Operation, refusal::Refusal, service::Service};
use redshift_orchestrator::{StatementExecutor, catalog::Catalog};

const CONTENT: &str = "application/x-amz-json-1.1";

/// Maximum size of a request body in bytes: 40 statements of 100 KB, with every character escaped as
/// `\uXXXX`.
const LONGEST_BODY: usize = 40 * 100 * 1024 * 6;

/// Time that running requests have to finish after a stop. Long polls return at once.
const GRACE: Duration = Duration::from_secs(5);

/// The Redshift Data API over HTTP, backed by an executor. See the [crate documentation](crate).
#[derive(Debug)]
pub struct Emulator<E> {
    executor: E,
    remote_access: bool,
    seed: u64,
}

impl<E: StatementExecutor + Catalog + 'static> Emulator<E> {
    /// Creates an emulator backed by this executor.
    pub fn new(executor: E) -> Self {
        Self { executor, remote_access: false, seed: 0 }
    }

    /// Allows addresses that other machines can reach. Credentials are not checked, so every client that can
    /// connect can run any SQL. Default: `false`.
    #[must_use]
    pub fn with_remote_access(mut self, allowed: bool) -> Self {
        self.remote_access = allowed;
        self
    }

    /// Sets the seed of the request ids. Default: 0.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Binds the address. Port 0 selects a free port. Connections are accepted, but not served before
    /// [`serve_until`](BoundEmulator::serve_until) is called.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) if the address is not a loopback address and
    /// [`with_remote_access`](Self::with_remote_access) is not set. Otherwise the system's error, usually
    /// because the port is in use.
    pub async fn bind(self, address: SocketAddr) -> io::Result<BoundEmulator<E>> {
        if !self.remote_access && !address.ip().is_loopback() {
            let text =
                format!("{address} is not a loopback address, and the emulator does not check credentials");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(BoundEmulator { emulator: self, listener, address })
    }

    /// Returns an emulator that handles requests as values, without a network. An SDK client whose connector
    /// passes its requests to it can be tested on paused time.
    pub fn in_process(self) -> InProcessEmulator<E> {
        let (stop, stopping) = watch::channel(false);
        InProcessEmulator { front: Arc::new(Front::new(self, stopping)), _stop: Arc::new(stop) }
    }
}

/// An emulator that handles requests as values. Clones share one emulator.
pub struct InProcessEmulator<E> {
    front: Arc<Front<E>>,
    /// Dropping the sender would make long polls return early.
    _stop: Arc<watch::Sender<bool>>,
}

impl<E: StatementExecutor + Catalog + 'static> InProcessEmulator<E> {
    /// Returns the response to a request. Returns `None` where the emulator would close a network connection
    /// without a response.
    ///
    /// If the future is dropped, submitted statements keep running.
    pub async fn handle(&self, request: Request<Bytes>) -> Option<Response<Bytes>> {
        self.front.respond(request.map(Full::new)).await.ok()
    }
}

impl<E> Clone for InProcessEmulator<E> {
    fn clone(&self) -> Self {
        Self { front: self.front.clone(), _stop: self._stop.clone() }
    }
}

impl<E: fmt::Debug> fmt::Debug for InProcessEmulator<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("InProcessEmulator").field(&self.front.service.executor).finish()
    }
}

/// An emulator that is bound to an address.
#[derive(Debug)]
pub struct BoundEmulator<E> {
    emulator: Emulator<E>,
    listener: TcpListener,
    address: SocketAddr,
}

impl<E: StatementExecutor + Catalog + 'static> BoundEmulator<E> {
    /// Returns the bound address, including the port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the URL that clients use as their endpoint.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Serves requests until `stop` completes. Then it accepts no more connections, returns the current
    /// status to long polls, gives other requests up to 5 seconds to finish, and drops the executor.
    ///
    /// Dropping the future closes all connections at once.
    pub async fn serve_until(self, stop: impl Future<Output = ()>) {
        let (stopping, watching) = watch::channel(false);
        let front = Arc::new(Front::new(self.emulator, watching.clone()));
        let mut connections = JoinSet::new();
        let mut stop = pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(connection(stream, front.clone(), watching.clone()));
                    }
                    // The process may be out of file descriptors. Retry when some may have been closed.
                    Err(_) => sleep(Duration::from_millis(50)).await,
                },
                Some(_) = connections.join_next() => {}
            }
        }
        drop(self.listener);
        stopping.send_replace(true);
        let ended = async { while connections.join_next().await.is_some() {} };
        // Dropping the set closes the remaining connections.
        let _ = timeout(GRACE, ended).await;
    }
}

struct Front<E> {
    service: Service<E>,
    ids: Mutex<fastrand::Rng>,
}

async fn connection<E>(stream: TcpStream, front: Arc<Front<E>>, mut stopping: watch::Receiver<bool>)
where
    E: StatementExecutor + Catalog + 'static,
{
    // Requests and responses are small, and each side waits for the other, so delaying packets would only add
    // latency.
    let _ = stream.set_nodelay(true);
    let answer = service_fn(move |request| {
        let front = front.clone();
        async move { front.respond(request).await.map(|response| response.map(Full::new)) }
    });
    let mut serving = pin!(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
    // A connection error is caused by the client or by an injected fault, so it is ignored.
    tokio::select! {
        _ = serving.as_mut() => return,
        _ = stopping.wait_for(|stopping| *stopping) => serving.as_mut().graceful_shutdown(),
    }
    let _ = serving.await;
}

impl<E> Front<E> {
    fn new(emulator: Emulator<E>, stopping: watch::Receiver<bool>) -> Self {
        Self {
            service: Service { executor: emulator.executor, stopping },
            ids: Mutex::new(fastrand::Rng::with_seed(emulator.seed)),
        }
    }
}

impl<E: StatementExecutor + Catalog> Front<E> {
    /// Returns the response. An error makes hyper close the connection without a response.
    async fn respond<B>(&self, request: Request<B>) -> Result<Response<Bytes>, HangUp>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (operation, answer) = match operation(request.method(), request.uri().path(), request.headers()) {
            Err(refusal) => (None, Err(refusal)),
            Ok(operation) => {
                let answer = match read(request.into_body()).await {
                    Ok(body) => self.service.answer(operation, &body).await,
                    Err(refusal) => Err(refusal),
                };
                (Some(operation), answer)
            }
        };
        let name = operation.map_or("unknown", Operation::name);
        match &answer {
            Ok(_) => tracing::debug!(operation = name, "request succeeded"),
            Err(Refusal::Exception { code, .. }) => tracing::debug!(operation = name, code, "request failed"),
            Err(Refusal::HangUp) => tracing::debug!(operation = name, "connection closed without a response"),
        }
        let mut response = match answer {
            Ok(answer) => response(StatusCode::OK, answer),
            Err(refusal) => refused(refusal)?,
        };
        response.headers_mut().insert(HeaderName::from_static("x-amzn-requestid"), self.request_id());
        Ok(response)
    }

    fn request_id(&self) -> HeaderValue {
        let random = self.ids.lock().unwrap_or_else(PoisonError::into_inner).u128(..);
        let id = uuid::Builder::from_random_bytes(random.to_be_bytes()).into_uuid().to_string();
        HeaderValue::try_from(id).unwrap_or_else(|_| HeaderValue::from_static("0"))
    }
}

/// Returns the requested operation. The content type is required, as in the service. This also protects
/// against web pages: a browser sends a request with this content type to another origin only after a
/// preflight request, which the emulator does not approve.
fn operation(method: &Method, path: &str, headers: &HeaderMap) -> Result<Operation, Refusal> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let unknown = |text: String| Err(Refusal::exception("UnknownOperationException", text));
    if method != Method::POST || path != "/" {
        return unknown(format!("{method} {path}: the Redshift Data API only accepts POST /"));
    }
    let content = header("content-type");
    if content.split(';').next().unwrap_or_default().trim() != CONTENT {
        return unknown(format!("the content type is '{content}', not '{CONTENT}'"));
    }
    let target = header("x-amz-target");
    match Operation::from_target(target) {
        Some(operation) => Ok(operation),
        None => unknown(format!("X-Amz-Target '{target}' is not an operation of RedshiftData")),
    }
}

async fn read<B>(body: B) -> Result<Bytes, Refusal>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let too_long = || Refusal::validation(format!("the request body is longer than {LONGEST_BODY} bytes"));
    // Checks the declared content length, so that an oversized body is not read.
    if body.size_hint().lower() > LONGEST_BODY as u64 {
        return Err(too_long());
    }
    match Limited::new(body, LONGEST_BODY).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_long()),
        Err(_) => Err(Refusal::HangUp),
    }
}

fn response(status: StatusCode, body: serde_json::Value) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(CONTENT));
    response
}

fn refused(refusal: Refusal) -> Result<Response<Bytes>, HangUp> {
    let worded = refusal.worded().ok_or(HangUp)?;
    let status = StatusCode::from_u16(worded.status).unwrap_or(StatusCode::BAD_REQUEST);
    let mut response = response(status, worded.body);
    if let Ok(code) = HeaderValue::try_from(worded.code) {
        response.headers_mut().insert(HeaderName::from_static("x-amzn-errortype"), code);
    }
    if let Some(pause) = worded.retry_after {
        response.headers_mut().insert(RETRY_AFTER, pause.as_secs().into());
    }
    Ok(response)
}

/// Makes hyper close the connection without a response.
#[derive(Debug)]
struct HangUp;

impl fmt::Display for HangUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("closed without a response")
    }
}

impl std::error::Error for HangUp {}
