//! `redshift-orchestrator`: pipelines from the command line.

use std::{process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};
use redshift_orchestrator::Error;

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

use exit::Exit;

/// Runs pipelines of SQL and stored procedures on Amazon Redshift: each statement once, resumed after a
/// crash.
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
    /// Continue a run that stopped, failed or died. Default: the last unfinished one
    Resume(run::ResumeOptions),
    /// Print the graph and the statements, without a service
    Plan(plan::PlanOptions),
    /// Check a pipeline file and its SQL files, without a service
    Validate(plan::ValidateOptions),
    /// Show runs and their steps from the journal, and the places to check for unknown outcomes
    Status(status::StatusOptions),
    /// Record the outcome of a step whose outcome is unknown, after checking it
    Settle(settle::SettleOptions),
    /// Remove old runs from the journal, except active, unfinished and unknown ones
    Prune(prune::PruneOptions),
    /// Cancel the statements of a run that are in flight, and print the outcome of each
    Cancel(cancel::CancelOptions),
    /// Print the JSON Schema of pipeline files, for editors
    Schema,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            show::say(&format!("error: no runtime: {error}"));
            return Exit::Environment.into();
        }
    };
    let done = runtime.block_on(dispatch(options.command));
    // The next start continues statements that are still running.
    runtime.shutdown_timeout(Duration::from_secs(1));
    match done {
        Ok(exit) => exit.into(),
        Err(error) => {
            show::say(&format!("error: {error:?}"));
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
