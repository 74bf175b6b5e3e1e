//! Requests to Glue as the SDK sends them.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use hyper::{Request, Response};
use redshift_orchestrator::{
    ErrorKind,
    glue::{Ensured, GlueJob, GlueService, JobDefinition, JobService, RUN_TOKEN, aws_sdk_glue::Client},
    journal::{Journal, MemoryJournal},
    task::TaskOutcomeKind,
};
use serde_json::{Value, json};

use crate::{connector, key};

/// Recorded requests: the operation and the input of each.
#[derive(Clone, Default)]
struct Wire(Arc<Mutex<Vec<(String, Value)>>>);

impl Wire {
    /// Returns a service that calls `answer` for each request. `None` closes the connection, and `Err`
    /// contains an error code.
    fn service(
        &self,
        answer: impl Fn(&str, &Value) -> Option<Result<Value, &'static str>> + Send + Sync + 'static,
    ) -> GlueService {
        let seen = self.0.clone();
        let config = connector::sdk_config(move |request: Request<Bytes>| {
            let target = request.headers()["x-amz-target"].to_str().unwrap();
            let operation = target.strip_prefix("AWSGlue.").unwrap().to_owned();
            let input: Value = serde_json::from_slice(request.body()).unwrap();
            let answer = answer(&operation, &input);
            seen.lock().unwrap().push((operation, input));
            let (status, body) = match answer {
                None => return Box::pin(async { None }),
                Some(Ok(output)) => (200, output),
                Some(Err(code)) => (400, json!({ "__type": code, "Message": "text of the service" })),
            };
            let response =
                Response::builder().status(status).header("content-type", "application/x-amz-json-1.1");
            let response = response.body(Bytes::from(body.to_string())).unwrap();
            Box::pin(async { Some(response) })
        });
        GlueService::new(Client::new(&config))
    }

    fn inputs(&self, operation: &str) -> Vec<Value> {
        let seen = self.0.lock().unwrap();
        seen.iter().filter(|(name, _)| name == operation).map(|(_, input)| input.clone()).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_whose_response_is_lost_is_sent_once() {
    let wire = Wire::default();
    let sent = wire.clone();
    let service = wire.service(move |operation, _| match operation {
        "StartJobRun" => None,
        "GetJobRuns" => {
            let started = sent.inputs("StartJobRun");
            let ours =
                json!({ "Id": "jr_1", "JobRunState": "RUNNING", "Arguments": started[0]["Arguments"] });
            let other = json!({ "Id": "jr_2", "JobRunState": "RUNNING" });
            Some(Ok(json!({ "JobRuns": [other, ours] })))
        }
        "GetJobRun" => Some(Ok(json!({ "JobRun": {
            "Id": "jr_1", "JobRunState": "FAILED", "ErrorMessage": "no such column", "ExecutionTime": 61,
            "LogGroupName": "/shop/jobs",
        } }))),
        other => panic!("{other}"),
    });
    let journal = Arc::new(MemoryJournal::new());
    let job = GlueJob::new(Arc::new(service), journal.clone(), "clean");
    let outcome = job.run(&key(), &[("--cycle", "7")]).await.unwrap();
    assert_eq!(
        outcome.to_string(),
        "run jr_1 of job clean failed, FAILED: no such column; log: log groups /shop/jobs/output and \
         /shop/jobs/error, stream jr_1"
    );
    assert_eq!(journal.entry(&key()).await.unwrap().unwrap().target.unwrap(), "aws:eu-west-1:glue/clean");
    let starts = wire.inputs("StartJobRun");
    assert_eq!(starts.len(), 1, "{starts:?}");
    assert_eq!((&starts[0]["JobName"], &starts[0]["Arguments"]["--cycle"]), (&"clean".into(), &"7".into()));
    assert!(starts[0]["Arguments"][RUN_TOKEN].as_str().unwrap().starts_with("ro2-"));
}

#[tokio::test(start_paused = true)]
async fn errors_of_a_start_have_the_right_kind() {
    for (code, kind) in [
        ("ConcurrentRunsExceededException", ErrorKind::TooManyStatements),
        ("ResourceNumberLimitExceededException", ErrorKind::TooManyStatements),
        ("ThrottlingException", ErrorKind::Throttled),
        ("EntityNotFoundException", ErrorKind::NotFound),
        ("InvalidInputException", ErrorKind::Invalid),
        ("AccessDeniedException", ErrorKind::Denied),
        ("InternalServiceException", ErrorKind::ServiceFault),
        ("OperationTimeoutException", ErrorKind::ServiceFault),
        ("SomethingNew", ErrorKind::Other),
    ] {
        let wire = Wire::default();
        let service = wire.service(move |_, _| Some(Err(code)));
        let error = service.start("clean", &Default::default()).await.unwrap_err();
        assert_eq!((error.kind(), error.message()), (kind, "text of the service"), "{code}");
        assert_eq!(wire.inputs("StartJobRun").len(), 1, "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_has_ended_is_not_stopped() {
    let wire = Wire::default();
    let service = wire.service(|_, input| {
        let error =
            |code: &str| json!({ "Errors": [{ "ErrorDetail": { "ErrorCode": code, "ErrorMessage": "x" } }] });
        Some(Ok(match input["JobRunIds"][0].as_str().unwrap() {
            "jr_1" => json!({ "SuccessfulSubmissions": [{ "JobName": "clean", "JobRunId": "jr_1" }] }),
            "jr_2" => error("InvalidInputException"),
            _ => error("EntityNotFoundException"),
        }))
    });
    assert!(service.stop("clean", "jr_1").await.unwrap());
    assert!(!service.stop("clean", "jr_2").await.unwrap());
    assert_eq!(service.stop("clean", "jr_3").await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn a_job_is_created_with_every_property() {
    let wire = Wire::default();
    let service = wire.service(|operation, _| {
        Some(match operation {
            "GetJob" => Err("EntityNotFoundException"),
            _ => Ok(json!({ "Name": "clean" })),
        })
    });
    let job = GlueJob::new(Arc::new(service), MemoryJournal::new(), "clean");
    let definition =
        JobDefinition::new("clean", "arn:role", "s3://bucket/job.py").with_default_argument("--a", "b");
    assert_eq!(job.ensure(&definition).await.unwrap(), Ensured::Created);
    assert_eq!(
        wire.inputs("CreateJob"),
        [json!({
            "Name": "clean", "Role": "arn:role", "GlueVersion": "5.0", "MaxRetries": 0, "Timeout": 480,
            "Command": { "Name": "glueetl", "PythonVersion": "3", "ScriptLocation": "s3://bucket/job.py" },
            "DefaultArguments": { "--a": "b" }, "ExecutionProperty": { "MaxConcurrentRuns": 1 },
            "WorkerType": "G.1X", "NumberOfWorkers": 2,
        })]
    );
}

#[tokio::test(start_paused = true)]
async fn a_run_without_a_record_is_unknown() {
    let wire = Wire::default();
    let service = wire.service(|operation, _| {
        Some(match operation {
            "StartJobRun" => Ok(json!({ "JobRunId": "jr_1" })),
            _ => Err("EntityNotFoundException"),
        })
    });
    let job = GlueJob::new(Arc::new(service), MemoryJournal::new(), "clean");
    let outcome = job.run(&key(), &[]).await.unwrap();
    let TaskOutcomeKind::Unknown { manual_check, .. } = &outcome.kind else { panic!("{outcome}") };
    assert!(manual_check.contains("look at run jr_1 of job clean"), "{manual_check}");
}
