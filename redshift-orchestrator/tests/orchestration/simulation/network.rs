//! [`World`]: the service and the networks in front of it. [`Process`]: a client of the service.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use redshift_data_local::{Effect, Faulty, LocalExecutor, Operation, Scripted};
use redshift_orchestrator::{
    Description, Error, ErrorKind, PageToken, Result, ResultPage, Statement, StatementExecutor,
    StatementFilter, StatementId, StatementPage, Status, Submitted, Target, TokioClock, WaitTime,
    journal::{Entry, Event, Record},
};
use tokio::{
    runtime::Handle,
    time::{Instant, sleep, timeout},
};

use super::{
    coverage::{Condition, Played},
    fate::{Death, Fate},
    schedule::{Outage, Schedule},
};

/// Service, and the networks in front of it.
pub(super) struct World {
    pub(super) clock: TokioClock,
    service: LocalExecutor<Scripted>,
    networks: Vec<Network>,
    accepted: Ledger,
    begun: Instant,
    listing: std::ops::Range<u64>,
    pub(super) played: Played,
}

/// Statements that the service accepted.
type Ledger = Arc<Mutex<BTreeMap<StatementId, Accepted>>>;

/// Statement that the service accepted.
#[derive(Clone)]
pub(super) struct Accepted {
    /// Line that submitted the statement first.
    pub(super) line: usize,
    pub(super) name: String,
    pub(super) at: Timestamp,
}

/// Network between one line and the service, and notes about its requests.
pub(super) struct Network {
    faulty: Faulty<LocalExecutor<Scripted>>,
    outages: Vec<Outage>,
    expired: Vec<std::ops::Range<Duration>>,
    /// Number of requests that failed in an outage, or were so slow that their caller may have given up.
    lost: AtomicU64,
    draw: Mutex<fastrand::Rng>,
    notes: Mutex<Notes>,
}

#[derive(Default)]
struct Notes {
    /// Original names of statements that a flaw renamed, by the name in the service.
    aliases: HashMap<String, String>,
    /// Times at which a listing failed or took too long.
    bad_listings: Vec<Timestamp>,
    unknown: Vec<UnknownNote>,
    /// Statements whose cancel was sent.
    cancelled: HashSet<StatementId>,
    violation: Option<String>,
}

/// Record of an unknown outcome, and the state when it was written.
#[derive(Clone)]
pub(super) struct UnknownNote {
    /// Time of the record by the service's clock.
    pub(super) at: Timestamp,
    pub(super) record: Record,
    /// `true` if the submit was in a queue of the process at that time.
    pub(super) is_queued: bool,
    /// `true` if the process had sent the submit.
    pub(super) is_sent: bool,
    /// `true` if a cancel was accepted during the run.
    pub(super) is_cancelled: bool,
}

impl World {
    pub(super) fn of(schedule: &Schedule) -> Arc<Self> {
        let epoch = Timestamp::from_second(1_795_392_000).unwrap_or_default();
        let service = LocalExecutor::scripted(schedule.script.clone().starting_at(epoch));
        let clock = TokioClock::starting_at(epoch);
        let accepted = Ledger::default();
        let mut draw = schedule.rng_of_networks();
        let network = |(number, line): (usize, &super::schedule::Line)| {
            let ledger = accepted.clone();
            let faulty = Faulty::new(service.clone().with_target(line.target.clone()), line.faults.clone());
            let faulty = faulty.with_on_submitted(move |statement, submitted| {
                let name = statement.name().unwrap_or_default().to_owned();
                let at = submitted.created_at.unwrap_or_default();
                let accepted = Accepted { line: number, name, at };
                locked(&ledger).entry(submitted.id.clone()).or_insert(accepted);
            });
            Network {
                faulty,
                outages: line.outages.clone(),
                expired: line.expired.clone(),
                lost: AtomicU64::new(0),
                draw: Mutex::new(draw.fork()),
                notes: Mutex::default(),
            }
        };
        let networks = schedule.lines.iter().enumerate().map(network).collect();
        Arc::new(Self {
            clock,
            service,
            networks,
            accepted,
            begun: Instant::now(),
            listing: schedule.listing.clone(),
            played: Played::default(),
        })
    }

    /// Returns the statements of a line that the service accepted, with the names that the orchestrator gave
    /// them.
    pub(super) fn accepted(&self, line: usize) -> BTreeMap<StatementId, Accepted> {
        let notes = self.networks[line].notes();
        let of_line = |(id, accepted): (&StatementId, &Accepted)| {
            let name = notes.aliases.get(&accepted.name).unwrap_or(&accepted.name).clone();
            (accepted.line == line).then(|| (id.clone(), Accepted { name, ..accepted.clone() }))
        };
        locked(&self.accepted).iter().filter_map(of_line).collect()
    }

