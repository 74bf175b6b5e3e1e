//! [`JobService`]: the calls about jobs, and [`GlueService`], the service.

use std::{collections::BTreeMap, fmt, time::Duration};

use async_trait::async_trait;
use aws_sdk_glue::{
    Client,
    config::{Config, retry::RetryConfig},
    error::{DisplayErrorContext, ProvideErrorMetadata, SdkError},
    types::{Job, JobRun as SdkRun, JobUpdate},
};

use super::JobDefinition;
use crate::{Error, ErrorKind, Result};

/// The state of a job run, as in Glue's model.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum JobRunState {
    /// Queued for capacity or a quota.
    Waiting,
    /// Being started.
    Starting,
    /// Running.
    Running,
    /// Being stopped.
    Stopping,
    /// Stopped by a request.
    Stopped,
    /// Ended successfully.
    Succeeded,
    /// Ended with an error.
    Failed,
    /// Ended by the job's own timeout.
    Timeout,
    /// A trigger ran a deleted job.
    Error,
    /// Ended because it was queued for too long.
    Expired,
    /// A state that this version does not know, with the service's text. It counts as still running.
    Other(String),
}

impl JobRunState {
    /// Returns `true` for a final state.
    pub fn is_terminal(&self) -> bool {
        use JobRunState::{Error, Expired, Failed, Stopped, Succeeded, Timeout};
        matches!(self, Stopped | Succeeded | Failed | Timeout | Error | Expired)
    }

    /// Returns the service's text.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Waiting => "WAITING",
            Self::Starting => "STARTING",
            Self::Running => "RUNNING",
            Self::Stopping => "STOPPING",
            Self::Stopped => "STOPPED",
            Self::Succeeded => "SUCCEEDED",
            Self::Failed => "FAILED",
            Self::Timeout => "TIMEOUT",
            Self::Error => "ERROR",
            Self::Expired => "EXPIRED",
            Self::Other(text) => text,
        }
    }
}

