//! `redshift-orchestrator`: runs pipelines from the command line.

use std::{process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};
use redshift_orchestrator::Error;

mod account;
mod cancel;
mod exit;
mod interrupt;
mod journal;
mod options;
mod plan;
mod progress;
mod prune;
mod report;
mod run;
mod service;
mod settle;
mod show;
mod status;
mod tasks;

use exit::Exit;

/// Runs pipelines of SQL and stored procedures on Amazon Redshift. Each statement runs once, even if a run is
/// resumed after a crash.
#[derive(Parser)]
#[command(version, max_term_width = 110, after_help = exit::HELP)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a pipeline, or continue the run with this id
    Run(run::RunOptions),
    /// Continue a run that was stopped, failed or died. Default: the last unfinished run
    Resume(run::ResumeOptions),
    /// Print the graph and the statements, without connecting to a service
    Plan(plan::PlanOptions),
    /// Check a pipeline file and its SQL files, without connecting to a service
    Validate(plan::ValidateOptions),
    /// Show the runs and steps in the journal, and how to check unknown outcomes
    Status(status::StatusOptions),
    /// Record the outcome of a step after you have checked it, if the outcome is unknown
    Settle(settle::SettleOptions),
    /// Remove old runs from the journal. Active runs, unfinished runs and runs with unknown outcomes are kept
    Prune(prune::PruneOptions),
    /// Cancel the statements of a run that are in flight, and print the outcome for each
    Cancel(cancel::CancelOptions),
    /// Print the JSON Schema of pipeline files, for editors
    Schema,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            show::log(&format!("error: the async runtime cannot be started: {error}"));
            return Exit::Environment.into();
        }
    };
    let done = runtime.block_on(dispatch(options.command));
    // Statements that are still running continue at the next start.
    runtime.shutdown_timeout(Duration::from_secs(1));
    match done {
        Ok(exit) => exit.into(),
        Err(error) => {
            show::log(&format!("error: {error:?}"));
            Exit::of(&error).into()
        }
    }
}

async fn dispatch(command: Command) -> Result<Exit, Error> {
    match command {
        Command::Run(options) => run::run(options).await,
        Command::Resume(options) => run::resume(options).await,
        Command::Plan(options) => plan::plan(&options),
        Command::Validate(options) => plan::validate(&options),
        Command::Status(options) => status::status(&options).await,
        Command::Settle(options) => settle::settle(options).await,
        Command::Prune(options) => prune::prune(&options).await,
        Command::Cancel(options) => cancel::cancel(&options).await,
        Command::Schema => {
            show::out(redshift_orchestrator::pipeline::schema_file().trim_end());
            Ok(Exit::Success)
        }
    }
}
