//! The states of a step that is not a statement: a run of a Glue job, or a load of raw files into a Hudi
//! table.
//!
//! Step Functions' own integration starts a job run and waits for its end. A start is retried only after
//! errors that prove that Glue rejected it. Glue has no client token, so any other retry could start a second
//! run. A Hudi table takes in each file once, so its function may be invoked again after any error.

use std::collections::BTreeSet;

use redshift_orchestrator::{
    FailureKind, Pipeline, Result,
    pipeline::{Piece, TemplateText},
    task::{RUN_TOKEN, TaskWork},
};
use serde_json::json;

use super::{
    builder::Call,
    calls::payload,
    machine::token,
    problem,
    step::{Cause, GRACE, StepPlan, StepWriter, retrier, seconds, why},
};
use crate::asl::{
    cost::LONGEST_INVOCATION,
    expr::{Condition, Expr, Shape},
    model::{State, States},
};

/// Errors with which Glue rejects a start because of its limits. No run was started, and a later start may
/// succeed.
pub(in crate::asl) const LIMITS: [&str; 3] = [
    "Glue.ConcurrentRunsExceededException",
    "Glue.ResourceNumberLimitExceededException",
    "Glue.ThrottlingException",
];

/// Errors with which Glue rejects a start. Each retry would fail in the same way. No run was started.
const REJECTED: [&str; 2] = ["Glue.EntityNotFoundException", "Glue.InvalidInputException"];

/// Maximum timeout of a job run in seconds: seven days.
/// <https://docs.aws.amazon.com/glue/latest/dg/aws-glue-api-jobs-runs.html>
const LONGEST_RUN: u64 = 7 * 86_400;

/// Timeout in seconds of a state that invokes a function: the maximum duration of an invocation, and a minute
/// for its start.
const INVOCATION_TIMEOUT: u64 = LONGEST_INVOCATION + 60;

/// Errors of an invocation after which it is retried. The function did not run, or was interrupted.
const INVOCATION: [&str; 5] = [
    "Lambda.AWSLambdaException",
    "Lambda.ClientExecutionTimeoutException",
    "Lambda.SdkClientException",
    "Lambda.ServiceException",
    "Lambda.TooManyRequestsException",
];

/// Errors of the handler `hudi` after which the same event may succeed. The last three end a function that
/// exceeds its timeout or its memory.
const TRANSIENT: [&str; 9] = [
    "Hudi.Conflict",
    "Hudi.Deadline",
    "Hudi.Storage",
    "Hudi.Unknown",
    "SfnAdapter.Deadline",
    "SfnAdapter.Internal",
    "Lambda.Unknown",
    "Runtime.ExitError",
    "Sandbox.Timedout",
];

/// Errors with which the handler `hudi` rejects an event. Each retry would fail in the same way.
const REFUSED: [&str; 3] = ["Lambda.ResourceNotFoundException", "SfnAdapter.BadInput", "SfnAdapter.Config"];

/// The task of a step, in the form that the generator needs.
#[derive(Clone, Debug)]
pub(super) enum TaskPlan {
    /// The run of a Glue job.
    Glue {
        job: Expr,
        arguments: Vec<(String, Expr)>,
        /// Timeout of the step in seconds, if it has one.
        timeout: Option<u64>,
    },
    /// Raw files for a Hudi table.
    Hudi {
        /// ARN of the table's function.
        function: String,
        table: String,
        files: Vec<Expr>,
    },
}

impl TaskPlan {
    /// Returns the strings that may have to be moved into the data.
    pub(super) fn texts(&mut self) -> Vec<&mut Expr> {
        match self {
            Self::Glue { job, arguments, .. } => {
                std::iter::once(job).chain(arguments.iter_mut().map(|(_, value)| value)).collect()
            }
            Self::Hudi { files, .. } => files.iter_mut().collect(),
        }
    }

    /// Returns the name of the state that starts an attempt.
    pub(super) fn first(&self) -> &'static str {
        match self {
            Self::Glue { .. } => "start",
            Self::Hudi { .. } => "upsert",
        }
    }
}

/// Returns the string if it is the same in each execution.
fn literal(text: &TemplateText) -> Option<String> {
    text.pieces()
        .iter()
        .map(|piece| match piece {
            Piece::Literal(text) => Some(text.as_str()),
            Piece::Parameter(_) => None,
        })
        .collect()
}

