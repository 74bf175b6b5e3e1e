//! The command line program `hudi-scd`: a table doctor that needs no cluster.
//!
//! A command is a file in `commands`, a thin layer over [`Table`](hudi_scd::Table) and
//! [`Scd2Table`](hudi_scd::scd::Scd2Table); what is here besides is what a program needs and a library does not: the command line, places of
//! tables, rows from and to files of other formats, progress bars, and what a failure looks like from outside.

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

/// What every command is told besides its own arguments.
#[derive(Clone, Copy, Debug)]
struct Context {
    /// Results as JSON lines.
    json: bool,
    /// No progress bars.
    quiet: bool,
}

/// The exit code of a process that an interrupt ended, as a shell counts it.
const INTERRUPTED: u8 = 130;

/// Runs the program with the arguments of its command line and returns its exit code: 0 done, 1 failed or findings, 2 wrong command line.
///
/// An interrupt ends it as the death of the process would: nothing of an unfinished write is visible, and the next
/// writer undoes it.
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
            // Help and version come this way too, with code 0. A closed pipe is nobody's failure.
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
            eprintln!("hudi-scd: interrupted; what was not committed is undone by the next write");
            ExitCode::from(INTERRUPTED)
        }
    }
}
