//! [`Pipeline`]: a checked graph of steps.

use std::{collections::BTreeMap, fmt};

use super::{Graph, Overlap, Step};
use crate::Target;

/// Validated graph of steps: names are unique, dependencies exist, and there is no cycle.
#[derive(Clone, Debug)]
pub struct Pipeline {
    pub(in crate::pipeline) name: String,
    pub(in crate::pipeline) concurrency: usize,
    pub(in crate::pipeline) overlap: Overlap,
    pub(in crate::pipeline) target: Option<Target>,
    pub(in crate::pipeline) region: Option<String>,
    pub(in crate::pipeline) parameters: BTreeMap<String, Declared>,
    pub(in crate::pipeline) steps: Vec<Step>,
    pub(in crate::pipeline) graph: Graph,
}

/// A parameter of each run.
#[derive(Clone, Default)]
pub(in crate::pipeline) struct Declared {
    pub(in crate::pipeline) default: Option<String>,
    pub(in crate::pipeline) is_secret: bool,
}

impl fmt::Debug for Declared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Declared").field("is_secret", &self.is_secret).finish_non_exhaustive()
    }
}

impl Pipeline {
    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the maximum number of concurrent statements.
    pub fn concurrency(&self) -> usize {
        self.concurrency
    }

    /// Returns the behaviour of a run while another one is active; a run can override it.
    pub fn overlap(&self) -> Overlap {
        self.overlap
    }

    /// Returns the database of the definition, for the code that creates an executor. Statements run in the
    /// executor's database.
    pub fn declared_target(&self) -> Option<&Target> {
        self.target.as_ref()
    }

    /// Returns the AWS region of that database.
    pub fn region(&self) -> Option<&str> {
        self.region.as_deref()
    }

    /// Returns the parameters of a run with their defaults.
    pub fn parameters(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.parameters.iter().map(|(name, parameter)| (name.as_str(), parameter.default.as_deref()))
    }

    /// Returns `true` if the values of this parameter are omitted from the journal and from all output.
    pub fn is_secret(&self, parameter: &str) -> bool {
        self.parameters.get(parameter).is_some_and(|parameter| parameter.is_secret)
    }

    /// Returns the steps in the order of their definition.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }
}
