//! The state machine: records, their state transitions, and the long polls that wait for them.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap, VecDeque},
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    Limits,
    backend::{Admission, Backend, Job, Report, Signals},
    limits,
    record::{Record, StatementOutcome, split},
    session::{self, Sessions},
};
use redshift_orchestrator::{
    ClientToken, Clock, Description, Error, ErrorKind, PageToken, Result, ResultPage, SessionId, Statement,
    StatementExecutor, StatementFilter, StatementId, StatementPage, StatementSummary, Status, Submitted,
    WaitTime, catalog::Session,
};

/// The Redshift Data API's state machine in process; see the [module](crate).
///
/// Clones share one service. Dropping the last clone stops the service at once, like killing the process,
/// even if statements are running. Statements recorded on a PostgreSQL server continue at the next start.
pub struct LocalExecutor<B: Backend> {
    service: Arc<Service<B>>,
    tasks: Arc<Tasks>,
    /// Target reported for statements that have none.
    target: Option<redshift_orchestrator::Target>,
}

/// Time that a statement spends in each state before it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// Time in `SUBMITTED`, counted from when a slot is free.
    pub submitted: Duration,
    /// Time in `PICKED`.
    pub picked: Duration,
}

/// State shared by the tasks. The state does not own the tasks, so dropping the last `LocalExecutor` aborts
/// the tasks.
struct Service<B> {
    backend: B,
    limits: Limits,
    latency: Latency,
    clock: Arc<dyn Clock>,
    /// Permits for running statements. Statements without a permit wait in `SUBMITTED`, in submit order.
    slots: Option<Arc<Semaphore>>,
    state: Mutex<State>,
}

/// One task for each statement in flight.
#[derive(Default)]
struct Tasks(Mutex<JoinSet<()>>);

struct State {
    ids: fastrand::Rng,
    known: HashMap<StatementId, Known>,
    /// Statements in submit order.
    order: BTreeMap<u64, StatementId>,
    tokens: HashMap<ClientToken, (StatementId, Timestamp)>,
    active: usize,
    /// Number of statements that are being admitted.
    entering: usize,
    next: u64,
    /// Ended statements, ordered by expiry.
    expiring: BinaryHeap<Reverse<(Timestamp, StatementId)>>,
    sessions: Sessions,
    expired: Expired,
}

/// Ids of the statements whose records expired most recently.
#[derive(Default)]
struct Expired {
    at: HashMap<StatementId, Timestamp>,
    order: VecDeque<StatementId>,
}

impl Expired {
    /// Adds a statement, and removes the oldest one if there are more than `most`.
    fn insert(&mut self, id: StatementId, at: Timestamp, most: usize) {
        if self.at.insert(id.clone(), at).is_none() {
            self.order.push_back(id);
        }
        if self.order.len() > most
            && let Some(oldest) = self.order.pop_front()
        {
            self.at.remove(&oldest);
        }
    }
}

/// A statement known to this process.
struct Known {
    record: Record,
    /// Position in submit order.
    place: u64,
    signals: Arc<Signals>,
    waiters: usize,
}

/// The components of a [`LocalExecutor`].
pub(super) struct Parts<B> {
    pub(super) backend: B,
    pub(super) limits: Limits,
    pub(super) latency: Latency,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) concurrency: Option<usize>,
    pub(super) ids: fastrand::Rng,
}

impl<B: Backend> LocalExecutor<B> {
    pub(super) fn assemble(parts: Parts<B>) -> Self {
        let state = State {
            ids: parts.ids,
            known: HashMap::new(),
            order: BTreeMap::new(),
            tokens: HashMap::new(),
            active: 0,
            entering: 0,
            next: 0,
            expiring: BinaryHeap::new(),
            sessions: Sessions::default(),
            expired: Expired::default(),
        };
        let service = Service {
            backend: parts.backend,
            limits: parts.limits,
            latency: parts.latency,
            clock: parts.clock,
            slots: parts.concurrency.map(|slots| Arc::new(Semaphore::new(slots.max(1)))),
            state: Mutex::new(state),
        };
        Self { service: Arc::new(service), tasks: Arc::default(), target: None }
    }

