//! `run` and `resume`: start and continue a run of a pipeline.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use clap::Args;
use futures::{StreamExt, stream::FuturesUnordered};
use redshift_orchestrator::{
    Clock, Error, ErrorKind, Observer, Orchestrator, Pipeline, Report, Result, Run, StatementExecutor,
    StatementId, SystemClock,
    journal::{Journal, RunEntry, RunOutcome},
    pipeline::{Overlap, StopSignal},
    wait::{CancelOutcome, LongPoll, RequestCounts, Wait},
};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    exit::Exit,
    interrupt::Interrupts,
    journal,
    options::{JournalOptions, OnInterrupt, OutputOptions, PipelineOptions, RunValues, ServiceOptions},
    progress::Progress,
    report::ReportFile,
    show::{self, InFlight, Objects, Tracker},
    tasks,
};

#[derive(Args)]
pub(crate) struct RunOptions {
    #[command(flatten)]
    pipeline: PipelineOptions,

    #[command(flatten)]
    values: RunValues,

    /// Run id, such as `sales-2026-11-23T06:30`. It identifies the work: a second call with the same id
    /// continues the same run. Default: the pipeline's name and the current time
    #[arg(long, value_name = "ID")]
    run_id: Option<String>,

    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
pub(crate) struct ResumeOptions {
    #[command(flatten)]
    pipeline: PipelineOptions,

    /// Run to continue, with its original parameters. Default: the last unfinished run
    #[arg(long, value_name = "ID")]
    run_id: Option<String>,

    /// Change a parameter for the statements that have not been submitted; required for secret parameters
    #[arg(short, long = "parameter", value_name = "NAME=VALUE", value_parser = crate::options::pair)]
    parameters: Vec<(String, String)>,

    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
struct Common {
    #[command(flatten)]
    service: ServiceOptions,

    #[command(flatten)]
    journal: JournalOptions,

    /// If another run of the pipeline is active, wait for it instead of failing
    #[arg(long)]
    queue: bool,

    /// Effect of the first Ctrl-C or SIGTERM on running statements; a second one ends the process at once
    #[arg(long, value_enum, default_value = "wait")]
    on_interrupt: OnInterrupt,

    /// Maximum time to retry submits while the service throttles requests or is unreachable
    #[arg(long, value_name = "DURATION", default_value = "15m", value_parser = crate::options::duration)]
    retry_timeout: Duration,

    /// Time to wait for a cancelled statement to end, which includes its rollback on Redshift. Default: the
    /// time that the statement had been running, at least 15m
    #[arg(long, value_name = "DURATION", value_parser = crate::options::duration)]
    cancel_grace: Option<Duration>,

    /// Also write the report to this file (.json, .txt, .svg, .html); can be repeated
    #[arg(long = "report", value_name = "FILE")]
    reports: Vec<ReportFile>,

    /// Print one line per event instead of progress bars
    #[arg(long)]
    no_progress: bool,

    /// Print messages that stored procedures RAISE while they run. On Redshift, this requires polling with
    /// short queries. On a PostgreSQL server, messages are always printed, at no cost
    #[arg(long)]
    messages: bool,

    /// Do not redact the database's messages, which can quote SQL and parameter values. The journal then
    /// contains them, too
    #[arg(long)]
    unredacted: bool,

    /// Begin each SQL text with a comment that contains the statement name, to make it easy to find in
    /// Redshift's query log
    #[arg(long)]
    names_in_sql: bool,

    /// Name that is added to the identity of each statement, such as that of a team. Without it, equal
    /// statements of two pipelines with the same name, target and run id are one statement, which runs once
    #[arg(long, value_name = "NAME")]
    scope: Option<String>,

