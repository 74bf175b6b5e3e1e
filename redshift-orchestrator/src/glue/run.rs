//! [`GlueJob`]: starts a run at most once, waits for it, and records its outcome.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep, timeout};

use super::{
    Ensured, JobDefinition, JobRun, JobService,
    executor::Runs,
    outcome::{JobOutcome, JobStart},
    service::log,
};
use crate::{
    Backoff, ClientToken, Clock, Description, Error, ErrorKind, Origin, PageToken, Result, Statement,
    StatementId, Status, StepKey, SystemClock,
    identity::Namespace,
    journal::{ActiveRun, Claim, Entry, EntryState, Event, Journal, Record, RecordedOutcome},
    orchestrator::turns::{self, Turns},
    service::Pages,
    task::{self, RUN_TOKEN, TaskOutcome, TaskOutcomeKind},
    wait::{
        CancelOutcome, EXPIRED_CREDENTIALS_LIMIT, Exponential, PollStrategy, RequestCounts, Wait, WaitOutcome,
    },
};

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
    expired_credentials_limit: Duration,
    region: Option<String>,
    /// Scope and pipeline. The target is that of statements, and is not set.
    namespace: Namespace,
    /// Shared by all clones, so that concurrent calls with one key start one run.
    turns: Turns,
}

/// Exclusive right of one call to start a run for a key.
struct ClaimedTurn {
    claim: ActiveRun,
    _own: Box<turns::Turn>,
}

impl ClaimedTurn {
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

/// A run to wait for.
struct StartedRun {
    id: StatementId,
    /// Approximate time since the start; `None` if the run was started just now.
    known: Option<Duration>,
    origin: Origin,
    stopping: Stopping,
}

/// Result of starting or finding the run of an attempt.
enum Begun {
    Run(StartedRun),
    /// The journal contains the outcome, or the outcome is unknown.
    Concluded(JobOutcome),
}

/// Handling of an attempt that was started with other arguments before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Redefined {
    /// The earlier run is the one of the attempt.
    Continued,
    Rejected,
}

impl GlueJob {
    /// Creates a runner for the job with this name. The intents, ids and outcomes of its runs are recorded in
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
            expired_credentials_limit: EXPIRED_CREDENTIALS_LIMIT,
            region: None,
            namespace: Namespace::default(),
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
    /// then, the outcome is [`TimedOut`](TaskOutcomeKind::TimedOut) with `may_still_run`.
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

    /// Sets how long a start and polls are repeated while they fail because of [expired
    /// credentials](ErrorKind::CredentialsExpired). If the credentials are renewed in time, the call
    /// continues. Default: 15 minutes.
    #[must_use]
    pub fn with_expired_credentials_limit(mut self, limit: Duration) -> Self {
        self.expired_credentials_limit = limit;
        self
    }

    /// Sets the region for links to the log. Default: none. The outcome then contains the names of the log
    /// groups and the stream instead of a link.
    #[must_use]
    pub fn with_region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// Adds a name to the identity of each run, such as the name of the account. The identity always includes
    /// the job's name and the service's [target](JobService::target), which contains the region but not the
    /// account or an endpoint. Without a scope, two accounts that share a journal must use different names
    /// for their runs.
    #[must_use]
    pub fn with_scope(mut self, scope: impl Into<String>) -> Self {
        self.namespace.scope = Some(scope.into());
        self
    }

