//! The layer between the handlers and `lambda_runtime`: setup, logs, metrics, panics, and error names.

use std::{fmt, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use lambda_runtime::{
    Diagnostic, LambdaEvent, LambdaInvocation, Runtime, service_fn,
    tower::util::MapRequestLayer,
    tracing::subscriber::{
        self,
        filter::{LevelFilter, Targets},
        layer::SubscriberExt,
        util::SubscriberInitExt,
    },
};
use redshift_orchestrator::{Catalog, Clock, StatementExecutor, SystemClock};
use serde::Serialize;
use tokio::time::Instant;
use tracing::{Instrument, field::Empty};

#[cfg(any(feature = "callback", feature = "glue"))]
use crate::config;
use crate::{
    Call, Config, Error, ErrorNames, HandlerName, Invocation, Reported, Warehouse, aws,
    contract::{dropin, statement},
    emf::{Metrics, Unit},
    handler,
};
#[cfg(feature = "hudi")]
use crate::{Lake, contract::hudi, handler::HudiConfig};
#[cfg(feature = "callback")]
use crate::{TaskTokens, contract::callback};
#[cfg(feature = "glue")]
use crate::{contract::glue, handler::GlueServices};

/// Namespace of the metrics, unless the variable `METRICS_NAMESPACE` sets another one.
const NAMESPACE: &str = "sfn-adapter";

/// A handler with its services.
#[derive(Clone, Debug)]
pub enum Handler {
    /// [`handler::redshift`].
    Redshift {
        /// The service.
        executor: Arc<dyn StatementExecutor>,
        /// The procedure call.
        call: Call,
    },
    /// [`handler::statement`].
    Statement {
        /// The service.
        executor: Arc<dyn StatementExecutor>,
        /// The service's listings.
        catalog: Arc<dyn Catalog>,
    },
    /// [`handler::callback`](crate::handler::callback()).
    #[cfg(feature = "callback")]
    Callback {
        /// The service.
        executor: Arc<dyn StatementExecutor>,
        /// The tasks.
        tasks: Arc<dyn TaskTokens>,
    },
    /// [`handler::hudi`](crate::handler::hudi()).
    #[cfg(feature = "hudi")]
    Hudi {
        /// The table and the buckets.
        lake: Arc<dyn Lake>,
        /// The configuration.
        config: Box<HudiConfig>,
    },
    /// [`handler::glue`](crate::handler::glue()).
    #[cfg(feature = "glue")]
    Glue(Box<GlueServices>),
}

/// A reply of any handler.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Reply {
    /// A reply of the drop-in.
    Redshift(dropin::Reply),
    /// A reply of the handler `statement`.
    Statement(statement::Reply),
    /// A response of the handler `callback`.
    #[cfg(feature = "callback")]
    Callback(callback::Response),
    /// A response of the handler `hudi`.
    #[cfg(feature = "hudi")]
    Hudi(hudi::Response),
    /// A reply of the handler `glue`.
    #[cfg(feature = "glue")]
    Glue(glue::Reply),
}

/// A handler that is set up once and invoked many times.
///
/// An error during the setup is stored and returned by every invocation. A function that fails at its start
/// would report no error to the state machine.
#[derive(Clone)]
pub struct Function {
    name: HandlerName,
    names: ErrorNames,
    namespace: String,
    ready: Result<Handler, Arc<str>>,
}

