//! [`Limit`]: holds submits back while too many statements are active.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::{
    ClientToken, Description, Error, ErrorKind, PageToken, Result, ResultPage, Statement, StatementExecutor,
    StatementFilter, StatementId, StatementPage, Submitted, WaitTime,
};

/// Holds submits back while too many statements of this process are active.
///
/// A statement's permit lives as long as the statement: it is given back when a describe says that the statement ended, or that
/// the service does not know it any more. A submit that may have taken effect keeps its permit, and the next submit with
/// the same client token takes it over. A statement that nobody asks about keeps its permit for 24 hours, the longest that
/// one runs.
pub struct Limit<E> {
    inner: E,
    most: usize,
    permits: Arc<Semaphore>,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    active: HashMap<StatementId, (OwnedSemaphorePermit, Instant)>,
    doubtful: HashMap<ClientToken, (OwnedSemaphorePermit, Instant)>,
}

/// The service ends a statement after this time.
const LONGEST_RUN: Duration = Duration::from_hours(24);

impl<E> Limit<E> {
    /// Lets at most `most` statements be active at a time, at least one.
    pub fn new(inner: E, most: usize) -> Self {
        let most = most.clamp(1, Semaphore::MAX_PERMITS);
        Self { inner, most, permits: Arc::new(Semaphore::new(most)), held: Mutex::default() }
    }

    /// Statements that are active, as far as this process knows.
    pub fn active(&self) -> usize {
        self.most - self.permits.available_permits()
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn permit(&self, token: Option<&ClientToken>) -> Result<OwnedSemaphorePermit> {
        {
            let mut held = self.held();
            if let Some((permit, _)) = token.and_then(|token| held.doubtful.remove(token)) {
                return Ok(permit);
            }
            held.active.retain(|_, (_, since)| since.elapsed() < LONGEST_RUN);
            held.doubtful.retain(|_, (_, since)| since.elapsed() < LONGEST_RUN);
        }
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        permit.map_err(|error| Error::new(ErrorKind::Other, "the limit was closed").with_source(error))
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<E: StatementExecutor> StatementExecutor for Limit<E> {
    async fn submit(&self, statement: &Statement, wait: Option<WaitTime>) -> Result<Submitted> {
        let token = statement.client_token();
        let permit = self.permit(token).await?;
        let answer = self.inner.submit(statement, wait).await;
        match &answer {
            Ok(submitted) if submitted.status.as_ref().is_some_and(|status| status.is_terminal()) => {}
            // A repeated submit is answered with the same id: its second permit goes back.
            Ok(submitted) => drop(self.held().active.insert(submitted.id.clone(), (permit, Instant::now()))),
            Err(error) => {
                if let Some(token) = token.filter(|_| error.kind().may_have_taken_effect()) {
                    self.held().doubtful.insert(token.clone(), (permit, Instant::now()));
                }
            }
        }
        answer
    }

    async fn describe(&self, id: &StatementId, wait: Option<WaitTime>) -> Result<Description> {
        let answer = self.inner.describe(id, wait).await;
        let is_over = match &answer {
            Ok(description) => description.status.is_terminal(),
            Err(error) => matches!(error.kind(), ErrorKind::Expired | ErrorKind::NotFound),
        };
        if is_over {
            self.held().active.remove(id);
        }
        answer
    }

    async fn cancel(&self, id: &StatementId) -> Result<bool> {
        self.inner.cancel(id).await
    }

    async fn result(&self, id: &StatementId, page: Option<PageToken>) -> Result<ResultPage> {
        self.inner.result(id, page).await
    }

    async fn list(&self, filter: &StatementFilter, page: Option<PageToken>) -> Result<StatementPage> {
        self.inner.list(filter, page).await
    }
}

impl<E: fmt::Debug> fmt::Debug for Limit<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Limit({}, {:?})", self.most, self.inner)
    }
}
