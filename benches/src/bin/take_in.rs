//! How long does the handler `hudi` take for 10,000 rows, and how much memory?
//!
//! The function for deployment takes raw files of 10,000 rows, half of them new, into a table of one million
//! rows. Table and files are on an S3 server on this machine. Each process gets two files: the first one
//! includes the start of the process and opens the table, and the second one finds a warm handle. **Limit: 512
//! MiB of resident memory**, half of the memory that the deployment template chooses.
//!
//! Run `cargo run --release -p benches --bin take_in`, which builds the function with `scripts/deploy/zip` and
//! starts the server with `scripts/s3/server`. `--smoke` uses a small table and a function of the dev profile,
//! for CI, and has no limit.

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::Command,
    sync::Arc,
};

use anyhow::{Context, Result, ensure};
use arrow::csv::WriterBuilder;
use benches::{
    customers,
    functions::{for_tests, output, workspace, zipped},
    measure::median,
    results::Section,
    runtime_api::{Answer, RuntimeApi},
};
use clap::Parser;
use futures::{StreamExt, stream};
use hudi_scd::{ErrorKind, S3RangeCopy, Table, TableDefinition};
use object_store::{ObjectStore, ObjectStoreExt, aws::AmazonS3Builder};
use serde_json::{Value, json};

/// The memory of the function in MiB.
const MEMORY: u64 = 512;
const BUCKET: &str = "bench";
/// Number of rows of a raw file.
const CHANGES: i64 = 10_000;
const FILES_OF_A_PROCESS: usize = 2;

#[derive(Parser)]
#[command(about = "Time and memory of the handler `hudi` for raw files on an S3 server")]
struct Options {
    /// Uses a small table, for CI.
    #[arg(long)]
    smoke: bool,
    /// S3 server of `scripts/s3/server`: moto or versitygw.
    #[arg(long, default_value = "moto")]
    server: String,
}

#[tokio::main]
async fn main() -> Result<()> {
    let Options { smoke, server } = Options::parse();
    let bootstrap = match smoke {
        true => for_tests("sfn-adapter", "bootstrap")?,
        false => zipped(&["hudi"])?.pop().context("scripts/deploy/zip built no executable")?.executable,
    };
    let (rows, changes, processes) = if smoke { (10_000, 100, 1) } else { (1_000_000, CHANGES, 5) };
    let state = tempfile::tempdir()?;
    let script = |action: &str| {
        let mut command = Command::new(workspace().join("scripts/s3/server"));
        command.args([action, &server]).env("HUDI_SCD_S3_STATE", state.path().join("s3"));
        output(&mut command)
    };
    let endpoint = script("start")?;
    let measured = async {
        if server == "moto" {
            create_bucket(&endpoint)?;
        }
        let store = s3(&endpoint)?;
        create_table(&store, rows).await?;
        let mut answers = Vec::new();
        for process in 0..processes {
            let mut files = Vec::new();
            for file in 0..FILES_OF_A_PROCESS {
                let number = process * FILES_OF_A_PROCESS + file;
                let key = format!("raw/{number}.csv");
                store.put(&key.as_str().into(), raw(rows, changes, number)?.into()).await?;
                files.push(format!("s3://{BUCKET}/{key}"));
            }
            let command = function(&bootstrap, &endpoint);
            answers.push(tokio::task::spawn_blocking(move || take_in(command, &files)).await??);
        }
        let table = Table::open(store, "customers".into()).await?;
        ensure!(table.validate().await?.is_empty(), "the table is invalid");
        Ok::<_, anyhow::Error>(answers)
    };
    let measured = measured.await;
    script("stop")?;
    publish(&measured?, rows, changes, &server, smoke)
}

fn s3(endpoint: &str) -> Result<Arc<dyn ObjectStore>> {
    let builder = AmazonS3Builder::new().with_endpoint(endpoint).with_region("us-east-1");
    let builder = builder.with_bucket_name(BUCKET).with_access_key_id("id").with_secret_access_key("secret");
    Ok(S3RangeCopy::build(builder)?.store())
}

