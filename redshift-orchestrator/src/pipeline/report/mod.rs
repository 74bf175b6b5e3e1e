//! [`Report`]: the results of a run of a pipeline.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use jiff::Timestamp;
use serde::Serialize;

mod gantt;
mod plan;

pub use plan::Plan;

use super::Step;
use crate::{
    Conclusion, Error, FailureKind, Origin, Outcome, Part, Result, StatementId, StepKey, seconds::human,
};

/// Results of a run of a pipeline. `Display` prints a table and the next action for each problem;
/// [`to_json`](Self::to_json) returns JSON, and [`to_svg`](Self::to_svg) a chart.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// Name of the pipeline.
    pub pipeline: String,
    /// Name of the run.
    pub run: String,
    /// `true` if the journal already contained the run.
    pub resumed: bool,
    /// Time at which the run began.
    pub started_at: Timestamp,
    /// Duration of the run, in seconds.
    #[serde(serialize_with = "crate::seconds::serialize")]
    pub elapsed: Duration,
    /// Results of the steps, in the order of their definition.
    pub steps: Vec<StepReport>,
}

/// Result of a step.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct StepReport {
    /// Name of the step.
    pub name: String,
    /// Status of the step.
    #[serde(flatten)]
    pub status: StepStatus,
    /// Steps after which it ran.
    pub after: Vec<String>,
    /// Attempts of this run, in order. The journal contains those of earlier processes.
    pub attempts: Vec<AttemptReport>,
}

/// Status of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "status", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum StepStatus {
    /// It succeeded.
    Finished,
    /// The database ended its last attempt with an error.
    Failed,
    /// Its last attempt was cancelled by another client or by the service.
    Aborted,
    /// The timeout of its last attempt expired, and the attempt was cancelled.
    TimedOut,
    /// Its outcome cannot be proved.
    Unknown,
    /// Its last attempt did not run.
    NotSubmitted,
    /// It was not run, because a step on which it depends did not finish.
    Skipped {
        /// That step.
        because_of: String,
    },
    /// The step, or some parts of its batch, were not started because the run was stopped.
    NotStarted {
        /// The step that stopped the run, or `the request to stop`.
        because_of: String,
    },
    /// The run did not select it.
    NotSelected,
}

impl StepStatus {
    /// Returns a short name.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Aborted => "aborted",
            Self::TimedOut => "timed out",
            Self::Unknown => "unknown",
            Self::NotSubmitted => "not submitted",
            Self::Skipped { .. } => "skipped",
            Self::NotStarted { .. } => "not started",
            Self::NotSelected => "not selected",
        }
    }

    pub(in crate::pipeline) fn of(self, step: &Step, attempts: Vec<AttemptReport>) -> StepReport {
        StepReport {
            name: step.name().to_owned(),
            status: self,
            after: step.dependencies().to_vec(),
            attempts,
        }
    }
}

impl StepReport {
    /// Returns `true` if a statement of the last attempt may still be running.
    pub(in crate::pipeline) fn may_still_run(&self) -> bool {
        self.status == StepStatus::Unknown || self.attempts.last().is_some_and(|last| last.may_still_run)
    }
}

