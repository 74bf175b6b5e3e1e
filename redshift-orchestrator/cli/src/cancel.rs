//! `cancel`: cancels the statements of a run that are in flight.

use std::time::Duration;

use clap::Args;
use redshift_orchestrator::{
    Clock, Description, ErrorKind, Pipeline, Result, StatementExecutor, StatementFilter, StatementId, Status,
    SystemClock,
    journal::{ActiveRun, Claim, Entry, EntryState, Event, Journal, Record, RecordedOutcome, RunEntry},
    wait::{CancelOutcome, LongPoll, RequestCounts, Wait, WaitOutcome},
};
use serde_json::json;

use crate::{
    exit::Exit,
    journal,
    options::{JournalOptions, OutputOptions, PipelineOptions, ServiceOptions},
    show,
};

#[derive(Args)]
pub(crate) struct CancelOptions {
    #[command(flatten)]
    pipeline: PipelineOptions,

    /// Run id. Default: the last unfinished run
    #[arg(long, value_name = "ID")]
    run_id: Option<String>,

    /// Cancel the statements of these steps only
    #[arg(long, value_name = "STEP,…", value_delimiter = ',')]
    only: Vec<String>,

    /// Time to wait for a cancelled statement to end, which includes its rollback on Redshift. Default: the
    /// time that the statement had been running, at least 15m
    #[arg(long, value_name = "DURATION", value_parser = crate::options::duration)]
    cancel_grace: Option<Duration>,

    #[command(flatten)]
    service: ServiceOptions,

    #[command(flatten)]
    journal: JournalOptions,

    #[command(flatten)]
    output: OutputOptions,
}

pub(crate) async fn cancel(options: &CancelOptions) -> Result<Exit> {
    let pipeline = options.pipeline.read()?;
    let place = || options.journal.with(&options.pipeline.pipeline, &options.service);
    // If another process has the journal open, a read-only journal is enough, because that process records the
    // endings.
    let (journal, is_writable) = match place().open_existing(false).await {
        Err(error) if error.kind() == ErrorKind::Overlap => (place().look().await?, false),
        opened => (opened?, true),
    };
    let unfinished = |run: &RunEntry| run.begun.pipeline == pipeline.name() && run.ended.is_none();
    let otherwise = "the journal has no unfinished run; select a run with --run-id";
    let run = journal::find_run(&*journal, options.run_id.as_deref(), unfinished, otherwise).await?;
    let active = match is_writable {
        true => claim(&*journal, &run).await?,
        false => None,
    };
    let done = cancel_run(options, &pipeline, &*journal, &run.run, active.is_some()).await;
    if let Some(active) = active {
        active.release().await;
    }
    done
}

/// Claims the run, so that this process may write its records. Returns `None` if another process runs it.
async fn claim(journal: &dyn Journal, run: &RunEntry) -> Result<Option<ActiveRun>> {
    let claim = Claim::new(&run.begun.pipeline, &run.run, SystemClock.now());
    match journal.claim(&claim).await {
        Ok(active) => Ok(Some(active)),
        Err(error) if error.kind() == ErrorKind::Overlap => Ok(None),
        Err(error) => Err(error),
    }
}

/// Cancels the statements in flight. Records their endings if this process has claimed the run. Otherwise, the
/// process that runs the run records them.
async fn cancel_run(
    options: &CancelOptions,
    pipeline: &Pipeline,
    journal: &dyn Journal,
    run: &str,
    is_claimed: bool,
) -> Result<Exit> {
    let entries: Vec<_> = journal
        .entries(run)
        .await?
        .into_iter()
        .filter(|entry| matches!(entry.state, EntryState::Open | EntryState::Unknown(_)))
        .filter(|entry| options.only.is_empty() || options.only.contains(&entry.key.step))
        .collect();
    if entries.is_empty() {
        if !options.output.json {
            show::out(&format!("{run}: no statements in flight"));
        }
        return Ok(Exit::Success);
    }
    if !is_claimed {
        show::log(
            "another process uses the journal and records the endings; if it dies first, `resume` records them",
        );
    }
    let service = options.service.connect(Some(pipeline)).await?;
    let mut exit = Exit::Success;
    for entry in entries {
        let fate = stop(&*service.executor, &entry, options.cancel_grace).await?;
        exit = match &fate {
            Fate::NotCancelled(_) | Fate::Pending if exit != Exit::Unknown => Exit::Failed,
            Fate::NotFound => Exit::Unknown,
            _ => exit,
        };
        let is_recorded = is_claimed && record(journal, &entry, &fate).await;
        print(options.output.json, &entry, &fate, is_recorded);
    }
    Ok(exit)
}

