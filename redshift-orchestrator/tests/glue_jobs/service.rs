//! Simulation of Glue jobs in memory: runs take time, their number is limited, and listings have several
//! pages and a delay. Faults are drawn from a seed.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use redshift_orchestrator::{
    Error, ErrorKind, Result,
    glue::{
        JobDefinition, JobRun, JobRunPage, JobRunState, JobService,
        aws_sdk_glue::types::{Job, JobUpdate},
    },
};
use tokio::time::Instant;

#[derive(Debug)]
pub(crate) struct Service {
    state: Mutex<State>,
    target: Option<&'static str>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) job: Option<Job>,
    pub(crate) created: usize,
    pub(crate) updates: Vec<JobUpdate>,
    runs: Vec<Run>,
    /// Maximum number of concurrent runs.
    pub(crate) limit: usize,
    /// Duration and final state of the next run.
    pub(crate) next: (Duration, JobRunState),
    /// Time between the start of a run and its appearance in listings.
    pub(crate) listed_after: Duration,
    /// Fault of the next request.
    pub(crate) fault: Option<Fault>,
    /// `true` if each page of a listing has the token of the first page.
    pub(crate) is_cyclic: bool,
    /// `true` while all requests fail because of expired credentials.
    pub(crate) is_expired: bool,
    pub(crate) calls: Vec<&'static str>,
    faults: Option<fastrand::Rng>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    Throttle,
    LostRequest,
    LostReply,
}

#[derive(Debug)]
struct Run {
    arguments: BTreeMap<String, String>,
    started: Instant,
    takes: Duration,
    end: JobRunState,
    stopped: Option<Instant>,
}

impl Run {
    fn state(&self) -> JobRunState {
        let now = Instant::now();
        match self.stopped {
            Some(stopped) if now >= stopped + Duration::from_secs(20) => JobRunState::Stopped,
            Some(_) => JobRunState::Stopping,
            None if now >= self.started + self.takes => self.end.clone(),
            None => JobRunState::Running,
        }
    }

    fn described(&self, number: usize) -> JobRun {
        let mut run = JobRun::new(format!("jr_{number}"), self.state());
        run.arguments = self.arguments.clone();
        if run.state.is_terminal() {
            run.execution_time = Some(self.takes);
        }
        if run.state == JobRunState::Failed {
            run.error = Some("ValueError: no such column".into());
        }
        run
    }
}

impl Default for Service {
    fn default() -> Self {
        let state = State {
            job: None,
            created: 0,
            updates: Vec::new(),
            runs: Vec::new(),
            limit: 10,
            next: (Duration::from_secs(90), JobRunState::Succeeded),
            listed_after: Duration::ZERO,
            fault: None,
            is_cyclic: false,
            is_expired: false,
            calls: Vec::new(),
            faults: None,
        };
        Self { state: Mutex::new(state), target: None }
    }
}

impl Service {
    pub(crate) fn with_faults(seed: u64) -> Self {
        let service = Self::default();
        service.state().faults = Some(fastrand::Rng::with_seed(seed));
        service
    }

    pub(crate) fn at(target: &'static str) -> Self {
        Self { target: Some(target), ..Self::default() }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Returns the value of an argument of a run.
    pub(crate) fn argument(&self, run: usize, name: &str) -> String {
        self.state().runs[run].arguments[name].clone()
    }

    /// Returns the total number of runs started.
    pub(crate) fn started(&self) -> usize {
        self.state().runs.len()
    }

    /// Returns the arguments of a run.
    pub(crate) fn arguments(&self, run: usize) -> BTreeMap<String, String> {
        self.state().runs[run].arguments.clone()
    }

    /// Returns the time between the start of a run and the request to stop it.
    pub(crate) fn stopped_after(&self, run: usize) -> Option<Duration> {
        let run = &self.state().runs[run];
        Some(run.stopped? - run.started)
    }

    pub(crate) fn calls(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.state().calls)
    }
}

fn lost() -> Error {
    Error::new(ErrorKind::Disconnected, "connection reset")
}

