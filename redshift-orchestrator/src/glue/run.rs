//! [`GlueJob`]: starts a run at most once, waits for it, and records its ending.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};

use super::{
    Ensured, JobDefinition, JobRun, JobService,
    executor::Runs,
    outcome::{JobOutcome, JobOutcomeKind, JobStart},
    service::log,
};
use crate::{
    Backoff, ClientToken, Clock, Description, Error, ErrorKind, FailureKind, Result, Statement, StatementId,
    Status, StepKey, SystemClock,
    identity::key_conflict,
    journal::{ActiveRun, Claim, Entry, EntryState, Event, Journal, Record, RecordedOutcome, SettledOutcome},
    orchestrator::turns::{self, Turns},
    wait::{CancelOutcome, Exponential, PollStrategy, RequestCounts, Wait, WaitOutcome},
};

/// Name of the argument that contains the attempt's token. A lost run is found in listings by this argument.
pub const RUN_TOKEN: &str = "--run-token";

/// Time for which runs are listed after the response to a start was lost. Glue does not document how long a
/// new run can be missing from the list.
const LOOK_UP: Duration = Duration::from_secs(120);
const LOOK_UP_PAUSE: Duration = Duration::from_secs(5);
/// Interval at which a call tries to claim its key while another call holds the claim.
const TURN_PAUSE: Duration = Duration::from_secs(5);
/// Timeout of a single request. When it expires, the request counts as lost.
const REQUEST_LIMIT: Duration = Duration::from_secs(60);

/// Runner for a Glue job. Starts at most one run for each [`StepKey`].
#[derive(Clone, Debug)]
pub struct GlueJob {
    service: Arc<dyn JobService>,
    journal: Arc<dyn Journal>,
    job: String,
    strategy: Arc<dyn PollStrategy>,
    backoff: Backoff,
    clock: Arc<dyn Clock>,
    timeout: Option<Duration>,
    cancel_grace: Option<Duration>,
    admission: Duration,
    region: Option<String>,
    /// Shared by all clones, so that concurrent calls with one key start one run.
    turns: Turns,
}

/// Exclusive right of one call to start a run for a key.
struct Turn {
    claim: ActiveRun,
    _own: Box<turns::Turn>,
}

impl Turn {
    /// Ends the claim in the journal, and then the turn within this process. In this order, the next call of
    /// this process does not find the key still claimed.
    async fn end(self) {
        self.claim.release().await;
    }
}

/// Progress of an earlier call's request to stop the run, according to the journal.
#[derive(Clone, Copy, Default)]
struct Stopping {
    overdue: bool,
    cancel_pending: bool,
}

/// Result of starting or finding the run of an attempt.
enum Begun {
    /// A run to wait for. `known` is the approximate time since its start, or `None` if the run was started
    /// just now.
    Run { id: StatementId, known: Option<Duration>, stopping: Stopping },
    /// The journal contains the outcome, or the outcome is unknown.
    Over(JobOutcome),
}

impl GlueJob {
    /// Creates a runner for the job with this name. The intents, ids and endings of its runs are recorded in
    /// `journal`.
    pub fn new(
        service: Arc<dyn JobService>,
        journal: impl Journal + 'static,
        job: impl Into<String>,
    ) -> Self {
        let strategy = Exponential::new(Duration::from_secs(5)).with_max(Duration::from_secs(30));
        Self {
            service,
            journal: Arc::new(journal),
            job: job.into(),
            strategy: Arc::new(strategy),
            backoff: Backoff::new(Duration::from_secs(1)),
            clock: Arc::new(SystemClock),
            timeout: None,
            cancel_grace: None,
            admission: Duration::from_secs(3600),
            region: None,
            turns: Turns::default(),
        }
    }

    /// Sets the poll strategy. Default: first after 5 seconds, then after growing pauses of up to 30 seconds,
    /// because Glue has no long polling.
    #[must_use]
    pub fn with_strategy(mut self, strategy: impl PollStrategy + 'static) -> Self {
        self.strategy = Arc::new(strategy);
        self
    }

    /// Sets the pauses between repeated requests after an error. Default: the first pause is one second.
    #[must_use]
    pub fn with_backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets the source of wall-clock time. Default: the machine's clock.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Sets the time after which a run is stopped. Default: none. Glue then ends the run when the job's own
    /// timeout expires.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sets the time to wait for the end of a run that is being stopped. Default: the time for which the run
    /// has been running, but at least 15 minutes ([`Wait::with_cancel_grace`]). If the run has not ended by
    /// then, the outcome is [`TimedOut`](JobOutcomeKind::TimedOut) with `cancel_pending`.
    #[must_use]
    pub fn with_cancel_grace(mut self, grace: Duration) -> Self {
        self.cancel_grace = Some(grace);
        self
    }

