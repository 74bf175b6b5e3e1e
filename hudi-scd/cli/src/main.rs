//! The command line program `hudi-scd`: maintains Hudi tables without a cluster.
//!
//! Each command is a file in `commands`, a thin layer over [`Table`](hudi_scd::Table) and
//! [`Scd2Table`](hudi_scd::scd::Scd2Table). The other modules contain the parts that only a program needs:
//! the command line, locations of tables, rows from and to files of other formats, progress bars, and error
//! messages.

mod args;
mod commands;
mod failure;
mod input;
mod json;
mod location;
mod output;
mod produced;
mod profile;
mod progress;
mod schema_file;

use std::{ffi::OsString, process::ExitCode};

use clap::Parser;

use self::{args::Cli, failure::Failure};

/// The options that apply to every command.
#[derive(Clone, Copy, Debug)]
struct Context {
    /// Results as JSON lines.
    json: bool,
    /// Hides progress bars.
    quiet: bool,
}

/// The shell's exit code for a process that an interrupt ended.
const INTERRUPTED: u8 = 130;

/// Runs the program with the arguments of its command line and returns its exit code: 0 success, 1 failure or
/// violations found, 2 invalid command line.
///
/// An interrupt ends it like the death of the process: nothing of an unfinished write is visible, and the
/// next writer undoes it.
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
            // Help and version come this way too, with code 0. A closed pipe is not an error.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let context = Context { json: cli.json, quiet: cli.quiet };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("hudi-scd: the program cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(async {
        tokio::select! {
            done = commands::run(context, cli.command) => Some(done),
            _ = tokio::signal::ctrl_c() => None,
        }
    });
    // A thread that still reads a file must not keep the process alive.
    runtime.shutdown_background();
    match outcome {
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(failure)) => {
            if let Some(message) = failure.message(context.json) {
                eprintln!("{message}");
            }
            ExitCode::from(failure.exit_code())
        }
        None => {
            eprintln!("hudi-scd: interrupted; the next write undoes uncommitted changes");
            ExitCode::from(INTERRUPTED)
        }
    }
}
