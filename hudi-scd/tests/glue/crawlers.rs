//! Crawlers in memory.

use std::{
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use hudi_scd::glue::{
    CatalogError, CatalogErrorKind,
    aws_sdk_glue::types::{Crawler, CrawlerState, CrawlerTargets, S3Target},
    crawler::{Crawlers, HudiTable},
};
use tokio::time::Instant;

/// Crawlers as the service treats them: a running one cannot be updated, and an update replaces all targets.
/// Faults come from a seed.
#[derive(Default)]
pub(crate) struct Service(Mutex<State>);

#[derive(Default)]
pub(crate) struct State {
    pub(crate) targets: Option<CrawlerTargets>,
    pub(crate) runs_until: Option<Instant>,
    /// A run starts when the crawler was read, before it is updated.
    pub(crate) starts_after_read: Option<Duration>,
    pub(crate) calls: Vec<&'static str>,
    pub(crate) faults: Option<fastrand::Rng>,
}

impl Service {
    pub(crate) fn new(targets: CrawlerTargets) -> Self {
        Self(Mutex::new(State { targets: Some(targets), ..State::default() }))
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(crate) fn s3_targets(&self) -> Vec<S3Target> {
        self.state().targets.as_ref().unwrap().s3_targets().to_vec()
    }

    pub(crate) fn exclusions(&self) -> Vec<Vec<String>> {
        self.s3_targets().iter().map(|target| target.exclusions().to_vec()).collect()
    }
}

impl State {
    fn is_running(&self) -> bool {
        self.runs_until.is_some_and(|until| Instant::now() < until)
    }

    /// Draws a fault: throttled, in conflict, or performed with its reply lost.
    fn fault(&mut self, call: &'static str, run: impl FnOnce(&mut Self)) -> Result<(), CatalogError> {
        self.calls.push(call);
        let drawn = self.faults.as_mut().map_or(99, |random| random.u8(0..10));
        let fault = |kind, text| Err(CatalogError::new(kind, call, text));
        match drawn {
            0 => fault(CatalogErrorKind::Transient, "rate exceeded (ThrottlingException)"),
            1 if call == "UpdateCrawler" => fault(CatalogErrorKind::Conflict, "VersionMismatchException"),
            2 => {
                run(self);
                fault(CatalogErrorKind::Transient, "connection reset")
            }
            _ => {
                run(self);
                Ok(())
            }
        }
    }
}

#[async_trait]
impl Crawlers for Service {
    async fn crawler(&self, name: &str) -> Result<Option<Crawler>, CatalogError> {
        let mut state = self.state();
        state.fault("GetCrawler", |_| {})?;
        let Some(targets) = state.targets.clone() else { return Ok(None) };
        let ready = if state.is_running() { CrawlerState::Running } else { CrawlerState::Ready };
        if let Some(run) = state.starts_after_read.take() {
            state.runs_until = Some(Instant::now() + run);
        }
        Ok(Some(Crawler::builder().name(name).state(ready).targets(targets).build()))
    }

    async fn update_targets(&self, _: &str, targets: CrawlerTargets) -> Result<(), CatalogError> {
        let mut state = self.state();
        if state.is_running() {
            let text = "crawler is running (CrawlerRunningException)";
            return Err(CatalogError::new(CatalogErrorKind::Conflict, "UpdateCrawler", text));
        }
        state.fault("UpdateCrawler", |state| state.targets = Some(targets))
    }

    async fn hudi_tables(&self, database: &str) -> Result<Vec<HudiTable>, CatalogError> {
        Ok(vec![HudiTable::new("s3://bucket/lake/customer").with_entry(database, "customer")])
    }
}
