//! [`Report`]: what a run of a pipeline did, for people and machines.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use jiff::Timestamp;
use serde::Serialize;

use super::Step;
use crate::{
    Conclusion, Error, FailureKind, Origin, Outcome, Part, Result, StatementId, StepKey, seconds::human,
};

/// What a run of a pipeline did. Prints as a table with what to do next; [`to_json`](Self::to_json) is for machines,
/// [`to_svg`](Self::to_svg) draws it.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// The pipeline's name.
    pub pipeline: String,
    /// The run's name.
    pub run: String,
    /// Whether the journal knew the run already.
    pub resumed: bool,
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took, in seconds.
    #[serde(serialize_with = "crate::seconds::serialize")]
    pub elapsed: Duration,
    /// Its steps, in the order of the definition.
    pub steps: Vec<StepReport>,
}

/// What became of a step.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct StepReport {
    /// The step's name.
    pub name: String,
    /// What became of it.
    #[serde(flatten)]
    pub status: StepStatus,
    /// The steps it came after.
    pub after: Vec<String>,
    /// Its attempts in this run, in order. Those of earlier processes are in the journal.
    pub attempts: Vec<AttemptReport>,
}

/// What became of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "status", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum StepStatus {
    /// It did its work.
    Finished,
    /// The database ended its last attempt with an error.
    Failed,
    /// Its last attempt was cancelled by somebody else.
    Aborted,
    /// Its last attempt took too long, and was cancelled.
    TimedOut,
    /// What became of it cannot be proved.
    Unknown,
    /// Its last attempt certainly did not run.
    NotSubmitted,
    /// It was not run, because a step that it comes after did not finish.
    Skipped {
        /// That step.
        because_of: String,
    },
    /// It was not begun, or not all parts of its batch were, because the run was stopped.
    NotStarted {
        /// The step that stopped the run, or `the request to stop`.
        because_of: String,
    },
    /// The run was not about it.
    NotSelected,
}

impl StepStatus {
    /// A word for it.
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

    pub(super) fn of(self, step: &Step, attempts: Vec<AttemptReport>) -> StepReport {
        StepReport {
            name: step.name().to_owned(),
            status: self,
            after: step.dependencies().to_vec(),
            attempts,
        }
    }
}

/// One attempt at a step, or at a part of it. Times are counted from the beginning of the run, in seconds.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct AttemptReport {
    /// Its number, counted from 1 over all processes.
    pub number: u32,
    /// Which part of the step's batch it is about, if that is too long for the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<Part>,
    /// The service's id of its statement, if that became known.
    pub statement_id: Option<StatementId>,
    /// The name that its statement bears in the service.
    pub statement_name: Option<String>,
    /// How this run came by it: `submitted`, `reattached`, `journal`.
    pub origin: &'static str,
    /// When it began.
    #[serde(serialize_with = "crate::seconds::serialize")]
    pub started: Duration,
    /// When its ending was known.
    #[serde(serialize_with = "crate::seconds::serialize")]
    pub ended: Duration,
    /// How long the database worked on it.
    #[serde(serialize_with = "crate::seconds::optional::serialize")]
    pub executing: Option<Duration>,
    /// How long it took beyond that: on its way, in the service's queue, and until its ending was noticed.
    #[serde(serialize_with = "crate::seconds::serialize")]
    pub waiting: Duration,
    /// How it ended, as one word.
    pub result: &'static str,
    /// Why it did not succeed, by what a retry can do about it.
    pub failure: Option<FailureKind>,
    /// Why it did not succeed: the database's words, or the service's.
    pub error: Option<String>,
    /// What a person can look at, if what became of it cannot be proved.
    pub check: Option<String>,
    /// Rows in its result, or rows that it affected.
    pub rows: Option<u64>,
    /// Submits sent.
    pub submits: u32,
    /// Questions asked about it.
    pub describes: u32,
    /// Errors that were survived, by kind.
    pub faults: BTreeMap<&'static str, u32>,
}