    /// Adds the scope and the pipeline of an orchestrator to the identity of each run.
    pub(crate) fn with_namespace(mut self, namespace: &Namespace) -> Self {
        self.namespace = Namespace { target: None, ..namespace.clone() };
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
    /// Each run also receives the argument [`RUN_TOKEN`], a digest of the [scope](Self::with_scope), the
    /// service's [target](JobService::target), the job's name, the key and the arguments.
    ///
    /// If the response to the start is lost, the runs of the job are listed for two minutes. If the run is
    /// not found, its outcome is [unknown](TaskOutcomeKind::Unknown), and it is not started again. If the
    /// future is dropped, the run continues and the next call finds it. Concurrent calls with the same key
    /// start one run if their values share a journal, because each call claims the key in the journal before
    /// it starts a run.
    ///
    /// # Errors
    /// After an error, no run was started, with two exceptions. After [`ErrorKind::Journal`], a run may
    /// exist, and the next call finds it. After [`ErrorKind::StepKeyConflict`], the journal contains this
    /// attempt for another job, region or scope, or for a statement, and that job or statement may be
    /// running.
    ///
    /// Returns [`ErrorKind::Invalid`] if the scope is not valid, or if the name of an argument does not begin
    /// with `--` or is [`RUN_TOKEN`]; [`ErrorKind::TooManyStatements`] or [`ErrorKind::Throttled`] if Glue
    /// rejected the start for the whole [admission wait](Self::with_admission_wait);
    /// [`ErrorKind::CredentialsExpired`] if the credentials were not renewed [in
    /// time](Self::with_expired_credentials_limit); [`ErrorKind::Overlap`]
    /// if the claim of the key was lost before the start, for example because the journal's storage could not
    /// be reached; [`ErrorKind::Denied`], [`ErrorKind::NotFound`] and others if Glue rejected the start
    /// permanently.
    pub async fn run(&self, key: &StepKey, arguments: &[(&str, &str)]) -> Result<JobOutcome> {
        match self.begun(key, arguments, Redefined::Continued).await? {
            Begun::Run(run) => {
                let waited = self.wait(key, &run).await;
                waited.map_err(|error| error.with_submitted(&run.id))
            }
            Begun::Concluded(outcome) => Ok(outcome),
        }
    }

    /// Starts the run of an attempt without waiting for its end. If an earlier call already started the run,
    /// returns its id.
    ///
    /// Intended for callers that poll the run themselves, such as a state machine. The end of the run is not
    /// recorded, so a later call returns the same id.
    ///
    /// # Errors
    /// Returns the errors of [`run`](Self::run), and [`ErrorKind::StepKeyConflict`] if an earlier call
    /// started the run with other arguments.
    pub async fn start(&self, key: &StepKey, arguments: &[(&str, &str)]) -> Result<JobStart> {
        Ok(match self.begun(key, arguments, Redefined::Rejected).await? {
            Begun::Run(run) => JobStart::Started(run.id.as_str().to_owned()),
            Begun::Concluded(outcome) => JobStart::Concluded(outcome),
        })
    }

    /// Starts or finds the run of an attempt.
    async fn begun(&self, key: &StepKey, arguments: &[(&str, &str)], redefined: Redefined) -> Result<Begun> {
        let token = self.token(key, arguments)?;
        let turn = self.turn(key).await?;
        let begun = self.begun_in_turn(&turn, key, token, arguments, redefined).await;
        turn.end().await;
        begun
    }

    async fn begun_in_turn(
        &self,
        turn: &ClaimedTurn,
        key: &StepKey,
        token: ClientToken,
        arguments: &[(&str, &str)],
        redefined: Redefined,
    ) -> Result<Begun> {
        let Some(entry) = self.journal.entry(key).await? else {
            return self.begin(turn, key, token, arguments).await;
        };
        self.check_record(&entry)?;
        if !entry.did_not_run() && entry.token != token && redefined == Redefined::Rejected {
            return Err(Error::new(
                ErrorKind::StepKeyConflict,
                "an earlier start of this attempt had other arguments",
            )
            .with_context("job", &self.job)
            .with_context("step", key));
        }
        if let Some(TaskOutcome { kind, execution_time, origin, .. }) = TaskOutcome::recorded(&entry) {
            let outcome = self.outcome(entry.id.as_ref(), kind, origin, None);
            return Ok(Begun::Concluded(JobOutcome { execution_time, ..outcome }));
        }
        if entry.did_not_run() {
            return self.begin(turn, key, token, arguments).await;
        }
        let now = self.clock.now();
        match entry.id.clone() {
            Some(id) => {
                let (known, origin) = (Some(entry.time_since_submit(now)), Origin::Reattached);
                let Entry { overdue, cancel_pending, .. } = entry;
                let stopping = Stopping { overdue, cancel_pending };
                Ok(Begun::Run(StartedRun { id, known, origin, stopping }))
            }
            None => {
                let age = entry.age(now);
                self.look_up(key, &entry.token, age, LOOK_UP.saturating_sub(age), None).await
            }
        }
    }

    /// Waits until no other call holds the turn for the key, and acquires it. Excludes the calls of all
    /// values that share the journal.
    async fn turn(&self, key: &StepKey) -> Result<ClaimedTurn> {
        let own = self.turns.take(key).await;
        let claim = Claim::of_attempt(key, self.clock.now());
        loop {
            match self.journal.claim(&claim).await {
                Err(error) if error.kind() == ErrorKind::Overlap => sleep(TURN_PAUSE).await,
                claimed => return Ok(ClaimedTurn { claim: claimed?, _own: own }),
            }
        }
    }

    /// Rejects an entry that belongs to another job, region or scope, or to a statement. An earlier version
    /// recorded only the job's name. Its entries are rejected, too, because their runs may be in another
    /// region.
    pub(crate) fn check_record(&self, entry: &Entry) -> Result<()> {
        task::check_record(entry, &self.target(), &self.name(&entry.key))
    }

    /// Returns the target that the journal records for a run, such as `aws:eu-west-1:glue/clean`.
    fn target(&self) -> String {
        let target = self.service.target().map(|target| format!("{target}:")).unwrap_or_default();
        format!("{target}glue/{}", self.job)
    }

    /// Returns the name that the journal records for a run, such as `prod/clean cycle-007/customers/1`.
    fn name(&self, key: &StepKey) -> String {
        format!("{}{} {key}", self.namespace.name_prefix(), self.job)
    }

    fn token(&self, key: &StepKey, arguments: &[(&str, &str)]) -> Result<ClientToken> {
        self.namespace.check()?;
        let mut statement = Statement::sql(format!("glue job {}", self.target()));
        for (name, value) in arguments {
            if !name.starts_with("--") || *name == RUN_TOKEN {
                return Err(Error::new(
                    ErrorKind::Invalid,
                    format!("the name of an argument must begin with -- and differ from {RUN_TOKEN}"),
                )
                .with_context("argument", name));
            }
            statement = statement.with_parameter(*name, *value);
        }
        self.namespace.client_token(key, &statement)
    }

    /// Starts the run. Records an intent before each start, and each rejection before the pause that follows.
    /// Returns when the journal contains the id, or records that no run was started, or that the outcome is
    /// unknown.
    async fn begin(
        &self,
        turn: &ClaimedTurn,
        key: &StepKey,
        token: ClientToken,
        arguments: &[(&str, &str)],
    ) -> Result<Begun> {
        let mut all: BTreeMap<String, String> =
            arguments.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        all.insert(RUN_TOKEN.to_owned(), token.as_str().to_owned());
        let (began, mut expired_since) = (Instant::now(), None);
        let mut pauses = self.backoff.pauses(0);
        loop {
            let (name, target) = (self.name(key), Some(self.target()));
            let intent = Event::Intent { token: token.clone(), name, target };
            self.record_in_turn(turn, key, intent).await?;
            let sent = Instant::now();
            let error = match self.start_once(turn, &all).await {
                Ok(id) => return self.started(key, id, None, Origin::Submitted).await,
                Err(error) if error.kind().may_have_taken_effect() => {
                    return self.look_up(key, &token, sent.elapsed(), LOOK_UP, Some(error)).await;
                }
                Err(error) => error,
            };
            // Without this record, a process that continues after a death in the pause would search for a run
            // that was never started.
            let rejection = Event::NotSubmitted { error: error.to_string() };
            self.record_in_turn(turn, key, rejection).await?;
            let pause = pauses.after(&error);
            let (since, limit) = match error.kind() {
                ErrorKind::CredentialsExpired => {
                    (*expired_since.get_or_insert_with(Instant::now), self.expired_credentials_limit)
                }
                ErrorKind::Throttled | ErrorKind::TooManyStatements | ErrorKind::NotSent => {
                    expired_since = None;
                    (began, self.admission)
                }
                _ => (began, Duration::ZERO),
            };
            if since.elapsed().saturating_add(pause) > limit {
                return Err(error.with_context("job", &self.job).with_context("step", key));
            }
            tracing::debug!(job = %self.job, %error, "the start of a run is repeated");
            sleep(pause).await;
            // If the claim was lost, the next intent would prevent the start of another process.
            if !turn.claim.renew().await {
                return Err(lost_claim().with_context("job", &self.job).with_context("step", key));
            }
        }
    }

    /// Records an event before a start is sent, or after the service rejected it.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Overlap`] if the record failed and the claim was lost, because another process may
    /// have continued the attempt.
    async fn record_in_turn(&self, turn: &ClaimedTurn, key: &StepKey, event: Event) -> Result<()> {
        let Err(error) = self.record(key, event).await else { return Ok(()) };
        match turn.claim.renew().await {
            true => Err(error),
            false => {
                Err(lost_claim().with_context("job", &self.job).with_context("step", key).with_source(error))
            }
        }
    }

    /// Sends a start if the claim is still held. While the intent was recorded, another process may have
    /// claimed the key, and may report the run as unknown.
    async fn start_once(&self, turn: &ClaimedTurn, arguments: &BTreeMap<String, String>) -> Result<String> {
        if !turn.claim.renew().await {
            return Err(lost_claim());
        }
        let request = self.service.start(&self.job, arguments);
        timeout(REQUEST_LIMIT, request).await.unwrap_or_else(|_| Err(no_response()))
    }

    /// Records the id.
    async fn started(
        &self,
        key: &StepKey,
        id: String,
        known: Option<Duration>,
        origin: Origin,
    ) -> Result<Begun> {
        let id = StatementId::new(id);
        let written = self.record(key, Event::Submitted { id: id.clone() }).await;
        written.map_err(|error| error.with_submitted(&id))?;
        Ok(Begun::Run(StartedRun { id, known, origin, stopping: Stopping::default() }))
    }

    /// Lists the runs, at least once, until one has the token or `limit` expires. `age` is the time since the
    /// last start was sent.
    async fn look_up(
        &self,
        key: &StepKey,
        token: &ClientToken,
        age: Duration,
        limit: Duration,
        cause: Option<Error>,
    ) -> Result<Begun> {
        let began = Instant::now();
        loop {
            let found = self.find(token).await;
            let reason = match found {
                Ok(Some(run)) => {
                    let known = age.saturating_add(began.elapsed());
                    return self.started(key, run.id, Some(known), Origin::Reattached).await;
                }
                Ok(None) => "no run of the job has the token of this attempt".to_owned(),
                Err(error) => format!("the runs of the job cannot be listed: {error}"),
            };
            if began.elapsed() + LOOK_UP_PAUSE > limit {
                let (reason, origin) = match &cause {
                    Some(error) => (format!("{error}; {reason}"), Origin::Submitted),
                    None => (reason, Origin::Reattached),
                };
                let check = format!(
                    "look for a run of job {} whose argument {RUN_TOKEN} is {}",
                    self.job,
                    token.as_str()
                );
                let kind = unknown(key, &reason, &check);
                let recorded = self.record(key, Event::Unknown { reason }).await;
                recorded.map_err(Error::after_uncertain_submit)?;
                return Ok(Begun::Concluded(self.outcome(None, kind, origin, None)));
            }
            sleep(LOOK_UP_PAUSE).await;
        }
    }

    /// Returns the run with this token if the list contains it.
    async fn find(&self, token: &ClientToken) -> Result<Option<JobRun>> {
        let (mut page, mut pages) = (None, Pages::default());
        loop {
            let request = self.service.runs(&self.job, page.as_ref().map(PageToken::as_str));
            let listed = timeout(REQUEST_LIMIT, request).await.unwrap_or_else(|_| Err(no_response()))?;
            let is_ours =
                |run: &JobRun| run.arguments.get(RUN_TOKEN).is_some_and(|text| text == token.as_str());
            if let Some(run) = listed.runs.into_iter().find(is_ours) {
                return Ok(Some(run));
            }
            page = pages.turn(listed.next.map(PageToken::new))?;
            if page.is_none() {
                return Ok(None);
            }
        }
    }

    /// Waits for a run.
    async fn wait(&self, key: &StepKey, run: &StartedRun) -> Result<JobOutcome> {
        let StartedRun { id, known, origin, stopping } = run;
        let runs = Runs { service: self.service.clone(), job: self.job.clone(), last: Mutex::default() };
        let overdue_from_now = || -> futures::future::BoxFuture<'_, ()> {
            Box::pin(async {
                // The run is stopped even if the record cannot be written. A later process would then report
                // that another client stopped the run.
                if !stopping.overdue {
                    let _ = self.record_of_wait(key, |_| (Event::Overdue, stopped())).await;
                }
            })
        };
        let mut wait = Wait::new(&runs, id, self.strategy.as_ref())
            .with_backoff(self.backoff)
            .with_expired_credentials_limit(self.expired_credentials_limit)
            .with_before_cancel(&overdue_from_now)
            .with_cancel_accepted(stopping.cancel_pending);
        if let Some(timeout) = self.timeout {
            wait = wait.with_timeout(timeout);
        }
        if let Some(grace) = self.cancel_grace {
            wait = wait.with_cancel_grace(grace);
        }
        if let Some(known) = known {
            wait = wait.with_time_since_submit(*known);
        }
        let ended = wait.until_ended(&mut RequestCounts::default()).await;
        let last = runs.last.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (reason, error) = match ended {
            WaitOutcome::Ended(description)
            | WaitOutcome::TimedOut { cancellation: CancelOutcome::EndedBefore(description), .. } => {
                return self.conclude(key, run, &description, last, stopping.overdue).await;
            }
            WaitOutcome::TimedOut { cancellation: CancelOutcome::Cancelled(description), .. } => {
                return self.conclude(key, run, &description, last, true).await;
            }
            WaitOutcome::TimedOut { cancellation: CancelOutcome::Pending(_), .. } => {
                let kind = self.record_cancel_pending(key, *stopping).await;
                return Ok(self.outcome(Some(id), kind, *origin, last));
            }
            WaitOutcome::TimedOut { cancellation: CancelOutcome::NotCancelled(error), .. } => {
                ("the timeout expired, and the run cannot be stopped", error)
            }
            WaitOutcome::Lost(error) => ("the state of the run cannot be read", error),
        };
        let reason = format!("{reason}: {error}");
        let unknown = unknown(key, &reason, &format!("look at run {id} of job {}", self.job));
        let kind = self.record_of_wait(key, |_| (Event::Unknown { reason }, unknown)).await?;
        Ok(self.outcome(Some(id), kind, *origin, None))
    }

