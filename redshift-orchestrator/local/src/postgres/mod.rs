//! [`Postgres`]: back end that runs SQL on a PostgreSQL server and stores the records there. See
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
    record::{Record, StatementOutcome},
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

/// Back end that runs statements on a PostgreSQL server, created by [`LocalExecutor::postgres`]. The module
/// [`on_postgres`](crate::on_postgres) documents its guarantees and the translation of Redshift's SQL.
pub struct Postgres {
    pool: Pool,
    records: Records,
    clock: Arc<dyn Clock>,
    notices: Mutex<HashMap<StatementId, Vec<Notice>>>,
    /// Notices of running statements.
    running_notices: Mutex<HashMap<StatementId, Arc<Mutex<Notices>>>>,
    sessions: Mutex<HashMap<SessionId, Arc<Link>>>,
    /// Database names that exist for clients. Empty if every name does.
    databases: Vec<String>,
    /// Time at which expired records were last removed from the database.
    cleaned_at: Mutex<Timestamp>,
}

/// Interval between removals of expired records from the database.
const CLEANING: Duration = Duration::from_hours(1);

/// Configuration of a [`LocalExecutor`] on a PostgreSQL server, created by [`LocalExecutor::postgres`].
#[derive(Clone)]
pub struct PostgresBuilder {
    url: String,
    schema: String,
    connections: usize,
    databases: Vec<String>,
    limits: Limits,
    latency: Latency,
    clock: Arc<dyn Clock>,
    seed: Option<u64>,
}

/// A message that the server sent while a statement ran, such as the message of a `RAISE NOTICE`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Notice {
    /// Severity: `NOTICE`, `WARNING`, `INFO`, …
    pub severity: String,
    /// Message text.
    pub message: String,
}

impl From<&DbError> for Notice {
    fn from(notice: &DbError) -> Self {
        Self { severity: notice.severity().to_owned(), message: notice.message().to_owned() }
    }
}

impl LocalExecutor<Postgres> {
    /// Configures an executor that uses the PostgreSQL server (15 or newer) at `url`,
    /// `postgresql://user:password@host:port/database`.
    ///
    /// TLS is not supported, because the server is expected to run on the same machine. The driver,
    /// `tokio_postgres`, writes SQL to `log` at level *debug*, so exclude it from logs.
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
            databases: Vec::new(),
            limits: Limits::default(),
            latency: Latency::default(),
            clock: Arc::new(SystemClock),
            seed: None,
        }
    }

    /// Returns the addresses of the server, such as `127.0.0.1:5432`, without the user and the password.
    pub fn server(&self) -> String {
        self.backend().pool.server()
    }

    /// Returns the notices of a statement that ran in this process, in order. For a running statement,
    /// returns the notices so far.
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
    /// Sets the maximum number of connections. One connection manages the records, and the others run
    /// statements. A single connection does both alternately, for an embedded engine that accepts only one,
    /// and then a running statement cannot be cancelled. Default: 5.
    #[must_use]
    pub fn with_connections(mut self, connections: usize) -> Self {
        self.connections = connections;
        self
    }

    /// Sets the names of databases that exist. A statement whose target has another database fails as in the
    /// service: `FATAL: database "other" does not exist`. All names refer to the database of the URL.
    /// Default: every name exists.
    #[must_use]
    pub fn with_databases<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.databases = names.into_iter().map(Into::into).collect();
        self.databases.sort();
        self
    }

    /// Sets the schema of the records, which is created if it does not exist. Default: `redshift_data_local`.
    #[must_use]
    pub fn with_schema(mut self, schema: impl Into<String>) -> Self {
        self.schema = schema.into();
        self
    }

    /// Replaces the limits. Default: the service's.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets the time that statements spend in `SUBMITTED` and `PICKED`. Default: zero.
    #[must_use]
    pub fn with_latency(mut self, latency: Latency) -> Self {
        self.latency = latency;
        self
    }

    /// Sets the clock that determines when tokens and records expire. Default: the system clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets the seed of the statement ids. Each start on the same database draws other ids from it. Default:
    /// the system's entropy.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Connects, creates the tables of the records if they do not exist, and continues the statements that an
    /// earlier process left unfinished.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if the URL is not valid, [`ErrorKind::DatabaseUnreachable`] if the server cannot
    /// be reached, [`ErrorKind::Unsupported`] if another version of this crate wrote the records.
    pub async fn start(self) -> Result<LocalExecutor<Postgres>> {
        let config = read(&self.url)?;
        let pool = Pool::new(config, self.connections);
        let records = Records::new(&self.schema, self.limits.clone())?;
        let (found, ids) = {
            let lease = pool.records().await?;
            let link = lease.link()?;
            records.create(link, self.clock.now()).await?;
            let ids = match self.seed {
                Some(seed) => fastrand::Rng::with_seed(records.seed_of_start(link, seed).await?),
                None => entropy(),
            };
            (records.load_all(link, self.clock.now()).await?, ids)
        };
        let concurrency = Some(pool.workers());
        let executor = LocalExecutor::assemble(Parts {
            limits: self.limits,
            latency: self.latency,
            clock: self.clock.clone(),
            concurrency,
            ids,
            backend: Postgres {
                cleaned_at: Mutex::new(self.clock.now()),
                pool,
                records,
                clock: self.clock,
                notices: Mutex::default(),
                running_notices: Mutex::default(),
                sessions: Mutex::default(),
                databases: self.databases,
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
        // Other causes quote the URL, possibly with a part of the password.
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

#[expect(clippy::disallowed_methods, reason = "two processes must draw different ids; tests set a seed")]
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

    /// Returns the error text if the database does not exist.
    fn missing_database(&self, name: &str) -> Option<String> {
        let exists = self.databases.is_empty() || self.databases.iter().any(|one| one == name);
        (!exists).then(|| format!("FATAL: database \"{name}\" does not exist [SQLSTATE 3D000]"))
    }

    /// Returns `true` if expired records are due for removal, and restarts the interval.
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
            tracing::warn!(%error, "expired records of the local executor could not be removed from the database");
        }
        Ok(admission)
    }

    async fn run(&self, job: &Job<'_>) -> Option<StatementOutcome> {
        self.take_to_end(job).await
    }

    async fn cancel(&self, record: &Record) -> Result<bool> {
        // The only connection is busy running the statement, so the record cannot be updated.
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
        // If the result was written with larger pages, it has fewer of them than the first check assumed.
        if number > 0 && rows.is_empty() {
            return Err(limits::bad_page());
        }
        Ok(page_of(columns, rows, record.statement.result_format(), number, more, total))
    }

    async fn find(&self, id: &StatementId) -> Result<Option<Record>> {
        // A single connection means that no other process uses the database.
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
        // Omits the URL, which contains the password.
        f.debug_struct("PostgresBuilder")
            .field("schema", &self.schema)
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}