    /// Sets the time for which a start is repeated while Glue throttles it or the limit of concurrent runs is
    /// reached. Default: one hour.
    #[must_use]
    pub fn with_admission_wait(mut self, wait: Duration) -> Self {
        self.admission = wait;
        self
    }

    /// Sets the region for links to the log. Default: none. The outcome then contains the names of the log
    /// groups and the stream instead of a link.
    #[must_use]
    pub fn with_region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// Creates the job, or updates it if it differs from the definition. Properties that the definition does
    /// not set are kept.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Invalid`] if the definition has a different job name or if Glue rejects it;
    /// otherwise the errors of the service.
    pub async fn ensure(&self, definition: &JobDefinition) -> Result<Ensured> {
        if definition.name() != self.job {
            return Err(Error::new(ErrorKind::Invalid, "the definition has the name of another job")
                .with_context("job", &self.job)
                .with_context("defined", definition.name()));
        }
        let Some(job) = self.service.job(&self.job).await? else {
            self.service.create(definition).await?;
            return Ok(Ensured::Created);
        };
        let differences = definition.differences(&job);
        if differences.is_empty() {
            return Ok(Ensured::Unchanged);
        }
        self.service.update(&self.job, definition.update(Some(&job))).await?;
        Ok(Ensured::Updated(differences))
    }

    /// Starts the run of an attempt and waits for its end. If an earlier call already started the run, only
    /// waits.
    ///
    /// The names of arguments must begin with `--`. Their values must not be secrets, because Glue logs them.
    /// Each run also receives the argument [`RUN_TOKEN`], a digest of the job's name, the key and the
    /// arguments.
    ///
    /// If the response to the start is lost, the runs of the job are listed for two minutes. If the run is
    /// not found, its outcome is [unknown](JobOutcomeKind::Unknown), and it is not started again. If the
    /// future is dropped, the run continues and the next call finds it. Concurrent calls with the same key
    /// start one run if their values share a journal, because each call claims the key in the journal before
    /// it starts a run.
    ///
    /// # Errors
    /// After an error, no run was started, with two exceptions. After [`ErrorKind::Journal`], a run may
    /// exist, and the next call finds it. After [`ErrorKind::StepKeyConflict`], the journal contains this
    /// attempt for another job or for a statement, and that job or statement may be running.
    ///
    /// Returns [`ErrorKind::Invalid`] if the name of an argument does not begin with `--` or is
    /// [`RUN_TOKEN`]; [`ErrorKind::TooManyStatements`] or [`ErrorKind::Throttled`] if Glue rejected the start
    /// for the whole [admission wait](Self::with_admission_wait); [`ErrorKind::Denied`],
    /// [`ErrorKind::NotFound`] and others if Glue rejected the start permanently.
    pub async fn run(&self, key: &StepKey, arguments: &[(&str, &str)]) -> Result<JobOutcome> {
        match self.begun(key, arguments).await? {
            Begun::Run { id, known, stopping } => self.wait(key, id, known, stopping).await,
            Begun::Over(outcome) => Ok(outcome),
        }
    }

    /// Starts the run of an attempt without waiting for its end. If an earlier call already started the run,
    /// returns its id.
    ///
    /// Intended for callers that poll the run themselves, such as a state machine. The end of the run is not
    /// recorded, so a later call returns the same id.
    ///
    /// # Errors
    /// Returns the errors of [`run`](Self::run).
    pub async fn start(&self, key: &StepKey, arguments: &[(&str, &str)]) -> Result<JobStart> {
        Ok(match self.begun(key, arguments).await? {
            Begun::Run { id, .. } => JobStart::Started(id.as_str().to_owned()),
            Begun::Over(outcome) => JobStart::Over(outcome),
        })
    }

    /// Starts or finds the run of an attempt.
    async fn begun(&self, key: &StepKey, arguments: &[(&str, &str)]) -> Result<Begun> {
        let token = self.token(key, arguments)?;
        let turn = self.turn(key).await?;
        let begun = self.begun_in_turn(key, token, arguments).await;
        turn.end().await;
        begun
    }

