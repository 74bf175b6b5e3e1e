//! [`Pipeline`]: a checked graph of steps.

use std::{collections::BTreeMap, fmt};

use super::{Graph, Overlap, Step};
use crate::Target;

/// Validated graph of steps. Its names are unique, all dependencies exist, and it has no cycle.
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

    /// Returns the maximum number of steps that run concurrently.
    pub fn concurrency(&self) -> usize {
        self.concurrency
    }

    /// Returns the behaviour of a run while another run of the pipeline is active. A run can
    /// [override](super::Run::with_overlap) it.
    pub fn overlap(&self) -> Overlap {
        self.overlap
    }

    /// Returns the database that the definition declares. The declaration only helps the caller to create an
    /// executor; statements run in the executor's database.
    pub fn declared_target(&self) -> Option<&Target> {
        self.target.as_ref()
    }

    /// Returns the AWS region of the declared database.
    pub fn region(&self) -> Option<&str> {
        self.region.as_deref()
    }

    /// Returns the names of the parameters with their default values.
    pub fn parameters(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.parameters.iter().map(|(name, parameter)| (name.as_str(), parameter.default.as_deref()))
    }

    /// Returns `true` if the parameter is secret: its values are omitted from the journal and from all
    /// output.
    pub fn is_secret(&self, parameter: &str) -> bool {
        self.parameters.get(parameter).is_some_and(|parameter| parameter.is_secret)
    }

    /// Returns the steps in the order of their definition.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }
}
