//! The form `sdk`: Step Functions calls the Data API itself, with long polls.

use redshift_orchestrator::{Auth, Compute, ExecutionMode, FailureKind, Pipeline, Target};
use serde_json::json;

use super::{
    builder::Call,
    calls::{Calls, payload},
    machine::token,
    step::{StepPlan, retrier},
};
use crate::asl::{
    expr::{Condition, Expr, Shape},
    model::Retrier,
};

/// Maximum time for which the service delays the response to a poll, in seconds.
/// <https://docs.aws.amazon.com/redshift/latest/mgmt/data-api-calling-considerations-long-polling.html>
pub(super) const LONG_POLL: u64 = 30;

/// Error of a code without a class of its own.
const UNNAMED: &str = "RedshiftData.RedshiftDataException";

/// Errors after which the same request may succeed. Step Functions reports a code without a class of its own,
/// such as the throttling code, as [`UNNAMED`].
const TRANSIENT: [&str; 7] = [
    "RedshiftData.ActiveStatementsExceededException",
    "RedshiftData.ActiveWaitingRequestsExceededException",
    "RedshiftData.DatabaseConnectionException",
    "RedshiftData.InternalServerException",
    UNNAMED,
    "RedshiftData.ThrottlingException",
    "States.Timeout",
];

/// Errors with which the service rejects a submit. Each retry would fail in the same way.
const NOT_SUBMITTED: [&str; 3] = [
    "RedshiftData.AccessDeniedException",
    "RedshiftData.ResourceNotFoundException",
    "RedshiftData.ValidationException",
];

#[derive(Debug)]
pub(super) struct Sdk {
    pipeline: String,
    target: Option<Target>,
}

impl Sdk {
    pub(super) fn new(pipeline: &Pipeline) -> Self {
        Self { pipeline: pipeline.name().to_owned(), target: pipeline.declared_target().cloned() }
    }

    /// Returns the members that name the database and the user.
    fn target(&self) -> Vec<(&'static str, String)> {
        let Some(target) = &self.target else {
            return vec![
                ("WorkgroupName", "${WorkgroupName}".to_owned()),
                ("Database", "${Database}".to_owned()),
                ("SecretArn", "${SecretArn}".to_owned()),
            ];
        };
        let compute = match target.compute() {
            Compute::Cluster(identifier) => ("ClusterIdentifier", identifier.clone()),
            Compute::Workgroup(name) => ("WorkgroupName", name.clone()),
        };
        let auth = match target.auth() {
            Auth::Iam => None,
            Auth::DatabaseUser(user) => Some(("DbUser", user.clone())),
            Auth::Secret(arn) => Some(("SecretArn", arn.clone())),
        };
        [compute, ("Database", target.database().to_owned())].into_iter().chain(auth).collect()
    }

    /// Returns the client token of a statement, whose work is its target and SQL. The values of parameters
    /// belong to the execution. A repeated request returns the statement that is already running.
    fn token(&self, step: &StepPlan) -> Expr {
        let target = self.target().into_iter().take(2).map(|(_, name)| name).collect::<Vec<_>>().join("/");
        // A substitution of the deployment must stay a substitution.
        let target = format!("'{target}'");
        let target = Expr::Raw { jsonata: target.clone(), json_path: target };
        token(step, [Expr::text("/"), target, Expr::text(format!("/{}", step.digest))])
    }

    fn name(&self, step: &StepPlan) -> Expr {
        Expr::Concat(vec![
            Expr::text(format!("{}/", self.pipeline)),
            Expr::Context("Execution.Name"),
            Expr::text(format!("/{}/", step.name_in_text())),
            Expr::data("run.attempt"),
        ])
    }
}