/// One attempt at a step, or at a part of its batch. Times are in seconds from the beginning of the run.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct AttemptReport {
    /// Number of the attempt over all processes, starting at 1.
    pub number: u32,
    /// Part of the step's batch, if the batch exceeds the service's maximum.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<Part>,
    /// Id of the statement, if known.
    pub statement_id: Option<StatementId>,
    /// Name of the statement in the service.
    pub statement_name: Option<String>,
    /// How this run obtained the outcome: `submitted`, `reattached`, `journal`.
    pub origin: &'static str,
    /// Time at which the attempt began.
    #[serde(serialize_with = "crate::seconds::serialize")]
    pub started: Duration,
    /// Time at which its end was noticed.
    #[serde(serialize_with = "crate::seconds::serialize")]
    pub ended: Duration,
    /// Execution time in the database.
    #[serde(serialize_with = "crate::seconds::optional::serialize")]
    pub executing: Option<Duration>,
    /// Remaining time: requests, the service's queue, and the time until the end was noticed.
    #[serde(serialize_with = "crate::seconds::serialize")]
    pub waiting: Duration,
    /// Result as a short name.
    pub result: &'static str,
    /// Kind of the failure, which determines whether a retry can help.
    pub failure: Option<FailureKind>,
    /// Error text of the database or the service.
    pub error: Option<String>,
    /// Instructions for an investigation by hand, if the outcome cannot be proved.
    pub check: Option<String>,
    /// `true` if its statement may still be running: its outcome is unknown, or its cancellation has not
    /// taken effect yet.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub may_still_run: bool,
    /// Number of rows in the result, or of rows that the statement affected.
    pub rows: Option<u64>,
    /// Number of submits.
    pub submits: u32,
    /// Number of polls.
    pub describes: u32,
    /// Number of retried errors, by kind.
    pub faults: BTreeMap<&'static str, u32>,
}

impl AttemptReport {
    pub(in crate::pipeline) fn new(
        key: &StepKey,
        started: Duration,
        ended: Duration,
        result: Result<Outcome>,
    ) -> Self {
        let mut report = Self {
            number: key.attempt,
            part: key.part,
            statement_id: None,
            statement_name: None,
            origin: "submitted",
            started,
            ended,
            executing: None,
            waiting: ended.saturating_sub(started),
            result: "not submitted",
            failure: Some(FailureKind::NotSubmitted),
            error: None,
            check: None,
            may_still_run: false,
            rows: None,
            submits: 0,
            describes: 0,
            faults: BTreeMap::new(),
        };
        match result {
            Ok(outcome) => report.fill(outcome),
            Err(error) => report.fill_error(&error),
        }
        report
    }

    fn fill(&mut self, outcome: Outcome) {
        self.executing = outcome.executing();
        self.may_still_run = outcome.may_still_run();
        self.waiting = (self.ended - self.started).saturating_sub(self.executing.unwrap_or_default());
        self.failure = outcome.failure();
        self.rows = outcome.description.and_then(|description| description.result_rows);
        self.submits = outcome.effort.submits;
        self.describes = outcome.effort.describes;
        self.faults = outcome.effort.faults.into_iter().map(|(kind, count)| (kind.as_str(), count)).collect();
        self.origin = match outcome.origin {
            Origin::Submitted => "submitted",
            Origin::Reattached => "reattached",
            Origin::Journal => "journal",
        };
        self.result = outcome.result.as_str();
        match outcome.result {
            Conclusion::Finished => {}
            Conclusion::Failed { error, .. } => self.error = Some(error),
            Conclusion::Aborted => {
                self.error = Some("cancelled by another client or by the service".to_owned())
            }
            Conclusion::TimedOut { timeout, .. } => {
                let timeout = human(timeout);
                self.error = Some(match self.may_still_run {
                    true => format!(
                        "cancelled after {timeout}, but still running in the database; `resume` waits for its end"
                    ),
                    false => format!("cancelled after {timeout}"),
                });
            }
            Conclusion::Unknown(unknown) => {
                self.error = Some(unknown.to_string());
                self.check = Some(unknown.what_to_check());
            }
        }
        self.statement_id = outcome.id;
        self.statement_name = Some(outcome.name);
    }

    fn fill_error(&mut self, error: &Error) {
        self.error = Some(error.to_string());
        if error.leaves_unknown() {
            self.statement_id = error.submitted().cloned();
            (self.result, self.failure, self.may_still_run) = ("unknown", None, true);
        }
    }

    /// Returns `attempt 1`, or `attempt 1 part 2 of 3`.
    pub(in crate::pipeline) fn title(&self) -> String {
        let part = self.part.map_or_else(String::new, |part| format!(" {part}"));
        format!("attempt {}{part}", self.number)
    }