    /// Records that Glue is stopping the run, so that the next call knows that the stop was accepted.
    async fn record_cancel_pending(&self, key: &StepKey, stopping: Stopping) -> TaskOutcomeKind {
        if stopping.cancel_pending {
            return stopped();
        }
        let recorded = self.record_of_wait(key, |_| (Event::CancelPending, stopped())).await;
        recorded.unwrap_or_else(|error| {
            tracing::warn!(%error, step = %key, "the accepted stop could not be recorded");
            stopped()
        })
    }

    /// Records the outcome of a run that has ended.
    async fn conclude(
        &self,
        key: &StepKey,
        run: &StartedRun,
        description: &Description,
        last: Option<JobRun>,
        overdue: bool,
    ) -> Result<JobOutcome> {
        let ended = |entry: Option<&Entry>| {
            let overdue = overdue || entry.is_some_and(|entry| entry.overdue);
            let mut recorded = RecordedOutcome {
                status: description.status.clone(),
                error: description.error.clone(),
                failure: None,
                timed_out: overdue && description.status == Status::Aborted,
                execution_time: description.execution_time,
                rows: None,
                has_result_set: false,
            };
            let kind = TaskOutcomeKind::recorded(&recorded);
            recorded.failure = kind.failure();
            (Event::Ended(recorded), kind)
        };
        let kind = self.record_of_wait(key, ended).await?;
        Ok(self.outcome(Some(&run.id), kind, run.origin, last))
    }