    /// Returns the effects of a line's statements.
    pub(super) fn effects(&self, line: usize) -> Vec<Effect> {
        let accepted = locked(&self.accepted);
        let of_line = |effect: &Effect| {
            accepted.get(&effect.statement_id).is_some_and(|accepted| accepted.line == line)
        };
        self.service.effects().into_iter().filter(of_line).collect()
    }

    /// Returns the number of faults in a line's requests.
    pub(super) fn faults(&self, line: usize) -> u64 {
        let network = &self.networks[line];
        network.faulty.injected().total() + network.lost.load(Ordering::Relaxed)
    }

    pub(super) fn network(&self, line: usize) -> &Network {
        &self.networks[line]
    }

    /// Returns `true` if a statement of the line is active.
    async fn has_active(&self, line: usize) -> bool {
        let ids: Vec<_> = {
            let accepted = locked(&self.accepted);
            let of_line = accepted.iter().filter(|(_, accepted)| accepted.line == line);
            of_line.map(|(id, _)| id.clone()).collect()
        };
        for id in ids {
            let description = self.service.describe(&id, None).await;
            if description.is_ok_and(|description| !description.status.is_terminal()) {
                return true;
            }
        }
        false
    }
}

impl Network {
    fn notes(&self) -> MutexGuard<'_, Notes> {
        locked(&self.notes)
    }

    /// Records that a flaw gave a statement another name.
    pub(super) fn alias(&self, name: String, original: String) {
        self.notes().aliases.insert(name, original);
    }

    /// Records a violation that is not visible in the records of the journal. Only the first one is kept.
    pub(super) fn violated(&self, text: String) {
        self.notes().violation.get_or_insert(text);
    }

    pub(super) fn violation(&self) -> Option<String> {
        self.notes().violation.clone()
    }

    pub(super) fn unknown(&self) -> Vec<UnknownNote> {
        self.notes().unknown.clone()
    }

    pub(super) fn bad_listings(&self) -> Vec<Timestamp> {
        self.notes().bad_listings.clone()
    }

    /// Returns `true` if a cancel of the statement was sent.
    pub(super) fn has_cancelled(&self, id: &StatementId) -> bool {
        self.notes().cancelled.contains(id)
    }

    /// Returns `true` if there was an outage within the last `span`.
    fn had_outage(&self, now: Duration, span: Duration) -> bool {
        let since = now.saturating_sub(span);
        self.outages.iter().any(|outage| outage.span.start <= now && since < outage.span.end)
    }

    /// Rejects a request if the credentials have expired.
    async fn identify<T>(
        &self,
        elapsed: Duration,
        valid_from: Instant,
        request: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        if Instant::now() < valid_from || self.expired.iter().any(|span| span.contains(&elapsed)) {
            return Err(Error::new(ErrorKind::CredentialsExpired, "the security token has expired"));
        }
        request.await
    }

    /// Sends a request, which fails during an outage.
    async fn pass<T>(
        &self,
        elapsed: Duration,
        operation: Operation,
        request: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let meets = |outage: &Outage| {
            outage.span.contains(&elapsed) && (!outage.submits_only || operation == Operation::Submit)
        };
        if !self.outages.iter().any(meets) {
            return request.await;
        }
        self.lost.fetch_add(1, Ordering::Relaxed);
        let lot = locked(&self.draw).u8(0..3);
        match lot {
            0 => return Err(Error::new(ErrorKind::NotSent, "network is unreachable")),
            1 => {}
            _ => drop(request.await),
        }
        Err(Error::new(ErrorKind::Disconnected, "connection reset"))
    }
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Executor in a process that may die. It sends its requests over the network to the service.
///
/// A request that was sent arrives and takes effect even if its caller drops its future. If the process dies
/// before the request arrives, the request is lost or still arrives, at random. A dead process sends no
/// requests and receives no responses.
pub(super) struct Process {
    pub(super) world: Arc<World>,
    pub(super) line: usize,
    pub(super) fate: Arc<Fate>,
    pub(super) submits: Submits,
    /// Time from which the credentials are valid.
    pub(super) valid_from: Instant,
}

/// Queued and sent submits of one process, and its cancels.
#[derive(Clone, Default)]
pub(super) struct Submits(Arc<Mutex<SubmitsInner>>);