impl Function {
    /// Creates the function from variables, usually the environment, which also has the credentials.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let name = HandlerName::from_variables(&variable);
        let names = name
            .as_ref()
            .map_err(ToString::to_string)
            .and_then(|name| ErrorNames::from_variables(&variable, *name).map_err(|error| error.to_string()));
        let name = name.unwrap_or_default();
        let ready = match names {
            Ok(_) => Handler::from_variables(name, &variable).map_err(|error| error.to_string()),
            Err(ref message) => Err(message.clone()),
        };
        let namespace = variable("METRICS_NAMESPACE").unwrap_or_else(|| NAMESPACE.to_owned());
        Self { name, names: names.unwrap_or_default(), namespace, ready: ready.map_err(Into::into) }
    }

    /// Creates the function with the caller's services. It writes no metrics.
    pub fn new(handler: Handler, names: ErrorNames) -> Self {
        Self { name: handler.name(), names, namespace: String::new(), ready: Ok(handler) }
    }

    /// Handles one event.
    ///
    /// # Errors
    /// Returns every error and every panic as a name and a message for Step Functions.
    pub async fn invoke(&self, event: &str, invocation: &Invocation) -> Result<Reply, Diagnostic> {
        let span = tracing::error_span!(
            "invocation",
            request_id = invocation.request_id(),
            handler = self.name.as_str(),
            action = Empty,
            run = Empty,
            step = Empty,
        );
        let begin = Instant::now();
        let answer = async {
            let outcome = AssertUnwindSafe(self.handle(event, invocation)).catch_unwind().await;
            let outcome = outcome.unwrap_or(Err(Error::Internal));
            self.measure(&outcome, begin.elapsed(), invocation);
            outcome.map_err(|error| self.diagnosed(error))
        };
        answer.instrument(span).await
    }

    async fn handle(&self, event: &str, invocation: &Invocation) -> Result<Reply, Error> {
        let handler = self.ready.as_ref();
        handler.map_err(|message| Error::Config(message.as_ref().to_owned()))?.handle(event, invocation).await
    }

    fn diagnosed(&self, error: Error) -> Diagnostic {
        // Text from the database, a service or a raw file is not logged.
        let is_quotation = error.may_quote();
        if let Error::Service(error) = &error {
            tracing::error!(
                kind = error.kind().as_str(),
                code = error.code(),
                operation = error.context("operation"),
                service_request_id = error.context("request_id"),
                "the service rejected a request, or did not respond"
            );
        }
        let diagnostic = Diagnostic::from(Reported { error, names: self.names });
        match is_quotation {
            true => tracing::info!(error = diagnostic.error_type, "the message is in the reply"),
            false => tracing::error!(error = diagnostic.error_type, "{}", diagnostic.error_message),
        }
        diagnostic
    }

    /// Writes the metrics of an invocation to standard output, unless the namespace is empty.
    fn measure(&self, outcome: &Result<Reply, Error>, elapsed: Duration, invocation: &Invocation) {
        if self.namespace.trim().is_empty() {
            return;
        }
        let metrics = Metrics::default().about("request_id", invocation.request_id());
        let metrics = metrics.with("HandlerMilliseconds", Unit::Milliseconds, elapsed.as_millis() as f64);
        let metrics = match outcome {
            Ok(reply) => reply.measured(metrics),
            Err(error) => {
                let metrics = metrics.counting("Errors").about("error", error.name(self.names));
                raised_outcome(error).into_iter().fold(metrics, Metrics::counting)
            }
        };
        println!("{}", metrics.line(&self.namespace, self.name.as_str(), invocation.now()));
    }
}

impl Handler {
    fn from_variables(name: HandlerName, variable: &impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        Ok(match name {
            HandlerName::Redshift => {
                let Config { region, target, call } = Config::from_variables(variable)?;
                let executor = aws::executor(&aws::sdk(&region, variable)?, target);
                Self::Redshift { executor: Arc::new(executor), call }
            }
            HandlerName::Statement => {
                let Warehouse { region, target } = Warehouse::from_variables(variable)?;
                let executor = Arc::new(aws::executor(&aws::sdk(&region, variable)?, target));
                Self::Statement { executor: executor.clone(), catalog: executor }
            }
            #[cfg(feature = "callback")]
            HandlerName::Callback => {
                let sdk = aws::sdk(&config::region(variable)?, variable)?;
                // A description needs no database.
                let target = redshift_orchestrator::Target::workgroup("", "");
                let tasks = Arc::new(aws::StepFunctions::new(&sdk));
                Self::Callback { executor: Arc::new(aws::executor(&sdk, target)), tasks }
            }
            #[cfg(feature = "hudi")]
            HandlerName::Hudi => {
                let config = HudiConfig::from_variables(variable)?;
                Self::Hudi { lake: Arc::new(aws::S3Lake::new(&config.table)), config: Box::new(config) }
            }
            #[cfg(feature = "glue")]
            HandlerName::Glue => {
                let region = config::region(variable)?;
                let journal = variable("GLUE_JOURNAL").filter(|url| !url.trim().is_empty());
                let journal = journal.map(|url| aws::journal(url.trim())).transpose()?;
                Self::Glue(Box::new(aws::glue(&aws::sdk(&region, variable)?, region, journal)))
            }
        })
    }

