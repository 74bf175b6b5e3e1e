//! The command line program `hudi-scd`: maintains Hudi tables without a cluster.
//!
//! Each command is a file in `commands`, a thin layer over [`Table`](hudi_scd::Table) and
//! [`Scd2Table`](hudi_scd::scd::Scd2Table). The other modules contain the parts that only a program needs:
//! the command line, locations of tables, conversion of rows from and to other file formats, progress bars,
//! and error messages.

mod args;
mod commands;
mod failure;
mod json;
mod location;
mod output;
mod progress;
mod s3;
mod schema_file;

use std::{ffi::OsString, process::ExitCode, time::Duration};

use clap::Parser;
use hudi_scd::Cancellation;

use self::{args::Cli, failure::Failure};

/// Settings that every command receives besides its own arguments.
#[derive(Clone, Copy, Debug)]
struct Context {
    /// Prints results as JSON lines.
    json: bool,
    /// Hides progress bars.
    quiet: bool,
    /// Cancels writes when a signal arrives.
    cancellation: &'static Cancellation,
}

/// Time for a cancelled write to release the lock of its table.
const RELEASE: Duration = Duration::from_secs(30);

/// A signal that ends the process.
#[derive(Clone, Copy, Debug)]
enum Signal {
    /// Ctrl-C.
    Interrupt,
    /// SIGTERM, sent by a scheduler or when a container stops.
    Terminate,
}

impl Signal {
    /// Returns the exit code of a process that the signal ended, as a shell reports it.
    fn exit_code(self) -> u8 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }

    /// Waits for a signal.
    async fn next() -> Self {
        #[cfg(unix)]
        let terminated = async {
            match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
                Ok(mut signal) => signal.recv().await,
                Err(_) => std::future::pending().await,
            }
        };
        #[cfg(not(unix))]
        let terminated = std::future::pending::<Option<()>>();
        tokio::select! {
            _ = tokio::signal::ctrl_c() => Self::Interrupt,
            _ = terminated => Self::Terminate,
        }
    }
}

/// Runs the program with the arguments of its command line and returns its exit code: 0 success, 1 failure or
/// violations found, 2 invalid command line.
///
/// An interrupt or SIGTERM cancels a write in an orderly way: it sends no further requests and releases the
/// table's lock. None of its rows are visible, and the next writer undoes it. A second signal ends the
/// process at once.
fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() && arguments.iter().any(|argument| argument == "--json") => {
            let failure = Failure::usage(error.to_string().trim_end());
            eprintln!("{}", failure.message(true).unwrap_or_default());
            return ExitCode::from(failure.exit_code());
        }
        Err(error) => {
            // Help and version also arrive here, with code 0. A closed pipe is not an error.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    // It exists as long as the process.
    let cancellation: &'static Cancellation = Box::leak(Box::default());
    let context = Context { json: cli.json, quiet: cli.quiet, cancellation };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("hudi-scd: the program cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(async {
        let mut running = std::pin::pin!(commands::run(context, cli.command));
        let signal = tokio::select! {
            done = &mut running => return Ok(done),
            signal = Signal::next() => signal,
        };
        let is_writing = cancellation.is_writing();
        cancellation.cancel();
        if is_writing {
            tokio::select! {
                // A commit that has completed in the meantime is kept and reported.
                done = &mut running => if done.is_ok() { return Ok(done) },
                _ = Signal::next() => {}
                () = tokio::time::sleep(RELEASE) => {}
            }
        }
        Err(signal)
    });
    // A thread that still reads a file must not keep the process alive.
    runtime.shutdown_background();
    match outcome {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(failure)) => {
            if let Some(message) = failure.message(context.json) {
                eprintln!("{message}");
            }
            ExitCode::from(failure.exit_code())
        }
        Err(signal) => {
            eprintln!("hudi-scd: interrupted; the next write undoes everything that was not committed");
            ExitCode::from(signal.exit_code())
        }
    }
}