    #[command(flatten)]
    output: OutputOptions,
}

pub(crate) async fn run(options: RunOptions) -> Result<Exit> {
    let pipeline = options.pipeline.read()?;
    let id = options.run_id.unwrap_or_else(|| {
        format!("{}-{}", pipeline.name(), SystemClock.now().strftime("%Y-%m-%dT%H:%M:%SZ"))
    });
    let run = options.values.give(Run::new(id));
    // Reports errors in the parameters before opening the journal.
    pipeline.rendered(&run)?;
    tasks::check(&pipeline, &run)?;
    let interrupts = Interrupts::register()?;
    let common = &options.common;
    let path = &options.pipeline.pipeline;
    let begin = async {
        let journal = common.open(&pipeline, path).await?;
        let before = journal.run_entry(run.name()).await?;
        let before = before.filter(|before| before.begun.pipeline == pipeline.name());
        if let Some(before) = &before {
            check_values(&pipeline, before, &run)?;
        }
        Ok(Begun { journal, run, before })
    };
    common.execute(&pipeline, begin, interrupts).await
}

pub(crate) async fn resume(options: ResumeOptions) -> Result<Exit> {
    let pipeline = options.pipeline.read()?;
    let interrupts = Interrupts::register()?;
    let common = &options.common;
    let path = &options.pipeline.pipeline;
    let begin = async {
        let location = common.journal.with(path, &common.service);
        let journal = location.open_existing(common.queues(&pipeline)).await?;
        let unfinished = |run: &RunEntry| {
            run.begun.pipeline == pipeline.name()
                && run.ended.is_none_or(|(_, result)| result != RunOutcome::Finished)
        };
        let otherwise =
            "every run in the journal has finished; select a run with --run-id, or start one with `run`";
        let before = journal::find_run(&*journal, options.run_id.as_deref(), unfinished, otherwise).await?;
        let mut run = Run::new(&before.run).with_tags(&before.begun.tags).with_steps(&before.begun.steps);
        for (name, value) in
            before.begun.parameters.iter().chain(options.parameters.iter().map(|(n, v)| (n, v)))
        {
            run = run.with_parameter(name, value);
        }
        pipeline.rendered(&run)?;
        tasks::check(&pipeline, &run)?;
        Ok(Begun { journal, run, before: Some(before) })
    };
    common.execute(&pipeline, begin, interrupts).await
}

/// The journal, the run to execute, and the journal's earlier records of the run.
struct Begun {
    journal: Arc<dyn Journal>,
    run: Run,
    before: Option<RunEntry>,
}

/// Rejects parameter values that differ from the recorded ones, because they would make it a different run.
fn check_values(pipeline: &Pipeline, before: &RunEntry, run: &Run) -> Result<()> {
    let given: BTreeSet<_> = run.parameters().filter(|(name, _)| !pipeline.is_secret(name)).collect();
    let was: BTreeSet<_> =
        before.begun.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    match given.symmetric_difference(&was).next() {
        None => Ok(()),
        Some((name, _)) => Err(Error::new(
            ErrorKind::Definition,
            format!("the run was started with a different value of `{name}`; use another --run-id, or change the value with `resume`"),
        )
        .with_context("run", run.name())),
    }
}

impl Common {
    async fn open(&self, pipeline: &Pipeline, path: &Path) -> Result<Arc<dyn Journal>> {
        self.journal.with(path, &self.service).open(self.queues(pipeline)).await
    }

    fn queues(&self, pipeline: &Pipeline) -> bool {
        self.queue || pipeline.overlap() == Overlap::Queue
    }

    async fn execute(
        &self,
        pipeline: &Pipeline,
        begin: impl Future<Output = Result<Begun>>,
        mut interrupts: Interrupts,
    ) -> Result<Exit> {
        self.reports.iter().try_for_each(ReportFile::check)?;
        let ready = async {
            let Begun { journal, run, before } = begin.await?;
            let service = self.service.connect(Some(pipeline)).await?;
            before.iter().try_for_each(|before| service.check_target(before))?;
            Ok::<_, Error>((journal, run, service))
        };
        let (journal, run, service) = tokio::select! {
            ready = ready => ready?,
            () = interrupts.next() => return Ok(Exit::Interrupted),
        };
        let stop = StopSignal::new();
        let mut run = run.with_target_label(service.target_label()).with_stop_signal(stop.clone());
        if self.queue {
            run = run.with_overlap(Overlap::Queue);
        }
        let progress = match self.output.json || self.no_progress {
            true => Progress::lines(),
            false => Progress::of(pipeline, &run)?,
        };
        let watching: Arc<dyn Observer> = match self.output.json {
            true => Arc::new(Objects::default()),
            false => Arc::new(progress.clone()),
        };
        let observer = Tracker::new(watching);
        let in_flight = observer.in_flight();
        let mut orchestrator =
            Orchestrator::new(service.executor.clone()).with_journal(journal).with_observer(observer);
        orchestrator = orchestrator.with_retry_timeout(self.retry_timeout).with_redaction(!self.unredacted);
        if let Some(grace) = self.cancel_grace {
            orchestrator = orchestrator.with_cancel_grace(grace);
        }
        orchestrator = orchestrator.with_names_in_sql(self.names_in_sql);
        if let Some(scope) = &self.scope {
            orchestrator = orchestrator.with_scope(scope);
        }
        orchestrator = tasks::register(orchestrator, pipeline, &run, &self.service).await?;
        if let Some(messages) = service.messages.filter(|_| self.messages || self.service.postgres.is_some())
        {
            orchestrator = orchestrator.with_messages(messages);
        }
        if self.output.json {
            show::line(&json!({"event": "begun", "pipeline": pipeline.name(), "run": run.name()}));
        } else {
            show::log(&format!("run {}", run.name()));
        }
        let work = pipeline.run(&orchestrator, run);
        let (report, interrupted) =
            self.until_done(work, &mut interrupts, &stop, service.executor, in_flight).await?;
        progress.clear();
        let Some(report) = report else { return Ok(Exit::Interrupted) };
        self.print(&report)?;
        Ok(Exit::of_report(&report, interrupted))
    }