    fn name(&self) -> HandlerName {
        match self {
            Self::Redshift { .. } => HandlerName::Redshift,
            Self::Statement { .. } => HandlerName::Statement,
            #[cfg(feature = "callback")]
            Self::Callback { .. } => HandlerName::Callback,
            #[cfg(feature = "hudi")]
            Self::Hudi { .. } => HandlerName::Hudi,
            #[cfg(feature = "glue")]
            Self::Glue(_) => HandlerName::Glue,
        }
    }

    async fn handle(&self, event: &str, invocation: &Invocation) -> Result<Reply, Error> {
        match self {
            Self::Redshift { executor, call } => {
                handler::redshift(executor.as_ref(), call, invocation, event).await.map(Reply::Redshift)
            }
            Self::Statement { executor, catalog } => {
                let reply = handler::statement(executor.as_ref(), catalog.as_ref(), invocation, event).await;
                reply.map(Reply::Statement)
            }
            #[cfg(feature = "callback")]
            Self::Callback { executor, tasks } => {
                let reply = handler::callback(executor.as_ref(), tasks.as_ref(), invocation, event).await;
                reply.map(Reply::Callback)
            }
            #[cfg(feature = "hudi")]
            Self::Hudi { lake, config } => {
                let reply = Box::pin(handler::hudi(lake.as_ref(), config, invocation, event)).await;
                reply.map(Reply::Hudi)
            }
            #[cfg(feature = "glue")]
            Self::Glue(services) => {
                let reply = Box::pin(handler::glue(services, invocation, event)).await;
                reply.map(Reply::Glue)
            }
        }
    }
}

impl Reply {
    /// Adds the metrics of the reply. A statement is counted by each reply that reports its end, usually one.
    fn measured(&self, metrics: Metrics) -> Metrics {
        match self {
            Self::Redshift(dropin::Reply::Submitted { query_id }) => {
                metrics.counting("Submitted").about("statement_id", query_id)
            }
            Self::Redshift(dropin::Reply::Status { status, .. }) => match status.as_str() {
                "FINISHED" => metrics.counting("Succeeded"),
                "FAILED" => metrics.counting("Failed"),
                _ => metrics,
            },
            Self::Statement(statement::Reply::State(state)) => measured_state(state, metrics),
            Self::Statement(_) => metrics,
            #[cfg(feature = "callback")]
            Self::Callback(callback::Response::Event(reply)) => metrics
                .counting(task_name(reply.task))
                .about("statement_id", reply.id.as_deref().unwrap_or_default()),
            #[cfg(feature = "callback")]
            Self::Callback(callback::Response::Messages(response)) => {
                metrics.with("ReturnedMessages", Unit::Count, response.batch_item_failures.len() as f64)
            }
            #[cfg(feature = "hudi")]
            Self::Hudi(hudi::Response::Messages(handled)) => {
                let returned = handled.response.batch_item_failures.len() as f64;
                measured_upserts(&handled.upserted, metrics.with("ReturnedMessages", Unit::Count, returned))
            }
            #[cfg(feature = "hudi")]
            Self::Hudi(hudi::Response::Reply(hudi::Reply::Upsert(upserted))) => {
                measured_upserts(std::slice::from_ref(upserted.as_ref()), metrics)
            }
            #[cfg(feature = "hudi")]
            Self::Hudi(hudi::Response::Reply(_)) => metrics,
            #[cfg(feature = "glue")]
            Self::Glue(reply) => measured_glue(reply, metrics),
        }
    }
}