impl State {
    /// Records a request, and draws its fault.
    fn begin(&mut self, call: &'static str) -> Option<Fault> {
        self.calls.push(call);
        let drawn = self.faults.as_mut().map_or(99, |random| random.u8(0..20));
        let drawn = match drawn {
            0 | 1 => Some(Fault::Throttle),
            2 => Some(Fault::LostRequest),
            3 => Some(Fault::LostReply),
            _ => None,
        };
        self.fault.take().or(drawn)
    }

    fn check_credentials(&self) -> Result<()> {
        match self.is_expired {
            true => Err(Error::new(ErrorKind::CredentialsExpired, "the security token has expired")),
            false => Ok(()),
        }
    }

    fn read(&mut self, call: &'static str) -> Result<()> {
        self.check_credentials()?;
        match self.begin(call) {
            None => Ok(()),
            Some(Fault::Throttle) => Err(Error::new(ErrorKind::Throttled, "rate exceeded")),
            Some(_) => Err(lost()),
        }
    }
}

#[async_trait]
impl JobService for Service {
    async fn job(&self, _: &str) -> Result<Option<Job>> {
        Ok(self.state().job.clone())
    }

    async fn create(&self, _: &JobDefinition) -> Result<()> {
        self.state().created += 1;
        Ok(())
    }

    async fn update(&self, _: &str, update: JobUpdate) -> Result<()> {
        self.state().updates.push(update);
        Ok(())
    }

    async fn start(&self, _: &str, arguments: &BTreeMap<String, String>) -> Result<String> {
        let mut state = self.state();
        state.check_credentials()?;
        let fault = state.begin("start");
        match fault {
            Some(Fault::Throttle) => return Err(Error::new(ErrorKind::Throttled, "rate exceeded")),
            Some(Fault::LostRequest) => return Err(lost()),
            Some(Fault::LostReply) | None => {}
        }
        if state.runs.iter().filter(|run| !run.state().is_terminal()).count() >= state.limit {
            return Err(Error::new(ErrorKind::TooManyStatements, "Concurrent runs exceeded"));
        }
        let (takes, end) = state.next.clone();
        let arguments = arguments.clone();
        state.runs.push(Run { arguments, started: Instant::now(), takes, end, stopped: None });
        match fault {
            Some(_) => Err(lost()),
            None => Ok(format!("jr_{}", state.runs.len() - 1)),
        }
    }

    async fn run(&self, _: &str, id: &str) -> Result<JobRun> {
        let mut state = self.state();
        state.read("run")?;
        let number = id.strip_prefix("jr_").and_then(|number| number.parse::<usize>().ok());
        let found = number.and_then(|number| state.runs.get(number).map(|run| run.described(number)));
        found.ok_or_else(|| Error::new(ErrorKind::NotFound, "there is no such run"))
    }

    async fn runs(&self, _: &str, page: Option<&str>) -> Result<JobRunPage> {
        const PAGE: usize = 2;
        let mut state = self.state();
        state.read("runs")?;
        let skipped: usize = page.map_or(0, |page| page.parse().unwrap());
        let is_listed = |run: &Run| run.started.elapsed() >= state.listed_after;
        let mut listed: Vec<_> = state.runs.iter().enumerate().filter(|(_, run)| is_listed(run)).collect();
        listed.reverse();
        let next = (listed.len() > skipped + PAGE).then(|| (skipped + PAGE).to_string());
        let next = if state.is_cyclic { Some("0".to_owned()) } else { next };
        let runs = listed.into_iter().skip(skipped).take(PAGE);
        Ok(JobRunPage::new(runs.map(|(number, run)| run.described(number)).collect(), next))
    }

    async fn stop(&self, _: &str, id: &str) -> Result<bool> {
        let mut state = self.state();
        state.read("stop")?;
        let number: usize = id.strip_prefix("jr_").unwrap().parse().unwrap();
        let run = &mut state.runs[number];
        if run.state().is_terminal() {
            return Ok(false);
        }
        run.stopped.get_or_insert_with(Instant::now);
        Ok(true)
    }

    fn target(&self) -> Option<String> {
        self.target.map(str::to_owned)
    }
}
