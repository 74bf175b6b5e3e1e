//! [`Limit`]: delays submits while too many statements or sessions are active.

use std::{
    collections::BTreeMap,
    fmt,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::semaphore::{AdaptiveSemaphore, Permit, Waiter};
use crate::{
    ClientToken, Column, Description, ErrorKind, PageToken, Result, ResultPage, SessionId, Statement,
    StatementExecutor, StatementFilter, StatementId, StatementPage, StatementSummary, Submitted, WaitTime,
    catalog::{Catalog, CatalogFilter, Page, Session, SessionFilter, Table},
    clock::after,
    layer::queue_time::{Queue, bounded, observed, queued},
    service::Pages,
};

/// Delays submits while this process has too many active statements or open sessions in a cluster or
/// workgroup.
///
/// Submits are admitted in the order of their arrival. The limit adapts to the service. If the service
/// rejects a submit for lack of capacity ([`TooManyStatements`](ErrorKind::TooManyStatements),
/// [`TooManySessions`](ErrorKind::TooManySessions)), the service's limit is lower or other clients use part
/// of it. The limit is then lowered to the number of active statements, and the rejected submit keeps its
/// position in the queue. Every 10 seconds after that, the limit is raised again in growing steps.
///
/// | permit held by | released |
/// |---|---|
/// | an active statement | when a describe reports that it has ended, or that the service has no record of it |
/// | a submit that may have taken effect, or was dropped in flight | when a listing shows that the statement has ended, or a listing by name that began later does not contain it; if the statement is active, when it ends. Until then, a repeated submit with the same client token uses the same permit |
/// | an open session | when the session has been idle for its keep-alive time |
/// | a submit that is dropped in the queue | at once |
///
/// While submits wait for permits, this layer describes statements that have not been described for a minute.
/// After 15 minutes, it looks up a submit that may have taken effect, with a listing by name. A statement
/// cannot run for longer than 24 hours, so its permit is released by then in any case.
pub struct Limit<E> {
    inner: E,
    statements: AdaptiveSemaphore,
    sessions: AdaptiveSemaphore,
    in_use: InUse,
    reclaiming: tokio::sync::Mutex<()>,
}

/// Permits in use, and a notification of changes.
#[derive(Default)]
struct InUse {
    held: Mutex<Holders>,
    /// Notified after a change of `held`.
    changed: Notify,
}

impl InUse {
    fn lock(&self) -> MutexGuard<'_, Holders> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies a change, and wakes the task that reclaims permits.
    fn change(&self, change: impl FnOnce(&mut Holders)) {
        change(&mut self.lock());
        self.changed.notify_waiters();
    }
}

/// Permits in use, by the statement or session to which they belong. The maps are ordered, so that a
/// simulation sends the requests of this layer in the same order in every run.
#[derive(Default)]
struct Holders {
    active: BTreeMap<StatementId, ActiveStatement>,
    uncertain: BTreeMap<ClientToken, UncertainSubmit>,
    /// Number of submits that became uncertain so far.
    uncertain_count: u64,
    open: BTreeMap<SessionId, Open>,
}

/// Permits that a submit needs.
struct Permits {
    statement: Permit,
    session: Option<Permit>,
}

struct ActiveStatement {
    _permit: Permit,
    since: Instant,
    described: Instant,
    session: Option<SessionId>,
}

/// Submit that may have taken effect.
struct UncertainSubmit {
    permits: Permits,
    since: Instant,
    /// Position among all submits that became uncertain; a listing covers only those before its beginning.
    number: u64,
    looked_up: Instant,
    name: Option<String>,
    session: Option<SessionId>,
    keep_alive: Option<Duration>,
}

struct Open {
    _permit: Permit,
    keep_alive: Duration,
    /// Time at which the last statement of the session ended; `None` while a statement runs.
    idle_since: Option<Instant>,
}

/// Maximum duration of a statement. The service ends a statement that runs longer.
const LONGEST_RUN: Duration = Duration::from_hours(24);
/// Time without a describe after which this layer describes a statement itself.
const STALE: Duration = Duration::from_secs(60);
/// Time after which this layer looks up a submit that may have taken effect. Until then, the caller may still
/// repeat the submit or look it up.
const STALE_UNCERTAIN: Duration = Duration::from_mins(15);
/// Timeout of a describe sent by this layer.
const DESCRIBE_TIMEOUT: Duration = Duration::from_secs(20);
/// Timeout of a request for one page of a listing. Such a request takes up to two minutes in accounts with
/// 20,000 statements a day.
const LIST_TIMEOUT: Duration = Duration::from_mins(3);

impl<E> Limit<E> {
    /// Wraps `inner` with a limit of `max` active statements, at least one, and of 500 open sessions.
    pub fn new(inner: E, max: usize) -> Self {
        let (statements, sessions) = (AdaptiveSemaphore::new(max), AdaptiveSemaphore::new(500));
        Self {
            inner,
            statements,
            sessions,
            in_use: InUse::default(),
            reclaiming: tokio::sync::Mutex::default(),
        }
    }

    /// Sets the maximum number of active statements, at least one.
    #[must_use]
    pub fn with_statements(mut self, max: usize) -> Self {
        self.statements = AdaptiveSemaphore::new(max);
        self
    }

    /// Sets the maximum number of open sessions, at least one.
    #[must_use]
    pub fn with_sessions(mut self, max: usize) -> Self {
        self.sessions = AdaptiveSemaphore::new(max);
        self
    }

    /// Returns the number of active statements, as far as this process knows.
    pub fn active(&self) -> usize {
        self.statements.held()
    }

    /// Returns the current limit of active statements, as learned from the service's rejections.
    pub fn capacity(&self) -> usize {
        self.statements.limit()
    }

    /// Returns the number of open sessions, as far as this process knows.
    pub fn open_sessions(&self) -> usize {
        self.held().forget(Instant::now());
        self.sessions.held()
    }

    fn held(&self) -> MutexGuard<'_, Holders> {
        self.in_use.lock()
    }

    pub(super) fn map<F>(self, wrap: impl FnOnce(E) -> F) -> Limit<F> {
        Limit {
            inner: wrap(self.inner),
            statements: self.statements,
            sessions: self.sessions,
            in_use: self.in_use,
            reclaiming: self.reclaiming,
        }
    }
}

