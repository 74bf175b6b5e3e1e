//! [`Postgres`]: the back end that runs SQL on a PostgreSQL server and keeps its records there. See
//! `docs/postgres.md`.

use std::{
    collections::HashMap,
    fmt,
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio_postgres::{
    Config,
    config::{Host, SslMode},
    error::DbError,
};

use super::{
    Latency, Limits, LocalExecutor,
    backend::{Admission, Backend, Job},
    limits,
    machine::{Parts, later},
    record::{Ending, Record},
    table::{page_number, page_of},
};
use link::{Link, Notices, Pool};
use records::Records;
use redshift_orchestrator::{
    Clock, Error, ErrorKind, PageToken, Result, ResultPage, SessionId, StatementFilter, StatementId, Status,
    SystemClock,
};

mod bind;
mod catalog;
mod dialect;
mod errors;
mod fields;
mod in_session;
mod link;
mod messages;
mod records;
mod run;
mod words;

/// The back end that runs statements on a PostgreSQL server. See [`LocalExecutor::postgres`]. Its guarantees
/// and the translation of Redshift's SQL are described in
/// [`on_postgres`](crate::on_postgres).
pub struct Postgres {
    pool: Pool,
    records: Records,
    clock: Arc<dyn Clock>,
    notices: Mutex<HashMap<StatementId, Vec<Notice>>>,
    /// The notices of the running statements, by statement.
    running_notices: Mutex<HashMap<StatementId, Arc<Mutex<Notices>>>>,
    sessions: Mutex<HashMap<SessionId, Arc<Link>>>,
    /// When expired records were last removed from the database.
    cleaned_at: Mutex<Timestamp>,
}

/// Interval at which expired records are removed from the database.
const CLEANING: Duration = Duration::from_hours(1);

/// Configuration of a [`LocalExecutor`] on a PostgreSQL server, created by [`LocalExecutor::postgres`].
#[derive(Clone)]
pub struct PostgresBuilder {
    url: String,
    schema: String,
    connections: usize,
    limits: Limits,
    latency: Latency,
    clock: Arc<dyn Clock>,
    seed: Option<u64>,
}

/// A message that the server sent while a statement ran, such as that of `RAISE NOTICE`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Notice {
    /// `NOTICE`, `WARNING`, `INFO`, …
    pub severity: String,
    /// The text.
    pub message: String,
}

impl From<&DbError> for Notice {
    fn from(notice: &DbError) -> Self {
        Self { severity: notice.severity().to_owned(), message: notice.message().to_owned() }
    }
}

impl LocalExecutor<Postgres> {
    /// Creates a service on the PostgreSQL server (15 or newer) at `url`,
    /// `postgresql://user:password@host:port/database`.
    ///
    /// TLS is not supported: the server is expected on the same machine. The driver, `tokio_postgres`, writes
    /// SQL to `log` at level *debug*; exclude it from logs.
    ///
    /// ```no_run
    /// # async fn doc() -> redshift_orchestrator::Result<()> {
    /// use redshift_data_local::LocalExecutor;
    ///
    /// let service = LocalExecutor::postgres("postgresql://postgres@127.0.0.1:5432/mystore")
    ///     .with_connections(5)
    ///     .start()
    ///     .await?;
    /// # Ok(()) }
    /// ```
    pub fn postgres(url: impl Into<String>) -> PostgresBuilder {
        PostgresBuilder {
            url: url.into(),
            schema: "redshift_data_local".to_owned(),
            connections: 5,
            limits: Limits::default(),
            latency: Latency::default(),
            clock: Arc::new(SystemClock),
            seed: None,
        }
    }

    /// Returns the notices of a statement that ran in this process, in order; for a running statement, the
    /// notices so far.
    pub fn notices(&self, id: &StatementId) -> Vec<Notice> {
        let backend = self.backend();
        let mut notices = backend.notices().get(id).cloned().unwrap_or_default();
        if let Some(running) = backend.running_notices().get(id) {
            notices.extend(running.lock().unwrap_or_else(PoisonError::into_inner).notices.iter().cloned());
        }
        notices
    }
}

impl PostgresBuilder {
    /// Sets the maximum number of connections. Default: 5. One keeps the records, the others run statements.
    /// A single connection does both in turn, for an embedded engine that accepts only one; a running
    /// statement can then not be cancelled.
    #[must_use]
    pub fn with_connections(mut self, connections: usize) -> Self {
        self.connections = connections;
        self
    }

    /// Sets the schema of the records. It is created if it does not exist. Default: `redshift_data_local`.
    #[must_use]
    pub fn with_schema(mut self, schema: impl Into<String>) -> Self {
        self.schema = schema.into();
        self
    }

    /// Replaces the service's limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the time in `SUBMITTED` and `PICKED`. Default: zero.
    #[must_use]
    pub fn with_latency(mut self, latency: Latency) -> Self {
        self.latency = latency;
        self
    }

    /// Sets the clock by which tokens and records expire. Default: the system clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets the seed of the statement ids. Default: the system's entropy. Processes that share a database
    /// need different seeds.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Connects, creates the tables of the records if they do not exist, and continues the statements of an
    /// earlier process.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if the URL is not valid, [`ErrorKind::DatabaseUnreachable`] if the server cannot be
    /// reached, [`ErrorKind::Unsupported`] if the records have another version.
    pub async fn start(self) -> Result<LocalExecutor<Postgres>> {
        let config = read(&self.url)?;
        let pool = Pool::new(config, self.connections);
        let records = Records::new(&self.schema, self.limits.clone())?;
        let found = {
            let lease = pool.records().await?;
            records.create(lease.link()?, self.clock.now()).await?;
            records.load_all(lease.link()?, self.clock.now()).await?
        };
        let concurrency = Some(pool.workers());
        let executor = LocalExecutor::assemble(Parts {
            limits: self.limits,
            latency: self.latency,
            clock: self.clock.clone(),
            concurrency,
            ids: self.seed.map_or_else(entropy, fastrand::Rng::with_seed),
            backend: Postgres {
                cleaned_at: Mutex::new(self.clock.now()),
                pool,
                records,
                clock: self.clock,
                notices: Mutex::default(),
                running_notices: Mutex::default(),
                sessions: Mutex::default(),
            },
        });
        executor.adopt(found);
        Ok(executor)
    }
}

