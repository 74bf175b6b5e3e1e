//! Which steps a run is about: all of them, or those with a tag or a name.

use super::{Pipeline, Run, suggest};
use crate::{Error, ErrorKind, Result};

impl Pipeline {
    /// For each step, in the order of the definition, whether this run is about it: all steps, or those that bear one of the run's
    /// tags or names.
    ///
    /// A step that is not selected does nothing and holds nobody up: what comes after it still comes after what *it* comes after.
    ///
    /// # Errors
    /// [`ErrorKind::Definition`] for a tag that no step bears, and for a name that no step has.
    pub fn selected(&self, run: &Run) -> Result<Vec<bool>> {
        for tag in run.tags() {
            if !self.steps.iter().any(|step| step.tags.contains(tag)) {
                let known = self.steps.iter().flat_map(|step| &step.tags).map(String::as_str);
                let known: std::collections::BTreeSet<_> = known.collect();
                return Err(self.not_there(format!(
                    "no step bears the tag `{tag}`{}",
                    suggest::among(tag, known.into_iter())
                )));
            }
        }
        for name in run.only() {
            if !self.steps.iter().any(|step| step.name == *name) {
                return Err(self.not_there(format!(
                    "the pipeline has no step `{name}`{}",
                    suggest::among(name, self.steps.iter().map(|step| step.name.as_str()))
                )));
            }
        }
        let all = run.tags().is_empty() && run.only().is_empty();
        let is_selected = |step: &super::Step| {
            all || run.only().contains(&step.name) || step.tags.iter().any(|tag| run.tags().contains(tag))
        };
        Ok(self.steps.iter().map(is_selected).collect())
    }

    fn not_there(&self, message: String) -> Error {
        Error::new(ErrorKind::Definition, message).with_context("pipeline", &self.name)
    }
}