impl<E: StatementExecutor> Limit<E> {
    async fn acquire(&self, waiter: &Waiter) -> Permit {
        if let Some(permit) = waiter.try_acquire() {
            return permit;
        }
        queued(async {
            tokio::select! {
                biased;
                permit = waiter.acquire() => permit,
                () = self.reclaim_permits() => waiter.acquire().await,
            }
        })
        .await
    }

    /// Releases permits of statements that have ended, until the returned future is dropped.
    async fn reclaim_permits(&self) {
        // One waiter at a time reclaims permits on behalf of all.
        let _reclaiming = self.reclaiming.lock().await;
        tokio::join!(self.reclaim_active(), self.reclaim_uncertain());
    }

    async fn reclaim_active(&self) {
        loop {
            let stale = self.held().stale(Instant::now());
            for id in stale {
                // `describe` releases the permit if the statement has ended; an error is ignored. The
                // separate `bounded` keeps this request's time in queues apart from that of the waiting
                // submit.
                let _ = bounded(DESCRIBE_TIMEOUT, None, self.describe(&id, None)).await;
                // The statement is marked even after an error, so that the next describe follows after a
                // pause.
                self.held().described(&id, Instant::now());
            }
            self.pause_until(Holders::next_due).await;
        }
    }

    async fn reclaim_uncertain(&self) {
        loop {
            let stale = self.held().stale_uncertain(Instant::now());
            for name in stale {
                let _ = self.look_up(&name).await;
                // The name is marked only after the listing: if this future is dropped earlier, the next
                // waiter lists it again.
                self.held().looked_up(&name, Instant::now());
            }
            self.pause_until(Holders::next_look_up).await;
        }
    }