fn read(url: &str) -> Result<Config> {
    let invalid = |text: &str| Error::new(ErrorKind::Invalid, text);
    let form = "write it like postgresql://user:password@127.0.0.1:5432/database";
    let config = Config::from_str(url).map_err(|error| {
        let refused = invalid(&format!("not a valid URL of a PostgreSQL server; {form}"));
        // The other causes quote the URL and, if it is parsed incorrectly, part of the password.
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        if cause.starts_with("invalid value for option") { refused.with_source(error) } else { refused }
    })?;
    let names_host = |host: &Host| !matches!(host, Host::Tcp(name) if name.is_empty());
    if !config.get_hosts().iter().any(names_host) && config.get_hostaddrs().is_empty() {
        return Err(invalid(&format!("the URL of the PostgreSQL server names no host; {form}")));
    }
    if config.get_ssl_mode() == SslMode::Require {
        let text = "the URL requires TLS (sslmode=require), which is not supported; remove it, and use a server on this machine";
        return Err(invalid(text));
    }
    Ok(config)
}

#[expect(
    clippy::disallowed_methods,
    reason = "ids that two processes draw must differ; tests hand in a seed"
)]
fn entropy() -> fastrand::Rng {
    fastrand::Rng::new()
}

impl Postgres {
    fn sessions(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<Link>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running_notices(&self) -> MutexGuard<'_, HashMap<StatementId, Arc<Mutex<Notices>>>> {
        self.running_notices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns `true` if expired records are due for removal, and sets the next time.
    fn is_cleaning_due(&self) -> bool {
        let now = self.clock.now();
        let mut cleaned_at = self.cleaned_at.lock().unwrap_or_else(PoisonError::into_inner);
        let due = later(*cleaned_at, CLEANING) <= now;
        if due {
            *cleaned_at = now;
        }
        due
    }

    fn notices(&self) -> MutexGuard<'_, HashMap<StatementId, Vec<Notice>>> {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
#[expect(private_interfaces, reason = "sealed: the records are the state machine's own")]
impl Backend for Postgres {
    fn name(&self) -> &'static str {
        "Postgres"
    }

    async fn admit(&self, record: &Record) -> Result<Admission> {
        let lease = self.pool.records().await?;
        let admission = self.records.admit(lease.link()?, record).await?;
        if self.is_cleaning_due()
            && let Err(error) = self.records.clean(lease.link()?, self.clock.now()).await
        {
            tracing::warn!(%error, "expired records of the local executor are still in the database");
        }
        Ok(admission)
    }

    async fn run(&self, job: &Job<'_>) -> Option<Ending> {
        self.take_to_end(job).await
    }

    async fn cancel(&self, record: &Record) -> Result<bool> {
        // The only connection is busy running the statement.
        if self.pool.is_single() && record.status == Status::Started {
            return Ok(false);
        }
        let lease = self.pool.records().await?;
        match self.pool.is_single() {
            true => self.records.cancel_queued(lease.link()?, &record.id).await,
            false => self.records.cancel(lease.link()?, &record.id).await,
        }
    }

    fn keeps_sessions(&self) -> bool {
        !self.pool.is_single()
    }

    async fn open_session(&self, id: &SessionId) -> Result<()> {
        let link = self.pool.open_session(id).await?;
        self.sessions().insert(id.clone(), Arc::new(link));
        Ok(())
    }

    async fn close_session(&self, id: &SessionId) {
        self.sessions().remove(id);
    }

    fn holds_session(&self, id: &SessionId) -> bool {
        self.sessions().get(id).is_some_and(|link| !link.is_closed())
    }

    async fn page(&self, record: &Record, part: usize, page: Option<PageToken>) -> Result<ResultPage> {
        let number = page_number(page)?;
        let lease = self.pool.records().await?;
        let (columns, rows, total, more) = self
            .records
            .page(lease.link()?, &record.id, part, number)
            .await?
            .ok_or_else(|| limits::no_result(&record.id))?;
        // The result may have been written with other limits, and then has fewer pages.
        if number > 0 && rows.is_empty() {
            return Err(limits::bad_page());
        }
        Ok(page_of(columns, rows, record.statement.result_format(), number, more, total))
    }

    async fn find(&self, id: &StatementId) -> Result<Option<Record>> {
        // With a single connection, there can be no other processes.
        if self.pool.is_single() {
            return Ok(None);
        }
        let lease = self.pool.records().await?;
        self.records.load(lease.link()?, id).await
    }

    async fn list(
        &self,
        filter: &StatementFilter,
        before: u64,
        count: usize,
        since: Timestamp,
    ) -> Result<Option<Vec<(u64, Record)>>> {
        if self.pool.is_single() {
            return Ok(None);
        }
        let lease = self.pool.records().await?;
        self.records.list(lease.link()?, filter, before, count, since).await.map(Some)
    }

    fn forget(&self, id: &StatementId) {
        self.notices().remove(id);
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Postgres").field(&self.pool).finish()
    }
}

impl fmt::Debug for PostgresBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL contains the password.
        f.debug_struct("PostgresBuilder")
            .field("schema", &self.schema)
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}
