//! `status`: prints the runs and steps in the journal.

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use clap::Args;
use redshift_orchestrator::{
    Result, StatementId, Status,
    journal::{Entry, EntryState, Journal, RunCursor, RunEntry, SettledOutcome},
};
use serde_json::{Value, json};

use crate::{
    exit::Exit,
    journal,
    options::{JournalOptions, OutputOptions},
    show,
};

#[derive(Args)]
pub(crate) struct StatusOptions {
    /// Pipeline file, which determines the journal unless --journal is given
    #[arg(value_name = "PIPELINE", required_unless_present = "journal")]
    pipeline: Option<PathBuf>,

    /// Show this run only, with its steps
    #[arg(long, value_name = "ID")]
    run_id: Option<String>,

    /// Maximum number of runs to show, newest first
    #[arg(long, value_name = "NUMBER", default_value = "20")]
    limit: NonZeroUsize,

    /// Continue the listing after this cursor, which the previous page prints at its end
    #[arg(long, value_name = "CURSOR", conflicts_with = "run_id")]
    after: Option<RunCursor>,

    /// Show all runs
    #[arg(long, conflicts_with = "run_id")]
    all: bool,

    #[command(flatten)]
    journal: JournalOptions,

    #[command(flatten)]
    output: OutputOptions,
}

pub(crate) async fn status(options: &StatusOptions) -> Result<Exit> {
    let path = options.pipeline.as_deref().unwrap_or(Path::new(""));
    let journal = options.journal.location(path).look().await?;
    if let Some(name) = &options.run_id {
        let run = journal::find_run(&*journal, Some(name), |_| true, "").await?;
        return options.show(&*journal, &run).await.map(|()| Exit::Success);
    }
    let mut after = options.after.clone();
    let mut shown = 0;
    loop {
        let page = journal.runs(options.limit.get(), after.as_ref()).await?;
        for run in &page.runs {
            options.show(&*journal, run).await?;
        }
        shown += page.runs.len();
        after = page.next;
        if after.is_none() || !options.all {
            break;
        }
    }
    match after {
        _ if options.output.json => {}
        Some(after) => show::log(&format!("for older runs, use --after '{after}' or --all")),
        None if shown == 0 => show::out("no runs"),
        None => {}
    }
    Ok(Exit::Success)
}

impl StatusOptions {
    async fn show(&self, journal: &dyn Journal, run: &RunEntry) -> Result<()> {
        let mut steps = journal.entries(&run.run).await?;
        steps.sort_by_key(|entry| entry.intended_at);
        // A listing only shows the steps of runs that need attention.
        let whole = self.run_id.is_some() || !is_finished(run);
        if self.output.json {
            show::out(&as_json(run, &steps).to_string());
        } else {
            show::out(&head(run, &steps));
            if whole {
                steps.iter().for_each(|entry| show::out(&step(entry)));
            }
        }
        Ok(())
    }
}

fn is_finished(run: &RunEntry) -> bool {
    run.ended.is_some_and(|(_, result)| result.as_str() == "finished")
}

fn state(run: &RunEntry) -> &'static str {
    match run.ended {
        _ if run.is_active => "active",
        Some((_, result)) => result.as_str(),
        None if run.begun.pipeline.is_empty() => "without pipeline",
        None => "died",
    }
}

fn head(run: &RunEntry, steps: &[Entry]) -> String {
    let ended = run.ended.map(|(at, _)| format!(", ended {at:.0}")).unwrap_or_default();
    let unknown = steps.iter().filter(|entry| is_unknown(entry)).count();
    let unknown = if unknown > 0 { format!(", {unknown} unknown") } else { String::new() };
    let attempts = match steps.len() {
        1 => "1 attempt".to_owned(),
        count => format!("{count} attempts"),
    };
    format!(
        "{}  {}  {}, begun {:.0}{ended}, {attempts}{unknown}",
        run.run,
        run.begun.pipeline,
        state(run),
        run.begun_at
    )
}

fn step(entry: &Entry) -> String {
    let id = entry.id.as_ref().map_or("-", StatementId::as_str);
    let part = entry.key.part.map_or_else(String::new, |part| format!(" {part}"));
    let mut text = format!("    {}/{}{part}  {}  {id}", entry.key.step, entry.key.attempt, step_state(entry));
    let reason = match &entry.state {
        EntryState::Ended(ended) => ended.error.as_deref(),
        EntryState::NotSubmitted(reason) | EntryState::Unknown(reason) => Some(reason.as_str()),
        _ => None,
    };
    if let Some(reason) = reason {
        text += &format!("\n        {}", reason.trim_end().replace('\n', "\n        "));
    }
    if is_unknown(entry) {
        text += &format!("\n      look at\n        {}", entry.manual_check().replace('\n', "\n        "));
        text += "\n      then record the outcome with `settle`";
    }
    text
}

fn is_unknown(entry: &Entry) -> bool {
    matches!(entry.state, EntryState::Unknown(_))
}

pub(crate) fn step_state(entry: &Entry) -> &'static str {
    match &entry.state {
        EntryState::Open if entry.id.is_some() => "submitted",
        EntryState::Open => "intended",
        EntryState::Ended(ended) => match ended.status {
            Status::Finished => "finished",
            Status::Aborted if ended.timed_out => "timed out",
            Status::Aborted => "aborted",
            _ => "failed",
        },
        EntryState::NotSubmitted(_) => "not submitted",
        EntryState::Unknown(_) => "unknown",
        EntryState::Settled(SettledOutcome::Finished) => "settled as finished",
        EntryState::Settled(SettledOutcome::Failed) => "settled as failed",
        EntryState::Settled(_) => "settled as not run",
        _ => "other",
    }
}

fn as_json(run: &RunEntry, steps: &[Entry]) -> Value {
    let steps: Vec<_> = steps
        .iter()
        .map(|entry| {
            json!({
                "step": entry.key.step,
                "attempt": entry.key.attempt,
                "part": entry.key.part,
                "state": step_state(entry),
                "intended_at": entry.intended_at.to_string(),
                "statement_id": entry.id.as_ref().map(StatementId::as_str),
                "statement_name": entry.name,
                "error": match &entry.state {
                    EntryState::Ended(ended) => ended.error.clone(),
                    EntryState::NotSubmitted(reason) | EntryState::Unknown(reason) => Some(reason.clone()),
                    _ => None,
                },
                "check": is_unknown(entry).then(|| entry.manual_check()),
            })
        })
        .collect();
    json!({
        "run": run.run,
        "cursor": run.cursor().to_string(),
        "pipeline": run.begun.pipeline,
        "target": run.begun.target,
        "state": state(run),
        "first_begun_at": run.first_begun_at.to_string(),
        "begun_at": run.begun_at.to_string(),
        "ended_at": run.ended.map(|(at, _)| at.to_string()),
        "tags": run.begun.tags,
        "only": run.begun.steps,
        "steps": steps,
    })
}
