//! How long does a function take from the start of its process to its first answer?
//!
//! One Runtime API on loopback starts each function again and again, in turns, with one event, and stops the
//! time from `exec` to the answer:
//!
//! * ours, with the handlers `redshift` and `statement`: a statement is submitted;
//! * a function in Rust on the same runtime that answers without any work, built with the same profile;
//! * a function in Python that does the same work as the handler `redshift`. Like the reference solution's, it
//!   imports boto3 and builds a client in each call;
//! * a function in Python that answers without any work.
//!
//! A thread of this process replaces the Data API, over HTTP without TLS: no figure contains a handshake.
//!
//! Run `cargo run --release -p benches --bin start`, which builds the functions with `scripts/deploy/zip`,
//! installs boto3 from PyPI, and fails if a limit is exceeded. `--smoke` starts functions of the dev profile a
//! few times, without boto3 and limits, for CI.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use benches::{
    functions::{self, Zipped, deployed, for_tests, output, workspace},
    measure::median,
    results::Section,
    runtime_api::{RuntimeApi, STATEMENT, data_api},
};
use clap::Parser;
use serde_json::json;

/// The maximum time of ours, relative to a function in Rust without any work.
const OVER_HELLO: f64 = 1.5;
/// The minimum time of the reference's work in Python, relative to ours.
const REFERENCE: f64 = 30.0;
/// The minimum time of a function in Python without any work, relative to ours.
const PYTHON_HELLO: f64 = 4.0;
/// The minimum memory of the reference's work in Python, relative to ours.
const REFERENCE_MEMORY: f64 = 5.0;

const TURNS: usize = 101;

#[derive(Parser)]
#[command(about = "Time and memory from the start of a function's process to its first answer")]
struct Options {
    /// Starts functions of the dev profile a few times, for CI.
    #[arg(long)]
    smoke: bool,
}

/// A function to start.
struct Subject {
    name: &'static str,
    command: Vec<PathBuf>,
    handler: &'static str,
    event: String,
    /// A text of the answer.
    expected: &'static str,
    seconds: Vec<f64>,
    bytes: Vec<f64>,
}

fn main() -> Result<()> {
    let smoke = Options::parse().smoke;
    let built = if smoke { built_for_tests()? } else { built()? };
    let mut subjects = vec![
        subject("hello in Rust", vec![built.hello], "", "hello"),
        subject("ours, redshift", vec![built.bootstrap.clone()], "redshift", STATEMENT),
        subject("ours, statement", vec![built.bootstrap], "statement", STATEMENT),
        subject("hello in Python", python(&built.python, "hello"), "", "hello"),
    ];
    if !smoke {
        subjects.push(subject(
            "the reference's work in Python",
            python(&built.python, "reference"),
            "",
            STATEMENT,
        ));
    }
    let service = data_api()?;
    let runtime = RuntimeApi::start()?;
    for turn in 0..=if smoke { 2 } else { TURNS } {
        let count = subjects.len();
        for number in 0..count {
            // The order rotates, so that no function always follows the same one.
            let subject = &mut subjects[(turn + number) % count];
            let (seconds, bytes) = start(&runtime, &service, subject)?;
            // The first turn only warms up the system's file cache and Python's compiled modules.
            if turn > 0 {
                subject.seconds.push(seconds);
                subject.bytes.push(bytes);
            }
        }
    }
    publish(&subjects, &built.zipped, smoke)
}

/// The executables.
struct Built {
    bootstrap: PathBuf,
    hello: PathBuf,
    python: PathBuf,
    zipped: Vec<Zipped>,
}

/// Builds the functions for deployment, and installs the Python packages.
fn built() -> Result<Built> {
    let zipped = functions::zipped(&["redshift", "hudi"])?;
    let bootstrap = zipped.first().context("scripts/deploy/zip built no executable")?.executable.clone();
    let requirements = "benches/peers/lambda/requirements.txt";
    let python = output(Command::new(workspace().join("scripts/python")).arg(requirements))?.into();
    Ok(Built { bootstrap, hello: deployed("lambda-hello", "lambda-hello")?, python, zipped })
}

/// Returns executables of the dev profile.
fn built_for_tests() -> Result<Built> {
    let bootstrap = for_tests("sfn-adapter", "bootstrap")?;
    let hello = for_tests("lambda-hello", "lambda-hello")?;
    Ok(Built { bootstrap, hello, python: "python3".into(), zipped: Vec::new() })
}

/// Returns the command of a function in Python.
fn python(interpreter: &Path, module: &str) -> Vec<PathBuf> {
    vec![interpreter.to_owned(), workspace().join("benches/peers/lambda/runtime.py"), module.into()]
}