    async fn begun_in_turn(
        &self,
        key: &StepKey,
        token: ClientToken,
        arguments: &[(&str, &str)],
    ) -> Result<Begun> {
        let Some(entry) = self.journal.entry(key).await? else {
            return self.begin(key, token, arguments).await;
        };
        if !entry.did_not_run() {
            self.check_record(key, &entry)?;
        }
        let over = |kind| Ok(Begun::Over(self.outcome(entry.id.as_ref(), kind, None)));
        match entry.state.clone() {
            EntryState::NotSubmitted(_) | EntryState::Settled(SettledOutcome::NeverRan) => {
                self.begin(key, token, arguments).await
            }
            EntryState::Ended(recorded) => Ok(Begun::Over(self.recorded(&entry, &recorded))),
            EntryState::Settled(SettledOutcome::Finished) => over(JobOutcomeKind::Succeeded),
            EntryState::Settled(SettledOutcome::Failed) => {
                over(JobOutcomeKind::Failed { error: "an operator recorded the failure".into() })
            }
            EntryState::Open | EntryState::Unknown(_) => {
                let known = entry.age(self.clock.now());
                match entry.id.clone() {
                    Some(id) => {
                        let Entry { overdue, cancel_pending, .. } = entry;
                        Ok(Begun::Run {
                            id,
                            known: Some(known),
                            stopping: Stopping { overdue, cancel_pending },
                        })
                    }
                    None => {
                        let limit = LOOK_UP.saturating_sub(known);
                        self.look_up(key, &entry.token, limit, None).await
                    }
                }
            }
        }
    }

    /// Waits until no other call holds the turn for the key, and acquires it. Excludes the calls of all
    /// values that share the journal.
    async fn turn(&self, key: &StepKey) -> Result<Turn> {
        let own = self.turns.take(key).await;
        let claim = Claim::new("glue", claimed_name(key)?, self.clock.now());
        loop {
            match self.journal.claim(&claim).await {
                Err(error) if error.kind() == ErrorKind::Overlap => sleep(TURN_PAUSE).await,
                claimed => return Ok(Turn { claim: claimed?, _own: own }),
            }
        }
    }

    /// Rejects an entry that belongs to another job or to a statement.
    fn check_record(&self, key: &StepKey, entry: &Entry) -> Result<()> {
        let ours = self.target();
        // Earlier versions did not record the target.
        let is_ours = match &entry.target {
            Some(target) => *target == ours,
            None => entry.name == self.name(key),
        };
        match is_ours {
            true => Ok(()),
            false => Err(key_conflict(key, entry.target.as_deref().unwrap_or(&entry.name), &ours)),
        }
    }

    /// Returns the target that the journal records for a run.
    fn target(&self) -> String {
        format!("glue/{}", self.job)
    }

    /// Returns the name that the journal records for a run.
    fn name(&self, key: &StepKey) -> String {
        format!("{} {key}", self.job)
    }

    fn token(&self, key: &StepKey, arguments: &[(&str, &str)]) -> Result<ClientToken> {
        let mut statement = Statement::sql(format!("glue job {}", self.job));
        for (name, value) in arguments {
            if !name.starts_with("--") || *name == RUN_TOKEN {
                return Err(Error::new(
                    ErrorKind::Invalid,
                    "the name of an argument must begin with -- and differ from --run-token",
                )
                .with_context("argument", name));
            }
            statement = statement.with_parameter(*name, *value);
        }
        key.client_token(None, &statement)
    }

    /// Records the intent and starts the run. Returns when the journal contains the id, or records that no
    /// run was started, or that the outcome is unknown.
    async fn begin(&self, key: &StepKey, token: ClientToken, arguments: &[(&str, &str)]) -> Result<Begun> {
        let (name, target) = (self.name(key), Some(self.target()));
        self.record(key, Event::Intent { token: token.clone(), name, target }).await?;
        let mut all: BTreeMap<String, String> =
            arguments.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        all.insert(RUN_TOKEN.to_owned(), token.as_str().to_owned());
        let began = Instant::now();
        let mut pauses = self.backoff.pauses(0);
        loop {
            let lost = |_| Err(Error::new(ErrorKind::Disconnected, "no response in time"));
            let started =
                timeout(REQUEST_LIMIT, self.service.start(&self.job, &all)).await.unwrap_or_else(lost);
            let error = match started {
                Ok(id) => return self.started(key, StatementId::new(id), None).await,
                Err(error) if error.kind().may_have_taken_effect() => {
                    return self.look_up(key, &token, LOOK_UP, Some(error)).await;
                }
                Err(error) => error,
            };
            let pause = pauses.after(&error);
            if !may_start_later(error.kind()) || began.elapsed() + pause > self.admission {
                self.record(key, Event::NotSubmitted { error: error.to_string() }).await?;
                return Err(error.with_context("job", &self.job).with_context("step", key));
            }
            tracing::debug!(job = %self.job, %error, "the start of a run is repeated");
            sleep(pause).await;
        }
    }