/// Returns the ARN of a table's function. `{table}` is replaced by the name of the table.
///
/// # Errors
/// Returns a definition error if several tables would share one function, because a function writes one
/// table.
pub(super) fn function(pipeline: &Pipeline, arn: &str, table: &TemplateText) -> Result<(String, String)> {
    let Some(table) = literal(table) else {
        return Err(problem(
            pipeline,
            "the name of a Hudi table depends on a parameter of the run, but each table has its own function; write \
             the name",
        ));
    };
    let tables: BTreeSet<_> = hudi_tables(pipeline);
    if tables.len() > 1 && !arn.contains("{table}") {
        return Err(problem(
            pipeline,
            format!(
                "the pipeline writes {} Hudi tables, but a function of the handler `hudi` writes only one; name their functions \
                 with --hudi-arn, in which {{table}} is the name of the table, such as {arn}-{{table}}",
                tables.len()
            ),
        ));
    }
    Ok((arn.replace("{table}", &table), table))
}

/// Returns the names of the pipeline's Hudi tables.
pub(super) fn hudi_tables(pipeline: &Pipeline) -> BTreeSet<&str> {
    let tables = pipeline.steps().iter().filter_map(|step| match step.task() {
        Some(TaskWork::Hudi(upsert)) => Some(upsert.table.as_str()),
        _ => None,
    });
    tables.collect()
}

/// Describes the permissions and functions that the tasks of a pipeline need.
pub(super) fn notes(pipeline: &Pipeline, hudi_arn: &str) -> Vec<String> {
    let mut notes = Vec::new();
    let jobs: BTreeSet<&str> = pipeline
        .steps()
        .iter()
        .filter_map(|step| match step.task() {
            Some(TaskWork::Glue(run)) => Some(run.job.as_str()),
            _ => None,
        })
        .collect();
    if !jobs.is_empty() {
        let jobs: Vec<_> = jobs.into_iter().collect();
        notes.push(format!(
            "Glue: the role needs glue:StartJobRun, glue:GetJobRun, glue:GetJobRuns and glue:BatchStopJobRun on the jobs {}",
            jobs.join(", ")
        ));
    }
    let tables: Vec<_> = hudi_tables(pipeline).into_iter().collect();
    if !tables.is_empty() {
        notes.push(format!(
            "Hudi: the role needs lambda:InvokeFunction on {hudi_arn}, with a function of the handler `hudi` for the tables {}",
            tables.join(", ")
        ));
    }
    notes
}

