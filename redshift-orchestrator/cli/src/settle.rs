//! `settle`: records the outcome of a statement after a person has checked it.

use clap::{Args, ValueEnum};
use redshift_orchestrator::{
    Clock, Error, ErrorKind, Result, SystemClock,
    journal::{SettledOutcome, Settlement},
};
use serde_json::json;

use crate::{
    exit::Exit,
    journal::in_use,
    options::{JournalOptions, OutputOptions, PipelineOptions},
    show,
};

#[derive(Args)]
pub(crate) struct SettleOptions {
    #[command(flatten)]
    pipeline: PipelineOptions,

    /// Name of the step
    #[arg(value_name = "STEP")]
    step: String,

    /// Run id
    #[arg(long, value_name = "ID")]
    run_id: String,

    /// Number of the attempt. Default: the last one
    #[arg(long, value_name = "NUMBER")]
    attempt: Option<u32>,

    /// Part of a batch of more than 40 statements. Default: the last part that was started
    #[arg(long, value_name = "NUMBER")]
    part: Option<u32>,

    /// Outcome of the statement
    #[arg(long = "as", value_enum)]
    found: Found,

    /// How the outcome was determined, for example which tables were checked
    #[arg(long, value_name = "TEXT", value_parser = crate::options::not_blank)]
    because: String,

    /// Person who checked the outcome. Default: the current user
    #[arg(long, value_name = "NAME", value_parser = crate::options::not_blank)]
    by: Option<String>,

    #[command(flatten)]
    journal: JournalOptions,

    #[command(flatten)]
    output: OutputOptions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Found {
    /// The statement took effect: the step counts as finished
    Finished,
    /// The statement ran without effect: the step counts as failed and may be attempted again
    Failed,
    /// The statement never ran: it may be submitted
    NotRun,
}

pub(crate) async fn settle(options: SettleOptions) -> Result<Exit> {
    let location = options.journal.location(&options.pipeline.pipeline);
    let message = "another process uses the journal and records the outcomes of its statements; settle the step when that process has \
                   ended";
    let journal = location.open_existing(false).await.map_err(|error| in_use(error, message))?;
    let attempts: Vec<_> = journal
        .entries(&options.run_id)
        .await?
        .into_iter()
        .filter(|entry| entry.key.step == options.step)
        .filter(|entry| options.attempt.is_none_or(|attempt| attempt == entry.key.attempt))
        .filter(|entry| options.part.is_none_or(|part| entry.key.part.is_some_and(|it| it.number == part)))
        .collect();
    let Some(last) = attempts.into_iter().max_by_key(|entry| (entry.key.attempt, entry.key.part)) else {
        return Err(Error::new(
            ErrorKind::Invalid,
            "the journal has no such attempt; `status --run-id` lists the attempts",
        )
        .with_context("run", options.run_id)
        .with_context("step", options.step));
    };
    let outcome = match options.found {
        Found::Finished => SettledOutcome::Finished,
        Found::Failed => SettledOutcome::Failed,
        Found::NotRun => SettledOutcome::NeverRan,
    };
    let settled = options.found.to_possible_value();
    let settled = settled.as_ref().map_or("", |value| value.get_name());
    let key = last.key;
    let mut settlement = Settlement::new(outcome).with_reason(options.because);
    settlement.operator = options.by.or_else(|| std::env::var("USER").ok().filter(|name| !name.is_empty()));
    redshift_orchestrator::journal::settle(&*journal, SystemClock.now(), &key, settlement).await?;
    if options.output.json {
        show::line(
            &json!({"event": "settled", "run": key.run, "step": key.step, "attempt": key.attempt, "as": settled}),
        );
    } else {
        show::out(&format!("{key} is settled as {settled}; `resume --run-id {}` continues the run", key.run));
    }
    Ok(Exit::Success)
}