#[derive(Default)]
struct SubmitsInner {
    /// Times at which submits entered the queues, by statement name.
    queued: HashMap<String, Instant>,
    sent: HashSet<String>,
    /// Names of statements whose submit may have taken effect.
    uncertain: HashSet<String>,
    last_sent: Option<Instant>,
    /// Times at which cancels were accepted.
    cancelled: HashMap<StatementId, Instant>,
    /// Cancelled statements that were still running a minute later (`false`), or that ended otherwise
    /// (`true`).
    outlived: HashSet<(StatementId, bool)>,
}

impl Submits {
    /// Records that a submit is sent. Returns the time at which it entered the queues, if it was queued.
    fn sent(&self, name: &str) -> Option<Instant> {
        let mut inner = locked(&self.0);
        inner.last_sent = Some(Instant::now());
        if !inner.sent.contains(name) {
            inner.sent.insert(name.to_owned());
        }
        inner.queued.remove(name)
    }

    fn is_queued(&self, name: &str) -> bool {
        locked(&self.0).queued.contains_key(name)
    }

    /// Records that a submit may have taken effect.
    fn add_uncertain(&self, name: &str) {
        locked(&self.0).uncertain.insert(name.to_owned());
    }

    fn is_uncertain(&self, name: &str) -> bool {
        locked(&self.0).uncertain.contains(name)
    }

    /// Returns the time since the cancel of a statement was accepted.
    pub(super) fn cancelled_for(&self, id: &StatementId) -> Option<Duration> {
        locked(&self.0).cancelled.get(id).map(Instant::elapsed)
    }

    /// Sets the accepted cancels that are known at the start of a run: those that the journal contains.
    pub(super) fn set_known_cancels(&self, known: &HashSet<StatementId>) {
        let mut inner = locked(&self.0);
        inner.cancelled.retain(|id, _| known.contains(id));
        for id in known {
            inner.cancelled.entry(id.clone()).or_insert_with(Instant::now);
        }
    }

    /// Returns `true` the first time that a cancelled statement is seen running, or with an end other than an
    /// abort.
    fn outlives_its_cancel(&self, id: &StatementId, has_ended: bool) -> bool {
        locked(&self.0).outlived.insert((id.clone(), has_ended))
    }
}

impl Process {
    pub(super) fn network(&self) -> &Network {
        self.world.network(self.line)
    }

    async fn send<T: Send + 'static>(
        &self,
        operation: Operation,
        request: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let death = self.fate.death();
        let (way, outlives) = match death {
            Some(Death::Before) => self.fate.die().await,
            Some(Death::Underway(way)) => (way, true),
            Some(Death::After) | None => self.fate.draw(|draw| (way(draw), draw.bool())),
        };
        if way > SLOW {
            self.network().lost.fetch_add(1, Ordering::Relaxed);
        }
        let (world, line, fate) = (self.world.clone(), self.line, self.fate.clone());
        let valid_from = self.valid_from;
        let sent = InFlight::new(async move {
            sleep(way).await;
            if fate.is_dead() && !outlives {
                return Err(Error::new(ErrorKind::Disconnected, "connection reset"));
            }
            let (network, elapsed) = (&world.networks[line], world.begun.elapsed());
            network.pass(elapsed, operation, network.identify(elapsed, valid_from, request)).await
        });
        if let Some(Death::Underway(_)) = death {
            drop(sent);
            return self.fate.die().await;
        }
        let answer = sent.await;
        if death.is_some() || self.fate.is_dead() {
            return self.fate.die().await;
        }
        answer
    }

    /// Records that the outcome of an entry was reported as unknown.
    pub(super) fn note_unknown(&self, record: Record, entry: &Entry) {
        let is_sent = locked(&self.submits.0).sent.contains(&entry.name);
        let is_queued = self.submits.is_queued(&entry.name);
        let is_cancelled = entry.id.as_ref().is_some_and(|id| self.submits.cancelled_for(id).is_some());
        let note = UnknownNote { at: self.now(), record, is_queued, is_sent, is_cancelled };
        self.network().notes().unknown.push(note);
    }

    pub(super) fn played(&self, condition: Condition) {
        self.world.played.note(condition);
    }

    /// Records that a submit, queued since `since`, leaves the queues.
    fn left_queue(&self, since: Instant) {
        if since.elapsed() >= TOKEN_RETENTION {
            self.played(Condition::LongQueue);
        }
    }

    /// Records what the response to a submit shows about the credentials and the submit.
    fn note_submit(&self, name: &str, answer: &Result<Submitted>) {
        let Err(error) = answer else { return };
        if error.kind() == ErrorKind::CredentialsExpired {
            self.played(match self.submits.is_uncertain(name) {
                true => Condition::ExpiredInRepeat,
                false => Condition::ExpiredInSubmit,
            });
        }
        if error.kind().may_have_taken_effect() {
            self.submits.add_uncertain(name);
        }
    }

    /// Records what a description shows about the credentials and a cancel.
    fn note_description(&self, id: &StatementId, answer: &Result<Description>) {
        let status = match answer {
            Err(error) if error.kind() == ErrorKind::CredentialsExpired => {
                return self.played(Condition::ExpiredInWait);
            }
            Err(_) => return,
            Ok(description) => &description.status,
        };
        let Some(since) = self.submits.cancelled_for(id) else { return };
        let condition = match status {
            Status::Aborted => return,
            status if status.is_terminal() => Condition::LateCancel,
            _ if since >= Duration::from_secs(60) => Condition::SlowCancel,
            _ => return,
        };
        if self.submits.outlives_its_cancel(id, status.is_terminal()) {
            self.played(condition);
        }
    }

    fn now(&self) -> Timestamp {
        redshift_orchestrator::Clock::now(&self.world.clock)
    }
}

