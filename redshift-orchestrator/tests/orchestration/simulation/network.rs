//! [`World`] and [`Process`]: the service, the network in front of it, and its clients.

use std::{
    collections::BTreeMap,
    fmt,
    ops::Range,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use redshift_data_local::{Effect, Faulty, LocalExecutor, Scripted};
use redshift_orchestrator::{
    Description, Error, ErrorKind, PageToken, Result, ResultPage, Statement, StatementExecutor,
    StatementFilter, StatementId, StatementPage, Submitted, TokioClock, WaitTime,
};
use tokio::time::{Instant, sleep};

use super::{
    fate::{Death, Fate},
    schedule::Schedule,
};

/// Statements by id, with their names.
type Accepted = BTreeMap<StatementId, String>;

/// The service and the network in front of it.
pub(super) struct World {
    pub(super) clock: TokioClock,
    service: LocalExecutor<Scripted>,
    network: Faulty<LocalExecutor<Scripted>>,
    accepted: Arc<Mutex<Accepted>>,
    begun: Instant,
    outages: Vec<Range<Duration>>,
    /// Number of requests that met an outage, or that took longer than any timeout.
    lost_on_the_way: AtomicU64,
    draw: Mutex<fastrand::Rng>,
}

impl World {
    pub(super) fn of(schedule: &Schedule) -> Arc<Self> {
        let epoch = Timestamp::from_second(1_795_392_000).unwrap_or_default();
        let service = LocalExecutor::scripted(schedule.script.clone().starting_at(epoch));
        let accepted = Arc::<Mutex<Accepted>>::default();
        let ledger = accepted.clone();
        let network = Faulty::new(service.clone(), schedule.faults.clone())
            .with_on_submitted(move |statement, submitted| note(&ledger, statement, submitted));
        Arc::new(Self {
            clock: TokioClock::starting_at(epoch),
            service,
            network,
            accepted,
            begun: Instant::now(),
            outages: schedule.outages.clone(),
            lost_on_the_way: AtomicU64::new(0),
            draw: Mutex::new(schedule.rng()),
        })
    }

    /// Returns the accepted statements.
    pub(super) fn accepted(&self) -> Accepted {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the effects.
    pub(super) fn effects(&self) -> Vec<Effect> {
        self.service.effects()
    }

    /// Returns the number of faults of requests.
    pub(super) fn faults(&self) -> u64 {
        self.network.injected().total() + self.lost_on_the_way.load(Ordering::Relaxed)
    }

    /// Passes a request through an outage, if there is one.
    async fn pass<T>(&self, request: impl Future<Output = Result<T>>) -> Result<T> {
        let elapsed = self.begun.elapsed();
        if !self.outages.iter().any(|outage| outage.contains(&elapsed)) {
            return request.await;
        }
        self.lost_on_the_way.fetch_add(1, Ordering::Relaxed);
        let lot = self.draw.lock().unwrap_or_else(PoisonError::into_inner).u8(0..3);
        match lot {
            0 => return Err(Error::new(ErrorKind::NotSent, "network is unreachable")),
            1 => {}
            _ => drop(request.await),
        }
        Err(Error::new(ErrorKind::Disconnected, "connection reset"))
    }
}

fn note(accepted: &Mutex<Accepted>, statement: &Statement, submitted: &Submitted) {
    let name = statement.name().unwrap_or_default().to_owned();
    accepted.lock().unwrap_or_else(PoisonError::into_inner).insert(submitted.id.clone(), name);
}

/// A process that may die, as an executor: its requests pass through the network to the service.
///
/// A request that was sent belongs to the network. It arrives and takes effect even if its future is dropped.
/// If the process dies before it arrives, the seed decides. A dead process neither sends requests nor
/// receives responses.
pub(super) struct Process {
    pub(super) world: Arc<World>,
    pub(super) fate: Arc<Fate>,
}

impl Process {
    async fn send<T: Send + 'static>(
        &self,
        request: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let death = self.fate.death();
        let (way, outlives) = match death {
            Some(Death::Before) => self.fate.die().await,
            Some(Death::Underway(way)) => (way, true),
            Some(Death::After) | None => self.fate.draw(|draw| (way(draw), draw.bool())),
        };
        if way > SLOW {
            self.world.lost_on_the_way.fetch_add(1, Ordering::Relaxed);
        }
        let (world, fate) = (self.world.clone(), self.fate.clone());
        let sent = tokio::spawn(async move {
            sleep(way).await;
            if fate.is_dead() && !outlives {
                return Err(Error::new(ErrorKind::Disconnected, "connection reset"));
            }
            world.pass(request).await
        });
        if let Some(Death::Underway(_)) = death {
            return self.fate.die().await;
        }
        let answer = sent.await;
        if death.is_some() || self.fate.is_dead() {
            return self.fate.die().await;
        }
        answer.unwrap_or_else(|error| Err(Error::new(ErrorKind::Other, error.to_string())))
    }
}

/// Half of the time for which the orchestrator waits for a response beyond the requested wait.
const SLOW: Duration = Duration::from_secs(10);

/// Returns the latency of a request: mostly milliseconds, sometimes longer than any timeout.
fn way(draw: &mut fastrand::Rng) -> Duration {
    let slowest = if draw.u8(0..32) == 0 { 90_000 } else { 100 };
    Duration::from_millis(draw.u64(0..slowest))
}

#[async_trait]
impl StatementExecutor for Process {
    async fn submit(&self, statement: &Statement, wait: Option<WaitTime>) -> Result<Submitted> {
        let (world, statement) = (self.world.clone(), statement.clone());
        self.send(async move { world.network.submit(&statement, wait).await }).await
    }

    async fn describe(&self, id: &StatementId, wait: Option<WaitTime>) -> Result<Description> {
        let (world, id) = (self.world.clone(), id.clone());
        self.send(async move { world.network.describe(&id, wait).await }).await
    }

    async fn cancel(&self, id: &StatementId) -> Result<bool> {
        let (world, id) = (self.world.clone(), id.clone());
        self.send(async move { world.network.cancel(&id).await }).await
    }

    async fn result(&self, id: &StatementId, page: Option<PageToken>) -> Result<ResultPage> {
        let (world, id) = (self.world.clone(), id.clone());
        self.send(async move { world.network.result(&id, page).await }).await
    }

    async fn list(&self, filter: &StatementFilter, page: Option<PageToken>) -> Result<StatementPage> {
        let (world, filter) = (self.world.clone(), filter.clone());
        self.send(async move { world.network.list(&filter, page).await }).await
    }

    fn target(&self) -> Option<redshift_orchestrator::Target> {
        None
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Process")
    }
}
