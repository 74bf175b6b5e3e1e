//! The program `redshift-data-emulator`, as a person starts it.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
};

use aws_sdk_redshiftdata::{Client, types::StatementStatusString};
use redshift_orchestrator::DataApiExecutor;

use crate::support::sdk_config;

struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(arguments: &[&str]) -> Program {
    let mut command = Command::new(env!("CARGO_BIN_EXE_redshift-data-emulator"));
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    Program(command.spawn().unwrap())
}

/// The exit code, and what it wrote to standard error.
fn fails(arguments: &[&str]) -> (Option<i32>, String) {
    let mut program = start(arguments);
    let mut text = String::new();
    program.0.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    (program.0.wait().unwrap().code(), text)
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

#[cfg(unix)]
#[tokio::test]
async fn says_where_it_listens_serves_and_ends_well_on_a_signal() {
    let script = file("[[statement]]\ncontains = 'UPDATE'\nrows = 3");
    let mut program = start(&["--listen", "127.0.0.1:0", "--scripted", script.path().to_str().unwrap()]);
    let mut line = String::new();
    BufReader::new(program.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let url = line.trim_end().strip_prefix("listening on ").unwrap();
    assert!(url.starts_with("http://127.0.0.1:"), "{url}");
    let client = Client::from_conf(DataApiExecutor::config(&sdk_config(url)).build());
    let request = client.execute_statement().cluster_identifier("dwh").database("dev").sql("UPDATE a");
    let submitted = request.wait_time_seconds(5).send().await.unwrap();
    assert_eq!(submitted.status(), Some(&StatementStatusString::Finished));
    let pid = program.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(program.0.wait().unwrap().code(), Some(0));
}

#[test]
fn a_bad_file_or_address_is_an_error_with_a_way_out() {
    let script = file("[[statement]]\ncontains = 'x'\ntakes = 'long'");
    let (code, text) = fails(&["--scripted", script.path().to_str().unwrap()]);
    assert_eq!(code, Some(1));
    assert!(text.contains("`long` is no duration") && text.contains("line: 3"), "{text}");
    let script = file("");
    let (code, text) = fails(&["--listen", "0.0.0.0:0", "--scripted", script.path().to_str().unwrap()]);
    assert_eq!(code, Some(1));
    assert!(text.contains("--exposed"), "{text}");
    let (code, text) = fails(&["--listen", "127.0.0.1:0"]);
    assert_eq!(code, Some(2));
    assert!(text.contains("--scripted"), "{text}");
}