    /// Records an event of a run for which this call waited, and returns the outcome: the second value of
    /// `event`, or the outcome that the journal already contains.
    ///
    /// Calls of several processes can wait for one run. The call claims the key, which reads the records of
    /// the other processes. Without the claim, its record could be rejected because of theirs.
    async fn record_of_wait(
        &self,
        key: &StepKey,
        event: impl FnOnce(Option<&Entry>) -> (Event, TaskOutcomeKind),
    ) -> Result<TaskOutcomeKind> {
        let turn = self.turn(key).await?;
        let recorded = async {
            let entry = self.journal.entry(key).await?;
            if let Some(EntryState::Ended(ended)) = entry.as_ref().map(|entry| &entry.state) {
                return Ok(TaskOutcomeKind::recorded(ended));
            }
            let (event, kind) = event(entry.as_ref());
            self.record(key, event).await.map(|()| kind)
        };
        let recorded = recorded.await;
        turn.end().await;
        recorded
    }

    fn outcome(
        &self,
        id: Option<&StatementId>,
        kind: TaskOutcomeKind,
        origin: Origin,
        last: Option<JobRun>,
    ) -> JobOutcome {
        let group = last.as_ref().and_then(|run| run.log_group.as_deref());
        let log = id.map(|id| log(group, id.as_str(), self.region.as_deref()));
        JobOutcome {
            job: self.job.clone(),
            run_id: id.map(|id| id.as_str().to_owned()),
            kind,
            execution_time: last.as_ref().and_then(|run| run.execution_time),
            state: last.map(|run| run.state),
            origin,
            log,
        }
    }

    async fn record(&self, key: &StepKey, event: Event) -> Result<()> {
        self.journal.append(Record::new(self.clock.now(), key.clone(), event)).await
    }
}

/// Returns an unknown outcome. `check` tells the operator where to look.
fn unknown(key: &StepKey, reason: &str, check: &str) -> TaskOutcomeKind {
    let manual_check = format!("{check}; then settle the step {key} in the journal");
    TaskOutcomeKind::Unknown { reason: reason.to_owned(), manual_check }
}

/// Returns the outcome of a run that Glue is stopping after its timeout.
fn stopped() -> TaskOutcomeKind {
    TaskOutcomeKind::TimedOut { may_still_run: true }
}

fn no_response() -> Error {
    Error::new(ErrorKind::Disconnected, "no response in time")
}

fn lost_claim() -> Error {
    Error::new(
        ErrorKind::Overlap,
        "no run was started, because another process may have claimed this attempt meanwhile; call again",
    )
}