    /// Records the id.
    async fn started(&self, key: &StepKey, id: StatementId, known: Option<Duration>) -> Result<Begun> {
        let written = self.record(key, Event::Submitted { id: id.clone() }).await;
        written.map_err(|error| error.with_context("job_run", id.as_str()))?;
        Ok(Begun::Run { id, known, stopping: Stopping::default() })
    }

    /// Lists the runs, at least once, until one has the token or `limit` expires.
    async fn look_up(
        &self,
        key: &StepKey,
        token: &ClientToken,
        limit: Duration,
        cause: Option<Error>,
    ) -> Result<Begun> {
        let began = Instant::now();
        loop {
            let found = self.find(token).await;
            let reason = match found {
                Ok(Some(run)) => {
                    return self.started(key, StatementId::new(run.id), Some(began.elapsed())).await;
                }
                Ok(None) => "no run of the job has the token of this attempt".to_owned(),
                Err(error) => format!("the runs of the job cannot be listed: {error}"),
            };
            if began.elapsed() + LOOK_UP_PAUSE > limit {
                let cause = cause.map(|error| format!("{error}; ")).unwrap_or_default();
                let reason = format!("{cause}{reason}");
                return self.unknown(key, None, reason, Some(token)).await.map(Begun::Over);
            }
            sleep(LOOK_UP_PAUSE).await;
        }
    }

    /// Returns the run with this token if the list contains it.
    async fn find(&self, token: &ClientToken) -> Result<Option<JobRun>> {
        let mut page = None;
        loop {
            let listed = self.service.runs(&self.job, page.as_deref()).await?;
            let is_ours =
                |run: &JobRun| run.arguments.get(RUN_TOKEN).is_some_and(|text| text == token.as_str());
            if let Some(run) = listed.runs.into_iter().find(is_ours) {
                return Ok(Some(run));
            }
            match listed.next {
                Some(next) => page = Some(next),
                None => return Ok(None),
            }
        }
    }