    /// Waits until the time returned by `due`, or until the permits in use change.
    async fn pause_until(&self, due: impl Fn(&Holders) -> Option<Instant>) {
        let mut changed = pin!(self.in_use.changed.notified());
        // From here on, a change ends the wait, even one made before `due` is computed.
        changed.as_mut().enable();
        let due = due(&self.held());
        match due {
            Some(due) => {
                let _ = timeout_at(due, changed).await;
            }
            None => changed.await,
        }
    }

    /// Lists the statements with this name. `list` releases the permits of statements that have ended.
    async fn look_up(&self, name: &str) -> Result<()> {
        let filter = StatementFilter::default().with_name_prefix(name);
        let uncertain_count = self.held().uncertain_count;
        let (mut page, mut pages) = (None, Pages::default());
        loop {
            let Ok(response) = bounded(LIST_TIMEOUT, None, self.list(&filter, page)).await else {
                return Ok(());
            };
            page = pages.turn(response?.next)?;
            if page.is_none() {
                self.in_use.change(|held| held.not_listed(&filter, uncertain_count));
                return Ok(());
            }
        }
    }

    /// Submits with permits. Returns `None` if the service has no capacity.
    async fn try_submit(
        &self,
        statement: &Statement,
        wait: Option<WaitTime>,
        waiters: &(Waiter, Waiter),
    ) -> Option<Result<Submitted>> {
        let (queue, request) = observed(self.inner.submit(statement, wait));
        // Declared before `admission`, and therefore dropped after it: when `admission` is dropped, it must
        // still see whether the request is in a queue.
        let mut request = pin!(request);
        let admission = match self.repetition(statement) {
            Some(earlier) => Admission::new(&self.in_use, queue, statement, earlier, true),
            None => {
                let first = UncertainSubmit::new(statement, self.permits(statement, waiters).await);
                Admission::new(&self.in_use, queue, statement, first, false)
            }
        };
        let response = request.as_mut().await;
        let error = match &response {
            Ok(submitted) => {
                let ended = submitted.status.as_ref().is_some_and(|status| status.is_terminal());
                let session = statement.session().or(submitted.session_id.as_ref()).cloned();
                let keep_alive = statement.session_keep_alive();
                if let Some(permits) = admission.into_permits() {
                    self.in_use
                        .change(|held| held.accepted(&submitted.id, ended, session, keep_alive, permits));
                }
                return Some(response);
            }
            Err(error) => error.kind(),
        };
        match error {
            ErrorKind::TooManyStatements => {
                self.wait_for_capacity(admission, &waiters.0).await;
                return None;
            }
            ErrorKind::TooManySessions if opens_session(statement) => {
                self.wait_for_capacity(admission, &waiters.1).await;
                return None;
            }
            kind if kind.may_have_taken_effect() => drop(admission),
            kind => {
                admission.rejected();
                if let (ErrorKind::SessionGone, Some(session)) = (kind, statement.session()) {
                    self.held().open.remove(session);
                }
            }
        }
        Some(response)
    }

    /// Acquires permits for a submit.
    async fn permits(&self, statement: &Statement, waiters: &(Waiter, Waiter)) -> Permits {
        // The session's permit is acquired first: the wait for it is usually the longer one, and should not
        // block a permit for a statement.
        let session = match opens_session(statement) {
            true => Some(self.acquire(&waiters.1).await),
            false => None,
        };
        Permits { session, statement: self.acquire(&waiters.0).await }
    }

    /// Removes and returns the earlier submit with the same client token, if there is one that may have taken
    /// effect.
    fn repetition(&self, statement: &Statement) -> Option<UncertainSubmit> {
        self.held().uncertain.remove(statement.client_token()?)
    }

    /// Lowers the limit after the service rejected a submit for lack of capacity. If the submit is a
    /// repetition, waits for capacity.
    async fn wait_for_capacity(&self, admission: Admission<'_>, waiter: &Waiter) {
        let is_repeated = admission.is_repeated;
        admission.rejected();
        waiter.refused();
        // A first submit released its permits, and acquires others in its next attempt. A repetition keeps
        // its permit, so it waits for an additional one: a free permit shows that the service has capacity
        // again.
        if is_repeated {
            drop(self.acquire(waiter).await);
        }
    }
}

