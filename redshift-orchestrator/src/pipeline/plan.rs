//! [`Plan`]: what a pipeline would run, for people.

use std::fmt;

use super::{OnFailure, Pipeline};
use crate::seconds::human;

/// What a pipeline would run, in which order. Prints as a table; shows no SQL and no values.
#[derive(Clone, Copy, Debug)]
pub struct Plan<'a>(&'a Pipeline);

impl Pipeline {
    /// What it would run, in which order.
    pub fn plan(&self) -> Plan<'_> {
        Plan(self)
    }
}

impl Plan<'_> {
    /// Steps by level: each level needs only levels before it.
    pub fn levels(&self) -> Vec<Vec<&str>> {
        let mut levels: Vec<Vec<&str>> = Vec::new();
        for (number, step) in self.0.steps.iter().enumerate() {
            let level = self.0.graph.level(number);
            if levels.len() <= level {
                levels.resize(level + 1, Vec::new());
            }
            levels[level].push(&step.name);
        }
        levels
    }
}

impl fmt::Display for Plan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pipeline = self.0;
        let count = pipeline.steps.len();
        let plural = if count == 1 { "" } else { "s" };
        writeln!(f, "{}: {count} step{plural}, at most {} at a time", pipeline.name, pipeline.concurrency)?;
        for (name, default) in pipeline.parameters() {
            match default {
                Some(default) => writeln!(f, "  parameter {name}, {default} unless a run says otherwise")?,
                None => writeln!(f, "  parameter {name}, given by each run")?,
            }
        }
        let name_width = pipeline.steps.iter().map(|step| step.name.chars().count()).max().unwrap_or(0);
        let summaries: Vec<_> = pipeline.steps.iter().map(|step| step.work.summary()).collect();
        let summary_width = summaries.iter().map(|summary| summary.chars().count()).max().unwrap_or(0);
        let mut order: Vec<usize> = (0..count).collect();
        order.sort_by_key(|number| (pipeline.graph.level(*number), *number));
        for number in order {
            let step = &pipeline.steps[number];
            let mut notes = Vec::new();
            if !step.after.is_empty() {
                notes.push(format!("after {}", step.after.join(", ")));
            }
            if let Some(timeout) = step.timeout {
                notes.push(format!("at most {}", human(timeout)));
            }
            if let Some(retry) = step.retry.as_ref().filter(|retry| retry.attempts > 1) {
                let kinds: Vec<_> = retry.kinds().map(|kind| kind.as_str()).collect();
                notes.push(format!("up to {} attempts on {}", retry.attempts, kinds.join(", ")));
            }
            match step.on_failure() {
                OnFailure::SkipDependents => {}
                OnFailure::Stop => notes.push("stops the run if it fails".to_owned()),
                OnFailure::Continue => notes.push("others go on if it fails".to_owned()),
            }
            let line = format!(
                "{:>3}  {:name_width$}  {:summary_width$}  {}",
                pipeline.graph.level(number) + 1,
                step.name,
                summaries[number],
                notes.join("; ")
            );
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}
