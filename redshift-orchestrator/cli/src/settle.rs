//! `settle`: what a person found out about a statement whose fate is unknown.

use clap::{Args, ValueEnum};
use redshift_orchestrator::{Clock, Error, ErrorKind, Result, SystemClock, journal::Settlement};
use serde_json::json;

use crate::{
    exit::Exit,
    options::{JournalOptions, OutputOptions, PipelineOptions},
    show,
};

#[derive(Args)]
pub(crate) struct SettleOptions {
    #[command(flatten)]
    pipeline: PipelineOptions,

    /// The step
    #[arg(value_name = "STEP")]
    step: String,

    /// The run
    #[arg(long, value_name = "ID")]
    run_id: String,

    /// Which attempt; the last one, unless given
    #[arg(long, value_name = "NUMBER")]
    attempt: Option<u32>,

    /// Which part of a batch that has more than 40 statements; the last one that was begun, unless given
    #[arg(long, value_name = "NUMBER")]
    part: Option<u32>,

    /// What became of it
    #[arg(long = "as", value_enum)]
    found: Found,

    /// Why you think so: what you looked at
    #[arg(long, value_name = "TEXT")]
    because: String,

    /// Who looked; the user of this machine, unless given
    #[arg(long, value_name = "NAME")]
    by: Option<String>,

    #[command(flatten)]
    journal: JournalOptions,

    #[command(flatten)]
    output: OutputOptions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Found {
    /// It ran and its effect is there: the step counts as finished
    Finished,
    /// It ran and left nothing behind: a further attempt may run
    Failed,
    /// It never ran: it may be submitted
    NotRun,
}

pub(crate) async fn settle(options: SettleOptions) -> Result<Exit> {
    let journal = options.journal.place(&options.pipeline.pipeline).open_existing(false).await?;
    let attempts: Vec<_> = journal
        .run(&options.run_id)
        .await?
        .into_iter()
        .filter(|entry| entry.key.step == options.step)
        .filter(|entry| options.attempt.is_none_or(|attempt| attempt == entry.key.attempt))
        .filter(|entry| options.part.is_none_or(|part| entry.key.part.is_some_and(|it| it.number == part)))
        .collect();
    let Some(last) = attempts.into_iter().max_by_key(|entry| (entry.key.attempt, entry.key.part)) else {
        return Err(Error::new(
            ErrorKind::Invalid,
            "the journal knows no such attempt at a step; `status --run-id` lists them",
        )
        .with_context("run", options.run_id)
        .with_context("step", options.step));
    };
    let found = match options.found {
        Found::Finished => Settlement::Finished,
        Found::Failed => Settlement::Failed,
        Found::NotRun => Settlement::NeverRan,
    };
    let settled = options.found.to_possible_value();
    let settled = settled.as_ref().map_or("", |value| value.get_name());
    let key = last.key;
    let by = options.by.or_else(|| std::env::var("USER").ok());
    redshift_orchestrator::journal::settle(
        &*journal,
        SystemClock.now(),
        &key,
        found,
        by,
        Some(options.because),
    )
    .await?;
    if options.output.json {
        show::line(
            &json!({"event": "settled", "run": key.run, "step": key.step, "attempt": key.attempt, "as": settled}),
        );
    } else {
        show::out(&format!("{key} is settled as {settled}; `resume --run-id {}` goes on", key.run));
    }
    Ok(Exit::Success)
}
