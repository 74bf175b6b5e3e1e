//! [`Plan`]: the steps of a pipeline in the order in which a run executes them.

use std::fmt;

use serde_json::{Value, json};

use crate::{
    Result,
    pipeline::{OnFailure, Pipeline, Run, Step},
    seconds::human,
};

/// Steps of a pipeline in the order in which a run executes them. `Display` prints a table that contains
/// neither SQL nor values of placeholders.
#[derive(Clone, Debug)]
pub struct Plan<'a> {
    pipeline: &'a Pipeline,
    selected: Vec<bool>,
}

impl Pipeline {
    /// Returns the plan of all steps.
    pub fn plan(&self) -> Plan<'_> {
        Plan { pipeline: self, selected: vec![true; self.steps.len()] }
    }

    /// Returns the plan of a run.
    ///
    /// # Errors
    /// Returns the errors of [`selected`](Self::selected).
    pub fn plan_of(&self, run: &Run) -> Result<Plan<'_>> {
        Ok(Plan { pipeline: self, selected: self.selected(run)? })
    }
}

impl Plan<'_> {
    /// Returns the names of the steps by level. The steps of a level depend only on steps of earlier levels.
    pub fn levels(&self) -> Vec<Vec<&str>> {
        let mut levels: Vec<Vec<&str>> = Vec::new();
        for (number, step) in self.pipeline.steps.iter().enumerate() {
            let level = self.pipeline.graph.level(number);
            if levels.len() <= level {
                levels.resize(level + 1, Vec::new());
            }
            levels[level].push(&step.name);
        }
        levels
    }

    /// Returns the plan as JSON. The steps are in the order of their definition. Levels start at 1.
    pub fn to_json(&self) -> Value {
        let pipeline = self.pipeline;
        let step = |(number, step): (usize, &Step)| {
            json!({
                "name": step.name,
                "level": pipeline.graph.level(number) + 1,
                "selected": self.selected[number],
                "does": step.work.summary(),
                "after": step.after,
                "tags": step.tags,
                "timeout": step.timeout.map(|timeout| timeout.as_secs_f64()),
                "attempts": step.retry.as_ref().map_or(1, |retry| retry.attempts),
                "retried_on": step.retry.iter().flat_map(|retry| retry.kinds()).collect::<Vec<_>>(),
                "on_failure": step.on_failure(),
            })
        };
        let parameter = |(name, default): (&str, Option<&str>)| json!({"name": name, "required": default.is_none(), "secret": pipeline.is_secret(name)});
        json!({
            "pipeline": pipeline.name,
            "concurrency": pipeline.concurrency,
            "overlap": pipeline.overlap,
            "parameters": pipeline.parameters().map(parameter).collect::<Vec<_>>(),
            "steps": pipeline.steps.iter().enumerate().map(step).collect::<Vec<_>>(),
        })
    }

    /// Returns the graph as a Mermaid flowchart for Markdown. Steps that are not selected have dashed
    /// borders.
    pub fn to_mermaid(&self) -> String {
        let mut chart = "flowchart LR\n".to_owned();
        let steps = &self.pipeline.steps;
        for (number, step) in steps.iter().enumerate() {
            let name = step.name.replace('#', "#35;").replace('"', "#quot;").replace('<', "#lt;");
            // Mermaid treats text after a backtick as Markdown.
            let name = name.replace('`', "#96;");
            let class = if self.selected[number] { "" } else { ":::unselected" };
            chart += &format!("    s{number}[\"{name}\"]{class}\n");
        }
        for number in 0..steps.len() {
            for later in self.pipeline.graph.dependents(number) {
                chart += &format!("    s{number} --> s{later}\n");
            }
        }
        if self.selected.contains(&false) {
            chart += "    classDef unselected stroke-dasharray: 4 4, color: #888\n";
        }
        chart
    }
}

impl fmt::Display for Plan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pipeline = self.pipeline;
        let count = pipeline.steps.len();
        let plural = if count == 1 { "" } else { "s" };
        let selected = self.selected.iter().filter(|selected| **selected).count();
        let part = if selected < count { format!("{selected} of ") } else { String::new() };
        writeln!(
            f,
            "{}: {part}{count} step{plural}, at most {} at a time",
            pipeline.name, pipeline.concurrency
        )?;
        for (name, default) in pipeline.parameters() {
            match default {
                _ if pipeline.is_secret(name) => writeln!(f, "  parameter {name}, set by each run, secret")?,
                Some(default) => writeln!(f, "  parameter {name}, default {default}")?,
                None => writeln!(f, "  parameter {name}, set by each run")?,
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
            if !self.selected[number] {
                notes.push("not selected".to_owned());
            }
            if !step.after.is_empty() {
                notes.push(format!("after {}", step.after.join(", ")));
            }
            if !step.tags.is_empty() {
                notes.push(format!("tagged {}", step.tags.join(", ")));
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
                OnFailure::Continue => notes.push("the run continues if it fails".to_owned()),
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
