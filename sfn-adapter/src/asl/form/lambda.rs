//! The form `lambda`: every request goes through the handler `statement`.
//!
//! The events follow version 1 of the contract.

use redshift_orchestrator::{
    Auth, Compute, ExecutionMode, FailureKind, Pipeline, Target, pipeline::StepStatement,
};
use serde_json::json;

use super::{
    builder::Call,
    calls::{Calls, payload},
    machine::redrive_count,
    step::{StepPlan, retrier},
};
use crate::asl::{
    expr::{Condition, Expr, Shape},
    model::Retrier,
};

/// Errors of the invocation after which it is retried. Lambda reports a function that it ended at its timeout
/// as `Sandbox.Timedout`, and one whose process ended, for example for lack of memory, as `Runtime.ExitError`.
/// <https://docs.aws.amazon.com/step-functions/latest/dg/bp-lambda-serviceexception.html>
const INVOCATION: [&str; 8] = [
    "Lambda.AWSLambdaException",
    "Lambda.ClientExecutionTimeoutException",
    "Lambda.SdkClientException",
    "Lambda.ServiceException",
    "Lambda.TooManyRequestsException",
    "Lambda.Unknown",
    "Runtime.ExitError",
    "Sandbox.Timedout",
];

/// Errors of the handler after which the same request may succeed. A repeated submit has the same token.
const TRANSIENT: [&str; 9] = [
    "RedshiftData.ActiveStatementsExceededException",
    "RedshiftData.DatabaseConnectionException",
    "RedshiftData.Disconnected",
    "RedshiftData.InternalServerException",
    "RedshiftData.NotSent",
    "RedshiftData.ThrottlingException",
    "SfnAdapter.Deadline",
    "SfnAdapter.Internal",
    "States.Timeout",
];

/// Errors of a submit that are reported before anything is sent or accepted. Each retry would fail in the
/// same way.
const NOT_SUBMITTED: [&str; 6] = [
    "Lambda.ResourceNotFoundException",
    "RedshiftData.AccessDeniedException",
    "RedshiftData.ResourceNotFoundException",
    "RedshiftData.ValidationException",
    "SfnAdapter.BadInput",
    "SfnAdapter.Config",
];

/// Maximum duration of an invocation in seconds.
const TIMEOUT: u64 = 60;

#[derive(Debug)]
pub(super) struct Lambda {
    arn: String,
    target: Option<Target>,
    /// `true` for each step that calls a procedure.
    calls: Vec<(String, bool)>,
}

impl Lambda {
    pub(super) fn new(pipeline: &Pipeline, arn: &str) -> Self {
        let calls = pipeline.steps().iter();
        let calls = calls
            .map(|step| (step.name().to_owned(), matches!(step.statement(), Some(StepStatement::Call(_)))));
        Self { arn: arn.to_owned(), target: pipeline.declared_target().cloned(), calls: calls.collect() }
    }

    /// Invokes the handler with an event.
    pub(super) fn invoke(&self, pattern: &str, event: Shape, keep: Shape, timeout: u64) -> Call {
        Call {
            resource: format!("arn:aws:states:::lambda:invoke{pattern}"),
            arguments: Shape::object([("FunctionName", Shape::text(&self.arn)), ("Payload", event)]),
            keep,
            timeout,
            retry: retries(),
        }
    }

    /// Returns the event of a submit.
    pub(super) fn event(&self, step: &StepPlan, task_token: Option<Shape>) -> Shape {
        let is_call = self.calls.iter().any(|(name, is_call)| *name == step.name && *is_call);
        let single = step.sqls.first().filter(|_| step.execution_mode.is_none());
        let call = single.filter(|_| is_call).map(|sql| without_call(sql).into());
        let sql = single.filter(|_| !is_call).map(|sql| sql.clone().into());
        let batch = step
            .execution_mode
            .map(|_| Shape::List(step.sqls.iter().map(|sql| Shape::Expr(sql.clone())).collect()));
        let mode = step.execution_mode.filter(|mode| *mode == ExecutionMode::AutoCommit);
        let parameters = step.parameters.iter().map(|(name, value)| (name.as_str(), value.clone().into()));
        let parameters = (!step.parameters.is_empty()).then(|| Shape::object(parameters));
        payload([
            ("version", Some(Shape::Value(json!(1)))),
            ("action", Some(Shape::text("submit"))),
            ("identity", Some(identity(step))),
            ("sql", sql),
            ("call", call),
            ("batch", batch),
            ("execution_mode", mode.map(|_| Shape::text("auto-commit"))),
            ("parameters", parameters),
            ("target", self.target.as_ref().map(target)),
            ("task_token", task_token),
        ])
    }
}