    /// Waits for the run and handles interrupts. Returns the report, and `true` if the run was interrupted.
    /// Returns no report if the process must exit at once.
    async fn until_done(
        &self,
        work: impl Future<Output = Result<Report>>,
        interrupts: &mut Interrupts,
        stop: &StopSignal,
        executor: Arc<dyn StatementExecutor>,
        in_flight: Arc<Mutex<InFlight>>,
    ) -> Result<(Option<Report>, bool)> {
        let mut work = std::pin::pin!(work);
        tokio::select! {
            report = &mut work => return Ok((Some(report?), false)),
            () = interrupts.next() => {}
        }
        if self.on_interrupt == OnInterrupt::Leave {
            show::log("interrupted: submitted statements keep running; `resume` finds them");
            return Ok((None, true));
        }
        stop.request();
        let cancel = self.on_interrupt == OnInterrupt::Cancel;
        let what = if cancel { "cancelling" } else { "waiting for" };
        show::log(&format!(
            "interrupted: starting no more steps, {what} running statements; interrupt again to exit at once"
        ));
        let cancelling = async {
            match cancel {
                true => keep_cancelling(&*executor, &in_flight, self.cancel_grace).await,
                false => std::future::pending().await,
            }
        };
        tokio::select! {
            report = &mut work => Ok((Some(report?), true)),
            () = cancelling => {
                show::log("the cancelled statements have not ended in time; `resume` waits for their end");
                Ok((None, true))
            }
            () = interrupts.next() => {
                show::log("interrupted again: submitted statements keep running; `resume` finds them");
                Ok((None, true))
            }
        }
    }

    fn print(&self, report: &Report) -> Result<()> {
        if self.output.json {
            show::line(
                &json!({"event": "report", "success": report.is_success(), "report": report.to_json()}),
            );
        } else {
            show::out(report.to_string().trim_end());
        }
        self.reports.iter().try_for_each(|file| file.write(report))
    }
}

/// Cancels the statements in flight, including statements that are submitted later. Returns when the grace
/// time of every statement in flight has expired and no task is in flight.
async fn keep_cancelling(
    executor: &dyn StatementExecutor,
    in_flight: &Mutex<InFlight>,
    grace: Option<Duration>,
) {
    let (mut seen, mut pending, mut cancels) = (BTreeSet::new(), BTreeSet::new(), FuturesUnordered::new());
    loop {
        let (statements, has_tasks) = {
            let in_flight = show::lock(in_flight);
            (in_flight.statements.values().cloned().collect::<Vec<_>>(), !in_flight.tasks.is_empty())
        };
        let are_pending = !statements.is_empty() && statements.iter().all(|(id, _)| pending.contains(id));
        if are_pending && !has_tasks {
            return;
        }
        let new = statements.into_iter().filter(|(id, _)| seen.insert(id.clone()));
        cancels.extend(new.map(|(id, since)| cancel(executor, id, since, grace)));
        tokio::select! {
            Some(left) = cancels.next() => pending.extend(left),
            () = tokio::time::sleep(Duration::from_millis(500)) => {}
        }
    }
}

/// Cancels a statement that is known since `since`. Repeats the request until the service accepts it or the
/// statement has ended. Returns the id if the statement had not ended within the grace time.
async fn cancel(
    executor: &dyn StatementExecutor,
    id: StatementId,
    since: Instant,
    grace: Option<Duration>,
) -> Option<StatementId> {
    let strategy = LongPoll::default();
    let mut wait = Wait::new(executor, &id, &strategy).with_time_since_submit(since.elapsed());
    if let Some(grace) = grace {
        wait = wait.with_cancel_grace(grace);
    }
    match wait.cancel(&mut RequestCounts::default()).await {
        CancelOutcome::NotCancelled(error) => {
            show::log(&format!("{id} could not be cancelled: {error}"));
            None
        }
        CancelOutcome::Pending(_) => {
            show::log(&format!("{id} was cancelled, but has not ended yet"));
            Some(id)
        }
        _ => None,
    }
}
