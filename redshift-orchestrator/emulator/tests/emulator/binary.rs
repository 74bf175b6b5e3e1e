//! Tests the program `redshift-data-emulator`, started from the command line.

use std::process::Command;

use aws_sdk_redshiftdata::{
    Client,
    types::{SqlParameter, StatementStatusString},
};
use redshift_orchestrator::DataApiExecutor;

use crate::{
    process::{Emulator, emulator},
    support::sdk_config,
};

/// Runs the program, and returns its exit code and standard error.
fn fails(arguments: &[&str]) -> (Option<i32>, String) {
    let output = emulator(arguments).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

#[cfg(unix)]
#[tokio::test]
async fn prints_its_address_serves_and_exits_cleanly_on_a_signal() {
    let script = file("[[statement]]\ncontains = 'UPDATE'\nrows = 3");
    let mut command = emulator(&["--listen", "127.0.0.1:0", "--scripted", script.path().to_str().unwrap()]);
    let mut program = Emulator::start(&mut command);
    let url = program.url.as_str();
    assert!(url.starts_with("http://127.0.0.1:"), "{url}");
    let client = Client::from_conf(DataApiExecutor::config(&sdk_config(url)).build());
    let request = client.execute_statement().cluster_identifier("dwh").database("dev").sql("UPDATE a");
    let submitted = request.wait_time_seconds(5).send().await.unwrap();
    assert_eq!(submitted.status(), Some(&StatementStatusString::Finished));
    let pid = program.process.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(program.process.wait().unwrap().code(), Some(0));
}

#[test]
fn an_invalid_file_or_address_is_an_error_with_a_way_out() {
    let script = file("[[statement]]\ncontains = 'x'\ntakes = 'long'");
    let (code, text) = fails(&["--scripted", script.path().to_str().unwrap()]);
    assert_eq!(code, Some(1));
    assert!(text.contains("`long` is not a valid duration") && text.contains("line: 3"), "{text}");
    let script = file("");
    let (code, text) = fails(&["--listen", "0.0.0.0:0", "--scripted", script.path().to_str().unwrap()]);
    assert_eq!(code, Some(1));
    assert!(text.contains("--exposed"), "{text}");
    let (code, text) = fails(&["--listen", "127.0.0.1:0"]);
    assert_eq!(code, Some(2));
    assert!(text.contains("--scripted"), "{text}");
}

/// The statement's SQL, parameters and error contain a marker, and logging is at its most verbose.
#[cfg(unix)]
#[tokio::test]
async fn prints_no_sql_and_no_value() {
    use std::{io::Read, process::Stdio};

    let script =
        file("[[statement]]\ncontains = 'UPDATE'\nfails = \"ERROR: no 'sesame-value' in UPDATE account\"");
    let mut command = emulator(&["--listen", "127.0.0.1:0", "--scripted", script.path().to_str().unwrap()]);
    let mut program = Emulator::start(command.env("RUST_LOG", "trace").stderr(Stdio::piped()));
    let client = Client::from_conf(DataApiExecutor::config(&sdk_config(&program.url)).build());
    let pin = SqlParameter::builder().name("pin").value("sesame-value").build().unwrap();
    let sql = "UPDATE account SET pin = :pin WHERE 'sesame-literal' <> note";
    let submit =
        client.execute_statement().cluster_identifier("dwh").database("dev").sql(sql).parameters(pin);
    let submitted = submit.wait_time_seconds(10).send().await.unwrap();
    assert_eq!(submitted.status(), Some(&StatementStatusString::Failed));
    program.process.kill().unwrap();
    let mut printed = String::new();
    program.process.stderr.take().unwrap().read_to_string(&mut printed).unwrap();
    program.out.read_to_string(&mut printed).unwrap();
    assert!(!printed.contains("sesame"), "{printed}");
}