impl Calls for Sdk {
    fn submit(&self, step: &StepPlan) -> Call {
        let sql = || step.sqls.iter().map(|sql| Shape::Expr(sql.clone()));
        let is_batch = step.is_batch();
        let parameter = |(name, value): &(String, Expr)| {
            Shape::object([("Name", Shape::text(name)), ("Value", value.clone().into())])
        };
        let parameters = (!step.parameters.is_empty())
            .then(|| Shape::List(step.parameters.iter().map(parameter).collect()));
        let mode = step.execution_mode.filter(|mode| *mode == ExecutionMode::AutoCommit);
        let Shape::Object(mut arguments) = payload([
            ("Sql", sql().next().filter(|_| !is_batch)),
            ("Sqls", is_batch.then(|| Shape::List(sql().collect()))),
            ("ExecutionMode", mode.map(|_| Shape::text("AUTO_COMMIT"))),
            ("Parameters", parameters),
            ("ClientToken", Some(self.token(step).into())),
            ("StatementName", Some(self.name(step).into())),
        ]) else {
            return request("executeStatement", Shape::Value(json!({})), &["Id"], &[]);
        };
        arguments
            .extend(self.target().into_iter().map(|(name, value)| (name.to_owned(), Shape::text(value))));
        let action = if is_batch { "batchExecuteStatement" } else { "executeStatement" };
        request(action, Shape::Object(arguments), &["Id"], &["id"])
    }

    fn status(&self, _: &StepPlan) -> Call {
        let arguments = Shape::object([
            ("Id", Expr::data("run.statement.id").into()),
            ("WaitTimeSeconds", Expr::data("run.clock.held").into()),
        ]);
        request("describeStatement", arguments, &["Status"], &["status"])
    }

    fn cancel(&self) -> Call {
        let arguments = Shape::object([("Id", Expr::data("run.statement.id").into())]);
        request("cancelStatement", arguments, &["Status"], &["requested"])
    }

    fn error(&self) -> Option<Call> {
        let arguments = Shape::object([("Id", Expr::data("run.statement.id").into())]);
        Some(request("describeStatement", arguments, &["Error"], &["error"]))
    }

    fn error_text(&self) -> &'static str {
        "run.failure.error"
    }

    fn failed_with(&self, step: &StepPlan, kinds: &[FailureKind]) -> Condition {
        texts("run.failure.error", kinds, step.is_batch())
    }

    /// The service reports a denied request by a code without a class of its own.
    fn refused(&self) -> Option<Condition> {
        Some(Condition::All(vec![
            Condition::is("run.caught.Error", UNNAMED),
            Condition::Matches("run.caught.Cause".to_owned(), vec!["*not authorized to perform*".to_owned()]),
        ]))
    }

    fn notes(&self) -> Vec<String> {
        match self.target {
            Some(_) => Vec::new(),
            None => vec![
                "the pipeline has no target: ${WorkgroupName}, ${Database} and ${SecretArn} are replaced by the deployment; give \
                 the pipeline a target for a cluster, or for a database user without a secret"
                    .to_owned(),
            ],
        }
    }

    fn not_submitted(&self) -> &'static [&'static str] {
        &NOT_SUBMITTED
    }
}

fn request(action: &str, arguments: Shape, members: &[&str], names: &[&str]) -> Call {
    let keep =
        members.iter().zip(names).map(|(member, name)| (*name, Expr::Result((*member).to_owned()).into()));
    Call {
        resource: format!("arn:aws:states:::aws-sdk:redshiftdata:{action}"),
        arguments,
        keep: Shape::object(keep),
        timeout: 120,
        retry: retries(),
    }
}

/// Retries a request for about a quarter of an hour.
fn retries() -> Vec<Retrier> {
    vec![retrier(&TRANSIENT, 2, 20, 60)]
}

/// Beginnings of a message about a statement of a batch: the service's, and the handler's own.
const OF_BATCH: [&str; 2] = ["Query #* failed with ", "statement * of the batch: "];