impl AttemptReport {
    pub(super) fn new(key: &StepKey, started: Duration, ended: Duration, result: Result<Outcome>) -> Self {
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
                self.error = Some("cancelled by somebody else, or by the service".to_owned())
            }
            Conclusion::TimedOut { limit } => self.error = Some(format!("cancelled after {}", human(limit))),
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
            (self.result, self.failure) = ("unknown", None);
        }
    }

    /// `attempt 1`, `attempt 1 part 2 of 3`.
    pub(super) fn title(&self) -> String {
        let part = self.part.map_or_else(String::new, |part| format!(" {part}"));
        format!("attempt {}{part}", self.number)
    }

    fn fmt_failure(&self, step: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.statement_id.as_ref().map_or("no statement", StatementId::as_str);
        let error = printable(self.error.as_deref().unwrap_or("no reason given").trim_end());
        writeln!(f, "\n{step} {}, {}, {id}\n  {}", self.result, self.title(), error.replace('\n', "\n  "))?;
        match &self.check {
            Some(check) => writeln!(f, "  look at\n    {}", check.replace('\n', "\n    ")),
            None => Ok(()),
        }
    }

    /// Errors that were survived, in all.
    pub fn faults_survived(&self) -> u32 {
        self.faults.values().sum()
    }
}

/// Sums over a run, or over several.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Totals {
    /// Attempts of this run that reached the service, not counting endings that were in the journal already.
    pub statements: u32,
    /// Attempts beyond the first of a step.
    pub retries: u32,
    /// Submits sent.
    pub submits: u32,
    /// Questions asked.
    pub describes: u32,
    /// Errors that were survived.
    pub faults_survived: u32,
    /// How long the database worked, in seconds, statements that ran side by side added up.
    #[serde(serialize_with = "crate::seconds::serialize")]
    pub executing: Duration,
    /// How long statements took beyond that, in seconds.
    #[serde(serialize_with = "crate::seconds::serialize")]
    pub waiting: Duration,
}

impl Totals {
    /// Adds the sums of something else.
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
    /// Whether every step that was to run finished.
    pub fn is_success(&self) -> bool {
        self.steps.iter().all(|step| matches!(step.status, StepStatus::Finished | StepStatus::NotSelected))
    }

    /// Whether the fate of a step cannot be proved.
    pub fn has_unknown(&self) -> bool {
        self.steps.iter().any(|step| step.status == StepStatus::Unknown)
    }

    /// Whether steps were not begun because the run was stopped.
    pub fn is_cut_short(&self) -> bool {
        self.steps.iter().any(|step| matches!(step.status, StepStatus::NotStarted { .. }))
    }

    /// What became of the steps, in the order of the definition.
    pub fn steps(&self) -> &[StepReport] {
        &self.steps
    }

    /// What became of the step of this name.
    pub fn step(&self, name: &str) -> Option<&StepReport> {
        self.steps.iter().find(|step| step.name == name)
    }

    /// The steps that ran and did not finish.
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

    /// Sums over all steps.
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

    /// The report as JSON, durations in seconds.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

impl StepReport {
    /// Its last attempt in this run; of one with parts, the last part.
    pub fn last_attempt(&self) -> Option<&AttemptReport> {
        self.attempts.last()
    }

    /// How many attempts there were in this run: the parts of one are not counted apart.
    pub fn attempt_count(&self) -> u32 {
        let numbers: BTreeSet<_> = self.attempts.iter().map(|attempt| attempt.number).collect();
        u32::try_from(numbers.len()).unwrap_or(u32::MAX)
    }

    /// Of the last attempt, what did not finish.
    fn unfinished(&self) -> impl Iterator<Item = &AttemptReport> {
        let last = self.attempts.last().map(|attempt| attempt.number);
        self.attempts
            .iter()
            .filter(move |attempt| Some(attempt.number) == last && attempt.result != "finished")
    }
}

/// Others' words as a terminal takes no harm from: what would move its cursor or change its colours becomes `�`.
pub(crate) fn printable(text: &str) -> String {
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
                writeln!(f, "\n{} {} before all of its parts were begun", step.name, step.status.as_str())?;
            }
        }
        if self.has_unknown() {
            writeln!(
                f,
                "\nWhat is unknown is not run anew. Run `{}` again to look for it once more, or settle it after a look \
                 (`Orchestrator::settle`).",
                self.run
            )?;
        } else if !self.is_success() {
            writeln!(
                f,
                "\nCorrect the cause and run `{}` again: it goes on with the steps that have not finished.",
                self.run
            )?;
        }
        Ok(())
    }
}
