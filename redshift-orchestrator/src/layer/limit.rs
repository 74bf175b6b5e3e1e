//! [`Limit`]: holds submits back while too many statements or sessions are active.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::{Instant, sleep_until};

use super::gate::{Gate, Place, Ticket};
use crate::{
    ClientToken, Column, Description, ErrorKind, PageToken, Result, ResultPage, SessionId, Statement,
    StatementExecutor, StatementFilter, StatementId, StatementPage, Submitted, WaitTime,
    catalog::{Catalog, Page, Scope, Session, SessionFilter, Table},
    patience::queued,
};

/// Holds submits back while too many statements of this process are active, or too many sessions open, on a cluster or workgroup.
///
/// Who comes first is submitted first. How many are too many is learned: the service refuses a submit when it has no room
/// ([`TooManyStatements`](ErrorKind::TooManyStatements), [`TooManySessions`](ErrorKind::TooManySessions)), because it takes
/// fewer than we thought or because others fill it too. The refused submit keeps its place in the queue, no more are sent
/// than there were, and from 10 seconds later on ever bolder tries find out whether there is room again.
///
/// A statement's place is its own until a describe says that it ended, or that the service does not know it any more. One that
/// nobody asks about is asked about here when places are short, a minute after the last question. A submit that may have
/// taken effect keeps its place for the next submit with its client token. A session's place is its own until it was idle for its
/// keep-alive. A submit that is dropped while it waits leaves its place to the next one.
pub struct Limit<E> {
    inner: E,
    statements: Gate,
    sessions: Gate,
    held: Mutex<Held>,
    looking: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Held {
    active: HashMap<StatementId, Active>,
    doubtful: HashMap<ClientToken, (Places, Instant)>,
    open: HashMap<SessionId, Open>,
}

/// What a submit takes.
struct Places {
    statement: Place,
    session: Option<Place>,
}

struct Active {
    _place: Place,
    since: Instant,
    asked: Instant,
    session: Option<SessionId>,
}

struct Open {
    _place: Place,
    keep_alive: Duration,
    /// When its last statement ended; `None` while one runs.
    idle_since: Option<Instant>,
}

/// The service ends a statement after this time.
const LONGEST_RUN: Duration = Duration::from_hours(24);
/// When a statement that nobody asks about is asked about here.
const NEGLECTED: Duration = Duration::from_secs(60);
/// How long those who wait for places may leave those unseen that nobody gives back.
const UNSEEN: Duration = Duration::from_secs(10);

impl<E> Limit<E> {
    /// Lets at most `most` statements be active at a time, at least one, and 500 sessions be open.
    pub fn new(inner: E, most: usize) -> Self {
        let (statements, sessions) = (Gate::new(most), Gate::new(500));
        Self { inner, statements, sessions, held: Mutex::default(), looking: tokio::sync::Mutex::default() }
    }

    /// Lets at most `most` statements be active at a time, at least one.
    #[must_use]
    pub fn with_statements(mut self, most: usize) -> Self {
        self.statements = Gate::new(most);
        self
    }

    /// Lets at most `most` sessions be open at a time, at least one.
    #[must_use]
    pub fn with_sessions(mut self, most: usize) -> Self {
        self.sessions = Gate::new(most);
        self
    }

    /// Statements that are active, as far as this process knows.
    pub fn active(&self) -> usize {
        self.statements.inside()
    }

    /// Statements of this process that there is room for, as far as it has learned.
    pub fn room(&self) -> usize {
        self.statements.room()
    }

    /// Sessions that are open, as far as this process knows.
    pub fn open_sessions(&self) -> usize {
        self.held().forget(Instant::now());
        self.sessions.inside()
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn map<F>(self, wrap: impl FnOnce(E) -> F) -> Limit<F> {
        Limit {
            inner: wrap(self.inner),
            statements: self.statements,
            sessions: self.sessions,
            held: self.held,
            looking: self.looking,
        }
    }
}

impl<E: StatementExecutor> Limit<E> {
    async fn enter(&self, ticket: &Ticket) -> Place {
        if let Some(place) = ticket.try_enter() {
            return place;
        }
        queued(async {
            tokio::select! {
                biased;
                place = ticket.enter() => place,
                never = self.look_after_places() => match never {},
            }
        })
        .await
    }

    /// Gives back what is not used any more, for as long as somebody waits.
    async fn look_after_places(&self) -> std::convert::Infallible {
        // One of them is enough.
        let _looking = self.looking.lock().await;
        loop {
            let neglected = self.held().neglected(Instant::now());
            for id in neglected {
                // Its answer gives the place back; an error leaves things as they are.
                let _ = self.describe(&id, None).await;
            }
            let (now, due) = (Instant::now(), self.held().next_due());
            sleep_until(due.map_or(now + UNSEEN, |due| due.clamp(now, now + UNSEEN))).await;
        }
    }

