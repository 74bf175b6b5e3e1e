//! A proxy between the program and an emulator, on threads of the test process.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::Arc,
    thread,
};

/// Treatment of a request.
pub(crate) enum Treatment {
    Forward,
    /// Replies with this status and body, without forwarding the request.
    Reply(u16, &'static str),
    /// Forwards the request, and closes the connection without a response.
    LoseReply,
}

/// Decides how a request is treated, from its operation, such as `CancelStatement`, and its body.
type Rule = dyn Fn(&str, &str) -> Treatment + Send + Sync;

/// Starts a proxy of the emulator at `url`, and returns the URL of the proxy. The proxy lives until the test
/// process ends.
pub(crate) fn proxy(url: &str, rule: impl Fn(&str, &str) -> Treatment + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = format!("http://{}", listener.local_addr().unwrap());
    let (upstream, rule) =
        (url.trim_start_matches("http://").to_owned(), Arc::<Rule>::from(Box::new(rule) as Box<Rule>));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (upstream, rule) = (upstream.clone(), rule.clone());
            // An error means that the program or the emulator has closed its connection.
            thread::spawn(move || serve(stream, &upstream, &*rule).ok());
        }
    });
    own
}

/// Serves one request.
fn serve(mut client: TcpStream, upstream: &str, rule: &Rule) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let (mut head, mut operation, mut length) = (String::new(), String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap(),
            "x-amz-target" => operation = value.trim().trim_start_matches("RedshiftData.").to_owned(),
            _ => {}
        }
        if line == "\r\n" {
            break;
        }
        head += &line;
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let text = String::from_utf8_lossy(&body);
    match rule(&operation, &text) {
        Treatment::Reply(status, reply) => write!(
            client,
            "HTTP/1.1 {status} Reply\r\ncontent-type: application/x-amz-json-1.1\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{reply}",
            reply.len()
        ),
        treatment => {
            let mut emulator = TcpStream::connect(upstream)?;
            write!(emulator, "{head}connection: close\r\n\r\n")?;
            emulator.write_all(&body)?;
            let mut reply = Vec::new();
            emulator.read_to_end(&mut reply)?;
            match treatment {
                Treatment::LoseReply => client.shutdown(Shutdown::Both),
                _ => client.write_all(&reply),
            }
        }
    }
}