    fn fmt_failure(&self, step: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.statement_id.as_ref().map_or("no statement", StatementId::as_str);
        let error = printable(self.error.as_deref().unwrap_or("no error text").trim_end());
        writeln!(f, "\n{step} {}, {}, {id}\n  {}", self.result, self.title(), error.replace('\n', "\n  "))?;
        match &self.check {
            Some(check) => writeln!(f, "  look at\n    {}", check.replace('\n', "\n    ")),
            None => Ok(()),
        }
    }

    /// Returns the total number of retried errors.
    pub fn faults_survived(&self) -> u32 {
        self.faults.values().sum()
    }
}

/// Sums over one or several runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Totals {
    /// Number of attempts that reached the service in this run. Endings from the journal are not counted.
    pub statements: u32,
    /// Number of attempts beyond the first one of each step.
    pub retries: u32,
    /// Number of submits.
    pub submits: u32,
    /// Number of polls.
    pub describes: u32,
    /// Number of retried errors.
    pub faults_survived: u32,
    /// Execution time in the database in seconds, added up over concurrent statements.
    #[serde(serialize_with = "crate::seconds::serialize")]
    pub executing: Duration,
    /// Remaining time of the statements in seconds.
    #[serde(serialize_with = "crate::seconds::serialize")]
    pub waiting: Duration,
}

impl Totals {
    /// Adds the sums of `other`.
    pub fn add(&mut self, other: &Self) {
        self.statements += other.statements;
        self.retries += other.retries;
        self.submits += other.submits;
        self.describes += other.describes;
        self.faults_survived += other.faults_survived;
        self.executing += other.executing;
        self.waiting += other.waiting;
    }
}

impl Report {
    /// Returns `true` if every selected step finished.
    pub fn is_success(&self) -> bool {
        self.steps.iter().all(|step| matches!(step.status, StepStatus::Finished | StepStatus::NotSelected))
    }

    /// Returns `true` if the outcome of a step cannot be proved.
    pub fn has_unknown(&self) -> bool {
        self.steps.iter().any(|step| step.status == StepStatus::Unknown)
    }

    /// Returns `true` if some steps were not started because the run was stopped.
    pub fn is_cut_short(&self) -> bool {
        self.steps.iter().any(|step| matches!(step.status, StepStatus::NotStarted { .. }))
    }

    /// Returns the results of the steps, in the order of their definition.
    pub fn steps(&self) -> &[StepReport] {
        &self.steps
    }

    /// Returns the result of the step with this name.
    pub fn step(&self, name: &str) -> Option<&StepReport> {
        self.steps.iter().find(|step| step.name == name)
    }

    /// Returns the steps that ran and did not finish.
    pub fn failures(&self) -> impl Iterator<Item = &StepReport> {
        self.steps.iter().filter(|step| {
            !matches!(
                step.status,
                StepStatus::Finished
                    | StepStatus::Skipped { .. }
                    | StepStatus::NotStarted { .. }
                    | StepStatus::NotSelected
            )
        })
    }

    /// Returns the sums over all steps.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for step in &self.steps {
            totals.retries += step.attempt_count().saturating_sub(1);
            for attempt in step.attempts.iter().filter(|attempt| attempt.origin != "journal") {
                totals.statements += u32::from(attempt.statement_id.is_some());
                totals.submits += attempt.submits;
                totals.describes += attempt.describes;
                totals.faults_survived += attempt.faults_survived();
                totals.executing += attempt.executing.unwrap_or_default();
                totals.waiting += attempt.waiting;
            }
        }
        totals
    }

    /// Returns the report as JSON, with durations in seconds.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

impl StepReport {
    /// Returns the last attempt of this run; for an attempt with parts, the last part.
    pub fn last_attempt(&self) -> Option<&AttemptReport> {
        self.attempts.last()
    }

