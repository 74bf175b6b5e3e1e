//! The handler `glue`: runs of jobs, tables in the catalog, and exclusions of crawlers.

mod failure;

use std::{fmt, future::Future, sync::Arc, time::Duration};

use hudi_scd::{
    TableOptions,
    glue::{
        self, Catalog,
        crawler::{self, Crawlers, HudiTable},
    },
    object_store::ObjectStore,
};
use redshift_orchestrator::{
    Error as ServiceError, StepKey,
    glue::{GlueJob, JobService, JobStart},
    journal::ObjectStoreJournal,
};

use self::failure::{job_failure, table_failure};
use crate::{
    Error, Invocation, Tables,
    contract::glue::{
        Action, Exclude, Excluded, Reply, RunState, Selected, Start, Status, Stop, Sync, Synced,
    },
    sentence::{LONGEST_ID, cut},
};

/// Time for which a start waits while Glue temporarily refuses it. Waiting is cheaper in a state machine.
const ADMISSION: Duration = Duration::from_secs(2);

/// Time needed for the last request about a running crawler.
const LAST_LOOK: Duration = Duration::from_secs(3);

/// The services of the handler `glue`.
#[derive(Clone)]
pub struct GlueServices {
    /// Jobs.
    pub jobs: Arc<dyn JobService>,
    /// The catalog.
    pub catalog: Arc<dyn Catalog>,
    /// Crawlers.
    pub crawlers: Arc<dyn Crawlers>,
    /// Hudi tables.
    pub tables: Arc<dyn Tables>,
    /// The journal of starts. Without a journal, `start` is rejected.
    pub journal: Option<JournalPlace>,
    /// The region used in links to logs.
    pub region: Option<String>,
}

/// The location of a journal: a store that supports conditional puts, and a folder in it.
#[derive(Clone, Debug)]
pub struct JournalPlace {
    /// The store.
    pub store: Arc<dyn ObjectStore>,
    /// The folder.
    pub prefix: String,
}

impl fmt::Debug for GlueServices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut services = f.debug_struct("GlueServices");
        services.field("jobs", &self.jobs).field("tables", &self.tables).field("journal", &self.journal);
        services.finish_non_exhaustive()
    }
}

/// Runs the action of an event.
///
/// # At most once
///
/// Glue has no client token. Therefore the intent of a start is recorded in the journal before the request,
/// under a digest of the event's identity. If an invocation is repeated after a lost reply, it returns the
/// first run, or the outcome `unknown` if it cannot prove that there is no run. Two concurrent invocations
/// start one run: one of them fails before its request.
///
/// # Errors
/// Returns [`Error::BadInput`] for an invalid event, [`Error::Config`] for a start without a journal, and
/// [`Error::Glue`] otherwise. Each action may be repeated after any error.
pub async fn glue(services: &GlueServices, invocation: &Invocation, event: &str) -> Result<Reply, Error> {
    let action = Action::parse(event)?;
    let span = tracing::Span::current();
    span.record("action", action.name());
    let desk = Desk { services, invocation };
    match &action {
        Action::Start(start) => {
            span.record("run", start.identity.execution.as_str())
                .record("step", start.identity.step.as_str());
            desk.start(start).await.map(Reply::Start)
        }
        Action::Status(status) => desk.status(status).await.map(Reply::Status),
        Action::Stop(stop) => desk.stop(stop).await.map(Reply::Stop),
        Action::Sync(sync) => desk.sync(sync).await.map(Reply::Sync),
        Action::Exclude(exclude) => desk.exclude(exclude).await.map(Reply::Exclude),
    }
}

struct Desk<'a> {
    services: &'a GlueServices,
    invocation: &'a Invocation,
}