impl StepWriter<'_> {
    /// Adds the states of a task. `exit` follows them.
    pub(super) fn write_task(&self, step: &StepPlan, task: &TaskPlan, exit: &str, states: &mut States) {
        self.begin(step, exit, states);
        match task {
            TaskPlan::Glue { job, arguments, timeout } => {
                self.start(step, job, arguments, *timeout, states);
                self.job_ended(step, states);
                self.job_ends(step, job, *timeout, exit, states);
            }
            TaskPlan::Hudi { function, table, files } => {
                self.upsert(step, function, files, states);
                self.upsert_ends(step, table, exit, states);
            }
        }
        self.again(step, states);
    }

    /// Starts a job run and waits for its end.
    ///
    /// Glue itself stops a run at the step's timeout. A timeout of the state would only end the wait.
    fn start(
        &self,
        step: &StepPlan,
        job: &Expr,
        arguments: &[(String, Expr)],
        timeout: Option<u64>,
        states: &mut States,
    ) {
        let token = [(RUN_TOKEN, run_token(step).into())];
        let arguments = arguments.iter().map(|(name, value)| (name.as_str(), value.clone().into()));
        let minutes = timeout.map(|timeout| Shape::Value(json!(timeout.div_ceil(60))));
        let call = Call {
            resource: "arn:aws:states:::glue:startJobRun.sync".to_owned(),
            arguments: payload([
                ("JobName", Some(job.clone().into())),
                ("Arguments", Some(Shape::object(arguments.chain(token)))),
                ("Timeout", minutes),
            ]),
            keep: Shape::object([(
                "job",
                Shape::object(
                    ["Id", "JobRunState"].map(|name| (name, Shape::Expr(Expr::Result(name.to_owned())))),
                ),
            )]),
            timeout: timeout.map_or(LONGEST_RUN, |timeout| timeout.div_ceil(60) * 60) + GRACE,
            retry: vec![retrier(&LIMITS, 5, 40, 120)],
        };
        let mut task = self.builder.task(&call, "run.read", &step.state("job ended"));
        let mut not_started = [LIMITS.as_slice(), &REJECTED].concat();
        not_started.sort_unstable();
        task.catch = vec![
            self.builder.catch(&not_started, &step.state("refused")),
            self.builder.catch(&["States.ALL"], &step.state("caught")),
        ];
        states.insert(step.state("start"), State::Task(Box::new(task)));
        // If a run did not succeed, the cause is the run's description. Any other cause proves nothing.
        let described = Condition::All(vec![
            Condition::is("run.caught.Error", "States.TaskFailed"),
            Condition::Matches(
                "run.caught.Cause".to_owned(),
                vec!["{*\"JobRunState\":\"*".to_owned(), "{*\"JobRunState\": \"*".to_owned()],
            ),
        ]);
        let rules = vec![(described, step.state("read job"))];
        states.insert(
            step.state("caught"),
            State::Choice(self.builder.choice(rules, &step.state(&why("start lost")))),
        );
        self.explain(step, states, "start lost", &[Cause::Absent], Vec::new());
        let read = Expr::Raw {
            jsonata: "$merge([$states.input.run.defaults, $parse($states.input.run.caught.Cause)])"
                .to_owned(),
            json_path: "States.JsonMerge($.run.defaults, States.StringToJson($.run.caught.Cause), false)"
                .to_owned(),
        };
        let read = Shape::object([("job", Shape::Expr(read))]);
        self.put(step, states, "read job", "run.read", &read, &step.state("job ended"));
    }

    /// Branches on the final state of a job run.
    fn job_ended(&self, step: &StepPlan, states: &mut States) {
        let ended = |names: &[&str]| Condition::is_one_of("run.read.job.JobRunState", names.iter().copied());
        let may_retry = || Condition::Below("run.attempt".to_owned(), step.attempts);
        let mut rules = vec![(ended(&["SUCCEEDED"]), "finished")];
        for (names, kind, end) in [
            (&["STOPPED"][..], FailureKind::Aborted, "aborted"),
            (&["TIMEOUT"], FailureKind::TimedOut, "timed out"),
            (&["ERROR", "EXPIRED", "FAILED"], FailureKind::Task, "failed"),
        ] {
            if step.retries(kind) {
                rules.push((Condition::All(vec![ended(names), may_retry()]), "pause"));
            }
            rules.push((ended(names), end));
        }
        let rules = rules.into_iter().map(|(condition, name)| (condition, step.state(name))).collect();
        let choice = self.builder.choice(rules, &step.state("unknown state"));
        states.insert(step.state("job ended"), State::Choice(choice));
    }

    fn job_ends(&self, step: &StepPlan, job: &Expr, timeout: Option<u64>, exit: &str, states: &mut States) {
        let id = || Expr::data("run.read.job.Id");
        let of_run = |rest: Vec<Expr>| {
            let begin = [Expr::text("job run "), id(), Expr::text(" ")];
            Expr::Concat(begin.into_iter().chain(rest).collect())
        };
        let run = || vec![("job_run_id", Shape::Expr(id())), ("attempt", Expr::data("run.attempt").into())];
        let failed = |error, cause: Expr, run| ended("failed", Some((Shape::text(error), cause.into())), run);
        self.end(step, states, "finished", exit, ended("finished", None, run()));
        self.refused(step, exit, states);
        let message = of_run(vec![Expr::text("failed: "), Expr::data("run.read.job.ErrorMessage")]);
        self.end(step, states, "failed", exit, failed("Glue.Failed", message, run()));
        let aborted = of_run(vec![Expr::text("was stopped by another client")]);
        self.end(step, states, "aborted", exit, failed("Glue.Stopped", aborted, vec![]));
        let limit = timeout.map_or_else(
            || "the timeout of its job".to_owned(),
            |timeout| format!("the timeout of {}", seconds(timeout.div_ceil(60) * 60)),
        );
        let timed_out = of_run(vec![Expr::text(format!("was stopped by Glue, because it exceeded {limit}"))]);
        self.end(step, states, "timed out", exit, failed("Glue.TimedOut", timed_out, vec![]));
        let unknown =
            |cause: Expr| ended("unknown", Some((Shape::text("Glue.Unknown"), cause.into())), vec![]);
        let state =
            of_run(vec![Expr::text("ended in the unknown state "), Expr::data("run.read.job.JobRunState")]);
        self.end(step, states, "unknown state", exit, unknown(state));
        let lost = Expr::Concat(vec![
            Expr::text("a run of the job "),
            job.clone(),
            Expr::text(" may be running; look for the run whose argument "),
            Expr::text(format!("{RUN_TOKEN} is ")),
            run_token(step),
            Expr::text(": "),
            Expr::data("run.caught.Cause"),
        ]);
        self.end(step, states, "start lost", exit, unknown(flat(lost)));
    }

    /// Adds the outcome of a step: a state that records its members.
    fn end(
        &self,
        step: &StepPlan,
        states: &mut States,
        name: &str,
        exit: &str,
        members: Vec<(&'static str, Shape)>,
    ) {
        self.put(step, states, name, &step.path(), &Shape::object(members), exit);
    }

    /// Invokes the function of a Hudi table.
    fn upsert(&self, step: &StepPlan, function: &str, files: &[Expr], states: &mut States) {
        let event = payload([
            ("version", Some(Shape::Value(json!(1)))),
            ("action", Some(Shape::text("upsert"))),
            ("files", Some(Shape::List(files.iter().cloned().map(Shape::Expr).collect()))),
        ]);
        let call = Call {
            resource: "arn:aws:states:::lambda:invoke".to_owned(),
            arguments: Shape::object([("FunctionName", Shape::text(function)), ("Payload", event)]),
            keep: Shape::object([("instant", Shape::Expr(Expr::Result("Payload.instant".to_owned())))]),
            timeout: step.timeout.min(INVOCATION_TIMEOUT),
            retry: vec![retrier(&INVOCATION, 1, 12, 60), retrier(&TRANSIENT, 2, 6, 60)],
        };
        let mut task = self.builder.task(&call, "run.upserted", &step.state("finished"));
        let late = if step.retries(FailureKind::TimedOut) { "late" } else { "timed out" };
        let caught = if step.retries(FailureKind::Task) { "caught" } else { "failed" };
        task.catch = vec![
            self.builder.catch(&REFUSED, &step.state(&why("refused"))),
            self.builder.catch(&["States.Timeout"], &step.state(late)),
            self.builder.catch(&["States.ALL"], &step.state(&why(caught))),
        ];
        self.explain(step, states, "refused", &[Cause::Reply], Vec::new());
        self.explain(step, states, caught, &[Cause::Reply], Vec::new());
        task.comment =
            Some("The table takes in each file once, so the invocation may be repeated.".to_owned());
        states.insert(step.state("upsert"), State::Task(Box::new(task)));
        for (kind, name, end) in
            [(FailureKind::TimedOut, "late", "timed out"), (FailureKind::Task, "caught", "failed")]
        {
            if step.retries(kind) {
                let may_retry = Condition::Below("run.attempt".to_owned(), step.attempts);
                let rules = vec![(may_retry, step.state("pause"))];
                states.insert(step.state(name), State::Choice(self.builder.choice(rules, &step.state(end))));
            }
        }
    }

    fn upsert_ends(&self, step: &StepPlan, table: &str, exit: &str, states: &mut States) {
        let attempt = || vec![("attempt", Shape::Expr(Expr::data("run.attempt")))];
        let instant = ("instant", Shape::Expr(Expr::data("run.upserted.instant")));
        let with_instant = std::iter::once(instant).chain(attempt()).collect();
        self.end(step, states, "finished", exit, ended("finished", None, with_instant));
        self.refused(step, exit, states);
        let caught = |member: &str| Shape::Expr(Expr::data(format!("run.caught.{member}")));
        let error = Some((caught("Error"), caught("Cause")));
        self.end(step, states, "failed", exit, ended("failed", error, attempt()));
        let limit = seconds(step.timeout.min(INVOCATION_TIMEOUT));
        let late = format!(
            "the function of the table {table} did not respond within {limit}; it may still be writing, and takes in each file \
             once"
        );
        let error = Some((Shape::text("Hudi.TimedOut"), Shape::text(late)));
        self.end(step, states, "timed out", exit, ended("failed", error, attempt()));
    }
}

/// Returns the members of an outcome: its name, the error and its cause, and the members that identify the
/// work.
fn ended(
    outcome: &str,
    error: Option<(Shape, Shape)>,
    work: Vec<(&'static str, Shape)>,
) -> Vec<(&'static str, Shape)> {
    let error = error.into_iter().flat_map(|(error, cause)| [("error", error), ("cause", cause)]);
    std::iter::once(("outcome", Shape::text(outcome))).chain(error).chain(work).collect()
}

/// Returns the token that identifies the run in the list of the job's runs.
fn run_token(step: &StepPlan) -> Expr {
    token(step, [Expr::text(format!("/glue/{}", step.digest))])
}

/// Flattens nested concatenations.
fn flat(expr: Expr) -> Expr {
    let Expr::Concat(parts) = expr else { return expr };
    let parts = parts.into_iter().flat_map(|part| match flat(part) {
        Expr::Concat(inner) => inner,
        other => vec![other],
    });
    Expr::Concat(parts.collect())
}
