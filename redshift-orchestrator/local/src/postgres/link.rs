//! [`Pool`]: connections to the server.

use std::{
    fmt,
    future::poll_fn,
    ops::Deref,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Mutex as AsyncMutex, OwnedMutexGuard},
    task::JoinHandle,
    time::sleep,
};
use tokio_postgres::{AsyncMessage, CancelToken, Client, Config, NoTls, types::Type};

use super::{Notice, errors};
use redshift_orchestrator::{Error, Result, SessionId};

/// Session settings that match the service: time zone UTC, and backslash as an escape character in strings.
pub(super) const AS_IN_THE_SERVICE: &str = "set_config('TimeZone', 'UTC', false), \
    set_config('standard_conforming_strings', 'off', false), set_config('escape_string_warning', 'off', false)";

/// Connections to the server.
///
/// With two or more connections, one manages the records and the others run statements. A single connection
/// does both alternately, for an embedded engine that accepts only one.
pub(super) struct Pool {
    config: Config,
    connections: usize,
    /// Connection for the records. If it is the only connection, it also runs statements.
    records: Arc<AsyncMutex<Option<Link>>>,
    /// Connections that are ready to run a statement.
    idle: Arc<Mutex<Vec<Link>>>,
}

/// Notices that have been received and not yet taken.
#[derive(Default)]
pub(super) struct Notices {
    pub(super) notices: Vec<Notice>,
    /// While SQL is run a second time: index of the notice that is expected next. Notices of the first run
    /// are not added again.
    again: Option<usize>,
}

impl Notices {
    fn add(&mut self, notice: Notice) {
        match self.again {
            Some(next) if self.notices.get(next) == Some(&notice) => self.again = Some(next + 1),
            _ => {
                self.again = None;
                self.notices.push(notice);
            }
        }
    }
}

/// An open connection. Dropping it closes the connection, even while a query is running.
pub(super) struct Link {
    client: Client,
    notices: Arc<Mutex<Notices>>,
    driver: JoinHandle<()>,
}

/// Exclusive use of a connection.
pub(super) enum Lease {
    /// The connection for records, which may be the only one.
    Records(OwnedMutexGuard<Option<Link>>),
    /// A connection for statements. When the lease is dropped, the connection becomes idle unless it was
    /// discarded.
    Worker(Option<Link>, Arc<Mutex<Vec<Link>>>),
}

impl Pool {
    pub(super) fn new(mut config: Config, connections: usize) -> Self {
        if config.get_application_name().is_none() {
            config.application_name("redshift-orchestrator");
        }
        if connections > 1 {
            // Makes the server detect a dead client while a statement runs, and stop the statement.
            let options = config.get_options().map(str::to_owned).unwrap_or_default();
            config.options(format!("{options} -c client_connection_check_interval=1000"));
        }
        Self { config, connections: connections.max(1), records: Arc::default(), idle: Arc::default() }
    }

    /// Returns the addresses of the server.
    pub(super) fn server(&self) -> String {
        errors::addresses(&self.config)
    }

    /// Returns `true` if a single connection manages the records and runs the statements.
    pub(super) fn is_single(&self) -> bool {
        self.connections == 1
    }

    /// Returns the maximum number of concurrently running statements.
    pub(super) fn workers(&self) -> usize {
        (self.connections - 1).max(1)
    }

    /// Acquires the connection for records. Fails if the server cannot be reached.
    pub(super) async fn records(&self) -> Result<Lease> {
        let mut link = self.records.clone().lock_owned().await;
        if link.as_ref().is_none_or(|link| link.client.is_closed()) {
            *link = Some(Link::open(&self.config).await?);
        }
        Ok(Lease::Records(link))
    }

    /// Opens a connection for a session. The connection holds an advisory lock, which shows other processes
    /// that the session is open.
    pub(super) async fn open_session(&self, id: &SessionId) -> Result<Link> {
        let link = Link::open(&self.config).await?;
        link.query_typed(
            &format!("SELECT pg_advisory_lock(hashtextextended($1, 0)), {AS_IN_THE_SERVICE}"),
            &[(&id.as_str(), Type::TEXT)],
        )
        .await
        .map_err(errors::records)?;
        Ok(link)
    }

    /// Acquires a connection for a statement. Fails if the server cannot be reached.
    async fn worker(&self) -> Result<Lease> {
        if self.is_single() {
            return self.records().await;
        }
        loop {
            let link = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            match link {
                Some(link) if link.client.is_closed() => {}
                Some(link) => return Ok(Lease::Worker(Some(link), self.idle.clone())),
                None => return Ok(Lease::Worker(Some(Link::open(&self.config).await?), self.idle.clone())),
            }
        }
    }

    /// Acquires a connection for a statement. Retries until the server can be reached.
    pub(super) async fn next_worker(&self) -> Lease {
        let mut pause = Duration::from_millis(50);
        loop {
            match self.worker().await {
                Ok(lease) => return lease,
                Err(error) => {
                    tracing::warn!(%error, "the database of the local executor cannot be reached; retrying")
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(2));
        }
    }
}

impl Link {
    async fn open(config: &Config) -> Result<Self> {
        let (client, mut connection) =
            config.connect(NoTls).await.map_err(|error| errors::unreachable(config, error))?;
        let notices = Arc::<Mutex<Notices>>::default();
        let received = notices.clone();
        let driver = tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
                if let AsyncMessage::Notice(notice) = message {
                    received.lock().unwrap_or_else(PoisonError::into_inner).add(Notice::from(&notice));
                }
            }
        });
        Ok(Self { client, notices, driver })
    }

    /// Returns the shared list of notices that have not been taken.
    pub(super) fn notices(&self) -> Arc<Mutex<Notices>> {
        self.notices.clone()
    }

    /// Returns the number of notices that have not been read yet.
    pub(super) fn notice_count(&self) -> usize {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner).notices.len()
    }

    /// Announces that the SQL is about to run a second time. Notices that repeat those from index `from`
    /// onwards are not added again.
    pub(super) fn runs_again(&self, from: usize) {
        self.notices.lock().unwrap_or_else(PoisonError::into_inner).again = Some(from);
    }

    /// Removes and returns the received notices.
    pub(super) fn take_notices(&self) -> Vec<Notice> {
        std::mem::take(&mut *self.notices.lock().unwrap_or_else(PoisonError::into_inner)).notices
    }

    /// Sends cancel requests until this future is dropped.
    pub(super) async fn keep_cancelling(token: CancelToken) -> std::convert::Infallible {
        loop {
            // On an error the request did not arrive, so the next iteration repeats it.
            let _ = token.cancel_query(NoTls).await;
            sleep(Duration::from_millis(500)).await;
        }
    }
}

impl Deref for Link {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Lease {
    /// Returns the connection. Fails if it was discarded.
    pub(super) fn link(&self) -> Result<&Link> {
        let link = match self {
            Self::Records(link) => link.as_ref(),
            Self::Worker(link, _) => link.as_ref(),
        };
        link.ok_or_else(|| {
            Error::new(redshift_orchestrator::ErrorKind::DatabaseUnreachable, "the connection was discarded")
        })
    }

    /// Closes the connection. The next use opens a new one.
    pub(super) fn discard(&mut self) {
        match self {
            Self::Records(link) => **link = None,
            Self::Worker(link, _) => *link = None,
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Self::Worker(link, idle) = self
            && let Some(link) = link.take()
        {
            idle.lock().unwrap_or_else(PoisonError::into_inner).push(link);
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Omits the rest of the configuration, which contains the password.
        f.debug_struct("Pool")
            .field("database", &self.config.get_dbname())
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}
