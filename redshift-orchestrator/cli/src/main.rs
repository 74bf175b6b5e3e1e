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

/// Runs pipelines of SQL and stored procedures on Amazon Redshift: each statement once, resumed after a crash.
#[derive(Parser)]
#[command(version, max_term_width = 110, after_help = exit::HELP)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a pipeline, or go on with the run of this id
    Run(run::RunOptions),
    /// Go on with a run that stopped, failed or died: the last one that did not finish, unless one is named
    Resume(run::ResumeOptions),
    /// Print the graph and what would run, without a service
    Plan(plan::PlanOptions),
    /// Check a pipeline file and the SQL files it names, without a service
    Validate(plan::ValidateOptions),
    /// Show runs and their steps from the journal, and what to look at where a fate is unknown
    Status(status::StatusOptions),
    /// Write down what became of a step whose fate is unknown, after a look
    Settle(settle::SettleOptions),
    /// Remove old runs from the journal; never one that is active, unfinished or unknown
    Prune(prune::PruneOptions),
    /// Cancel the statements of a run that are on their way, and say how each ended
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
    // What still runs then is for the next start to go on with.
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