    /// Submits when it is its turn; `None` when the service has no room.
    async fn try_submit(
        &self,
        statement: &Statement,
        wait: Option<WaitTime>,
        tickets: &(Ticket, Ticket),
    ) -> Option<Result<Submitted>> {
        let doubtful = statement.client_token().and_then(|token| self.held().doubtful.remove(token));
        let places = match doubtful {
            Some((places, _)) => places,
            None => {
                // A session is longer to wait for: nobody holds a statement's place meanwhile.
                let session = match opens_session(statement) {
                    true => Some(self.enter(&tickets.1).await),
                    false => None,
                };
                Places { session, statement: self.enter(&tickets.0).await }
            }
        };
        let answer = self.inner.submit(statement, wait).await;
        match &answer {
            Ok(submitted) => self.held().submitted(statement, submitted, places),
            Err(error) => match error.kind() {
                ErrorKind::TooManyStatements => {
                    tickets.0.refused(places.statement);
                    return None;
                }
                ErrorKind::TooManySessions => {
                    if let Some(place) = places.session {
                        tickets.1.refused(place);
                        return None;
                    }
                }
                kind if kind.may_have_taken_effect() => {
                    if let Some(token) = statement.client_token() {
                        self.held().doubtful.insert(token.clone(), (places, Instant::now()));
                    }
                }
                ErrorKind::SessionGone => {
                    if let Some(session) = statement.session() {
                        self.held().open.remove(session);
                    }
                }
                _ => {}
            },
        }
        Some(answer)
    }
}

fn opens_session(statement: &Statement) -> bool {
    statement.session().is_none() && statement.session_keep_alive().is_some_and(|idle| !idle.is_zero())
}

impl Held {
    fn submitted(&mut self, statement: &Statement, submitted: &Submitted, places: Places) {
        let now = Instant::now();
        let session = statement.session().or(submitted.session_id.as_ref()).cloned();
        let ended = submitted.status.as_ref().is_some_and(|status| status.is_terminal());
        if let Some(session) = &session {
            if let Some(place) = places.session {
                let keep_alive = statement.session_keep_alive().unwrap_or_default();
                self.open.insert(session.clone(), Open { _place: place, keep_alive, idle_since: None });
            }
            if let Some(open) = self.open.get_mut(session) {
                open.keep_alive = statement.session_keep_alive().unwrap_or(open.keep_alive);
                open.idle_since = ended.then_some(now);
            }
        }
        // A repeated submit is answered with the same id: its second place goes back.
        if !ended {
            let active = Active { _place: places.statement, since: now, asked: now, session };
            self.active.insert(submitted.id.clone(), active);
        }
    }

    fn ended(&mut self, id: &StatementId) {
        let Some(active) = self.active.remove(id) else { return };
        if let Some(open) = active.session.and_then(|session| self.open.get_mut(&session)) {
            open.idle_since = Some(Instant::now());
        }
    }

    /// Leaves out what certainly is not there any more.
    fn forget(&mut self, now: Instant) {
        self.active.retain(|_, active| now - active.since < LONGEST_RUN);
        self.doubtful.retain(|_, (_, since)| now - *since < LONGEST_RUN);
        self.open.retain(|_, open| open.idle_since.is_none_or(|since| now - since < open.keep_alive));
    }

    /// When the next place may come back that nobody gives back.
    fn next_due(&self) -> Option<Instant> {
        let neglected = self.active.values().map(|active| active.asked + NEGLECTED);
        let idle = self.open.values().filter_map(|open| Some(open.idle_since? + open.keep_alive));
        neglected.chain(idle).min()
    }

    /// Statements that nobody asked about for long. They count as asked about now.
    fn neglected(&mut self, now: Instant) -> Vec<StatementId> {
        self.forget(now);
        let neglected = self.active.iter_mut().filter(|(_, active)| now - active.asked >= NEGLECTED);
        neglected
            .map(|(id, active)| {
                active.asked = now;
                id.clone()
            })
            .collect()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<E: StatementExecutor> StatementExecutor for Limit<E> {
    async fn submit(&self, statement: &Statement, wait: Option<WaitTime>) -> Result<Submitted> {
        let tickets = (self.statements.ticket(), self.sessions.ticket());
        loop {
            if let Some(answer) = self.try_submit(statement, wait, &tickets).await {
                return answer;
            }
        }
    }

    async fn describe(&self, id: &StatementId, wait: Option<WaitTime>) -> Result<Description> {
        if let Some(active) = self.held().active.get_mut(id) {
            active.asked = Instant::now();
        }
        let answer = self.inner.describe(id, wait).await;
        let is_over = match &answer {
            Ok(description) => description.status.is_terminal(),
            Err(error) => matches!(error.kind(), ErrorKind::Expired | ErrorKind::NotFound),
        };
        if is_over {
            self.held().ended(id);
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

/// Nothing of the catalog is limited.
#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<E: Catalog> Catalog for Limit<E> {
    async fn databases(&self, scope: &Scope, page: Option<PageToken>) -> Result<Page<String>> {
        self.inner.databases(scope, page).await
    }

    async fn schemas(&self, scope: &Scope, page: Option<PageToken>) -> Result<Page<String>> {
        self.inner.schemas(scope, page).await
    }

    async fn tables(&self, scope: &Scope, page: Option<PageToken>) -> Result<Page<Table>> {
        self.inner.tables(scope, page).await
    }

    async fn columns(&self, scope: &Scope, page: Option<PageToken>) -> Result<Page<Column>> {
        self.inner.columns(scope, page).await
    }

    async fn sessions(&self, filter: &SessionFilter, page: Option<PageToken>) -> Result<Page<Session>> {
        self.inner.sessions(filter, page).await
    }
}

impl<E: fmt::Display> fmt::Display for Limit<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Limit({}, {})", self.room(), self.inner)
    }
}

impl<E: fmt::Debug> fmt::Debug for Limit<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Limit({}, {:?})", self.room(), self.inner)
    }
}
