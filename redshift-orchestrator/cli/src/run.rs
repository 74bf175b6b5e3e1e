//! `run` and `resume`: start and continue a run of a pipeline.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, PoisonError},
    time::Duration,
};

use clap::Args;
use redshift_orchestrator::{
    Clock, Error, ErrorKind, Observer, Orchestrator, Pipeline, Report, Result, Run, StatementExecutor,
    SystemClock,
    journal::{Journal, RunEntry, RunOutcome},
    pipeline::{Overlap, StopSignal},
};
use serde_json::json;

use crate::{
    exit::Exit,
    interrupt::Interrupts,
    journal,
    options::{JournalOptions, OnInterrupt, OutputOptions, PipelineOptions, RunValues, ServiceOptions},
    progress::Progress,
    report::ReportFile,
    show::{self, Active, Objects, Tracker},
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
    quotations: bool,

    /// Begin each SQL text with a comment that contains the statement name, to make it easy to find in
    /// Redshift's query log
    #[arg(long)]
    names_in_sql: bool,

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
    pipeline.statements(&run)?;
    pipeline.selected(&run)?;
    let interrupts = Interrupts::register()?;
    let common = &options.common;
    let path = &options.pipeline.pipeline;
    let begin = async {
        let journal = common.open(&pipeline, path).await?;
        let before = journal.run_entry(run.name()).await?;
        if let Some(before) = before.filter(|before| !before.begun.pipeline.is_empty()) {
            check_values(&pipeline, &before, &run)?;
        }
        Ok((journal, run))
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
        let mut run = Run::new(&before.run).with_tags(before.begun.tags).with_steps(before.begun.steps);
        for (name, value) in
            before.begun.parameters.iter().chain(options.parameters.iter().map(|(n, v)| (n, v)))
        {
            run = run.with_parameter(name, value);
        }
        pipeline.statements(&run)?;
        pipeline.selected(&run)?;
        Ok((journal, run))
    };
    common.execute(&pipeline, begin, interrupts).await
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
        begin: impl Future<Output = Result<(Arc<dyn Journal>, Run)>>,
        mut interrupts: Interrupts,
    ) -> Result<Exit> {
        self.reports.iter().try_for_each(ReportFile::check)?;
        let ready = async {
            let (journal, run) = begin.await?;
            let service = self.service.connect(Some(pipeline)).await?;
            Ok::<_, Error>((journal, run, service))
        };
        let (journal, run, service) = tokio::select! {
            ready = ready => ready?,
            () = interrupts.next() => return Ok(Exit::Interrupted),
        };
        let stop = StopSignal::new();
        let mut run = run.with_target_label(service.place).with_stop_signal(stop.clone());
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
        let active = observer.active();
        let mut orchestrator =
            Orchestrator::new(service.executor.clone()).with_journal(journal).with_observer(observer);
        orchestrator = orchestrator.with_retry_timeout(self.retry_timeout).with_quotations(self.quotations);
        if let Some(grace) = self.cancel_grace {
            orchestrator = orchestrator.with_cancel_grace(grace);
        }
        orchestrator = orchestrator.with_names_in_sql(self.names_in_sql);
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
            self.until_done(work, &mut interrupts, &stop, service.executor, active).await?;
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
        active: Active,
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
                true => keep_cancelling(&*executor, &active).await,
                false => std::future::pending().await,
            }
        };
        tokio::select! {
            report = &mut work => Ok((Some(report?), true)),
            () = cancelling => Ok((None, true)),
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

/// Cancels the statements in flight, including statements that are submitted later. Never returns.
async fn keep_cancelling(executor: &dyn StatementExecutor, active: &Active) {
    let mut asked = BTreeSet::new();
    loop {
        let ids: Vec<_> = active.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        for id in ids {
            if !asked.contains(&id) {
                match executor.cancel(&id).await {
                    Ok(_) => {
                        asked.insert(id);
                    }
                    // The next iteration retries the cancel.
                    Err(error) => show::log(&format!("{id} could not be cancelled yet: {error}")),
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