/// Outcome of a cancellation.
enum Fate {
    Cancelled(Description),
    EndedBefore(Description),
    /// The service accepted the cancel, but the statement has not ended yet.
    Pending,
    NotCancelled(String),
    /// The id of the statement is not recorded, and no listing contains its name.
    NotFound,
}

async fn stop(executor: &dyn StatementExecutor, entry: &Entry, grace: Option<Duration>) -> Result<Fate> {
    let id = match &entry.id {
        Some(id) => id.clone(),
        None => match find(executor, &entry.name).await? {
            Some(id) => id,
            None => return Ok(Fate::NotFound),
        },
    };
    let strategy = LongPoll::default();
    let mut wait = Wait::new(executor, &id, &strategy)
        .with_timeout(Duration::ZERO)
        .with_time_since_submit(entry.age(SystemClock.now()));
    if let Some(grace) = grace {
        wait = wait.with_cancel_grace(grace);
    }
    Ok(match wait.until_ended(&mut RequestCounts::default()).await {
        WaitOutcome::Ended(description) => Fate::EndedBefore(description),
        WaitOutcome::TimedOut { cancellation, .. } => match cancellation {
            CancelOutcome::Cancelled(description) => Fate::Cancelled(description),
            CancelOutcome::EndedBefore(description) => Fate::EndedBefore(description),
            CancelOutcome::Pending(_) => Fate::Pending,
            CancelOutcome::NotCancelled(error) => Fate::NotCancelled(error.to_string()),
            other => Fate::NotCancelled(format!("{other:?}")),
        },
        WaitOutcome::Lost(error) => Fate::NotCancelled(error.to_string()),
        other => Fate::NotCancelled(format!("{other:?}")),
    })
}

async fn find(executor: &dyn StatementExecutor, name: &str) -> Result<Option<StatementId>> {
    let (filter, mut page) = (StatementFilter::default().with_name_prefix(name), None);
    loop {
        let listed = executor.list(&filter, page).await?;
        // The service matches the filter as a prefix.
        let found = listed.statements.into_iter().find(|statement| statement.name.as_deref() == Some(name));
        if found.is_some() || listed.next.is_none() {
            return Ok(found.map(|statement| statement.id));
        }
        page = listed.next;
    }
}

/// Records the ending of a statement, if it has ended. Returns `true` on success.
async fn record(journal: &dyn Journal, entry: &Entry, fate: &Fate) -> bool {
    let (Fate::Cancelled(description) | Fate::EndedBefore(description)) = fate else { return false };
    let event = Event::Ended(RecordedOutcome::from_description(description));
    let recorded = journal.append(Record::new(SystemClock.now(), entry.key.clone(), event)).await;
    if let Err(error) = &recorded {
        show::log(&format!(
            "{}: the ending could not be recorded; `resume` will record it: {error}",
            entry.key
        ));
    }
    recorded.is_ok()
}

fn print(as_json: bool, entry: &Entry, fate: &Fate, is_recorded: bool) {
    let (word, text) = match fate {
        Fate::Cancelled(_) => ("cancelled", "cancelled".to_owned()),
        Fate::EndedBefore(description) => match description.status {
            Status::Finished => ("finished-before", "finished just before".to_owned()),
            Status::Aborted => ("aborted-before", "was already cancelled".to_owned()),
            _ => ("failed-before", "failed just before".to_owned()),
        },
        Fate::Pending => ("pending", "was cancelled, but has not ended yet".to_owned()),
        Fate::NotCancelled(error) => ("not-cancelled", format!("could not be cancelled: {error}")),
        Fate::NotFound => ("not-found", "not found: it may never have been submitted".to_owned()),
    };
    if as_json {
        show::line(&json!({
            "event": "cancel",
            "run": entry.key.run,
            "step": entry.key.step,
            "attempt": entry.key.attempt,
            "statement_id": entry.id.as_ref().map(StatementId::as_str),
            "fate": word,
            "recorded": is_recorded,
            "text": text,
        }));
    } else {
        show::out(&format!("{}  {text}", entry.key));
    }
}
