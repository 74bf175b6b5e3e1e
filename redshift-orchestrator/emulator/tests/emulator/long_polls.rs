//! Tests of long polls.

use std::time::Duration;

use aws_sdk_redshiftdata::types::StatusString;
use redshift_data_local::{LocalExecutor, Script};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};

use crate::support::Served;

const SLOW: &str = "[[statement]]\ncontains = 'slow'\ntakes = '10m'";

async fn submit(served: &Served, sql: &str) -> String {
    let request = served.client().execute_statement().cluster_identifier("dwh").database("dev").sql(sql);
    request.send().await.unwrap().id.unwrap()
}

/// Raises the limit of open files, usually 1,024. Both ends of each connection are in this process.
#[cfg(unix)]
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_long_polls_wait_in_one_process_and_are_answered_at_once() {
    const HELD: usize = 1_000;
    #[cfg(unix)]
    raise_open_files();
    let script = "limits = { waiters_per_statement = 1000 }\n[[statement]]\ncontains = 'slow'\ntakes = '3s'";
    let served = Served::scripted(script).await;
    let id = submit(&served, "CALL slow()").await;
    let body = json!({"Id": id, "WaitTimeSeconds": 30}).to_string();
    let begin = Instant::now();
    let mut streams = Vec::new();
    for _ in 0..HELD {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        let request = format!(
            "POST / HTTP/1.1\r\nhost: emulator\r\nconnection: close\r\ncontent-type: application/x-amz-json-1.1\r\n\
             x-amz-target: RedshiftData.DescribeStatement\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        streams.push(stream);
    }
    let mut finished = 0;
    for mut stream in streams {
        let mut answer = String::new();
        timeout(Duration::from_secs(20), stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        finished += usize::from(answer.contains(r#""Status":"FINISHED""#));
    }
    assert_eq!(finished, HELD);
    assert!(
        begin.elapsed() >= Duration::from_millis(2_900),
        "the long polls returned before the statement ended"
    );
}

#[tokio::test]
async fn a_client_that_disconnects_releases_its_slot() {
    let served = Served::scripted(&format!("limits = {{ waiters_per_statement = 1 }}\n{SLOW}")).await;
    let id = submit(&served, "CALL slow()").await;
    let client = served.client();
    let wait = || client.describe_statement().id(&id).wait_time_seconds(30).send();
    assert!(timeout(Duration::from_millis(200), wait()).await.is_err());
    // The emulator frees the slot when it notices that the client has disconnected.
    let again = async {
        while let Ok(Err(error)) = timeout(Duration::from_millis(200), wait()).await {
            assert!(error.into_service_error().is_active_waiting_requests_exceeded_exception());
        }
    };
    timeout(Duration::from_secs(10), again).await.unwrap();
}

#[tokio::test]
async fn a_shutdown_answers_long_polls_with_the_current_status() {
    let service = LocalExecutor::scripted(Script::from_toml(SLOW).unwrap());
    let served = Served::new(service).await;
    let id = submit(&served, "CALL slow()").await;
    let request = served.client().describe_statement().id(&id).wait_time_seconds(30);
    let held = tokio::spawn(request.send());
    let submitting = served.client().execute_statement().cluster_identifier("dwh").database("dev");
    let held_submit = tokio::spawn(submitting.sql("CALL slow()").wait_time_seconds(30).send());
    // Waits until both statements are running, and therefore both requests are held.
    let running = served.client().list_statements().status(StatusString::Started);
    while running.clone().send().await.unwrap().statements().len() < 2 {}
    let begin = Instant::now();
    served.stop().await;
    assert!(begin.elapsed() < Duration::from_secs(3));
    assert_eq!(held.await.unwrap().unwrap().status(), Some(&StatusString::Started));
    assert_eq!(held_submit.await.unwrap().unwrap().status().unwrap().as_str(), "STARTED");
}
