//! [`World`] and [`Process`]: the service, the network before it, and those who come by it.

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
use redshift_orchestrator::{
    Description, Error, ErrorKind, PageToken, Result, ResultPage, Statement, StatementExecutor,
    StatementFilter, StatementId, StatementPage, Submitted, TokioClock, WaitTime,
    local::{Effect, Faulty, LocalExecutor, Scripted},
};
use tokio::time::{Instant, sleep};

use super::{
    fate::{Death, Fate},
    schedule::Schedule,
};

/// Statements by id, with the names that they bear.
type Accepted = BTreeMap<StatementId, String>;

/// The service, and the network before it.
pub(super) struct World {
    pub(super) clock: TokioClock,
    service: LocalExecutor<Scripted>,
    network: Faulty<LocalExecutor<Scripted>>,
    accepted: Arc<Mutex<Accepted>>,
    begun: Instant,
    outages: Vec<Range<Duration>>,
    lost_in_outages: AtomicU64,
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
            lost_in_outages: AtomicU64::new(0),
            draw: Mutex::new(schedule.rng()),
        })
    }

    /// What the service accepted.
    pub(super) fn accepted(&self) -> Accepted {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What took effect.
    pub(super) fn effects(&self) -> Vec<Effect> {
        self.service.effects()
    }

    /// How many faults requests met.
    pub(super) fn faults(&self) -> u64 {
        self.network.injected().total() + self.lost_in_outages.load(Ordering::Relaxed)
    }

    /// A request that waited for longer than its process lived, or that the network held back.
    async fn arrive_late(self: Arc<Self>, statement: Statement, delay: Duration) {
        sleep(delay).await;
        if let Ok(submitted) = self.service.submit(&statement, None).await {
            note(&self.accepted, &statement, &submitted);
        }
    }

    /// Takes a request through an outage, if there is one.
    async fn pass<T>(&self, request: impl Future<Output = Result<T>>) -> Result<T> {
        let elapsed = self.begun.elapsed();
        if !self.outages.iter().any(|outage| outage.contains(&elapsed)) {
            return request.await;
        }
        self.lost_in_outages.fetch_add(1, Ordering::Relaxed);
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

/// A process that may die, as an executor: its requests go through the network to the service.
pub(super) struct Process {
    pub(super) world: Arc<World>,
    pub(super) fate: Arc<Fate>,
}

#[async_trait]
impl StatementExecutor for Process {
    async fn submit(&self, statement: &Statement, wait: Option<WaitTime>) -> Result<Submitted> {
        let request = self.world.pass(self.world.network.submit(statement, wait));
        match self.fate.death() {
            None => request.await,
            Some(Death::Before) => self.fate.die().await,
            Some(Death::After) => {
                drop(request.await);
                self.fate.die().await
            }
            Some(Death::Underway(delay)) => {
                tokio::spawn(self.world.clone().arrive_late(statement.clone(), delay));
                self.fate.die().await
            }
        }
    }

    async fn describe(&self, id: &StatementId, wait: Option<WaitTime>) -> Result<Description> {
        self.fate.meet(self.world.pass(self.world.network.describe(id, wait))).await
    }

    async fn cancel(&self, id: &StatementId) -> Result<bool> {
        self.fate.meet(self.world.pass(self.world.network.cancel(id))).await
    }

    async fn result(&self, id: &StatementId, page: Option<PageToken>) -> Result<ResultPage> {
        self.fate.meet(self.world.pass(self.world.network.result(id, page))).await
    }

    async fn list(&self, filter: &StatementFilter, page: Option<PageToken>) -> Result<StatementPage> {
        self.fate.meet(self.world.pass(self.world.network.list(filter, page))).await
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Process")
    }
}
