//! A Runtime API of AWS Lambda and a Data API on loopback. Both are threads over blocking sockets, which add
//! as little as possible to the time of the function that they measure.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::measure::peak_bytes_of;

/// Longer than any invocation takes, so that a process that hangs ends the benchmark.
const PATIENCE: Duration = Duration::from_secs(600);

/// Time between two checks that a function without an answer is still running.
const CHECK: Duration = Duration::from_secs(1);

/// The id of every statement of [`data_api`].
pub const STATEMENT: &str = "d9b6c0c9-0747-4bf4-b142-e8883122f766";

/// A request of a process.
#[derive(Debug)]
struct Request {
    path: String,
    body: Vec<u8>,
}

/// Answers the requests of a connection: the head and the body of the response, or nothing, which keeps the
/// connection open.
type Answers = Box<dyn Fn(&Request) -> Option<String> + Send>;

/// Number of threads of a server. A process has at most two connections at a time.
const THREADS: usize = 4;

/// Serves HTTP/1.1 on loopback until the process ends. Each thread serves one connection after another, so that
/// no thread is started while a function is timed.
fn serve(accept: impl Fn() -> Answers + Clone + Send + 'static) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    for _ in 0..THREADS {
        let (listener, accept) = (listener.try_clone()?, accept.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A process that is stopped breaks its connections.
                converse(stream, &accept()).unwrap_or_default();
            }
        });
    }
    Ok(address)
}

fn converse(stream: TcpStream, answers: &Answers) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = read(&mut reader)? {
        if let Some(response) = answers(&request) {
            reader.get_mut().write_all(response.as_bytes())?;
        }
    }
    Ok(())
}

fn read(reader: &mut BufReader<TcpStream>) -> Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let path = line.split(' ').nth(1).context("a request without a path")?.to_owned();
    let (mut length, mut is_chunked) = (0, false);
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse()?,
            "transfer-encoding" => is_chunked = true,
            _ => {}
        }
    }
    let mut body = Vec::new();
    let take = |length: usize, body: &mut Vec<u8>, reader: &mut BufReader<TcpStream>| {
        let begin = body.len();
        body.resize(begin + length, 0);
        reader.read_exact(&mut body[begin..])
    };
    if is_chunked {
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            let length = usize::from_str_radix(line.trim_end(), 16)?;
            take(length, &mut body, reader)?;
            line.clear();
            reader.read_line(&mut line)?;
            if length == 0 {
                break;
            }
        }
    } else {
        take(length, &mut body, reader)?;
    }
    Ok(Some(Request { path, body }))
}

fn response(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}

/// Starts a Data API that accepts every statement, and returns its URL.
pub fn data_api() -> Result<String> {
    let body = json!({ "Id": STATEMENT, "CreatedAt": 1_764_000_000.0 }).to_string();
    let accepted = response("200 OK", "Content-Type: application/x-amz-json-1.1\r\n", &body);
    let answers = move || -> Answers {
        let accepted = accepted.clone();
        Box::new(move |_| Some(accepted.clone()))
    };
    Ok(format!("http://{}", serve(answers)?))
}

/// A result that a function posted.
#[derive(Debug)]
struct Posted {
    at: Instant,
    path: String,
    body: Vec<u8>,
}

/// The events of a process, and the results that it posts.
#[derive(Debug)]
struct Mailbox {
    events: Mutex<mpsc::Receiver<String>>,
    posts: mpsc::Sender<Posted>,
}