/// Returns the metric of an outcome that is an error because the event asked for one.
fn raised_outcome(error: &Error) -> Option<&'static str> {
    let (Error::Statement { name, .. } | Error::Glue { name, .. }) = error else { return None };
    ["Aborted", "Failed", "Stopped", "TimedOut", "Unknown"]
        .into_iter()
        .find(|outcome| name.rsplit('.').next() == Some(outcome))
}

fn measured_state(state: &statement::State, metrics: Metrics) -> Metrics {
    let metrics = metrics.about("statement_id", &state.id);
    let name = match state.outcome {
        statement::Outcome::Running => {
            return metrics.with("RunningSeconds", Unit::Seconds, state.age.as_secs_f64());
        }
        statement::Outcome::Succeeded => "Succeeded",
        statement::Outcome::Failed => "Failed",
        statement::Outcome::Aborted => "Aborted",
        statement::Outcome::Unknown => "Unknown",
    };
    metrics.counting(name).with("StatementSeconds", Unit::Seconds, state.seconds)
}

#[cfg(feature = "hudi")]
fn measured_upserts(upserted: &[hudi::Upserted], metrics: Metrics) -> Metrics {
    let Some(last) = upserted.last() else { return metrics };
    let count = |of: fn(&hudi::Upserted) -> u64| upserted.iter().map(of).sum::<u64>() as f64;
    let instants: Vec<&str> = upserted.iter().filter_map(|upserted| upserted.instant.as_deref()).collect();
    metrics
        .about("table", &last.table)
        .about("instant", instants.join(" "))
        .with("Commits", Unit::Count, instants.len() as f64)
        .with("FilesTakenIn", Unit::Count, count(|upserted| upserted.files.new))
        .with("FilesKnown", Unit::Count, count(|upserted| upserted.files.known))
        .with("RowsTakenIn", Unit::Count, count(|upserted| upserted.rows.rows))
}

#[cfg(feature = "glue")]
fn measured_glue(reply: &glue::Reply, metrics: Metrics) -> Metrics {
    match reply {
        glue::Reply::Start(state) | glue::Reply::Status(state) | glue::Reply::Stop(state) => {
            let metrics = metrics.about("job_run", state.run.as_deref().unwrap_or_default());
            let name = match state.outcome {
                glue::Outcome::Running => return metrics,
                glue::Outcome::Succeeded => "Succeeded",
                glue::Outcome::Failed => "Failed",
                glue::Outcome::Stopped => "Stopped",
                glue::Outcome::TimedOut => "TimedOut",
                glue::Outcome::Unknown => "Unknown",
            };
            metrics.counting(name).with("RunSeconds", Unit::Seconds, state.seconds)
        }
        glue::Reply::Sync(synced) => metrics.about("table", &synced.table).with(
            "CatalogChanges",
            Unit::Count,
            f64::from(synced.changed),
        ),
        glue::Reply::Exclude(excluded) => metrics.about("crawler", &excluded.crawler).with(
            "PatternsAdded",
            Unit::Count,
            excluded.added.len() as f64,
        ),
    }
}

#[cfg(feature = "callback")]
fn task_name(task: callback::Task) -> &'static str {
    match task {
        callback::Task::Succeeded => "TasksSucceeded",
        callback::Task::Failed => "TasksFailed",
        callback::Task::Over => "TasksOver",
        callback::Task::Foreign => "ForeignEvents",
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Function").field("name", &self.name).field("ready", &self.ready.is_ok()).finish()
    }
}