fn create_bucket(endpoint: &str) -> Result<()> {
    let host = endpoint.strip_prefix("http://").context(endpoint.to_owned())?;
    let mut server = TcpStream::connect(host)?;
    write!(
        server,
        "PUT /{BUCKET} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )?;
    let mut response = String::new();
    server.read_to_string(&mut response)?;
    ensure!(response.starts_with("HTTP/1.1 200"), "{response}");
    Ok(())
}

async fn create_table(store: &Arc<dyn ObjectStore>, rows: i64) -> Result<()> {
    let definition = TableDefinition::new("customers", customers::schema(), ["id"]);
    let definition = definition.with_ordering_field("updated_at");
    let table = Table::create(store.clone(), "customers".into(), definition).await?;
    let batches = customers::base(rows).map(|batch| {
        batch.map_err(|error| {
            hudi_scd::Error::new(ErrorKind::InvalidInput, format!("the rows are invalid: {error}"))
        })
    });
    table.bulk_insert_stream(stream::iter(batches).boxed()).await?;
    Ok(())
}

/// Returns a raw file: half of its rows are new, and the others change rows of the table.
fn raw(rows: i64, changes: i64, number: usize) -> Result<Vec<u8>> {
    let turn = i64::try_from(number)? + 1;
    let mut rng = fastrand::Rng::with_seed(turn.unsigned_abs());
    let half = changes / 2;
    let changed = rows / half;
    let mut ids: Vec<i64> = (0..half).map(|row| row * changed + rng.i64(0..changed)).collect();
    ids.extend((0..half).map(|row| rows + turn * half + row));
    let mut text = Vec::new();
    let mut writer = WriterBuilder::new().with_header(true).build(&mut text);
    writer.write(&customers::batch(&ids, turn * 60, &mut rng)?)?;
    drop(writer);
    Ok(text)
}

fn function(bootstrap: &std::path::Path, endpoint: &str) -> Command {
    let mut command = Command::new(bootstrap);
    let memory = MEMORY.to_string();
    let table = format!("s3://{BUCKET}/customers");
    command.env_clear().envs([
        ("AWS_LAMBDA_FUNCTION_NAME", "hudi"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", memory.as_str()),
        ("AWS_ACCESS_KEY_ID", "id"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL", endpoint),
        ("SFN_ADAPTER_HANDLER", "hudi"),
        ("HUDI_TABLE", table.as_str()),
    ]);
    command
}

/// Passes the files to a process, one event each. Returns the answers.
fn take_in(mut command: Command, files: &[String]) -> Result<Vec<Answer>> {
    let event = |file: &str| json!({ "version": 1, "action": "upsert", "files": [file] }).to_string();
    let runtime = RuntimeApi::start()?;
    let [first, others @ ..] = files else { return Ok(Vec::new()) };
    let (mut function, answer) = runtime.invoke_first(&mut command, &event(first))?;
    let mut answers = vec![answer];
    for file in others {
        answers.push(function.invoke(&event(file))?);
    }
    Ok(answers)
}

fn publish(answers: &[Vec<Answer>], rows: i64, changes: i64, server: &str, smoke: bool) -> Result<()> {
    for answer in answers.iter().flatten() {
        let half = Value::from(changes / 2);
        let of = |name: &str| &answer.reply["rows"][name];
        ensure!(
            answer.reply["outcome"] == "committed" && of("inserted") == &half && of("updated") == &half,
            "a file was not taken in: {}",
            answer.reply
        );
    }
    let of = |number: usize, figure: fn(&Answer) -> f64| -> Vec<f64> {
        answers.iter().filter_map(|answers| answers.get(number)).map(figure).collect()
    };
    let row = |name: &str, number: usize| {
        let seconds = median(&of(number, |answer| answer.elapsed.as_secs_f64()));
        let bytes = of(number, |answer| answer.peak_bytes as f64).into_iter().fold(0.0, f64::max);
        [name.to_owned(), format!("{seconds:.2}"), format!("{:.0}", bytes / f64::from(1 << 20))]
    };
    let peak = answers.iter().flatten().map(|answer| answer.peak_bytes).max().unwrap_or_default();
    Section::new(
        "take_in",
        "How long does the handler `hudi` take for 10,000 rows, and how much memory?",
        &format!("raw files of {changes} rows, half of them new, into {rows} rows; {server} on this machine, no latency"),
    )
    .with_table(
        ["file", "seconds", "peak MiB"],
        [row("the first one, with the start of the process", 0), row("the second one, warm", 1)],
    )
    .with_note(&format!(
        "Medians of {} processes, and the maximum of their resident memory. The executable is the one for deployment, with {MEMORY} \
         MB as its function's memory. Limit: {MEMORY} MiB.",
        answers.len()
    ))
    .publish(!smoke)?;
    ensure!(smoke || peak <= MEMORY << 20, "limit exceeded: the function took {peak} bytes of {MEMORY} MiB");
    Ok(())
}