/// Holds the permits of a submit until its response.
///
/// A submit that is dropped without a response may have taken effect, so its permits are kept under its
/// client token. They are released if the submit has no token, or if it was still in a queue of another layer
/// and therefore not sent.
struct Admission<'a> {
    in_use: &'a InUse,
    queue: Arc<Queue>,
    token: Option<ClientToken>,
    uncertain: Option<UncertainSubmit>,
    /// `true` if an earlier submit with the same client token may have taken effect.
    is_repeated: bool,
}

impl<'a> Admission<'a> {
    fn new(
        in_use: &'a InUse,
        queue: Arc<Queue>,
        statement: &Statement,
        uncertain: UncertainSubmit,
        is_repeated: bool,
    ) -> Self {
        let token = statement.client_token().cloned();
        Self { in_use, queue, token, uncertain: Some(uncertain), is_repeated }
    }

    fn into_permits(mut self) -> Option<Permits> {
        self.uncertain.take().map(|uncertain| uncertain.permits)
    }

    /// Releases the permits after the service rejected the submit. A repetition keeps them: its rejection
    /// does not show whether the earlier submit took effect.
    fn rejected(mut self) {
        if !self.is_repeated {
            self.uncertain = None;
        }
    }
}

impl Drop for Admission<'_> {
    fn drop(&mut self) {
        if self.queue.is_waiting() && !self.is_repeated {
            return;
        }
        if let (Some(mut uncertain), Some(token)) = (self.uncertain.take(), self.token.take()) {
            uncertain.looked_up = Instant::now();
            self.in_use.change(|held| held.add_uncertain(token, uncertain));
        }
    }
}

/// Marks a statement as described while a describe is in flight. If the describe is dropped without a
/// response, the previous time is restored.
struct DescribeInFlight<'a> {
    in_use: &'a InUse,
    id: &'a StatementId,
    /// Times of the previous describe and of this one; `None` if the statement is not known to be active, and
    /// after the response.
    times: Option<(Instant, Instant)>,
}

impl<'a> DescribeInFlight<'a> {
    fn begin(in_use: &'a InUse, id: &'a StatementId) -> Self {
        let now = Instant::now();
        let before = in_use.lock().described(id, now);
        Self { in_use, id, times: before.map(|before| (before, now)) }
    }

    fn end(mut self) {
        self.times = None;
    }
}

impl Drop for DescribeInFlight<'_> {
    fn drop(&mut self) {
        let Some((before, now)) = self.times else { return };
        self.in_use.change(|held| {
            // Do not overwrite the time of a later describe.
            if let Some(active) = held.active.get_mut(self.id).filter(|active| active.described == now) {
                active.described = before;
            }
        });
    }
}

fn opens_session(statement: &Statement) -> bool {
    statement.session().is_none() && statement.session_keep_alive().is_some_and(|idle| !idle.is_zero())
}

impl UncertainSubmit {
    fn new(statement: &Statement, permits: Permits) -> Self {
        let now = Instant::now();
        Self {
            permits,
            since: now,
            number: u64::MAX,
            looked_up: now,
            name: statement.name().map(str::to_owned),
            session: statement.session().cloned(),
            keep_alive: statement.session_keep_alive(),
        }
    }
}

impl Holders {
    /// Assigns the permits of a submit to the statement that the service accepted.
    fn accepted(
        &mut self,
        id: &StatementId,
        ended: bool,
        session: Option<SessionId>,
        keep_alive: Option<Duration>,
        permits: Permits,
    ) {
        let now = Instant::now();
        if let Some(session) = &session {
            if let Some(permit) = permits.session {
                let keep_alive = keep_alive.unwrap_or_default();
                self.open.insert(session.clone(), Open { _permit: permit, keep_alive, idle_since: None });
            }
            if let Some(open) = self.open.get_mut(session) {
                open.keep_alive = keep_alive.unwrap_or(open.keep_alive);
                open.idle_since = ended.then_some(now);
            }
        }
        // The response to a repeated submit has the same id, so the new entry replaces the earlier one and
        // releases its permit.
        if !ended {
            let active = ActiveStatement { _permit: permits.statement, since: now, described: now, session };
            self.active.insert(id.clone(), active);
        }
    }

