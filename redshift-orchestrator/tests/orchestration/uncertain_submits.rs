//! A submit that may have taken effect is never reported as rejected, in any order of the layers.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use redshift_orchestrator::{
    ClientToken, Description, Error, ErrorKind, Orchestrator, PageToken, Result, ResultPage, Statement,
    StatementExecutor, StatementFilter, StatementId, StatementPage, StatementSummary, Status, StepKey,
    Submitted, TokioClock, WaitTime,
    journal::MemoryJournal,
    layer::{Fleet, Limit, Rate, RequestRates, Retry, Traced},
};
use tokio::time::{Instant, sleep};

const HOUR: Duration = Duration::from_secs(3_600);

/// Service that loses the response to the first submit, and rejects all other submits for nine hours. It
/// remembers client tokens for 8 hours.
#[derive(Debug)]
struct Crowded {
    begun: Instant,
    rejection: ErrorKind,
    rejects_for: Duration,
    is_listed: bool,
    submits: Mutex<Submits>,
}

#[derive(Debug, Default)]
struct Submits {
    tokens: HashMap<ClientToken, (StatementId, Instant)>,
    effects: Vec<StatementSummary>,
}

impl Crowded {
    fn new(rejection: ErrorKind, is_listed: bool) -> Arc<Self> {
        let (begun, rejects_for) = (Instant::now(), 9 * HOUR);
        Arc::new(Self { begun, rejection, rejects_for, is_listed, submits: Mutex::default() })
    }

    fn effects(&self) -> usize {
        self.submits.lock().unwrap().effects.len()
    }
}

#[async_trait]
impl StatementExecutor for Crowded {
    async fn submit(&self, statement: &Statement, _: Option<WaitTime>) -> Result<Submitted> {
        sleep(Duration::from_millis(50)).await;
        let mut submits = self.submits.lock().unwrap();
        let is_first = submits.effects.is_empty();
        if !is_first && self.begun.elapsed() < self.rejects_for {
            return Err(Error::new(self.rejection, "rejected"));
        }
        let token = statement.client_token().unwrap();
        if let Some((id, at)) = submits.tokens.get(token)
            && at.elapsed() < 8 * HOUR
        {
            return Ok(Submitted::new(id.clone()));
        }
        let id = StatementId::new(format!("id-{}", submits.effects.len()));
        submits.tokens.insert(token.clone(), (id.clone(), Instant::now()));
        let mut summary = StatementSummary::new(id.clone(), Status::Finished);
        summary.name = statement.name().map(str::to_owned);
        submits.effects.push(summary);
        match is_first {
            true => Err(Error::new(ErrorKind::Disconnected, "the response was lost")),
            false => Ok(Submitted::new(id)),
        }
    }

    async fn describe(&self, id: &StatementId, _: Option<WaitTime>) -> Result<Description> {
        Ok(Description::new(id.clone(), Status::Finished))
    }

    async fn cancel(&self, _: &StatementId) -> Result<bool> {
        Ok(false)
    }

    async fn result(&self, _: &StatementId, _: Option<PageToken>) -> Result<ResultPage> {
        Err(Error::new(ErrorKind::Unsupported, "no results here"))
    }

    async fn list(&self, _: &StatementFilter, _: Option<PageToken>) -> Result<StatementPage> {
        let statements = self.submits.lock().unwrap().effects.clone();
        Ok(StatementPage::new(if self.is_listed { statements } else { Vec::new() }, None))
    }

    fn target(&self) -> Option<redshift_orchestrator::Target> {
        None
    }
}

/// Returns executors with different layers, in different orders, in front of the service.
fn stacks(service: &Arc<Crowded>) -> Vec<(&'static str, Arc<dyn StatementExecutor>)> {
    let service = || service.clone();
    let rates = RequestRates::default;
    let patient = |executor| Retry::new(executor).with_retry_timeout(10 * HOUR);
    vec![
        ("none", service()),
        ("retry", Arc::new(Retry::new(service()))),
        ("long retry", Arc::new(patient(service()))),
        ("retry, limit", Arc::new(Retry::new(Limit::new(service(), 2)))),
        ("limit, retry", Arc::new(Limit::new(Retry::new(service()), 2))),
        ("limit, long retry", Arc::new(Limit::new(patient(service()), 2))),
        ("retry, rate", Arc::new(Retry::new(Rate::new(service(), rates())))),
        ("fleet, retry", Arc::new(Fleet::new(Retry::new(service())))),
        ("retry, fleet", Arc::new(Retry::new(Fleet::new(service())))),
        (
            "trace, retry, limit, rate, trace",
            Arc::new(Traced::new(Retry::new(Limit::new(Rate::new(Traced::new(service()), rates()), 200)))),
        ),
    ]
}

const ORDERS: usize = 10;

/// Regression: after a lost response and a rejection, `Retry` returned the rejection. The statement was
/// recorded as not submitted, and was submitted again.
#[tokio::test(start_paused = true)]
async fn a_later_rejection_does_not_hide_a_lost_response() {
    for (order, rejection) in (0..ORDERS).flat_map(|order| {
        [ErrorKind::Throttled, ErrorKind::TooManyStatements, ErrorKind::NotSent, ErrorKind::Denied]
            .map(|kind| (order, kind))
    }) {
        for is_listed in [true, false] {
            let service = Crowded::new(rejection, is_listed);
            let (name, executor) = stacks(&service).swap_remove(order);
            let case = format!("{name}, {rejection}, listed: {is_listed}");
            let (journal, clock) =
                (MemoryJournal::new(), TokioClock::starting_at(jiff("2026-11-23T06:30:00Z")));
            let orchestrator =
                || Orchestrator::new(executor.clone()).with_journal(journal.clone()).with_clock(clock);
            let (key, statement) = (StepKey::new("r", "s"), Statement::sql("INSERT INTO t SELECT 1"));
            let outcome = orchestrator().run(&key, statement.clone()).await;
            let outcome = outcome.unwrap_or_else(|error| panic!("{case}: {error}"));
            assert_eq!(outcome.is_success(), is_listed, "{case}: {}", outcome.kind);
            // The next process starts when the service has forgotten the token and accepts submits again.
            sleep(10 * HOUR).await;
            let outcome = orchestrator().run(&key, statement).await.unwrap();
            assert_eq!(outcome.is_success(), is_listed, "{case}: {}", outcome.kind);
            assert_eq!(service.effects(), 1, "{case}");
        }
    }
}

fn jiff(text: &str) -> redshift_orchestrator::jiff::Timestamp {
    text.parse().unwrap()
}