    /// Waits for a run. `known` is the approximate time since its start, or `None` if the run was started
    /// just now.
    async fn wait(
        &self,
        key: &StepKey,
        id: StatementId,
        known: Option<Duration>,
        stopping: Stopping,
    ) -> Result<JobOutcome> {
        let runs = Runs { service: self.service.clone(), job: self.job.clone(), last: Mutex::default() };
        let overdue_from_now = || -> futures::future::BoxFuture<'_, ()> {
            Box::pin(async {
                // The run is stopped even if the record cannot be written. A later process would then report
                // that another client stopped the run.
                if !stopping.overdue {
                    let _ = self.record(key, Event::Overdue).await;
                }
            })
        };
        let mut wait = Wait::new(&runs, &id, self.strategy.as_ref())
            .with_backoff(self.backoff)
            .with_before_cancel(&overdue_from_now)
            .with_cancel_accepted(stopping.cancel_pending);
        if let Some(timeout) = self.timeout {
            wait = wait.with_timeout(timeout);
        }
        if let Some(grace) = self.cancel_grace {
            wait = wait.with_cancel_grace(grace);
        }
        if let Some(known) = known {
            wait = wait.with_time_since_submit(known);
        }
        let ended = wait.until_ended(&mut RequestCounts::default()).await;
        let last = runs.last.lock().unwrap_or_else(PoisonError::into_inner).take();
        match ended {
            WaitOutcome::Ended(description)
            | WaitOutcome::TimedOut { cancellation: CancelOutcome::EndedBefore(description), .. } => {
                self.conclude(key, &id, &description, last, stopping.overdue).await
            }
            WaitOutcome::TimedOut { cancellation: CancelOutcome::Cancelled(description), .. } => {
                self.conclude(key, &id, &description, last, true).await
            }
            WaitOutcome::TimedOut { cancellation: CancelOutcome::Pending(_), .. } => {
                self.record_cancel_pending(key, stopping).await;
                Ok(self.outcome(Some(&id), JobOutcomeKind::TimedOut { cancel_pending: true }, last))
            }
            WaitOutcome::TimedOut { cancellation: CancelOutcome::NotCancelled(error), .. } => {
                let reason = format!("the timeout expired, and the run cannot be stopped: {error}");
                self.unknown(key, Some(&id), reason, None).await
            }
            WaitOutcome::Lost(error) => {
                let reason = format!("the state of the run cannot be read: {error}");
                self.unknown(key, Some(&id), reason, None).await
            }
        }
    }

    /// Records that Glue is stopping the run, so that the next call knows that the stop was accepted.
    async fn record_cancel_pending(&self, key: &StepKey, stopping: Stopping) {
        if !stopping.cancel_pending
            && let Err(error) = self.record(key, Event::CancelPending).await
        {
            tracing::warn!(%error, step = %key, "the accepted stop could not be recorded");
        }
    }

    /// Records the ending of a run.
    async fn conclude(
        &self,
        key: &StepKey,
        id: &StatementId,
        description: &Description,
        last: Option<JobRun>,
        overdue: bool,
    ) -> Result<JobOutcome> {
        let timed_out = overdue && description.status == Status::Aborted;
        let recorded = RecordedOutcome {
            status: description.status.clone(),
            error: description.error.clone(),
            failure: failure(&description.status, timed_out),
            timed_out,
            execution_time: description.execution_time,
            rows: None,
            has_result_set: false,
        };
        self.record(key, Event::Ended(recorded.clone())).await?;
        Ok(self.outcome(Some(id), outcome_kind(&recorded), last))
    }

    fn recorded(&self, entry: &Entry, recorded: &RecordedOutcome) -> JobOutcome {
        let mut outcome = self.outcome(entry.id.as_ref(), outcome_kind(recorded), None);
        outcome.execution_time = recorded.execution_time;
        outcome
    }

    async fn unknown(
        &self,
        key: &StepKey,
        id: Option<&StatementId>,
        reason: String,
        token: Option<&ClientToken>,
    ) -> Result<JobOutcome> {
        self.record(key, Event::Unknown { reason: reason.clone() }).await?;
        let manual_check = match (id, token) {
            (Some(id), _) => format!("look at run {id} of job {}", self.job),
            (None, Some(token)) => {
                format!("look for a run of job {} whose argument {RUN_TOKEN} is {}", self.job, token.as_str())
            }
            (None, None) => format!("look at the runs of job {}", self.job),
        };
        let manual_check = format!("{manual_check}; then settle the step {key} in the journal");
        Ok(self.outcome(id, JobOutcomeKind::Unknown { reason, manual_check }, None))
    }

    fn outcome(&self, id: Option<&StatementId>, kind: JobOutcomeKind, last: Option<JobRun>) -> JobOutcome {
        let group = last.as_ref().and_then(|run| run.log_group.as_deref());
        let log = id.map(|id| log(group, id.as_str(), self.region.as_deref()));
        JobOutcome {
            job: self.job.clone(),
            run_id: id.map(|id| id.as_str().to_owned()),
            kind,
            execution_time: last.as_ref().and_then(|run| run.execution_time),
            state: last.map(|run| run.state),
            log,
        }
    }

    async fn record(&self, key: &StepKey, event: Event) -> Result<()> {
        self.journal.append(Record::new(self.clock.now(), key.clone(), event)).await
    }
}

/// Returns the name under which a key is claimed in the journal. The name is short and differs from the names
/// of all runs.
fn claimed_name(key: &StepKey) -> Result<String> {
    let token = key.client_token(None, &Statement::sql("glue"))?;
    Ok(format!("glue {}", token.as_str()))
}

/// Returns `true` if a start that failed with this kind of error did not start a run and may succeed later.
fn may_start_later(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Throttled | ErrorKind::TooManyStatements | ErrorKind::NotSent)
}

fn failure(status: &Status, timed_out: bool) -> Option<FailureKind> {
    match status {
        Status::Finished => None,
        Status::Aborted if timed_out => Some(FailureKind::TimedOut),
        Status::Aborted => Some(FailureKind::Aborted),
        _ => Some(FailureKind::Sql),
    }
}

fn outcome_kind(recorded: &RecordedOutcome) -> JobOutcomeKind {
    let error = recorded.error.clone().unwrap_or_default();
    match recorded.status {
        Status::Finished => JobOutcomeKind::Succeeded,
        Status::Aborted if recorded.timed_out => JobOutcomeKind::TimedOut { cancel_pending: false },
        Status::Aborted => JobOutcomeKind::Stopped { error },
        _ => JobOutcomeKind::Failed { error },
    }
}