    /// Releases the permit of a statement that ended at this time, and marks its session as idle since then.
    fn ended(&mut self, id: &StatementId, at: Instant) {
        let Some(active) = self.active.remove(id) else { return };
        if let Some(open) = active.session.and_then(|session| self.open.get_mut(&session)) {
            open.idle_since = Some(at);
        }
    }

    /// Marks an active statement as described at this time, and returns the previous time.
    fn described(&mut self, id: &StatementId, at: Instant) -> Option<Instant> {
        self.active.get_mut(id).map(|active| std::mem::replace(&mut active.described, at))
    }

    /// Marks the uncertain submits with this name as looked up at this time.
    fn looked_up(&mut self, name: &str, at: Instant) {
        let named = self.uncertain.values_mut().filter(|uncertain| uncertain.name.as_deref() == Some(name));
        named.for_each(|uncertain| uncertain.looked_up = at);
    }

    /// Keeps the permits of a submit that may have taken effect.
    fn add_uncertain(&mut self, token: ClientToken, uncertain: UncertainSubmit) {
        self.uncertain.insert(token, UncertainSubmit { number: self.uncertain_count, ..uncertain });
        self.uncertain_count += 1;
    }

    /// Resolves the uncertain submits whose statements are on a page of a listing.
    fn listed(&mut self, page: &StatementPage) {
        if !self.uncertain.is_empty() {
            page.statements.iter().for_each(|statement| self.found(statement));
        }
    }

    /// Releases the permits of uncertain submits that no page of a listing contained. `uncertain_count` is
    /// the number of uncertain submits when the listing began. The listing proves nothing about later ones.
    ///
    /// If such a submit reaches the service later, the service's rejections lower the limit.
    fn not_listed(&mut self, filter: &StatementFilter, uncertain_count: u64) {
        let StatementFilter { name_prefix, status, own_session_only, compute, database, .. } = filter;
        let Some(prefix) = name_prefix else { return };
        if status.is_some() || *own_session_only || compute.is_some() || database.is_some() {
            return;
        }
        self.uncertain.retain(|_, uncertain| {
            let is_covered = uncertain.name.as_ref().is_some_and(|name| name.starts_with(prefix));
            uncertain.number >= uncertain_count || !is_covered
        });
    }

    fn found(&mut self, statement: &StatementSummary) {
        let Some(name) = &statement.name else { return };
        let is_it = |(token, uncertain): (&ClientToken, &UncertainSubmit)| {
            (uncertain.name.as_ref() == Some(name)).then(|| token.clone())
        };
        let Some(token) = self.uncertain.iter().find_map(is_it) else { return };
        let Some(uncertain) = self.uncertain.remove(&token) else { return };
        let session = uncertain.session.or_else(|| statement.session_id.clone());
        let ended = statement.status.is_terminal();
        self.accepted(&statement.id, ended, session, uncertain.keep_alive, uncertain.permits);
    }

    /// Releases the permits of statements and submits older than 24 hours, and of sessions whose keep-alive
    /// time is over.
    fn forget(&mut self, now: Instant) {
        let ended = |(id, active): (&StatementId, &ActiveStatement)| {
            let end = active.since + LONGEST_RUN;
            (end <= now).then(|| (id.clone(), end))
        };
        let over: Vec<_> = self.active.iter().filter_map(ended).collect();
        for (id, end) in over {
            self.ended(&id, end);
        }
        self.uncertain.retain(|_, uncertain| now - uncertain.since < LONGEST_RUN);
        self.open.retain(|_, open| open.idle_since.is_none_or(|since| now - since < open.keep_alive));
    }

    /// Returns the earliest time at which a statement becomes stale, a session ends, or an uncertain submit
    /// is older than the maximum duration of a statement.
    fn next_due(&self) -> Option<Instant> {
        let stale = self.active.values().map(|active| active.described + STALE);
        let idle = self.open.values().filter_map(|open| Some(after(open.idle_since?, open.keep_alive)));
        let over = self.uncertain.values().map(|uncertain| uncertain.since + LONGEST_RUN);
        stale.chain(idle).chain(over).min()
    }