fn subject(
    name: &'static str,
    command: Vec<PathBuf>,
    handler: &'static str,
    expected: &'static str,
) -> Subject {
    let event = match handler {
        "statement" => json!({
            "version": 1, "action": "submit", "call": "mystore.sp_run_incremental_load()",
            "identity": {
                "execution": "arn:aws:states:eu-west-1:111122223333:execution:load:7f3a",
                "redrive": 0, "step": "load", "attempt": 1,
            },
        }),
        _ => json!({
            "version": "0", "id": "53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa", "detail-type": "Scheduled Event",
            "source": "aws.events", "account": "111122223333", "time": "2026-11-23T06:30:00Z", "region": "eu-west-1",
            "resources": ["arn:aws:events:eu-west-1:111122223333:rule/load"], "detail": {},
        }),
    };
    let (seconds, bytes) = (Vec::new(), Vec::new());
    Subject { name, command, handler, event: event.to_string(), expected, seconds, bytes }
}

/// Starts a function. Returns the seconds to its first answer, and its peak memory until then.
fn start(runtime: &RuntimeApi, service: &str, subject: &Subject) -> Result<(f64, f64)> {
    let variables = BTreeMap::from([
        ("AWS_LAMBDA_FUNCTION_NAME", "load"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
        ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_SESSION_TOKEN", "token"),
        ("AWS_ENDPOINT_URL_REDSHIFT_DATA", service),
        ("AWS_REGION", "eu-west-1"),
        ("REGION", "eu-west-1"),
        ("CLUSTER_NAME", "dwh"),
        ("PROCEDURE", "sp_run_incremental_load"),
        ("SECRET_ARN", "arn:aws:secretsmanager:eu-west-1:111122223333:secret:dwh-AbCdEf"),
        ("DATABASE", "mystore_db"),
        ("SCHEMA", "mystore"),
        ("SFN_ADAPTER_HANDLER", subject.handler),
    ]);
    let mut command = Command::new(&subject.command[0]);
    command.args(&subject.command[1..]).env_clear().envs(variables);
    let (_function, answer) = runtime.invoke_first(&mut command, &subject.event)?;
    let reply = answer.reply.to_string();
    ensure!(reply.contains(subject.expected), "{}: {reply}", subject.name);
    Ok((answer.elapsed.as_secs_f64(), answer.peak_bytes as f64))
}

fn publish(subjects: &[Subject], zipped: &[Zipped], smoke: bool) -> Result<()> {
    let figure = |name: &str, values: fn(&Subject) -> &Vec<f64>| {
        let subject = subjects.iter().find(|subject| subject.name == name);
        subject.map_or(f64::NAN, |subject| median(values(subject)))
    };
    let time = |name: &str| figure(name, |subject| &subject.seconds);
    let memory = |name: &str| figure(name, |subject| &subject.bytes);
    let (ours, ours_memory) = (
        time("ours, redshift").max(time("ours, statement")),
        memory("ours, redshift").max(memory("ours, statement")),
    );
    let rows = subjects.iter().map(|subject| {
        let (seconds, bytes) = (median(&subject.seconds), median(&subject.bytes));
        [
            subject.name.to_owned(),
            format!("{:.2}", seconds * 1e3),
            format!("{:.2}", seconds / time("hello in Rust")),
            format!("{:.1}", bytes / 1e6),
        ]
    });
    let reference = "the reference's work in Python";
    let ratios = [
        ("time of ours over a hello in Rust", ours / time("hello in Rust"), OVER_HELLO, false),
        ("time of the reference's work in Python over ours", time(reference) / ours, REFERENCE, true),
        ("time of a hello in Python over ours", time("hello in Python") / ours, PYTHON_HELLO, true),
        (
            "memory of the reference's work in Python over ours",
            memory(reference) / ours_memory,
            REFERENCE_MEMORY,
            true,
        ),
    ];
    // CI does not install boto3.
    let measured = ratios.iter().filter(|(_, ratio, ..)| ratio.is_finite());
    let limits = measured.map(|(name, ratio, limit, is_minimum)| {
        let bound = if *is_minimum { "at least" } else { "at most" };
        [(*name).to_owned(), format!("{ratio:.2}"), format!("{bound} {limit}")]
    });
    let sizes = zipped
        .iter()
        .map(|zip| [format!("{} ({})", zip.set, zip.triple), zip.bytes.clone(), zip.unzipped.clone()]);
    let input = format!("medians of {TURNS} starts of each, in turns, exec to first answer");
    Section::new(
        "start",
        "How long does a function take from the start of its process to its first answer?",
        &input,
    )
    .with_table(["function", "ms", "over hello in Rust", "peak MB"], rows)
    .with_note(
        "Ours submits a statement to a service on loopback, without TLS; so does the reference's work, in code of our own that, \
         like the reference, imports boto3 and builds a client in each call. Its compiled modules are cached, and its client \
         of the Runtime API is smaller than AWS's. The functions in Rust are built with the profile `deploy`.",
    )
    .with_table(["ratio, of ours the slower handler", "value", "limit"], limits)
    .with_table(["zip (this machine's architecture)", "bytes zipped", "bytes unzipped"], sizes)
    .publish(!smoke)?;
    for (name, ratio, limit, is_minimum) in ratios {
        let is_kept = if is_minimum { ratio >= limit } else { ratio <= limit };
        ensure!(smoke || is_kept, "limit exceeded: {name} is {ratio:.2}, and the limit is {limit}");
    }
    Ok(())
}
