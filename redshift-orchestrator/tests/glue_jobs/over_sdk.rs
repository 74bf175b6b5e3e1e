//! The simulated service behind the SDK: the SDK serializes each request, retries it, and parses the response.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use hyper::{Request, Response};
use redshift_orchestrator::{
    ErrorKind, Result, TokioClock,
    glue::{
        GlueJob, GlueService, JobRun, JobRunState, JobService,
        aws_sdk_glue::{Client, config::retry::RetryConfig},
    },
    journal::MemoryJournal,
    task::TaskOutcomeKind,
};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::{
    SECOND, connector, key,
    service::{Fault, Service},
};

/// Returns a client of the simulated service.
fn client(service: &Arc<Service>) -> GlueService {
    let service = service.clone();
    let config = connector::sdk_config(move |request: Request<Bytes>| {
        let service = service.clone();
        Box::pin(async move { response(&service, &request).await })
    });
    // Without jitter, so that a seed always draws the same schedule.
    let retry = RetryConfig::standard().with_use_static_exponential_base(true);
    GlueService::new(Client::new(&config.to_builder().retry_config(retry).build()))
}

/// Returns the response of the service. `None` closes the connection.
async fn response(service: &Service, request: &Request<Bytes>) -> Option<Response<Bytes>> {
    let operation = request.headers()["x-amz-target"].to_str().unwrap().strip_prefix("AWSGlue.").unwrap();
    let input: Value = serde_json::from_slice(request.body()).unwrap();
    let (status, body) = match output(service, operation, &input).await {
        Ok(output) => (200, output),
        Err(error) => {
            let code = match error.kind() {
                ErrorKind::Disconnected => return None,
                ErrorKind::Throttled => "ThrottlingException",
                ErrorKind::TooManyStatements => "ConcurrentRunsExceededException",
                ErrorKind::NotFound => "EntityNotFoundException",
                ErrorKind::CredentialsExpired => "ExpiredTokenException",
                other => panic!("{other:?}"),
            };
            (400, json!({ "__type": code, "Message": error.message() }))
        }
    };
    let response = Response::builder().status(status).header("content-type", "application/x-amz-json-1.1");
    Some(response.body(body.to_string().into()).unwrap())
}

async fn output(service: &Service, operation: &str, input: &Value) -> Result<Value> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let job = text(&input["JobName"]);
    Ok(match operation {
        "StartJobRun" => {
            let arguments = serde_json::from_value(input["Arguments"].clone()).unwrap();
            json!({ "JobRunId": service.start(&job, &arguments).await? })
        }
        "GetJobRun" => json!({ "JobRun": described(&service.run(&job, &text(&input["RunId"])).await?) }),
        "GetJobRuns" => {
            let page = service.runs(&job, input["NextToken"].as_str()).await?;
            let runs: Vec<_> = page.runs.iter().map(described).collect();
            match page.next {
                Some(next) => json!({ "JobRuns": runs, "NextToken": next }),
                None => json!({ "JobRuns": runs }),
            }
        }
        "BatchStopJobRun" => {
            let run = text(&input["JobRunIds"][0]);
            let mut about = json!({ "JobName": job, "JobRunId": run });
            if service.stop(&job, &run).await? {
                json!({ "SuccessfulSubmissions": [about], "Errors": [] })
            } else {
                about["ErrorDetail"] =
                    json!({ "ErrorCode": "InvalidInputException", "ErrorMessage": "The run has ended." });
                json!({ "SuccessfulSubmissions": [], "Errors": [about] })
            }
        }
        other => panic!("{other}"),
    })
}

fn described(run: &JobRun) -> Value {
    let mut described = json!({
        "Id": run.id, "JobRunState": run.state.as_str(), "Arguments": run.arguments,
        "ExecutionTime": run.execution_time.unwrap_or_default().as_secs(),
    });
    if let Some(error) = &run.error {
        described["ErrorMessage"] = error.as_str().into();
    }
    described
}

fn clock() -> TokioClock {
    TokioClock::starting_at("2026-03-01T00:00:00Z".parse().unwrap())
}

/// Creates a job of a new process, which has a client of its own. The clock is that of all processes.
fn job(service: &Arc<Service>, journal: &Arc<MemoryJournal>, clock: TokioClock) -> GlueJob {
    GlueJob::new(Arc::new(client(service)), journal.clone(), "clean").with_clock(clock)
}

