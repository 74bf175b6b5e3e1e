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

/// Maximum size of a body: 40 statements of 100 KB, with each character escaped.
const LONGEST_BODY: usize = 40 * 100 * 1024 * 6;

/// Time for running requests to finish after a stop. Held requests are answered at once.
const GRACE: Duration = Duration::from_secs(5);

/// The Redshift Data API over HTTP in front of an executor; see the [module](crate).
#[derive(Debug)]
pub struct Emulator<E> {
    executor: E,
    remote_access: bool,
    seed: u64,
}

impl<E: StatementExecutor + Catalog + 'static> Emulator<E> {
    /// Creates an emulator in front of this executor.
    pub fn new(executor: E) -> Self {
        Self { executor, remote_access: false, seed: 0 }
    }

    /// Allows addresses that other machines can reach. Default: `false`. Every client that can connect can run any SQL, because
    /// credentials are not checked.
    #[must_use]
    pub fn with_remote_access(mut self, allowed: bool) -> Self {
        self.remote_access = allowed;
        self
    }

    /// Sets the seed of the request ids.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Binds the address; port 0 selects a free port. Connections that arrive before
    /// [`serve_until`](BoundEmulator::serve_until) wait to be served.
    ///
    /// # Errors
    /// [`InvalidInput`](io::ErrorKind::InvalidInput) for an address that is not a loopback address, unless
    /// [`with_remote_access`](Self::with_remote_access); otherwise the system's error, usually that the port is in use.
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

    /// Serves without a network: requests and responses are values. An SDK's client can be tested with it on
    /// paused time; its connector passes the requests.
    pub fn in_process(self) -> InProcessEmulator<E> {
        let (stop, stopping) = watch::channel(false);
        InProcessEmulator { front: Arc::new(Front::new(self, stopping)), _stop: Arc::new(stop) }
    }
}

/// An emulator that is called rather than connected to. Clones share one emulator.
pub struct InProcessEmulator<E> {
    front: Arc<Front<E>>,
    /// While this exists, held requests are not answered early.
    _stop: Arc<watch::Sender<bool>>,
}

impl<E: StatementExecutor + Catalog + 'static> InProcessEmulator<E> {
    /// Returns the response, or `None` where a networked emulator closes the connection without one.
    ///
    /// A submitted statement keeps running when the future is dropped.
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

/// An emulator with a bound address.
#[derive(Debug)]
pub struct BoundEmulator<E> {
    emulator: Emulator<E>,
    listener: TcpListener,
    address: SocketAddr,
}

impl<E: StatementExecutor + Catalog + 'static> BoundEmulator<E> {
    /// Returns the address, with its port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the endpoint URL for clients.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Serves until `stop` completes. It then accepts no connections, answers held requests with the current
    /// status, gives running requests up to 5 seconds, and drops the executor.
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
                    // For example, the process is out of file descriptors; some will be released later.
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
    // Requests and responses are small, and the peer waits for each.
    let _ = stream.set_nodelay(true);
    let answer = service_fn(move |request| {
        let front = front.clone();
        async move { front.respond(request).await.map(|response| response.map(Full::new)) }
    });
    let mut serving = pin!(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
    // An error of a connection is caused by the client or by an injected fault.
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
    /// Returns the response. An error makes hyper close the connection without one.
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
            Ok(_) => tracing::debug!(operation = name, "answered"),
            Err(Refusal::Exception { code, .. }) => tracing::debug!(operation = name, code, "refused"),
            Err(Refusal::HangUp) => tracing::debug!(operation = name, "hung up"),
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

/// Reads the request. As in the service, the content type is required. A web page can send it to another
/// origin only after a preflight request, and the emulator does not approve those.
fn operation(method: &Method, path: &str, headers: &HeaderMap) -> Result<Operation, Refusal> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let unknown = |text: String| Err(Refusal::exception("UnknownOperationException", text));
    if method != Method::POST || path != "/" {
        return unknown(format!("{method} {path}: the Redshift Data API is POST /"));
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
    let too_long = || Refusal::validation(format!("the request is longer than {LONGEST_BODY} bytes"));
    // The header states the length, so the body need not be read.
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

/// The connection is to be closed without a response.
#[derive(Debug)]
struct HangUp;

impl fmt::Display for HangUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("hung up")
    }
}

impl std::error::Error for HangUp {}
