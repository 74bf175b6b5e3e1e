//! Searches errors, outcomes, reports, journals and logs of statements that run and fail.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_redshiftdata::config::{Credentials, SharedCredentialsProvider};
use redshift_data_emulator::Emulator;
use redshift_data_local::{self as local, Fault, Faults, Faulty, LocalExecutor, Operation, Script};
use redshift_orchestrator::{
    DataApiExecutor, Observer, Orchestrator, Outcome, Pipeline, ProgressEvent, Run, Statement,
    StatementExecutor, StatementFilter, StepKey, Target,
    journal::{FileJournal, Journal},
    layer::{Limit, Rate, RequestRates, Retry, Traced},
    pipeline::Step,
};

use crate::{ARN, PIN, SAID, SQL, capture, search};

/// Observer that records all events as text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard(pub(crate) Arc<Mutex<String>>);

impl Observer for Heard {
    fn observe(&self, key: &StepKey, event: &ProgressEvent<'_>) {
        self.0.lock().unwrap().push_str(&format!("{key} {event} {event:?}\n"));
    }
}

fn script() -> Script {
    Script::new()
        .on_each("UPDATE account", [local::ScriptedExecution::failed(Duration::from_millis(5), SAID)])
        .otherwise(local::ScriptedExecution::finished(Duration::ZERO))
}

fn pipeline() -> Pipeline {
    Pipeline::builder("p")
        .with_secret_parameter("pin")
        .with_step(Step::sql("a", SQL).with_parameter("pin", "${pin}"))
        .with_step(Step::sql("b", "SELECT 'sesame'"))
        .build()
        .unwrap()
}

/// Runs statements with an executor, and searches everything that results.
async fn run_and_search(what: &str, executor: impl StatementExecutor + 'static) {
    capture::listen();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    let (heard, journal) = (Heard::default(), Arc::new(FileJournal::open(&path).unwrap()));
    let orchestrator = Orchestrator::new(executor).with_journal(journal.clone()).with_observer(heard.clone());
    let report = pipeline().run(&orchestrator, Run::new("r").with_parameter("pin", PIN)).await.unwrap();
    assert!(!report.is_success());
    let error = report.steps()[0].attempts[0].error.clone().unwrap();
    assert!(error.contains("syntax error at or near \"…\""), "the redacted error is still useful: {error}");
    search(what, format!("{report} {report:?} {} {}", report.to_json(), report.to_svg()));
    search(what, &*heard.0.lock().unwrap());
    search(what, std::fs::read_to_string(&path).unwrap());
    search(what, format!("{:?} {orchestrator:?}", journal.entries("r").await.unwrap()));
    let statement = Statement::sql(SQL)
        .with_parameter("pin", PIN)
        .with_target(Target::cluster("c", "d").with_secret(ARN));
    let outcome: Outcome = orchestrator.run(&StepKey::new("r2", "s"), statement).await.unwrap();
    search(what, format!("{outcome:?} {}", outcome.kind));
    assert_eq!(
        outcome.description.unwrap().error.as_deref(),
        Some(SAID),
        "the description itself is not redacted"
    );
    let listed = orchestrator.executor().list(&StatementFilter::default(), None).await.unwrap();
    search(what, format!("{listed:?}"));
    search(what, capture::said());
}

#[tokio::test]
async fn the_local_executor_behind_every_layer_prints_no_secrets() {
    let faults = Faults::seeded(3).with(Operation::Submit, Fault::LostReply, 0.4).with(
        Operation::Describe,
        Fault::Throttle,
        0.4,
    );
    let service = Faulty::new(LocalExecutor::scripted(script()), faults);
    let layers = Retry::new(Limit::new(Rate::new(Traced::new(service), RequestRates::default()), 20));
    search("Debug of layers", format!("{layers:?} {layers}"));
    run_and_search("the local executor", layers).await;
}

#[tokio::test]
async fn the_real_sdk_against_the_emulator_prints_no_secrets() {
    capture::listen();
    let emulator = Emulator::new(Traced::new(LocalExecutor::scripted(script())));
    let listening = emulator.bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let url = listening.url();
    let serving = tokio::spawn(listening.serve_until(std::future::pending()));
    let credentials = Credentials::new("any", "sesame-key", Some("sesame-token".into()), None, "test");
    let sdk = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .endpoint_url(url)
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build();
    let target = Target::cluster("dwh", "dev").with_secret(ARN);
    let executor = DataApiExecutor::new(&sdk, target);
    search("Debug of the executor", format!("{executor:?}"));
    run_and_search("the Data API", Traced::new(executor.clone())).await;
    // These statements are rejected by the service.
    for refused in [
        Statement::sql(SQL).with_parameter("pin", ""),
        Statement::sql(SQL).with_parameter("nip", PIN),
        Statement::batch(vec![SQL; 41]),
        Statement::sql(format!("{SQL} {}", "x".repeat(200_000))),
    ] {
        if let Err(error) = executor.submit(&refused, None).await {
            search("a refusal", format!("{error} {error:?}"));
        }
    }
    serving.abort();
}

/// Without redaction, errors contain the values.
#[tokio::test(start_paused = true)]
async fn quotations_are_kept_on_request() {
    let orchestrator = Orchestrator::new(LocalExecutor::scripted(script())).with_redaction(false);
    let report = pipeline().run(&orchestrator, Run::new("r").with_parameter("pin", PIN)).await.unwrap();
    assert_eq!(report.steps()[0].attempts[0].error.as_deref(), Some(SAID));
}
