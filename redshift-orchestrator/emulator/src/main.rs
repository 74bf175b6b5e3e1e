//! `redshift-data-emulator`: a local Redshift Data API.

use std::{
    fs,
    io::Write,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::{Args, Parser};
use redshift_data_emulator::Emulator;
use redshift_data_local::{Faults, Faulty, LocalExecutor, Script};
use redshift_orchestrator::{
    Clock, Error, ErrorKind, Result, StatementExecutor, SystemClock, catalog::Catalog,
};

/// A local Redshift Data API: point an AWS SDK's endpoint URL at it. Any credentials are accepted.
#[derive(Parser)]
#[command(version, max_term_width = 110)]
struct Options {
    /// Address to listen on; port 0 selects a free port. The emulator prints its URL when it is ready
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8192")]
    listen: SocketAddr,

    #[command(flatten)]
    back_end: BackEnd,

    /// Maximum number of connections to the PostgreSQL server. One is used for the records, and each of the
    /// others runs one statement at a time
    #[arg(long, value_name = "NUMBER", default_value_t = 17)]
    #[cfg(feature = "postgres")]
    connections: u16,

    /// Name of a database that exists; can be repeated. A statement for another one fails as in the service.
    /// All names refer to the database of --postgres. Default: every name exists
    #[arg(long = "database", value_name = "NAME", requires = "postgres")]
    #[cfg(feature = "postgres")]
    databases: Vec<String>,

    /// Inject the faults in this TOML file (format: `Faults::from_toml`)
    #[arg(long, value_name = "FILE")]
    faults: Option<PathBuf>,

    /// Seed of the faults and of the statement ids. Default: the faults use the seed in the file of --faults,
    /// and the ids the system's entropy
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,

    /// Allow addresses that other machines can reach. Every client that can connect can run any SQL
    #[arg(long)]
    exposed: bool,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct BackEnd {
    /// Run SQL on this PostgreSQL server (15 or newer), which also stores the records
    #[arg(long, value_name = "URL")]
    #[cfg(feature = "postgres")]
    postgres: Option<String>,

    /// Follow the script in this TOML file instead of running SQL (format: `Script::from_toml`)
    #[arg(long, value_name = "FILE")]
    scripted: Option<PathBuf>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    #[cfg(unix)]
    raise_open_files();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return failed(
                &Error::new(ErrorKind::Other, "the async runtime cannot be started").with_source(error),
            );
        }
    };
    match runtime.block_on(run(options)) {
        Ok(()) => {
            // Statements that are still running continue at the next start.
            runtime.shutdown_timeout(Duration::from_secs(1));
            ExitCode::SUCCESS
        }
        Err(error) => failed(&error),
    }
}

/// Raises the soft limit of open files, usually 1,024, to the hard limit, because each long poll holds a
/// connection open.
#[cfg(unix)]
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // On failure the old limit remains in effect, which only matters with many connections.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

fn failed(error: &Error) -> ExitCode {
    eprintln!("{error:?}");
    ExitCode::FAILURE
}

async fn run(options: Options) -> Result<()> {
    let faults = match &options.faults {
        Some(path) => Faults::from_toml(&read(path)?).map_err(|error| in_file(error, path))?,
        None => Faults::seeded(0),
    };
    let faults = match options.seed {
        Some(seed) => faults.with_seed(seed),
        None => faults,
    };
    let ids = options.seed.unwrap_or_else(entropy);
    #[cfg(feature = "postgres")]
    if let Some(url) = &options.back_end.postgres {
        let executor = LocalExecutor::postgres(url)
            .with_connections(options.connections.into())
            .with_databases(&options.databases)
            .with_seed(ids);
        return serve(&options, ids, Faulty::new(executor.start().await?, faults)).await;
    }
    let script = match &options.back_end.scripted {
        Some(path) => Script::from_toml(&read(path)?).map_err(|error| in_file(error, path))?,
        None => Script::new(),
    };
    let script = script.with_seed(ids).starting_at(SystemClock.now()).without_effects();
    serve(&options, ids, Faulty::new(LocalExecutor::scripted(script), faults)).await
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|error| {
        in_file(Error::new(ErrorKind::Definition, "the file cannot be read").with_source(error), path)
    })
}

fn in_file(error: Error, path: &Path) -> Error {
    error.with_context("file", path.display())
}

#[expect(clippy::disallowed_methods, reason = "each start must draw different ids, unless a seed is given")]
fn entropy() -> u64 {
    fastrand::u64(..)
}

async fn serve(
    options: &Options,
    seed: u64,
    executor: impl StatementExecutor + Catalog + 'static,
) -> Result<()> {
    // Inverts the seed, because the statement ids already use the seed itself.
    let emulator = Emulator::new(executor).with_seed(!seed);
    let emulator = emulator.with_remote_access(options.exposed);
    // Registers for signals before listening, so that an early signal is not lost.
    let stop = stop()
        .map_err(|error| Error::new(ErrorKind::Other, "signals cannot be received").with_source(error))?;
    let listening = emulator.bind(options.listen).await.map_err(|error| {
        Error::new(
            ErrorKind::Invalid,
            "the emulator cannot listen on this address; see --listen and --exposed",
        )
        .with_context("address", options.listen)
        .with_source(error)
    })?;
    let mut out = std::io::stdout();
    // The program keeps running if standard output is closed.
    let _ = writeln!(out, "listening on {}", listening.url()).and_then(|()| out.flush());
    listening.serve_until(stop).await;
    Ok(())
}

/// Completes on SIGINT and, on Unix, also on SIGTERM.
#[cfg(unix)]
fn stop() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

#[cfg(not(unix))]
fn stop() -> std::io::Result<impl Future<Output = ()>> {
    Ok(async { tokio::signal::ctrl_c().await.unwrap_or(()) })
}