/// Serves a function through the Lambda Runtime API until the process ends.
///
/// # Errors
/// Fails if the Runtime API is unavailable.
pub async fn serve(function: Function) -> Result<(), lambda_runtime::Error> {
    let function = &function;
    let handler = service_fn(move |event: LambdaEvent<String>| async move {
        let (event, context) = event.into_parts();
        let now = SystemClock.now().as_millisecond();
        let remaining = context.deadline.saturating_sub(u64::try_from(now).unwrap_or_default());
        let invocation = Invocation::new(context.request_id, Duration::from_millis(remaining));
        function.invoke(&event, &invocation).await
    });
    Runtime::new(handler).layer(MapRequestLayer::new(as_text)).run().await
}

/// Passes the event to the handler as raw text. Otherwise the runtime would parse it first and report invalid
/// JSON under the name of a Rust type.
fn as_text(mut invocation: LambdaInvocation) -> LambdaInvocation {
    let text = String::from_utf8_lossy(&invocation.body);
    invocation.body = serde_json::Value::from(text).to_string().into();
    invocation
}

/// Writes logs as JSON lines to standard output, at the level of `AWS_LAMBDA_LOG_LEVEL` (default: INFO).
///
/// Below WARN, only this project's own lines are written. At DEBUG and TRACE, the SDK and the HTTP client log
/// requests, including SQL and the names of secrets.
pub fn init_logs(level: Option<&str>) {
    let level: LevelFilter = level.and_then(|level| level.parse().ok()).unwrap_or(LevelFilter::INFO);
    let ours =
        ["sfn_adapter", "redshift_orchestrator", "hudi_scd", "bootstrap"].map(|target| (target, level));
    let filter = Targets::new().with_default(level.min(LevelFilter::WARN)).with_targets(ours);
    // The runtime logs the message of each error, which may quote data. This layer has already logged the
    // error.
    let filter = filter.with_target("lambda_runtime::layers", LevelFilter::OFF);
    let lines = subscriber::fmt::layer().json().flatten_event(true).with_span_list(false);
    // A second call changes nothing.
    let _ = subscriber::registry().with(lines).with(filter).try_init();
    // A panic's message may quote data, so only its location is logged.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "panicked");
    }));
}

#[cfg(test)]
mod tests {
    use redshift_orchestrator::MockStatementExecutor;

    use super::*;

    fn invocation() -> Invocation {
        Invocation::new("r-1", Duration::from_secs(30))
    }

    #[tokio::test]
    async fn a_panic_has_a_name() {
        let mut executor = MockStatementExecutor::new();
        executor.expect_target().returning(|| None);
        executor.expect_submit().returning(|_, _| panic!("out of cheese"));
        let call = Call::new("etl", "load").unwrap();
        let function =
            Function::new(Handler::Redshift { executor: Arc::new(executor), call }, ErrorNames::Boto3);
        let diagnostic = function.invoke("{}", &invocation()).await.unwrap_err();
        assert_eq!(diagnostic.error_type, "SfnAdapter.Internal");
        assert!(!diagnostic.error_message.contains("cheese"));
    }

    #[test]
    fn an_outcome_counts_although_the_event_asks_for_an_error() {
        let of = |name| raised_outcome(&Error::Statement { name, cause: String::new() });
        assert_eq!(
            ["Statement.Running", "Statement.Failed", "Statement.Unknown"].map(of),
            [None, Some("Failed"), Some("Unknown")]
        );
        let of = |name| raised_outcome(&Error::Glue { name, cause: String::new() });
        assert_eq!(
            ["Glue.Deadline", "Glue.TimedOut", "Glue.Stopped"].map(of),
            [None, Some("TimedOut"), Some("Stopped")]
        );
        assert_eq!(raised_outcome(&Error::Internal), None);
    }

    #[tokio::test]
    async fn a_set_up_that_failed_is_told_to_every_invocation() {
        let function = Function::from_variables(|name| (name == "REGION").then(|| "eu-west-1".to_owned()));
        for event in ["{}", r#"{"QueryId":"q-1"}"#] {
            let diagnostic = function.invoke(event, &invocation()).await.unwrap_err();
            assert_eq!(diagnostic.error_type, "SfnAdapter.Config");
            assert!(diagnostic.error_message.contains("SECRET_ARN"), "{}", diagnostic.error_message);
        }
    }
}
