//! [`JobService`]: the requests to Glue, and [`GlueService`], their implementation with the AWS SDK.

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

/// State of a job run, as defined by Glue's API.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum JobRunState {
    /// Queued because capacity or quota is exhausted.
    Waiting,
    /// Being started.
    Starting,
    /// Running.
    Running,
    /// Being stopped.
    Stopping,
    /// Stopped on request.
    Stopped,
    /// Ended successfully.
    Succeeded,
    /// Ended with an error.
    Failed,
    /// Ended by Glue because the job's timeout expired.
    Timeout,
    /// Not run, because a trigger started a job that had been deleted.
    Error,
    /// Ended by Glue because the run was queued for too long.
    Expired,
    /// A state that this version does not know, with the service's text. The run is treated as still running.
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
    /// Id of the run, such as `jr_…`.
    pub id: String,
    /// State of the run.
    pub state: JobRunState,
    /// The service's message about a run that did not succeed.
    pub error: Option<String>,
    /// Execution time that Glue reports. `None` if Glue reports zero.
    pub execution_time: Option<Duration>,
    /// Prefix of the log groups. Each of them has a stream with the run's id as its name.
    pub log_group: Option<String>,
    /// Arguments of the run.
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

    /// Returns a link to the run's error log in the AWS console. Without a region, returns the names of the
    /// log groups and the stream.
    pub fn log(&self, region: Option<&str>) -> String {
        log(self.log_group.as_deref(), &self.id, region)
    }
}

/// Implements [`JobRun::log`] for a run of which only the id and the log group are known.
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

/// Requests to Glue about jobs and their runs.
///
/// For implementors: if [`start`](Self::start) fails and may have started a run, the error's kind must be one
/// for which [`ErrorKind::may_have_taken_effect`] returns `true`. If the limit of concurrent runs is reached,
/// the kind must be [`ErrorKind::TooManyStatements`].
#[async_trait]
pub trait JobService: fmt::Debug + Send + Sync {
    /// Returns the job with this name, or `None` if it does not exist.
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

    /// Requests that a run be stopped. Returns `false` if the run has already ended.
    async fn stop(&self, job: &str, id: &str) -> Result<bool>;

    /// Returns the account or region in which the jobs run, such as `aws:eu-west-1`. The text is part of the
    /// identity of a run. Returns `None` if it is not known.
    fn target(&self) -> Option<String>;
}

/// [`JobService`] that sends requests to AWS Glue.
#[derive(Clone, Debug)]
pub struct GlueService {
    client: Client,
}

impl GlueService {
    /// Creates a service that sends requests through `client`. The client's retry configuration applies to
    /// all requests except the start of a run. The client never retries a start, because every start that
    /// reaches Glue creates a run.
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
            Error::new(
                ErrorKind::Disconnected,
                "the service accepted the start of a run but did not return its id",
            )
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

    /// Returns the region of the client. A client does not know its account before its first request.
    fn target(&self) -> Option<String> {
        self.client.config().region().map(|region| format!("aws:{region}"))
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

/// Converts the error of a request. A request that got no response may have taken effect, so the kind of its
/// error is [`ErrorKind::Disconnected`].
fn failed<E, R>(operation: &'static str, cause: SdkError<E, R>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    R: fmt::Debug + Send + Sync + 'static,
{
    let response = cause.as_service_error();
    let code = response.and_then(ProvideErrorMetadata::code).map(str::to_owned);
    let kind = match &cause {
        SdkError::ConstructionFailure(_) => ErrorKind::NotSent,
        _ => kind(code.as_deref()),
    };
    let message = match response.and_then(ProvideErrorMetadata::message) {
        Some(message) => message.to_owned(),
        None => DisplayErrorContext(&cause).to_string(),
    };
    let error = Error::new(kind, message).with_context("operation", operation).with_source(cause);
    match code {
        Some(code) => error.with_code(code),
        None => error,
    }
}
