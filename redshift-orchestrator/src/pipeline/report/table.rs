//! `Display` of a report: a table, the error of each failed step, and what to do next.

use std::{collections::BTreeMap, fmt, time::Duration};

use super::{AttemptReport, Report, StepStatus};
use crate::StatementId;

/// Replaces control characters except newlines and tabs by `�`, so that a message of the database or the
/// service cannot move a terminal's cursor or change its colours.
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
            "\n  {:width$}  {:13}  {:>8}  {:>9}  {:>9}  {:>7}  statement",
            "step", "status", "attempts", "waiting", "executing", "retried"
        )?;
        for step in &self.steps {
            let sum = |part: fn(&AttemptReport) -> Duration| {
                step.attempts.iter().map(part).sum::<Duration>().as_secs_f64()
            };
            let retried: u32 = step.attempts.iter().map(AttemptReport::total_retried_errors).sum();
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
                "  {:width$}  {:13}  {:>8}  {:>7.2} s  {:>7.2} s  {retried:>7}  {statement}",
                step.name,
                step.status.as_str(),
                step.attempt_count(),
                sum(|attempt| attempt.waiting),
                sum(|attempt| attempt.execution_time.unwrap_or_default()),
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
                "\nRun `{}` again to find out the unknown outcomes. A statement that the service never received is then submitted, for \
                 8 hours after its first submit. If you run one by hand instead, settle it first (`Orchestrator::settle`).",
                self.run
            )?;
        } else if self.failures().next().is_none() && self.has_not_started() {
            writeln!(f, "\nRun `{}` again: it continues with the steps that have not finished.", self.run)?;
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

impl AttemptReport {
    fn fmt_failure(&self, step: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.statement_id.as_ref().map_or("no statement", StatementId::as_str);
        let error = printable(self.error.as_deref().unwrap_or("no error text").trim_end());
        writeln!(f, "\n{step} {}, {}, {id}\n  {}", self.result, self.title(), error.replace('\n', "\n  "))?;
        match &self.manual_check {
            Some(check) => writeln!(f, "  look at\n    {}", check.replace('\n', "\n    ")),
            None => Ok(()),
        }
    }
}