    /// Returns the earliest time at which an uncertain submit with a name becomes stale.
    fn next_look_up(&self) -> Option<Instant> {
        let named = self.uncertain.values().filter(|uncertain| uncertain.name.is_some());
        named.map(|uncertain| uncertain.looked_up + STALE_UNCERTAIN).min()
    }

    /// Returns the statements that were not described recently.
    fn stale(&mut self, now: Instant) -> Vec<StatementId> {
        self.forget(now);
        let stale = self.active.iter().filter(|(_, active)| now - active.described >= STALE);
        stale.map(|(id, _)| id.clone()).collect()
    }

    /// Returns the names of uncertain submits that were not looked up recently.
    fn stale_uncertain(&self, now: Instant) -> Vec<String> {
        let stale = self.uncertain.values().filter(|uncertain| now - uncertain.looked_up >= STALE_UNCERTAIN);
        stale.filter_map(|uncertain| uncertain.name.clone()).collect()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<E: StatementExecutor> StatementExecutor for Limit<E> {
    async fn submit(&self, statement: &Statement, wait: Option<WaitTime>) -> Result<Submitted> {
        let waiters = (self.statements.waiter(), self.sessions.waiter());
        loop {
            if let Some(response) = self.try_submit(statement, wait, &waiters).await {
                return response;
            }
        }
    }

    async fn describe(&self, id: &StatementId, wait: Option<WaitTime>) -> Result<Description> {
        let in_flight = DescribeInFlight::begin(&self.in_use, id);
        let response = self.inner.describe(id, wait).await;
        in_flight.end();
        let is_over = match &response {
            Ok(description) => description.status.is_terminal(),
            Err(error) => matches!(error.kind(), ErrorKind::RecordExpired | ErrorKind::NotFound),
        };
        if is_over {
            self.in_use.change(|held| held.ended(id, Instant::now()));
        }
        response
    }

    async fn cancel(&self, id: &StatementId) -> Result<bool> {
        self.inner.cancel(id).await
    }

    async fn result(&self, id: &StatementId, page: Option<PageToken>) -> Result<ResultPage> {
        self.inner.result(id, page).await
    }

    async fn list(&self, filter: &StatementFilter, page: Option<PageToken>) -> Result<StatementPage> {
        // The earlier pages of a listing are not known here, nor when it began.
        let (is_first, uncertain_count) = (page.is_none(), self.held().uncertain_count);
        let response = self.inner.list(filter, page).await?;
        self.in_use.change(|held| {
            held.listed(&response);
            if is_first && response.next.is_none() {
                held.not_listed(filter, uncertain_count);
            }
        });
        Ok(response)
    }

    fn target(&self) -> Option<crate::Target> {
        self.inner.target()
    }
}

/// Forwards catalog requests without a limit.
#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<E: Catalog> Catalog for Limit<E> {
    async fn databases(&self, filter: &CatalogFilter, page: Option<PageToken>) -> Result<Page<String>> {
        self.inner.databases(filter, page).await
    }

    async fn schemas(&self, filter: &CatalogFilter, page: Option<PageToken>) -> Result<Page<String>> {
        self.inner.schemas(filter, page).await
    }

    async fn tables(&self, filter: &CatalogFilter, page: Option<PageToken>) -> Result<Page<Table>> {
        self.inner.tables(filter, page).await
    }

    async fn columns(&self, filter: &CatalogFilter, page: Option<PageToken>) -> Result<Page<Column>> {
        self.inner.columns(filter, page).await
    }

    async fn sessions(&self, filter: &SessionFilter, page: Option<PageToken>) -> Result<Page<Session>> {
        self.inner.sessions(filter, page).await
    }
}

impl<E: fmt::Display> fmt::Display for Limit<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Limit({}, {})", self.capacity(), self.inner)
    }
}

impl<E: fmt::Debug> fmt::Debug for Limit<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Limit({}, {:?})", self.capacity(), self.inner)
    }
}