impl Mailbox {
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
    fn answer(&self, request: &Request) -> Option<String> {
        if request.path.ends_with("/invocation/next") {
            // No event comes any more when the process is about to be stopped.
            return Some(invocation(&self.events.lock().ok()?.recv().ok()?));
        }
        let (at, path, body) = (Instant::now(), request.path.clone(), request.body.clone());
        self.posts.send(Posted { at, path, body }).ok()?;
        Some(response("202 Accepted", "", r#"{"status":"OK"}"#))
    }
}

/// A Runtime API for one process after another.
#[derive(Debug)]
pub struct RuntimeApi {
    address: SocketAddr,
    current: Arc<Mutex<Option<Arc<Mailbox>>>>,
}

/// The answer to an event.
#[derive(Debug)]
pub struct Answer {
    /// The time from the start of the process, or from the event, to the answer.
    pub elapsed: Duration,
    /// The process's peak resident memory until then.
    pub peak_bytes: u64,
    /// The reply.
    pub reply: Value,
}

/// The process of a function, which waits for events. It is stopped when this value is dropped.
#[derive(Debug)]
pub struct Function {
    child: Child,
    events: mpsc::Sender<String>,
    posts: mpsc::Receiver<Posted>,
}

impl RuntimeApi {
    /// Starts the Runtime API.
    pub fn start() -> Result<Self> {
        let current: Arc<Mutex<Option<Arc<Mailbox>>>> = Arc::default();
        let mailbox = current.clone();
        let address = serve(move || {
            let mailbox = mailbox.lock().ok().and_then(|mailbox| mailbox.clone());
            Box::new(move |request| mailbox.as_ref()?.answer(request))
        })?;
        Ok(Self { address, current })
    }

    /// Starts the process of a function with its first event, and waits for the answer.
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
    pub fn invoke_first(&self, command: &mut Command, event: &str) -> Result<(Function, Answer)> {
        let shown = format!("{command:?}");
        let (events, receiver) = mpsc::channel();
        let (sender, posts) = mpsc::channel();
        events.send(event.to_owned())?;
        let mailbox = Mailbox { events: Mutex::new(receiver), posts: sender };
        *self.current.lock().ok().context("a connection panicked")? = Some(Arc::new(mailbox));
        command.env("AWS_LAMBDA_RUNTIME_API", self.address.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::inherit());
        let started = Instant::now();
        let child = command.spawn().with_context(|| shown.clone())?;
        let mut function = Function { child, events, posts };
        let answer = function.answer(started).with_context(|| shown)?;
        Ok((function, answer))
    }
}

impl Function {
    /// Passes another event to the process, and waits for the answer.
    #[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
    pub fn invoke(&mut self, event: &str) -> Result<Answer> {
        let begun = Instant::now();
        self.events.send(event.to_owned())?;
        self.answer(begun)
    }

    fn answer(&mut self, begun: Instant) -> Result<Answer> {
        let posted = loop {
            match self.posts.recv_timeout(CHECK) {
                Ok(posted) => break posted,
                Err(_) if begun.elapsed() > PATIENCE => bail!("the function did not answer"),
                Err(_) => {}
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the function ended without an answer: {status}");
            }
        };
        let elapsed = posted.at - begun;
        let peak_bytes = peak_bytes_of(self.child.id());
        let text = String::from_utf8_lossy(&posted.body).into_owned();
        if !posted.path.ends_with("/response") {
            bail!("the function failed: {text}");
        }
        ensure!(peak_bytes > 0, "the function ended");
        Ok(Answer { elapsed, peak_bytes, reply: serde_json::from_str(&text).context(text)? })
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        // A process that has ended by itself cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The response to `next`.
#[expect(clippy::disallowed_methods, reason = "the deadline of an invocation is wall-clock time")]
fn invocation(event: &str) -> String {
    let deadline = SystemTime::now() + PATIENCE;
    let deadline = deadline.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis());
    let headers = format!(
        "Content-Type: application/json\r\n\
         Lambda-Runtime-Aws-Request-Id: 8476a536-e9f4-11e8-9739-2dfe598c3fcd\r\n\
         Lambda-Runtime-Deadline-Ms: {deadline}\r\n\
         Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:eu-west-1:111122223333:function:load\r\n\
         Lambda-Runtime-Trace-Id: Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1\r\n"
    );
    response("200 OK", &headers, event)
}