/// Request that was sent. If its caller drops it, it continues in a separate task.
struct InFlight<F: Future<Output: Send> + Send + 'static>(Option<Pin<Box<F>>>);

impl<F: Future<Output: Send> + Send> InFlight<F> {
    fn new(request: F) -> Self {
        Self(Some(Box::pin(request)))
    }
}

impl<F: Future<Output: Send> + Send> Future for InFlight<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Some(request) = &mut self.0 else { return Poll::Pending };
        let answer = ready!(request.as_mut().poll(context));
        self.0 = None;
        Poll::Ready(answer)
    }
}

impl<F: Future<Output: Send> + Send + 'static> Drop for InFlight<F> {
    fn drop(&mut self) {
        if let (Some(request), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            runtime.spawn(request);
        }
    }
}

/// Latency above which a request may count as lost for its caller.
const SLOW: Duration = Duration::from_secs(10);

/// Draws the latency of a request: mostly below 100 ms, one in 32 up to 90 s.
fn way(draw: &mut fastrand::Rng) -> Duration {
    let slowest = if draw.u8(0..32) == 0 { 90_000 } else { 100 };
    Duration::from_millis(draw.u64(0..slowest))
}

/// Listing in flight. When it is dropped, it records a failure or a duration that is too long.
struct Listing<'a> {
    process: &'a Process,
    begun: Instant,
    is_good: bool,
}

/// Time for which every caller waits for a listing. A listing that takes longer counts as failed.
const PATIENT: Duration = Duration::from_secs(150);

impl Drop for Listing<'_> {
    fn drop(&mut self) {
        let took = self.begun.elapsed();
        if took > Duration::from_secs(60) {
            self.process.played(Condition::SlowListing);
        }
        if !self.is_good || took > PATIENT {
            self.process.network().notes().bad_listings.push(self.process.now());
        }
    }
}

#[async_trait]
impl StatementExecutor for Process {
    async fn submit(&self, statement: &Statement, wait: Option<WaitTime>) -> Result<Submitted> {
        let name = statement.name().unwrap_or_default().to_owned();
        match self.submits.sent(&name) {
            Some(since) => self.left_queue(since),
            None if self.submits.is_uncertain(&name) => self.played(Condition::RetryLayer),
            None => {}
        }
        let (world, line, statement) = (self.world.clone(), self.line, statement.clone());
        let request = async move { world.networks[line].faulty.submit(&statement, wait).await };
        let answer = self.send(Operation::Submit, request).await;
        self.note_submit(&name, &answer);
        answer
    }

    async fn describe(&self, about: &StatementId, wait: Option<WaitTime>) -> Result<Description> {
        let (world, line, id) = (self.world.clone(), self.line, about.clone());
        let request = async move { world.networks[line].faulty.describe(&id, wait).await };
        let answer = self.send(Operation::Describe, request).await;
        self.note_description(about, &answer);
        answer
    }

    async fn cancel(&self, about: &StatementId) -> Result<bool> {
        let (world, line, id) = (self.world.clone(), self.line, about.clone());
        let request = async move { world.networks[line].faulty.cancel(&id).await };
        self.network().notes().cancelled.insert(about.clone());
        let answer = self.send(Operation::Cancel, request).await;
        match &answer {
            Ok(true) => {
                locked(&self.submits.0).cancelled.entry(about.clone()).or_insert_with(Instant::now);
            }
            Err(error) if error.kind() == ErrorKind::CredentialsExpired => {
                self.played(Condition::ExpiredInCancel);
            }
            _ => {}
        }
        answer
    }

