//! `cancel`: cancels the statements of a run that are in flight.

use std::time::Duration;

use clap::Args;
use futures::{
    FutureExt,
    future::{BoxFuture, join_all},
};
use redshift_orchestrator::{
    Clock, Description, Error, ErrorKind, Orchestrator, Pipeline, Result, StatementId, Status, SystemClock,
    journal::{ActiveRun, Claim, Entry, Event, Journal, Record, RunEntry},
    task::TaskKind,
    wait::CancelOutcome,
};
use serde_json::json;
use tokio::sync::OnceCell;

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
    // If another process has the journal open, a read-only journal is enough, because that process records
    // the outcomes.
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
    let done = cancel_run(options, &pipeline, &*journal, &run, active.is_some()).await;
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

/// Cancels the statements in flight. Records their outcomes if this process has claimed the run. Otherwise,
/// the process that is executing the run records them.
async fn cancel_run(
    options: &CancelOptions,
    pipeline: &Pipeline,
    journal: &dyn Journal,
    run: &RunEntry,
    is_claimed: bool,
) -> Result<Exit> {
    let mut entries: Vec<_> = journal
        .entries(&run.run)
        .await?
        .into_iter()
        .filter(|entry| entry.state.is_unsettled())
        .filter(|entry| options.only.is_empty() || options.only.contains(&entry.key.step))
        .collect();
    if entries.is_empty() {
        if !options.output.json {
            show::out(&format!("{}: no statements in flight", run.run));
        }
        return Ok(Exit::Success);
    }
    if !is_claimed {
        show::log(
            "another process uses the journal and records the outcomes; if it dies first, `resume` records them",
        );
    }
    // All cancels are sent before the first one takes effect. The search for statements without an id comes
    // last.
    entries.sort_by_key(|entry| entry.id.is_none());
    let (jobs, orchestrator) = (Jobs::default(), OnceCell::new());
    let mut cancels: Vec<(&Entry, BoxFuture<'_, Fate>)> = Vec::new();
    if entries.iter().any(|entry| entry.task().is_none()) {
        let orchestrator = orchestrator.get_or_try_init(|| connect(options, pipeline, run)).await?;
        let statements = entries.iter().filter(|entry| entry.task().is_none());
        cancels.extend(
            statements
                .map(|entry| (entry, async { Fate::of(orchestrator.cancel_entry(entry).await) }.boxed())),
        );
    }
    let tasks = entries.iter().filter_map(|entry| Some((entry, entry.task()?)));
    cancels.extend(tasks.map(|(entry, work)| (entry, jobs.stop(options, pipeline, entry, work).boxed())));
    let cancels = cancels.into_iter().map(async |(entry, cancel)| {
        let fate = cancel.await;
        let is_recorded = is_claimed && record(journal, entry, &fate).await;
        print(options.output.json, entry, &fate, is_recorded);
        fate
    });
    let fates = join_all(cancels).await;
    Ok(match fates {
        fates if fates.iter().any(|fate| matches!(fate, Fate::NotFound)) => Exit::Unknown,
        fates if fates.iter().any(|fate| matches!(fate, Fate::NotCancelled(_) | Fate::Pending)) => {
            Exit::Failed
        }
        _ => Exit::Success,
    })
}

/// Connects to the service on which the run was begun.
async fn connect(options: &CancelOptions, pipeline: &Pipeline, run: &RunEntry) -> Result<Orchestrator> {
    let service = options.service.connect(Some(pipeline)).await?;
    service.check_target(run)?;
    let orchestrator = Orchestrator::new(service.executor);
    Ok(match options.cancel_grace {
        Some(grace) => orchestrator.with_cancel_grace(grace),
        None => orchestrator,
    })
}

/// Outcome of a cancellation.
enum Fate {
    Cancelled(Description),
    EndedBefore(Description),
    /// The service accepted the cancel, but the statement has not ended yet.
    Pending,
    /// Glue accepted the request to stop the run of a job.
    #[cfg_attr(not(feature = "glue"), expect(dead_code, reason = "only Glue stops runs"))]
    Stopping,
    NotCancelled(String),
    /// The id of the statement is not recorded, and no listing contains its name.
    NotFound,
}

impl Fate {
    fn of(cancellation: Result<CancelOutcome>) -> Self {
        match cancellation {
            Ok(CancelOutcome::Cancelled(description)) => Self::Cancelled(description),
            Ok(CancelOutcome::EndedBefore(description)) => Self::EndedBefore(description),
            Ok(CancelOutcome::Pending(_)) => Self::Pending,
            Err(error) if error.kind() == ErrorKind::NotFound => Self::NotFound,
            Ok(CancelOutcome::NotCancelled(error)) | Err(error) => Self::NotCancelled(error.to_string()),
            Ok(_) => Self::NotCancelled("the service's response is not known to this version".to_owned()),
        }
    }

    /// Returns the description of the statement, if it has ended.
    fn description(&self) -> Option<&Description> {
        match self {
            Self::Cancelled(description) | Self::EndedBefore(description) => Some(description),
            Self::Pending | Self::Stopping | Self::NotCancelled(_) | Self::NotFound => None,
        }
    }
}

/// Records the outcome of a statement, if it has ended, and its id, if it was found by its name. Returns
/// `true` on success.
async fn record(journal: &dyn Journal, entry: &Entry, fate: &Fate) -> bool {
    let Some(description) = fate.description() else { return false };
    let found = entry.id.is_none().then(|| Event::Submitted { id: description.id.clone() });
    let recorded = async {
        for event in found.into_iter().chain([Event::Ended(entry.outcome(description))]) {
            journal.append(Record::new(SystemClock.now(), entry.key.clone(), event)).await?;
        }
        Ok::<_, Error>(())
    };
    let recorded = recorded.await;
    if let Err(error) = &recorded {
        show::log(&format!(
            "{}: the outcome could not be recorded; `resume` will record it: {error}",
            entry.key
        ));
    }
    recorded.is_ok()
}

/// Stops the runs of Glue jobs, on one connection.
#[derive(Default)]
struct Jobs {
    #[cfg(feature = "glue")]
    service: OnceCell<redshift_orchestrator::glue::GlueService>,
}

impl Jobs {
    #[cfg(feature = "glue")]
    async fn stop(
        &self,
        options: &CancelOptions,
        pipeline: &Pipeline,
        entry: &Entry,
        (kind, name): (TaskKind, &str),
    ) -> Fate {
        use redshift_orchestrator::glue::JobService;
        if kind != TaskKind::Glue {
            return not_a_job();
        }
        let Some(id) = &entry.id else { return Fate::NotFound };
        let connect = || options.service.glue(Some(pipeline));
        let stopped = async { self.service.get_or_try_init(connect).await?.stop(name, id.as_str()).await };
        match stopped.await {
            Ok(_) => Fate::Stopping,
            Err(error) => Fate::NotCancelled(error.to_string()),
        }
    }

    #[cfg(not(feature = "glue"))]
    async fn stop(&self, _: &CancelOptions, _: &Pipeline, _: &Entry, (kind, name): (TaskKind, &str)) -> Fate {
        match kind {
            TaskKind::Glue => Fate::NotCancelled(format!(
                "this program was built without Glue; stop the run of the job {name} in Glue"
            )),
            _ => not_a_job(),
        }
    }
}

/// Returns the fate of files that a program takes into a table.
fn not_a_job() -> Fate {
    Fate::NotCancelled("a program takes the files in, and can be stopped itself".to_owned())
}

fn print(as_json: bool, entry: &Entry, fate: &Fate, is_recorded: bool) {
    let (word, text) = match fate {
        Fate::Cancelled(_) => ("cancelled", "cancelled".to_owned()),
        Fate::EndedBefore(description) => match description.status {
            Status::Finished => ("finished-before", "finished just before".to_owned()),
            Status::Aborted => ("aborted-before", "was already cancelled".to_owned()),
            _ => ("failed-before", "failed just before".to_owned()),
        },
        Fate::Stopping => ("stopping", "is being stopped; `resume` records its end".to_owned()),
        Fate::Pending => ("pending", "was cancelled, but has not ended yet".to_owned()),
        Fate::NotCancelled(error) => ("not-cancelled", format!("could not be cancelled: {error}")),
        Fate::NotFound => ("not-found", "not found: it may never have been submitted".to_owned()),
    };
    let id = entry.id.as_ref().or(fate.description().map(|description| &description.id));
    if as_json {
        show::line(&json!({
            "event": "cancel",
            "run": entry.key.run,
            "step": entry.key.step,
            "attempt": entry.key.attempt,
            "statement_id": id.map(StatementId::as_str),
            "fate": word,
            "recorded": is_recorded,
            "text": text,
        }));
    } else {
        show::out(&format!("{}  {text}", entry.key));
    }
}