impl Desk<'_> {
    async fn start(&self, start: &Start) -> Result<RunState, Error> {
        let Some(place) = &self.services.journal else {
            return Err(Error::Config(
                "set the function's environment variable GLUE_JOURNAL to a folder in S3, such as s3://lake/journal, which \
                 records each start before it is sent"
                    .to_owned(),
            ));
        };
        // Another instance of the function may have written to the journal since this instance read it.
        let journal = ObjectStoreJournal::new(place.store.clone(), &place.prefix);
        let job = GlueJob::new(self.services.jobs.clone(), journal, &start.job)
            .with_clock(self.invocation.clock())
            .with_admission_wait(ADMISSION);
        let job = match &self.services.region {
            Some(region) => job.with_region(region),
            None => job,
        };
        let identity = &start.identity;
        // Each step has its own run in the journal, so that parallel branches do not exclude each other.
        let run = format!("{} redrive {} {}", identity.execution, identity.redrive, identity.step);
        let key = StepKey::new(run, &identity.step).with_attempt(identity.attempt);
        let arguments: Vec<_> =
            start.arguments.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let begun = async { job.start(&key, &arguments).await.map_err(|error| job_failure(&error)) };
        let late = || {
            format!(
                "the function's time ended before Glue confirmed the start of job {}; invoke again with the same event, \
                 which finds the run, or set a longer timeout",
                start.job
            )
        };
        let state = match self.in_time(late, begun).await? {
            JobStart::Started(id) => RunState::started(&start.job, &id),
            JobStart::Concluded(outcome) => RunState::over(&outcome),
            _ => return Err(Error::Internal),
        };
        tracing::info!(job_run = state.run, outcome = ?state.outcome, "started or found");
        Ok(state)
    }

    async fn status(&self, status: &Status) -> Result<RunState, Error> {
        let state = self.described(&status.job, &status.run).await?;
        match state.outcome.error_name() {
            Some(name) if status.raise => {
                let running =
                    || format!("run {} of job {} is running; poll it again", status.run, status.job);
                Err(Error::Glue { name, cause: state.cause.unwrap_or_else(running) })
            }
            _ => Ok(state),
        }
    }

    async fn stop(&self, stop: &Stop) -> Result<RunState, Error> {
        let accepted =
            self.request(&stop.job, &stop.run, || self.services.jobs.stop(&stop.job, &stop.run)).await?;
        tracing::info!(job_run = stop.run, accepted, "stop requested");
        self.described(&stop.job, &stop.run).await
    }

    async fn described(&self, job: &str, id: &str) -> Result<RunState, Error> {
        let run = self.request(job, id, || self.services.jobs.run(job, id)).await?;
        tracing::info!(job_run = id, state = run.state.as_str(), "described");
        Ok(RunState::described(job, &run, self.services.region.as_deref()))
    }

    async fn sync(&self, sync: &Sync) -> Result<Synced, Error> {
        let options = sync.options()?;
        let late = || {
            format!(
                "the function's time ended before the catalog's entry of {} was up to date; invoke again with the same event, \
                 which continues, or set a longer timeout",
                sync.table
            )
        };
        let work = async {
            let table = self.services.tables.open(&sync.table, TableOptions::new()).await;
            let table = table.map_err(|error| table_failure(&error))?;
            let synced = glue::sync(&table, self.services.catalog.as_ref(), &options).await;
            synced.map_err(|error| table_failure(&error))
        };
        // The future of a sync is large.
        let report = self.in_time(late, Box::pin(work)).await?;
        tracing::info!(table = report.table, unchanged = report.is_unchanged(), "synchronized");
        Ok(Synced::from(&report))
    }

    async fn exclude(&self, exclude: &Exclude) -> Result<Excluded, Error> {
        let crawlers = self.services.crawlers.as_ref();
        let left = self.invocation.remaining().saturating_sub(LAST_LOOK);
        let wait = Duration::from_secs(exclude.wait_seconds.unwrap_or_default().into()).min(left);
        let late = || {
            format!(
                "the function's time ended before the crawler {} was changed; invoke again with the same event, or set a \
                 longer timeout",
                exclude.crawler
            )
        };
        let work = async {
            let tables = match exclude.selected()? {
                Selected::Urls(urls) => urls.iter().map(HudiTable::new).collect(),
                Selected::Database(database) => {
                    let found = crawlers.hudi_tables(database).await;
                    found.map_err(|error| failure::catalog_failure(&error))?
                }
            };
            let done = crawler::exclude(crawlers, &exclude.crawler, &tables, wait).await;
            done.map_err(|error| table_failure(&error))
        };
        let exclusion = self.in_time(late, work).await?;
        tracing::info!(crawler = exclusion.crawler, added = exclusion.added.len(), "excluded");
        Ok(Excluded::from(&exclusion))
    }

    /// Sends a request about a run. Repeats it after a transient failure while time remains.
    async fn request<T, F>(&self, job: &str, run: &str, send: impl FnMut() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, ServiceError>>,
    {
        self.invocation.request(send).await.map_err(|error| match error {
            Error::Service(error) => job_failure(&error),
            Error::Deadline(_) => Error::Glue {
                name: Error::GLUE_DEADLINE,
                cause: format!(
                    "Glue did not respond about run {} of job {} before the function's timeout; invoke again with the same \
                     event, or set a longer timeout",
                    cut(run, LONGEST_ID),
                    cut(job, LONGEST_ID)
                ),
            },
            other => other,
        })
    }

    /// Runs work until the deadline. The error at the deadline says what has become of the work.
    async fn in_time<T>(
        &self,
        late: impl FnOnce() -> String,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let late = || Error::Glue { name: Error::GLUE_DEADLINE, cause: late() };
        self.invocation.before_deadline(late, work).await
    }
}