impl Calls for Lambda {
    fn submit(&self, step: &StepPlan) -> Call {
        let keep = Shape::object([("id", Expr::Result("Payload.id".to_owned()).into())]);
        self.invoke("", self.event(step, None), keep, TIMEOUT)
    }

    fn status(&self, step: &StepPlan) -> Call {
        let member = |name: &str| (name.to_owned(), Expr::Result(format!("Payload.{name}")).into());
        let event = payload([
            ("version", Some(Shape::Value(json!(1)))),
            ("action", Some(Shape::text("status"))),
            ("identity", Some(identity(step))),
            ("id", Some(Expr::data("run.statement.id").into())),
        ]);
        self.invoke("", event, Shape::Object(["status", "cause", "failure"].map(member).to_vec()), TIMEOUT)
    }

    fn cancel(&self) -> Call {
        let event = payload([
            ("version", Some(Shape::Value(json!(1)))),
            ("action", Some(Shape::text("cancel"))),
            ("id", Some(Expr::data("run.statement.id").into())),
        ]);
        let keep = Shape::object([("status", Expr::Result("Payload.status".to_owned()).into())]);
        self.invoke("", event, keep, TIMEOUT)
    }

    fn error_text(&self) -> &'static str {
        "run.reply.cause"
    }

    fn failed_with(&self, _: &StepPlan, kinds: &[FailureKind]) -> Condition {
        Condition::is_one_of("run.reply.failure", kinds.iter().map(|kind| kind.as_str()))
    }

    fn invokes_function(&self) -> bool {
        true
    }

    fn not_submitted(&self) -> &'static [&'static str] {
        &NOT_SUBMITTED
    }
}

/// Retries a request for about a quarter of an hour.
fn retries() -> Vec<Retrier> {
    vec![retrier(&INVOCATION, 1, 12, 60), retrier(&TRANSIENT, 2, 20, 60)]
}

/// Returns the attempt that the event belongs to. The handler derives the token and the name from it.
fn identity(step: &StepPlan) -> Shape {
    Shape::object([
        ("execution", Expr::Context("Execution.Id").into()),
        ("redrive", redrive_count().into()),
        ("step", Shape::text(&step.name)),
        ("attempt", Expr::data("run.attempt").into()),
    ])
}

fn target(target: &Target) -> Shape {
    let text = |text: &String| Some(Shape::text(text));
    let (cluster, workgroup) = match target.compute() {
        Compute::Cluster(identifier) => (text(identifier), None),
        Compute::Workgroup(name) => (None, text(name)),
    };
    let (user, secret) = match target.auth() {
        Auth::Iam => (None, None),
        Auth::DatabaseUser(user) => (text(user), None),
        Auth::Secret(arn) => (None, text(arn)),
    };
    payload([
        ("cluster", cluster),
        ("workgroup", workgroup),
        ("database", Some(Shape::text(target.database()))),
        ("database_user", user),
        ("secret", secret),
    ])
}

/// Removes the word `CALL`, which the contract adds.
fn without_call(sql: &Expr) -> Expr {
    let Expr::Concat(parts) = sql else { return sql.clone() };
    let mut parts = parts.clone();
    if let Some(Expr::Text(first)) = parts.first_mut() {
        *first = first.strip_prefix("CALL ").unwrap_or(first).to_owned();
    }
    parts.retain(|part| *part != Expr::text(""));
    Expr::Concat(parts)
}