    async fn result(&self, id: &StatementId, page: Option<PageToken>) -> Result<ResultPage> {
        let (world, line, id) = (self.world.clone(), self.line, id.clone());
        let request = async move { world.networks[line].faulty.result(&id, page).await };
        self.send(Operation::Result, request).await
    }

    async fn list(&self, filter: &StatementFilter, page: Option<PageToken>) -> Result<StatementPage> {
        let (world, line, filter) = (self.world.clone(), self.line, filter.clone());
        let takes = self.fate.draw(|draw| draw.u64(world.listing.clone()));
        let mut listing = Listing { process: self, begun: Instant::now(), is_good: true };
        let request = async move {
            sleep(Duration::from_secs(takes)).await;
            world.networks[line].faulty.list(&filter, page).await
        };
        let answer = self.send(Operation::List, request).await;
        let is_expired = matches!(&answer, Err(error) if error.kind() == ErrorKind::CredentialsExpired);
        if is_expired {
            self.played(Condition::ExpiredInLookup);
        }
        // Expired credentials are renewed in time, so they do not end a lookup.
        listing.is_good = answer.is_ok() || is_expired;
        answer
    }

    fn target(&self) -> Option<Target> {
        self.network().faulty.target()
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Process")
    }
}

/// Outermost layer. It records which submits are in the queues of the layers below.
#[derive(Debug)]
pub(super) struct Watched<E> {
    pub(super) inner: E,
    pub(super) process: Arc<Process>,
}

/// Time for which the service remembers a client token.
const TOKEN_RETENTION: Duration = Duration::from_hours(8);
/// Interval at which a queued submit is checked.
const LOOK: Duration = Duration::from_secs(600);
/// Time after which a submit counts as stuck if it waits for a permit and no statement is active. A layer
/// looks up uncertain submits every 15 minutes.
const LONGEST_UNCERTAIN: Duration = Duration::from_secs(6 * 3_600);

impl<E> Watched<E> {
    /// Returns `true` if nothing explains why the submit is in a queue: the line has no active statement, the
    /// process has sent no submit recently, and no outage prevents the lookup of earlier submits.
    async fn waits_for_nothing(&self, name: &str) -> bool {
        let Process { world, line, submits, .. } = &*self.process;
        let is_idle = locked(&submits.0).last_sent.is_none_or(|at| at.elapsed() >= LOOK);
        submits.is_queued(name)
            && is_idle
            && !self.process.network().had_outage(world.begun.elapsed(), LOOK)
            && !world.has_active(*line).await
    }
}

/// Guard for a submit in the queues. It is dropped together with the submit.
struct Queued<'a> {
    process: &'a Process,
    name: &'a str,
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        let since = locked(&self.process.submits.0).queued.remove(self.name);
        if let Some(since) = since {
            self.process.left_queue(since);
        }
    }
}

#[async_trait]
impl<E: StatementExecutor> StatementExecutor for Watched<E> {
    async fn submit(&self, statement: &Statement, wait: Option<WaitTime>) -> Result<Submitted> {
        let name = statement.name().unwrap_or_default();
        let submits = &self.process.submits;
        locked(&submits.0).queued.insert(name.to_owned(), Instant::now());
        let _queued = Queued { process: &self.process, name };
        let mut request = pin!(self.inner.submit(statement, wait));
        let mut idle = Duration::ZERO;
        loop {
            if let Ok(answer) = timeout(LOOK, &mut request).await {
                return answer;
            }
            idle = if self.waits_for_nothing(name).await { idle + LOOK } else { Duration::ZERO };
            if idle >= LONGEST_UNCERTAIN && !self.process.fate.is_dead() {
                self.process.network().violated(format!(
                    "STUCK: the submit of `{name}` waited {idle:?} for a permit, and no statement was active"
                ));
            }
        }
    }

    async fn describe(&self, id: &StatementId, wait: Option<WaitTime>) -> Result<Description> {
        self.inner.describe(id, wait).await
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

    fn target(&self) -> Option<Target> {
        self.inner.target()
    }
}

/// Returns `true` if the record reports an outcome as unknown.
pub(super) fn is_unknown(record: &Record) -> bool {
    matches!(record.event, Event::Unknown { .. })
}