/// Returns the condition that the text in the data is the message of a failure of one of these kinds.
pub(super) fn texts(path: &str, kinds: &[FailureKind], is_batch: bool) -> Condition {
    let begins = || std::iter::once("").chain(OF_BATCH.into_iter().filter(|_| is_batch));
    let matches = |kinds: &[FailureKind]| {
        let patterns = kinds.iter().flat_map(|kind| patterns(*kind));
        let patterns = patterns.flat_map(|pattern| begins().map(move |begin| format!("{begin}{pattern}")));
        Condition::Matches(path.to_owned(), patterns.collect())
    };
    let others: Vec<FailureKind> =
        FailureKind::ALL.into_iter().filter(|kind| !kinds.contains(kind)).collect();
    let known: Vec<FailureKind> = kinds.iter().copied().filter(|kind| !patterns(*kind).is_empty()).collect();
    if kinds.contains(&FailureKind::Sql) {
        // All other messages.
        let is_other = matches(&others);
        return Condition::All(vec![Condition::IsPresent(path.to_owned()), is_other.negated()]);
    }
    if known.is_empty() {
        return Condition::All(vec![
            Condition::IsPresent(path.to_owned()),
            Condition::IsPresent(path.to_owned()).negated(),
        ]);
    }
    matches(&known)
}

/// Beginnings of the database's messages, classified as in the library. Text in the middle of a message does
/// not count, because a procedure may raise any text.
fn patterns(kind: FailureKind) -> &'static [&'static str] {
    match kind {
        FailureKind::SerializationConflict => &[
            "ERROR: 1023*",
            "ERROR:  1023*",
            "ERROR: Serializable isolation violation*",
            "ERROR: could not serialize access due to *",
            "ERROR: could not complete because of conflict with concurrent transaction*",
        ],
        FailureKind::Deadlock => &["ERROR: deadlock detected*"],
        FailureKind::ConcurrentDdl => &[
            "ERROR: 1018*",
            "ERROR: could not open relation with OID *",
            "ERROR: tuple concurrently *",
            "ERROR: cache lookup failed for relation *",
        ],
        FailureKind::StatementTimeout => &[
            "ERROR: canceling statement due to statement timeout*",
            "ERROR: canceling statement due to lock timeout*",
            "ERROR: Query cancelled by WLM*",
            "ERROR: Query canceled by WLM*",
        ],
        FailureKind::Connection => &[
            "FATAL: terminating connection*",
            "FATAL: the database system is *",
            "server closed the connection*",
            "could not connect to server*",
        ],
        FailureKind::Aborted => &[
            "ERROR: 1020*",
            "ERROR: Query cancelled on user's request*",
            "ERROR: canceling statement due to user request*",
        ],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::asl::matches;

    #[test]
    fn the_library_classifies_these_messages_in_the_same_way() {
        for kind in FailureKind::ALL {
            for pattern in patterns(kind) {
                // The rest of a message, as the database writes it.
                let text = match pattern.trim_end_matches('*') {
                    text if text.ends_with("1023") || text.ends_with("1018") || text.ends_with("1020") => {
                        format!("{text} DETAIL: x")
                    }
                    text if text.ends_with("concurrently ") => format!("{text}updated"),
                    text if text.ends_with("system is ") => format!("{text}shutting down"),
                    text if text.ends_with(' ') => format!("{text}1"),
                    text => text.to_owned(),
                };
                for begin in ["", "Query #2 failed with ", "statement 12 of the batch: "] {
                    let text = format!("{begin}{text}");
                    assert_eq!(FailureKind::from_error_text(&text), kind, "{text}");
                    let Condition::Matches(_, patterns) = texts("e", &[kind], true) else { panic!() };
                    assert!(patterns.iter().any(|pattern| matches(&text, pattern)), "{text}");
                    let Condition::Matches(_, patterns) = texts("e", &[kind], false) else { panic!() };
                    let is_known = patterns.iter().any(|pattern| matches(&text, pattern));
                    assert_eq!(is_known, begin.is_empty(), "{text}");
                }
            }
        }
    }
}
