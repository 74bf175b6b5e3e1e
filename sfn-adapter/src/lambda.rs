//! The entry point between the handlers and `lambda_runtime`: setup, logs, panics, and error names.

use std::{fmt, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use aws_config::{BehaviorVersion, Region, timeout::TimeoutConfig};
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
use redshift_orchestrator::{Clock, DataApiExecutor, StatementExecutor, SystemClock};
use tracing::Instrument;

use crate::{Config, Error, ErrorNames, Invocation, Reply, Reported, handler};

/// The drop-in, set up once and invoked many times.
///
/// A setup error is stored and returned by every invocation, because a function that crashes on start reports
/// nothing to its state machine.
#[derive(Clone)]
pub struct Function {
    names: ErrorNames,
    ready: Result<(Config, Arc<dyn StatementExecutor>), Arc<str>>,
}

impl Function {
    /// Creates the function from variables, usually the environment's. Credentials come from AWS's default
    /// provider chain.
    pub async fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let names = ErrorNames::from_variables(&variable);
        let config = names.as_ref().map(|_| ()).map_err(ToString::to_string);
        let config =
            config.and_then(|()| Config::from_variables(&variable).map_err(|error| error.to_string()));
        let names = names.unwrap_or_default();
        match config {
            Ok(config) => {
                let region = Region::new(config.region.clone());
                let sdk = aws_config::defaults(BehaviorVersion::latest()).region(region).load().await;
                let conf = DataApiExecutor::config(&sdk).timeout_config(attempt_timeout()).build();
                let executor = DataApiExecutor::from_conf(conf, config.target.clone());
                Self::new(config, Arc::new(executor), names)
            }
            Err(message) => Self { names, ready: Err(message.into()) },
        }
    }

    /// Creates the function over the caller's executor.
    pub fn new(config: Config, executor: Arc<dyn StatementExecutor>, names: ErrorNames) -> Self {
        Self { names, ready: Ok((config, executor)) }
    }

    /// Handles one event.
    ///
    /// # Errors
    /// Returns every error and every panic as the name and the message for Step Functions.
    pub async fn invoke(&self, event: &str, invocation: &Invocation) -> Result<Reply, Diagnostic> {
        let span = tracing::error_span!("invocation", request_id = invocation.request_id());
        let answer = async {
            let outcome = AssertUnwindSafe(self.handle(event, invocation)).catch_unwind().await;
            outcome.unwrap_or(Err(Error::Internal)).map_err(|error| {
                let diagnostic = Diagnostic::from(Reported { error, names: self.names });
                tracing::error!(error = diagnostic.error_type, "{}", diagnostic.error_message);
                diagnostic
            })
        };
        answer.instrument(span).await
    }

    async fn handle(&self, event: &str, invocation: &Invocation) -> Result<Reply, Error> {
        let (config, executor) =
            self.ready.as_ref().map_err(|message| Error::Config(message.as_ref().to_owned()))?;
        handler::redshift(executor.as_ref(), &config.call, invocation, event).await
    }
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Function").field("names", &self.names).field("ready", &self.ready.is_ok()).finish()
    }
}

/// Without long polls a response takes well under a second. A lost response is detected early enough for a
/// retry.
fn attempt_timeout() -> TimeoutConfig {
    TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(3))
        .operation_attempt_timeout(Duration::from_secs(8))
        .build()
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

/// Passes the event to the handler as raw text. The runtime would otherwise parse it first, and report
/// invalid JSON under the name of a Rust type.
fn as_text(mut invocation: LambdaInvocation) -> LambdaInvocation {
    let text = String::from_utf8_lossy(&invocation.body);
    invocation.body = serde_json::Value::from(text).to_string().into();
    invocation
}

/// Writes logs as JSON lines to standard output, at the level of `AWS_LAMBDA_LOG_LEVEL` (default: INFO).
///
/// Below WARN only this project's own lines are written: at DEBUG and TRACE the SDK and the HTTP client log
/// requests, including SQL and secrets' names.
pub fn init_logs(level: Option<&str>) {
    let level: LevelFilter = level.and_then(|level| level.parse().ok()).unwrap_or(LevelFilter::INFO);
    let ours = ["sfn_adapter", "redshift_orchestrator", "bootstrap"].map(|target| (target, level));
    let filter = Targets::new().with_default(level.min(LevelFilter::WARN)).with_targets(ours);
    let lines = subscriber::fmt::layer().json().flatten_event(true).with_span_list(false).without_time();
    // A second call changes nothing.
    let _ = subscriber::registry().with(lines).with(filter).try_init();
}

#[cfg(test)]
mod tests {
    use redshift_orchestrator::{MockStatementExecutor, Target};

    use super::*;
    use crate::Call;

    fn invocation() -> Invocation {
        Invocation::new("r-1", Duration::from_secs(30))
    }

    #[tokio::test]
    async fn a_panic_has_a_name() {
        let mut executor = MockStatementExecutor::new();
        executor.expect_target().returning(|| None);
        executor.expect_submit().returning(|_, _| panic!("out of cheese"));
        let config = Config {
            region: "eu-west-1".to_owned(),
            target: Target::cluster("dwh", "mystore"),
            call: Call::new("etl", "load").unwrap(),
        };
        let function = Function::new(config, Arc::new(executor), ErrorNames::Boto3);
        let diagnostic = function.invoke("{}", &invocation()).await.unwrap_err();
        assert_eq!(diagnostic.error_type, "SfnAdapter.Internal");
        assert!(!diagnostic.error_message.contains("cheese"));
    }

    #[tokio::test]
    async fn a_set_up_that_failed_is_told_to_every_invocation() {
        let function =
            Function::from_variables(|name| (name == "REGION").then(|| "eu-west-1".to_owned())).await;
        for event in ["{}", r#"{"QueryId":"q-1"}"#] {
            let diagnostic = function.invoke(event, &invocation()).await.unwrap_err();
            assert_eq!(diagnostic.error_type, "SfnAdapter.Config");
            assert!(diagnostic.error_message.contains("SECRET_ARN"), "{}", diagnostic.error_message);
        }
    }
}