#[tokio::test(start_paused = true)]
async fn outcomes_a_timeout_and_the_limit_of_runs_are_recognized_over_the_sdk() {
    let (service, journal) = (Arc::new(Service::default()), Arc::new(MemoryJournal::new()));
    let (clock, mut attempt) = (clock(), 0);
    for (end, text) in [
        (JobRunState::Succeeded, "succeeded"),
        (JobRunState::Failed, "failed, FAILED: ValueError: no such column"),
        (JobRunState::Timeout, "failed, TIMEOUT: the service gives no reason"),
        (JobRunState::Stopped, "was stopped, STOPPED: the service gives no reason"),
    ] {
        attempt += 1;
        service.state().next.1 = end.clone();
        let outcome = job(&service, &journal, clock).run(&key().with_attempt(attempt), &[]).await.unwrap();
        assert_eq!(outcome.state, Some(end));
        assert!(outcome.to_string().contains(text), "{outcome}");
    }

    // A run that takes too long is stopped, although the response to the request is lost.
    service.state().next = (3600 * SECOND, JobRunState::Succeeded);
    let hasty = job(&service, &journal, clock).with_timeout(120 * SECOND);
    let losing = service.clone();
    let loss = tokio::spawn(async move {
        sleep(119 * SECOND).await;
        losing.state().fault = Some(Fault::LostReply);
    });
    let outcome = hasty.run(&key().with_attempt(5), &[]).await.unwrap();
    loss.await.unwrap();
    assert_eq!(outcome.kind, TaskOutcomeKind::TimedOut { may_still_run: false });

    // A start that Glue rejects waits until the other run has ended.
    service.state().limit = 1;
    service.state().next = (90 * SECOND, JobRunState::Succeeded);
    let (first, second) = (job(&service, &journal, clock), job(&service, &journal, clock));
    let keys = [key().with_attempt(6), key().with_attempt(7)];
    let begun = tokio::time::Instant::now();
    let (first, second) = tokio::join!(first.run(&keys[0], &[]), second.run(&keys[1], &[]));
    assert!(first.unwrap().is_success() && second.unwrap().is_success());
    assert!(begun.elapsed() >= 180 * SECOND);
    assert_eq!(service.started(), 7);
}

#[tokio::test(start_paused = true)]
async fn no_schedule_of_faults_and_deaths_starts_a_second_run_over_the_sdk() {
    let mut counts = [0; 4];
    for seed in 0..100 {
        let service = Arc::new(Service::with_faults(seed));
        let (journal, clock) = (Arc::new(MemoryJournal::new()), clock());
        let mut random = fastrand::Rng::with_seed(seed);
        let ends = [
            (90, JobRunState::Succeeded),
            (90, JobRunState::Failed),
            (90, JobRunState::Timeout),
            (3600, JobRunState::Succeeded),
        ];
        let (seconds, end) = ends[random.usize(..ends.len())].clone();
        {
            let mut state = service.state();
            state.listed_after = random.u32(0..30) * SECOND;
            state.next = (Duration::from_secs(seconds), end.clone());
            // Other runs use up the limit for some time.
            state.limit = usize::from(random.bool());
        }
        let (full, pause) = (service.clone(), random.u32(0..300) * SECOND);
        tokio::spawn(async move {
            sleep(pause).await;
            full.state().limit = 1;
        });
        let outcome = loop {
            // The process dies after a random time, and the next process continues.
            let lifetime = random.u32(1..400) * SECOND / 2;
            let job = job(&service, &journal, clock).with_timeout(600 * SECOND);
            match timeout(lifetime, job.run(&key(), &[("--cycle", "7")])).await {
                Ok(Ok(outcome)) => break outcome,
                Ok(Err(error)) => panic!("seed {seed}: {error}"),
                Err(_) => {}
            }
        };
        let expected = match (&outcome.kind, seconds, &end) {
            (TaskOutcomeKind::Finished, 90, JobRunState::Succeeded) => 0,
            (TaskOutcomeKind::Failed { .. }, 90, JobRunState::Failed | JobRunState::Timeout) => 1,
            (TaskOutcomeKind::TimedOut { may_still_run: false }, 3600, _) => 2,
            (TaskOutcomeKind::Unknown { .. }, ..) => 3,
            (other, ..) => panic!("seed {seed}: {other:?} of a run that ends as {end} after {seconds} s"),
        };
        counts[expected] += 1;
        assert!(service.started() <= 1, "seed {seed}: {} runs", service.started());
        assert!(expected == 3 || service.started() == 1, "seed {seed}: no run");
    }
    // One start in twenty loses its request, and a start is sent again while the limit is reached.
    let [succeeded, failed, timed_out, unknown] = counts;
    assert!(
        succeeded > 10 && failed > 25 && timed_out > 10 && (3..45).contains(&unknown),
        "{counts:?}: succeeded, failed, timed out, unknown"
    );
}