    /// Returns the number of attempts in this run. The parts of one attempt count once.
    pub fn attempt_count(&self) -> u32 {
        let numbers: BTreeSet<_> = self.attempts.iter().map(|attempt| attempt.number).collect();
        u32::try_from(numbers.len()).unwrap_or(u32::MAX)
    }

    /// Returns the unfinished parts of the last attempt.
    fn unfinished(&self) -> impl Iterator<Item = &AttemptReport> {
        let last = self.attempts.last().map(|attempt| attempt.number);
        self.attempts
            .iter()
            .filter(move |attempt| Some(attempt.number) == last && attempt.result != "finished")
    }
}

/// Replaces control characters in a text of the database or the service by `�`, so that the text cannot move
/// a terminal's cursor or change its colours.
pub fn printable(text: &str) -> String {
    let is_harmless = |c: char| !c.is_control() || matches!(c, '\n' | '\t');
    text.chars().map(|c| if is_harmless(c) { c } else { char::REPLACEMENT_CHARACTER }).collect()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut counts = BTreeMap::<&str, usize>::new();
        for step in &self.steps {
            *counts.entry(step.status.as_str()).or_default() += 1;
        }
        let counts: Vec<_> = counts.iter().map(|(status, count)| format!("{count} {status}")).collect();
        let verb = if self.resumed { "resumed, " } else { "" };
        writeln!(
            f,
            "{}, run {}: {verb}{} in {:.2} s",
            self.pipeline,
            self.run,
            counts.join(", "),
            self.elapsed.as_secs_f64()
        )?;
        let width = self.steps.iter().map(|step| step.name.chars().count()).max().unwrap_or(0).max(4);
        writeln!(
            f,
            "\n  {:width$}  {:13}  {:>8}  {:>9}  {:>9}  {:>6}  statement",
            "step", "status", "attempts", "waiting", "executing", "faults"
        )?;
        for step in &self.steps {
            let sum = |part: fn(&AttemptReport) -> Duration| {
                step.attempts.iter().map(part).sum::<Duration>().as_secs_f64()
            };
            let faults: u32 = step.attempts.iter().map(AttemptReport::faults_survived).sum();
            let statement = match (&step.status, step.last_attempt()) {
                (StepStatus::Skipped { because_of } | StepStatus::NotStarted { because_of }, _) => {
                    format!("because of {because_of}")
                }
                (_, Some(attempt)) => {
                    let id = attempt.statement_id.as_ref().map_or("-", StatementId::as_str);
                    let origin = if attempt.origin == "journal" { " (done before)" } else { "" };
                    let part = attempt.part.map_or_else(String::new, |part| format!(" ({part})"));
                    format!("{id}{part}{origin}")
                }
                (_, None) => String::new(),
            };
            let line = format!(
                "  {:width$}  {:13}  {:>8}  {:>7.2} s  {:>7.2} s  {faults:>6}  {statement}",
                step.name,
                step.status.as_str(),
                step.attempt_count(),
                sum(|attempt| attempt.waiting),
                sum(|attempt| attempt.executing.unwrap_or_default()),
            );
            writeln!(f, "{}", line.trim_end())?;
        }
        for step in self.failures() {
            for attempt in step.unfinished() {
                attempt.fmt_failure(&step.name, f)?;
            }
            if step.unfinished().next().is_none() {
                writeln!(f, "\n{} {} before all of its parts were started", step.name, step.status.as_str())?;
            }
        }
        if self.has_unknown() {
            writeln!(
                f,
                "\nUnknown statements are not submitted again. Run `{}` again to search for them, or investigate and settle them \
                 (`Orchestrator::settle`).",
                self.run
            )?;
        } else if !self.is_success() {
            writeln!(
                f,
                "\nCorrect the cause and run `{}` again: it continues with the steps that have not finished.",
                self.run
            )?;
        }
        Ok(())
    }
}
