//! The work of a run: the pipeline's template with the run's parameter values.

use std::collections::BTreeMap;

use crate::{
    Error, ErrorKind, Result, Statement, StepKey,
    pipeline::{Pipeline, Run, StepWork, model::suggest},
};

impl Pipeline {
    /// Returns the statements of this run, in the order of definition. Steps that are tasks have none.
    ///
    /// # Errors
    /// Returns the errors of [`rendered`](Self::rendered).
    pub fn statements(&self, run: &Run) -> Result<Vec<Statement>> {
        let statement = |work| match work {
            StepWork::Statement(statement) => Some(statement),
            StepWork::Task(_) => None,
        };
        Ok(self.rendered(run)?.into_iter().filter_map(statement).collect())
    }

    /// Returns the work of all steps with the values of this run, in the order of definition.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Definition`] if a parameter is missing or unknown, or if a value is not allowed
    /// where it is used; [`ErrorKind::Invalid`] if the name of the run is not valid.
    pub fn rendered(&self, run: &Run) -> Result<Vec<StepWork<Statement>>> {
        StepKey::new(run.name(), "step").check()?;
        let mut values: BTreeMap<String, String> = self
            .parameters
            .iter()
            .filter_map(|(name, parameter)| Some((name.clone(), parameter.default.clone()?)))
            .collect();
        for (name, value) in run.parameters() {
            if !self.parameters.contains_key(name) {
                let known = self.parameters.keys().map(String::as_str);
                return Err(Error::new(
                    ErrorKind::Definition,
                    format!("the pipeline has no parameter `{name}`{}", suggest::among(name, known)),
                )
                .with_context("pipeline", &self.name));
            }
            values.insert(name.to_owned(), value.to_owned());
        }
        if let Some(missing) = self.parameters.keys().find(|name| !values.contains_key(*name)) {
            return Err(Error::new(
                ErrorKind::Definition,
                format!("the run does not set the parameter `{missing}`, which has no default"),
            )
            .with_context("pipeline", &self.name));
        }
        self.template().steps().iter().map(|step| step.render(&values)).collect()
    }
}
