//! Searches everything that the program prints and writes, with the most verbose logging.

use std::{path::Path, process::Command};

use crate::{emulator::Emulator, search};

const PIPELINE: &str = r#"
name = "p"
[parameters.pin]
secret = true
[target]
cluster = "dwh"
database = "dev"
secret = "arn:aws:secretsmanager:eu-west-1:1:secret:sesame-arn"
[[steps]]
name = "good"
sql = "SELECT 'sesame-literal' AS a"
[[steps]]
name = "bad"
sql = "UPDATE account SET pin = :pin WHERE 'sesame-2' <> note"
parameters = { pin = "${pin}" }
after = ["good"]
[[steps]]
name = "behind"
sql = "SELECT 'sesame-3'"
after = ["bad"]
"#;

const SCRIPT: &str = r#"
[[statement]]
contains = "UPDATE account"
fails = "ERROR: no 'sesame-value' in UPDATE account SET pin = 'sesame-value' WHERE 'sesame-2' <> note"
"#;

fn call(program: &str, directory: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .env_clear()
        .env("AWS_ACCESS_KEY_ID", "any")
        .env("AWS_SECRET_ACCESS_KEY", "sesame-key")
        .env("AWS_SESSION_TOKEN", "sesame-token")
        .env("RUST_LOG", "trace")
        .env("RUST_BACKTRACE", "1")
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

#[test]
fn the_program_prints_and_writes_no_secrets() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    write("p.toml", PIPELINE);
    let emulator = Emulator::scripted(SCRIPT);
    let at = ["--endpoint-url", emulator.url.as_str()];
    let program = env!("CARGO_BIN_EXE_redshift-orchestrator");
    let reports = ["--report", "r.txt", "--report", "r.json", "--report", "r.svg", "--report", "r.html"];
    let pin = ["-p", "pin=sesame-value"];
    for (arguments, code) in [
        ([&["run", "p.toml", "--run-id", "a"][..], &pin, &at, &reports].concat(), 1),
        ([&["resume", "p.toml", "--json"][..], &pin, &at].concat(), 1),
        ([&["resume", "p.toml"][..], &at].concat(), 2),
        ([&["run", "p.toml", "--run-id", "b", "--json", "--messages"][..], &pin, &at].concat(), 1),
        (
            [
                &["run", "p.toml"][..],
                &pin,
                &["--endpoint-url", "http://127.0.0.1:1", "--retry-timeout", "1s"],
            ]
            .concat(),
            1,
        ),
        (
            [&["run", "p.toml"][..], &pin, &["--postgres", "postgresql://me:sesame@127.0.0.1:1/none"]]
                .concat(),
            5,
        ),
        ([&["run", "p.toml"][..], &pin, &["--postgres", "postgres:/me:sesame"]].concat(), 2),
        ([&["run", "p.toml", "-p", "nip=sesame"][..], &at].concat(), 2),
        (vec!["status", "p.toml"], 0),
        (vec!["status", "p.toml", "--run-id", "a", "--json"], 0),
        (vec!["plan", "p.toml"], 0),
        ([&["plan", "p.toml", "--format", "json"][..], &pin].concat(), 0),
        (vec!["validate", "p.toml", "--json"], 0),
        ([&["cancel", "p.toml", "--run-id", "a"][..], &at].concat(), 0),
    ] {
        let (found, said) = call(program, directory.path(), &arguments);
        // The first two arguments identify the command.
        search(&arguments[..2].join(" "), &said);
        assert_eq!(found, Some(code), "{arguments:?}: {said}");
    }
    for file in ["p.toml.journal", "r.txt", "r.json", "r.svg", "r.html"] {
        search(file, std::fs::read_to_string(directory.path().join(file)).unwrap());
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let journal = std::fs::metadata(directory.path().join("p.toml.journal")).unwrap();
        assert_eq!(journal.permissions().mode() & 0o077, 0, "only the owner can read the journal");
    }
    let asked = [&["run", "p.toml", "--run-id", "c", "--unredacted"][..], &pin, &at].concat();
    assert!(call(program, directory.path(), &asked).1.contains("no 'sesame-value' in UPDATE"));
    assert!(call(program, directory.path(), &["plan", "p.toml", "--show-sql"]).1.contains("sesame-literal"));
}