    /// Sets the target that this client reports for statements without a target, like
    /// [`DataApiExecutor`](struct@redshift_orchestrator::DataApiExecutor). The target does not affect
    /// execution.
    #[must_use]
    pub fn with_target(mut self, target: redshift_orchestrator::Target) -> Self {
        self.target = Some(target);
        self
    }

    pub(super) fn backend(&self) -> &B {
        &self.service.backend
    }

    /// Returns the sessions of this process, newest first.
    pub(super) fn sessions(&self) -> Vec<Session> {
        let now = self.service.clock.now();
        let mut state = self.service.lock();
        state.sessions.lose_all(now, |id| !self.service.backend.holds_session(id));
        state.sessions.list(now)
    }

    /// Adds the records of an earlier or concurrent process, and continues the statements that have not
    /// ended.
    pub(super) fn adopt(&self, records: Vec<Record>) {
        for record in records {
            let (id, ended) = (record.id.clone(), record.status.is_terminal());
            if self.service.lock().insert(record, &self.service.limits) && !ended {
                self.tasks.spawn(drive(self.service.clone(), id));
            }
        }
        // A record of another process may already have expired.
        self.service.forget_expired();
    }

    /// Loads the record if another process submitted the statement.
    async fn look_up(&self, id: &StatementId) -> Result<()> {
        limits::check_id(id)?;
        let (whole, _) = split(id);
        self.service.forget_expired();
        if !self.service.lock().knows(&whole)
            && let Some(record) = self.service.backend.find(&whole).await?
        {
            self.adopt(vec![record]);
        }
        Ok(())
    }

