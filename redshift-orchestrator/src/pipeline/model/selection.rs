//! Selection of the steps of a run by tag and name.

use super::{Pipeline, Run, Step, suggest};
use crate::{Error, ErrorKind, Result};

impl Pipeline {
    /// Returns `true` or `false` for each step, in the order of definition. A step is selected if the run has
    /// one of its tags or its name, or if the run has neither tags nor names.
    ///
    /// A step that is not selected does not run. The steps that depend on it wait for its dependencies
    /// instead.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Definition`] for an unknown tag or step name.
    pub fn selected(&self, run: &Run) -> Result<Vec<bool>> {
        for tag in run.tags() {
            if !self.steps.iter().any(|step| step.tags.contains(tag)) {
                let known = self.steps.iter().flat_map(|step| &step.tags).map(String::as_str);
                let known: std::collections::BTreeSet<_> = known.collect();
                return Err(self.unknown_name(format!(
                    "no step has the tag `{tag}`{}",
                    suggest::among(tag, known.into_iter())
                )));
            }
        }
        for name in run.steps() {
            if !self.steps.iter().any(|step| step.name == *name) {
                return Err(self.unknown_name(format!(
                    "the pipeline has no step `{name}`{}",
                    suggest::among(name, self.steps.iter().map(|step| step.name.as_str()))
                )));
            }
        }
        let all = run.tags().is_empty() && run.steps().is_empty();
        let is_selected = |step: &Step| {
            all || run.steps().contains(&step.name) || step.tags.iter().any(|tag| run.tags().contains(tag))
        };
        Ok(self.steps.iter().map(is_selected).collect())
    }

    fn unknown_name(&self, message: String) -> Error {
        Error::new(ErrorKind::Definition, message).with_context("pipeline", &self.name)
    }
}