impl From<&str> for JobRunState {
    fn from(text: &str) -> Self {
        match text {
            "WAITING" => Self::Waiting,
            "STARTING" => Self::Starting,
            "RUNNING" => Self::Running,
            "STOPPING" => Self::Stopping,
            "STOPPED" => Self::Stopped,
            "SUCCEEDED" => Self::Succeeded,
            "FAILED" => Self::Failed,
            "TIMEOUT" => Self::Timeout,
            "ERROR" => Self::Error,
            "EXPIRED" => Self::Expired,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl fmt::Display for JobRunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A run of a job, as the service describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobRun {
    /// Its id, `jr_…`.
    pub id: String,
    /// Its state.
    pub state: JobRunState,
    /// The service's message on a run that did not succeed.
    pub error: Option<String>,
    /// The time that the run took.
    pub execution_time: Option<Duration>,
    /// The log group of its output; the streams are named by the run's id.
    pub log_group: Option<String>,
    /// Its arguments.
    pub arguments: BTreeMap<String, String>,
}

impl JobRun {
    /// Creates a run in a state.
    pub fn new(id: impl Into<String>, state: JobRunState) -> Self {
        Self {
            id: id.into(),
            state,
            error: None,
            execution_time: None,
            log_group: None,
            arguments: BTreeMap::new(),
        }
    }

    /// Returns a link to the log of errors in the console of a region, or the names of log groups and stream.
    pub fn log(&self, region: Option<&str>) -> String {
        log(self.log_group.as_deref(), &self.id, region)
    }
}

/// Returns a link to the log of a run, or its name.
pub(super) fn log(group: Option<&str>, id: &str, region: Option<&str>) -> String {
    let group = group.unwrap_or("/aws-glue/jobs");
    match region {
        None => format!("log groups {group}/output and {group}/error, stream {id}"),
        // The console encodes a slash twice, with a dollar sign in place of the percent sign.
        Some(region) => format!(
            "https://{region}.console.aws.amazon.com/cloudwatch/home?region={region}#logsV2:log-groups/log-group/\
             {}/log-events/{id}",
            format!("{group}/error").replace('/', "$252F")
        ),
    }
}

/// One page of the runs of a job, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobRunPage {
    /// The runs.
    pub runs: Vec<JobRun>,
    /// Token of the next page; `None` on the last page.
    pub next: Option<String>,
}

impl JobRunPage {
    /// Creates a page.
    pub fn new(runs: Vec<JobRun>, next: Option<String>) -> Self {
        Self { runs, next }
    }
}

/// The calls about jobs.
///
/// For implementors: an error of [`start`](Self::start) that may have started a run has a kind for which
/// [`ErrorKind::may_have_taken_effect`] is `true`. A reached limit of concurrent runs is
/// [`ErrorKind::TooManyStatements`].
#[async_trait]
pub trait JobService: fmt::Debug + Send + Sync {
    /// Returns a job; `None` if no job has this name.
    async fn job(&self, name: &str) -> Result<Option<Job>>;

    /// Creates a job.
    async fn create(&self, definition: &JobDefinition) -> Result<()>;

    /// Replaces the whole definition of a job.
    async fn update(&self, name: &str, update: JobUpdate) -> Result<()>;

    /// Starts a run, and returns its id.
    async fn start(&self, job: &str, arguments: &BTreeMap<String, String>) -> Result<String>;

    /// Returns a run.
    async fn run(&self, job: &str, id: &str) -> Result<JobRun>;

    /// Returns one page of the runs of a job, newest first.
    async fn runs(&self, job: &str, page: Option<&str>) -> Result<JobRunPage>;

    /// Requests the end of a run. Returns `false` if it has ended already.
    async fn stop(&self, job: &str, id: &str) -> Result<bool>;
}

/// AWS Glue.
#[derive(Clone, Debug)]
pub struct GlueService {
    client: Client,
}

impl GlueService {
    /// Calls the service through a client, which retries throttled calls as it is configured. The start of a
    /// run is never retried by the client, because each start that arrives is a run.
    pub fn new(client: Client) -> Self {
        Self { client }
    }
}

#[async_trait]
impl JobService for GlueService {
    async fn job(&self, name: &str) -> Result<Option<Job>> {
        match self.client.get_job().job_name(name).send().await {
            Ok(found) => Ok(found.job),
            Err(cause) => match failed("GetJob", cause) {
                error if error.kind() == ErrorKind::NotFound => Ok(None),
                error => Err(error),
            },
        }
    }

    async fn create(&self, definition: &JobDefinition) -> Result<()> {
        let update = definition.update(None);
        let call = self.client.create_job().name(definition.name());
        let call = call
            .set_role(update.role)
            .set_command(update.command)
            .set_default_arguments(update.default_arguments)
            .set_execution_property(update.execution_property)
            .set_glue_version(update.glue_version)
            .set_worker_type(update.worker_type)
            .set_number_of_workers(update.number_of_workers)
            .set_timeout(update.timeout)
            .max_retries(update.max_retries);
        call.send().await.map(drop).map_err(|cause| failed("CreateJob", cause))
    }

    async fn update(&self, name: &str, update: JobUpdate) -> Result<()> {
        let call = self.client.update_job().job_name(name).job_update(update);
        call.send().await.map(drop).map_err(|cause| failed("UpdateJob", cause))
    }

    async fn start(&self, job: &str, arguments: &BTreeMap<String, String>) -> Result<String> {
        let call = self.client.start_job_run().job_name(job);
        let call = call.set_arguments(Some(arguments.clone().into_iter().collect()));
        let once = Config::builder().retry_config(RetryConfig::disabled());
        let started = call.customize().config_override(once).send().await;
        let started = started.map_err(|cause| failed("StartJobRun", cause))?;
        started.job_run_id.ok_or_else(|| {
            Error::new(ErrorKind::Disconnected, "the service accepted a run and did not return its id")
        })
    }

    async fn run(&self, job: &str, id: &str) -> Result<JobRun> {
        let found = self.client.get_job_run().job_name(job).run_id(id).send().await;
        let run = found.map_err(|cause| failed("GetJobRun", cause))?.job_run;
        run.map(described).ok_or_else(|| Error::new(ErrorKind::Disconnected, "the response has no job run"))
    }

    async fn runs(&self, job: &str, page: Option<&str>) -> Result<JobRunPage> {
        let call = self.client.get_job_runs().job_name(job).set_next_token(page.map(str::to_owned));
        let found = call.send().await.map_err(|cause| failed("GetJobRuns", cause))?;
        let runs = found.job_runs.unwrap_or_default().into_iter().map(described).collect();
        Ok(JobRunPage::new(runs, found.next_token.filter(|token| !token.is_empty())))
    }

    async fn stop(&self, job: &str, id: &str) -> Result<bool> {
        let stopped = self.client.batch_stop_job_run().job_name(job).job_run_ids(id).send().await;
        let stopped = stopped.map_err(|cause| failed("BatchStopJobRun", cause))?;
        if !stopped.successful_submissions().is_empty() {
            return Ok(true);
        }
        let detail = stopped.errors().first().and_then(|error| error.error_detail());
        match detail.and_then(|detail| detail.error_code()) {
            // The run has ended.
            Some("InvalidInputException") => Ok(false),
            code => {
                let message = detail.and_then(|detail| detail.error_message()).unwrap_or("no reason given");
                Err(Error::new(kind(code), message).with_code(code.unwrap_or("no code")))
            }
        }
    }
}

fn described(run: SdkRun) -> JobRun {
    JobRun {
        id: run.id.unwrap_or_default(),
        state: run.job_run_state.as_ref().map_or_else(|| "".into(), |state| state.as_str().into()),
        error: run.error_message.or(run.state_detail).filter(|text| !text.is_empty()),
        execution_time: u64::try_from(run.execution_time)
            .ok()
            .filter(|secs| *secs > 0)
            .map(Duration::from_secs),
        log_group: run.log_group_name,
        arguments: run.arguments.unwrap_or_default().into_iter().collect(),
    }
}

fn kind(code: Option<&str>) -> ErrorKind {
    match code {
        Some("EntityNotFoundException") => ErrorKind::NotFound,
        Some("ConcurrentRunsExceededException" | "ResourceNumberLimitExceededException") => {
            ErrorKind::TooManyStatements
        }
        Some("ThrottlingException" | "Throttling" | "TooManyRequestsException" | "RequestLimitExceeded") => {
            ErrorKind::Throttled
        }
        Some("AccessDeniedException" | "AccessDenied" | "UnrecognizedClientException") => ErrorKind::Denied,
        Some("ExpiredToken" | "ExpiredTokenException" | "RequestExpired") => ErrorKind::CredentialsExpired,
        Some(
            "InvalidInputException"
            | "ValidationException"
            | "AlreadyExistsException"
            | "IdempotentParameterMismatchException",
        ) => ErrorKind::Invalid,
        Some(
            "InternalServiceException"
            | "OperationTimeoutException"
            | "ServiceUnavailableException"
            | "InternalFailure"
            | "ConcurrentModificationException",
        ) => ErrorKind::ServiceFault,
        Some(_) => ErrorKind::Other,
        None => ErrorKind::Disconnected,
    }
}

/// Classifies a failed call. A call without a response may have taken effect.
fn failed<E, R>(operation: &'static str, cause: SdkError<E, R>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    R: fmt::Debug + Send + Sync + 'static,
{
    let answer = cause.as_service_error();
    let code = answer.and_then(ProvideErrorMetadata::code).map(str::to_owned);
    let kind = match &cause {
        SdkError::ConstructionFailure(_) => ErrorKind::NotSent,
        _ => kind(code.as_deref()),
    };
    let message = match answer.and_then(ProvideErrorMetadata::message) {
        Some(message) => message.to_owned(),
        None => DisplayErrorContext(&cause).to_string(),
    };
    let error = Error::new(kind, message).with_context("operation", operation).with_source(cause);
    match code {
        Some(code) => error.with_code(code),
        None => error,
    }
}