    /// Waits until the statement or sub-statement ends, or until `wait` has passed.
    async fn await_end(&self, id: &StatementId, wait: Option<WaitTime>) -> Result<()> {
        let Some(wait) = wait else { return Ok(()) };
        let Some(_waiter) = Waiter::of(&self.service, id)? else { return Ok(()) };
        let until_ended = async {
            loop {
                let signals = self.service.lock().not_ended(id).map(|known| known.signals.clone());
                let Some(signals) = signals else { break };
                let ring = signals.ended.notified();
                tokio::pin!(ring);
                ring.as_mut().enable();
                // The statement may have ended before the notification was enabled.
                if self.service.lock().not_ended(id).is_none() {
                    break;
                }
                ring.await;
            }
        };
        // After a timeout, the caller responds with the current status.
        let _ = timeout(wait.duration(), until_ended).await;
        Ok(())
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<B: Backend> StatementExecutor for LocalExecutor<B> {
    async fn submit(&self, statement: &Statement, wait: Option<WaitTime>) -> Result<Submitted> {
        self.service.limits.check(statement)?;
        let mut statement = statement.clone();
        if let (Some(target), None, None) = (&self.target, statement.target(), statement.session()) {
            statement = statement.with_target(target.clone());
        }
        let (answer, answered) = oneshot::channel();
        // The task outlives this future: once the record is durable, the statement runs even if the caller
        // drops the future.
        self.tasks.spawn(accept(self.service.clone(), statement, answer));
        let id = answered.await.map_err(|_| stopped())??;
        self.look_up(&id).await?;
        // A submit succeeds even if its statement already has the maximum number of long polls. It then
        // returns without waiting.
        let _ = self.await_end(&id, wait).await;
        let state = self.service.lock();
        let record = state.record(&id)?;
        Ok(record.submitted(wait.is_some()))
    }

    async fn describe(&self, id: &StatementId, wait: Option<WaitTime>) -> Result<Description> {
        self.look_up(id).await?;
        self.await_end(id, wait).await?;
        let (whole, number) = split(id);
        let state = self.service.lock();
        let record = state.record(&whole)?;
        match number {
            None => Ok(record.describe()),
            Some(number) => record.describe_part(number).ok_or_else(|| limits::not_found(id)),
        }
    }

    async fn cancel(&self, id: &StatementId) -> Result<bool> {
        self.look_up(id).await?;
        let (whole, _) = split(id);
        let record = self.service.lock().record(&whole)?.clone();
        if record.status.is_terminal() {
            return Ok(false);
        }
        let accepted = self.service.backend.cancel(&record).await?;
        if accepted && let Some(known) = self.service.lock().known.get(&whole) {
            known.signals.cancel();
        }
        Ok(accepted)
    }

    async fn result(&self, id: &StatementId, page: Option<PageToken>) -> Result<ResultPage> {
        self.look_up(id).await?;
        let (whole, number) = split(id);
        let record = self.service.lock().record(&whole)?.clone();
        if record.is_batch() && number.is_none() {
            return Err(limits::result_of_batch(id));
        }
        let part = record.part(number).ok_or_else(|| limits::not_found(id))?;
        if part.status != Status::Finished || !part.has_result_set {
            return Err(limits::no_result(id));
        }
        let suffix = token_suffix(id);
        let page = page.map(|page| own_page(&suffix, &page)).transpose()?;
        let mut response = self.service.backend.page(&record, number.unwrap_or(1) - 1, page).await?;
        response.next = response.next.map(|next| PageToken::new(format!("{}.{suffix}", next.as_str())));
        Ok(response)
    }

    async fn list(&self, filter: &StatementFilter, page: Option<PageToken>) -> Result<StatementPage> {
        self.service.forget_expired();
        let suffix = filter_suffix(filter);
        let mut before = match page {
            None => u64::MAX,
            Some(page) => own_page(&suffix, &page)?.as_str().parse().map_err(|_| limits::bad_page())?,
        };
        let size = usize::from(filter.page_size.unwrap_or(100).clamp(1, 100));
        let retention = self.service.limits.record_retention;
        let since = self.service.clock.now().checked_sub(retention).unwrap_or(Timestamp::MIN);
        // An entry beyond the page size shows that there is another page.
        let mut found = Vec::new();
        while found.len() <= size {
            let wanted = size + 1 - found.len();
            let Some(records) = self.service.backend.list(filter, before, wanted, since).await? else {
                found = self.service.lock().list(filter, before, size + 1);
                break;
            };
            let is_last = records.len() < wanted;
            for (number, record) in records {
                before = number;
                // Continues a statement that another process left unfinished.
                if !record.status.is_terminal() {
                    self.look_up(&record.id).await?;
                }
                found.extend(self.service.lock().listed(record, filter).map(|summary| (number, summary)));
            }
            if is_last {
                break;
            }
        }
        let more = found.len() > size;
        found.truncate(size);
        let next = found.last().filter(|_| more);
        let next = next.map(|(number, _)| PageToken::new(format!("{number}.{suffix}")));
        Ok(StatementPage::new(found.into_iter().map(|(_, summary)| summary).collect(), next))
    }

    fn target(&self) -> Option<redshift_orchestrator::Target> {
        self.target.clone()
    }
}

/// Returns the end of the page tokens of a result. A token of another result has another end and is rejected.
fn token_suffix(id: &StatementId) -> String {
    // The service's tokens contain no colon.
    id.as_str().replace(':', ".")
}

/// Returns the end of the page tokens of a listing. A token of a listing with another filter has another end
/// and is rejected. Only the page size may differ.
fn filter_suffix(filter: &StatementFilter) -> String {
    let StatementFilter { name_prefix, status, own_session_only, compute, database, .. } = filter;
    let mut hasher = DefaultHasher::new();
    (name_prefix, status, own_session_only, compute, database).hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// Returns the part of a page token before its end. Rejects a token with another end.
fn own_page(suffix: &str, page: &PageToken) -> Result<PageToken> {
    let own = page.as_str().strip_suffix(suffix).and_then(|page| page.strip_suffix('.'));
    own.map(PageToken::new).ok_or_else(limits::bad_page)
}

/// Admits a statement, sends its id to the caller, and runs it.
///
/// Thousands of statements may be waiting at a time. State needed by only one phase is boxed, so that the
/// task does not reserve memory for it in the other phases.
fn accept<B: Backend>(
    service: Arc<Service<B>>,
    statement: Statement,
    answer: oneshot::Sender<Result<StatementId>>,
) -> impl Future<Output = ()> {
    let admission = {
        let service = service.clone();
        Box::pin(async move { service.admit(statement).await })
    };
    async move {
        let admitted = admission.await;
        let new = match &admitted {
            Ok((id, Admission::New)) => Some(id.clone()),
            Ok((_, Admission::Known(_))) | Err(_) => None,
        };
        // Sending fails if the caller has dropped its future; the response is then lost.
        drop(answer.send(admitted.map(|(id, _)| id)));
        if let Some(id) = new {
            drive(service, id).await;
        }
    }
}

/// Runs a recorded statement to its end.
async fn drive<B: Backend>(service: Arc<Service<B>>, id: StatementId) {
    let known = |known: &Known| (known.record.statement.clone(), known.signals.clone());
    let Some((statement, signals)) = service.lock().known.get(&id).map(known) else { return };
    let parts = || service.lock().known.get(&id).map(|known| known.record.parts.clone()).unwrap_or_default();
    let report = |report| service.take(&id, report);
    let job = Job { id: &id, statement: &statement, parts: &parts, signals: &signals, report: &report };
    let mut pause = Duration::from_millis(50);
    let outcome = loop {
        let picked = async {
            let slot = service.slot().await;
            sleep(service.latency.submitted).await;
            service.pick(&id);
            sleep(service.latency.picked).await;
            slot
        };
        // A statement cancelled before it runs is passed to the back end, too, because the back end records
        // its outcome.
        let slot = Box::pin(async {
            tokio::select! {
                biased;
                () = job.cancelled() => None,
                slot = picked => slot,
            }
        });
        let slot = slot.await;
        if let Some(outcome) = service.backend.run(&job).await {
            break outcome;
        }
        drop(slot);
        Box::pin(sleep(pause)).await;
        pause = (pause * 2).min(Duration::from_secs(1));
    };
    let idle = service.end(&id, outcome);
    if let (Some(session), Some(idle)) = (statement.session(), idle) {
        Box::pin(sleep(idle)).await;
        let now = service.clock.now();
        let closed = service.lock().sessions.close_if_idle(session, now);
        if closed {
            service.backend.close_session(session).await;
        }
    }
}

impl<B: Backend> Service<B> {
    /// Locks the state. A poisoned lock is used anyway: every change is one assignment or insertion, so a
    /// panic does not leave the state inconsistent.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn slot(&self) -> Option<OwnedSemaphorePermit> {
        match &self.slots {
            Some(slots) => slots.clone().acquire_owned().await.ok(),
            None => None,
        }
    }

    async fn admit(&self, statement: Statement) -> Result<(StatementId, Admission)> {
        self.forget_expired();
        let now = self.clock.now();
        let (record, opened) = {
            let mut state = self.lock();
            if let Some(known) = state.token(&statement, now) {
                return Ok((known.clone(), Admission::Known(known)));
            }
            let active = state.active + state.entering;
            if active >= self.limits.active_statements {
                return Err(limits::too_many_statements(active));
            }
            let id = StatementId::new(state.next_uuid());
            let (statement, opened) = self.enter_session(&mut state, statement, &id, now)?;
            state.entering += 1;
            (Record::new(id, statement, now), opened)
        };
        let admission = self.put_on_record(&record, opened).await;
        let id = record.id.clone();
        let known = {
            let mut state = self.lock();
            state.entering -= 1;
            let known = match admission {
                Ok(Admission::Known(known)) => Ok(known),
                // A concurrent submit with the same token may have been recorded first.
                Ok(Admission::New) => match state.token(&record.statement, now) {
                    Some(known) if known != id => Ok(known),
                    // A listing may already have found the record and started the statement.
                    _ => {
                        let is_new = state.insert(record, &self.limits);
                        let admission = if is_new { Admission::New } else { Admission::Known(id.clone()) };
                        return Ok((id, admission));
                    }
                },
                Err(error) => Err(error),
            };
            match record.statement.session() {
                // The caller never received the session id, because the submit failed.
                Some(session) if opened => state.sessions.forget(session),
                Some(session) => drop(state.sessions.release(session, &id, now)),
                None => {}
            }
            known
        };
        if let (true, Some(session)) = (opened, record.statement.session()) {
            self.backend.close_session(session).await;
        }
        let known = known?;
        Ok((known.clone(), Admission::Known(known)))
    }

    async fn put_on_record(&self, record: &Record, opened: bool) -> Result<Admission> {
        if let (true, Some(session)) = (opened, record.statement.session()) {
            self.backend.open_session(session).await?;
        }
        self.backend.admit(record).await
    }

    /// Marks the statement's session as busy, or opens the session that the statement requests. Returns
    /// `true` if a session was opened.
    fn enter_session(
        &self,
        state: &mut State,
        statement: Statement,
        id: &StatementId,
        now: Timestamp,
    ) -> Result<(Statement, bool)> {
        let keep_alive = statement.session_keep_alive();
        let wants_one = statement.session().is_some() || keep_alive.is_some_and(|idle| !idle.is_zero());
        if !wants_one {
            return Ok((statement, false));
        }
        if !self.backend.keeps_sessions() {
            return Err(session::unsupported());
        }
        if let Some(session) = statement.session() {
            if !self.backend.holds_session(session) {
                state.sessions.lose(session, now);
            }
            let target = state.sessions.occupy(session, id, keep_alive, now)?;
            let statement = match target {
                Some(target) => statement.with_target(target),
                None => statement,
            };
            return Ok((statement, false));
        }
        let session = SessionId::new(state.next_uuid());
        let target = statement.target().cloned();
        state.sessions.open(
            session.clone(),
            id,
            keep_alive.unwrap_or_default(),
            target,
            now,
            &self.limits,
        )?;
        Ok((statement.in_session(session), true))
    }

    /// Moves the statement to `PICKED`, unless an earlier process has already moved it further.
    fn pick(&self, id: &StatementId) {
        let now = self.clock.now();
        if let Some(known) = self.lock().known.get_mut(id)
            && known.record.status == Status::Submitted
        {
            known.record.status = Status::Picked;
            known.record.updated_at = now;
        }
    }

    fn take(&self, id: &StatementId, report: Report) {
        let now = self.clock.now();
        let mut state = self.lock();
        let Some(known) = state.known.get_mut(id) else { return };
        let record = &mut known.record;
        record.updated_at = now;
        match report {
            Report::Started(pid) => {
                record.status = Status::Started;
                record.pid = pid;
            }
            Report::Part(index, part) => {
                let ended = part.status.is_terminal();
                if let Some(slot) = record.parts.get_mut(index) {
                    *slot = part;
                }
                if ended {
                    known.signals.ended.notify_waiters();
                }
            }
        }
    }

    /// Ends a statement. Returns the keep-alive of its session, which is now available.
    fn end(&self, id: &StatementId, outcome: StatementOutcome) -> Option<Duration> {
        let now = self.clock.now();
        let mut state = self.lock();
        let known = state.known.get_mut(id)?;
        known.record.end(outcome, now);
        known.signals.ended.notify_waiters();
        let session = known.record.statement.session().cloned();
        state.active -= 1;
        state.expires(id.clone(), later(now, self.limits.record_retention));
        state.sessions.release(&session?, id, now)
    }

    fn forget_expired(&self) {
        let now = self.clock.now();
        let forgotten = self.lock().forget_expired(now, self.limits.expired_records);
        forgotten.iter().for_each(|id| self.backend.forget(id));
    }
}

impl State {
    fn next_uuid(&mut self) -> String {
        uuid::Builder::from_random_bytes(self.ids.u128(..).to_be_bytes()).into_uuid().to_string()
    }

    /// Inserts a record. Returns `false` if the statement is already known.
    fn insert(&mut self, record: Record, limits: &Limits) -> bool {
        if self.known.contains_key(&record.id) {
            return false;
        }
        if let Some(token) = record.statement.client_token() {
            let until = later(record.created_at, limits.token_retention);
            self.tokens.insert(token.clone(), (record.id.clone(), until));
        }
        if record.status.is_terminal() {
            self.expires(record.id.clone(), later(record.updated_at, limits.record_retention));
        } else {
            self.active += 1;
        }
        let place = self.next;
        self.next += 1;
        self.order.insert(place, record.id.clone());
        self.known.insert(record.id.clone(), Known { record, place, signals: Arc::default(), waiters: 0 });
        true
    }

    /// Returns the newest matching statements before position `before`, with their positions.
    fn list(&self, filter: &StatementFilter, before: u64, count: usize) -> Vec<(u64, StatementSummary)> {
        let matching = self.order.range(..before).rev().filter_map(|(at, id)| {
            let record = &self.known.get(id)?.record;
            record.matches(filter).then(|| (*at, record.summary()))
        });
        matching.take(count).collect()
    }

    /// Returns the summary of a record if it matches the filter. If this process knows the statement, its own
    /// record takes precedence over the stored one.
    fn listed(&self, record: Record, filter: &StatementFilter) -> Option<StatementSummary> {
        if self.expired.at.contains_key(&record.id) {
            return None;
        }
        let record = self.known.get(&record.id).map_or(&record, |known| &known.record);
        record.matches(filter).then(|| record.summary())
    }

    /// Returns `true` if this process has the record of the statement, or remembers that it expired.
    fn knows(&self, id: &StatementId) -> bool {
        self.known.contains_key(id) || self.expired.at.contains_key(id)
    }

    /// Returns the statement that was submitted with the same client token, until the token's retention ends.
    fn token(&self, statement: &Statement, now: Timestamp) -> Option<StatementId> {
        let (id, until) = self.tokens.get(statement.client_token()?)?;
        (now < *until).then(|| id.clone())
    }

    fn record(&self, id: &StatementId) -> Result<&Record> {
        match (self.known.get(id), self.expired.at.get(id)) {
            (Some(known), _) => Ok(&known.record),
            (None, Some(at)) => Err(limits::expired(id, *at)),
            (None, None) => Err(limits::not_found(id)),
        }
    }

    /// Returns the statement unless the statement, or the sub-statement that `id` names, has ended or is
    /// unknown.
    fn not_ended(&self, id: &StatementId) -> Option<&Known> {
        let (whole, number) = split(id);
        let known = self.known.get(&whole)?;
        let status = match number {
            None => &known.record.status,
            Some(_) => &known.record.part(number)?.status,
        };
        (!status.is_terminal()).then_some(known)
    }

    /// Schedules the expiry of an ended record.
    fn expires(&mut self, id: StatementId, at: Timestamp) {
        self.expiring.push(Reverse((at, id)));
    }

    /// Removes expired records and returns their ids. Remembers at most `most` ids as expired.
    fn forget_expired(&mut self, now: Timestamp, most: usize) -> Vec<StatementId> {
        let mut forgotten = Vec::new();
        while let Some(Reverse((at, _))) = self.expiring.peek()
            && *at <= now
            && let Some(Reverse((at, id))) = self.expiring.pop()
        {
            let Some(known) = self.known.remove(&id) else { continue };
            self.order.remove(&known.place);
            if let Some(token) = known.record.statement.client_token()
                && self.tokens.get(token).is_some_and(|(of, _)| *of == id)
            {
                self.tokens.remove(token);
            }
            forgotten.push(id.clone());
            self.expired.insert(id, at, most);
        }
        forgotten
    }
}

/// A long poll in progress. Until it is dropped, it counts towards the limit of long polls for the statement.
struct Waiter<'a, B: Backend> {
    service: &'a Service<B>,
    id: StatementId,
}

impl<'a, B: Backend> Waiter<'a, B> {
    /// Registers a long poll. Returns `None` if the statement has ended.
    fn of(service: &'a Service<B>, id: &StatementId) -> Result<Option<Self>> {
        let mut state = service.lock();
        if state.not_ended(id).is_none() {
            return Ok(None);
        }
        let (whole, _) = split(id);
        let Some(known) = state.known.get_mut(&whole) else { return Ok(None) };
        if known.waiters >= service.limits.waiters_per_statement {
            return Err(limits::too_many_waiters(id));
        }
        known.waiters += 1;
        Ok(Some(Self { service, id: whole }))
    }
}

impl<B: Backend> Drop for Waiter<'_, B> {
    fn drop(&mut self) {
        if let Some(known) = self.service.lock().known.get_mut(&self.id) {
            known.waiters -= 1;
        }
    }
}

impl Tasks {
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }
}

/// Returns `moment + duration`, or the maximum timestamp if the sum overflows.
pub(super) fn later(moment: Timestamp, duration: Duration) -> Timestamp {
    moment.checked_add(duration).unwrap_or(Timestamp::MAX)
}

fn stopped() -> Error {
    Error::new(ErrorKind::Disconnected, "the local executor stopped before it responded")
}

impl<B: Backend> Clone for LocalExecutor<B> {
    fn clone(&self) -> Self {
        Self { service: self.service.clone(), tasks: self.tasks.clone(), target: self.target.clone() }
    }
}

impl<B: Backend> fmt::Display for LocalExecutor<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Local({})", self.service.backend.name())
    }
}

impl<B: Backend> fmt::Debug for LocalExecutor<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LocalExecutor").field(&self.service.backend).finish()
    }
}
