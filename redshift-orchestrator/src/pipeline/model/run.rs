//! [`Run`]: one run of a pipeline, new or resumed.

use std::collections::BTreeMap;

use super::Overlap;
use crate::stop::StopSignal;

/// One run of a pipeline: its name and the values of its parameters.
///
/// The name identifies the run, for example `sales-2026-11-23T06:30`. A further run with the same name
/// resumes the run: steps that have finished are not run again.
#[derive(Clone)]
pub struct Run {
    pub(in crate::pipeline) name: String,
    pub(in crate::pipeline) parameters: BTreeMap<String, String>,
    pub(in crate::pipeline) tags: Vec<String>,
    pub(in crate::pipeline) steps: Vec<String>,
    pub(in crate::pipeline) target: Option<String>,
    pub(in crate::pipeline) overlap: Option<Overlap>,
    pub(in crate::pipeline) stop: StopSignal,
}

impl Run {
    /// Creates a run with this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            parameters: BTreeMap::new(),
            tags: Vec::new(),
            steps: Vec::new(),
            target: None,
            overlap: None,
            stop: StopSignal::new(),
        }
    }

    /// Sets a parameter of the pipeline.
    #[must_use]
    pub fn with_parameter(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.parameters.insert(name.into(), value.into());
        self
    }

    /// Selects the steps with one of these tags, in addition to those [selected by name](Self::with_steps).
    /// Default: all steps.
    #[must_use]
    pub fn with_tags<S: Into<String>>(mut self, tags: impl IntoIterator<Item = S>) -> Self {
        self.tags.extend(tags.into_iter().map(Into::into));
        self
    }

    /// Selects these steps, in addition to those with one of the run's [tags](Self::with_tags). Default: all
    /// steps.
    #[must_use]
    pub fn with_steps<S: Into<String>>(mut self, steps: impl IntoIterator<Item = S>) -> Self {
        self.steps.extend(steps.into_iter().map(Into::into));
        self
    }

    /// Sets a label for the target, such as `111122223333:eu-west-1:workgroup/dwh/mystore`. Default: the
    /// executor's target, with the [name of its service](crate::Target::with_service_name). Resuming a run
    /// with a different label is an error, because the steps that finished on the first target have not run
    /// on this one.
    #[must_use]
    pub fn with_target_label(mut self, label: impl Into<String>) -> Self {
        self.target = Some(label.into());
        self
    }

    /// Sets the behaviour while another run of the pipeline is active. Default: the pipeline's setting.
    #[must_use]
    pub fn with_overlap(mut self, overlap: Overlap) -> Self {
        self.overlap = Some(overlap);
        self
    }

    /// Sets a signal that can stop the run early. When the stop is requested, the run starts no further step
    /// and waits for the statements that are running.
    #[must_use]
    pub fn with_stop_signal(mut self, stop: StopSignal) -> Self {
        self.stop = stop;
        self
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the tags of the selected steps. If no tags and no names are set, all steps are selected.
    pub fn tags(&self) -> &[String] {
        &self.tags
    }

    /// Returns the names of the selected steps. If no tags and no names are set, all steps are selected.
    pub fn steps(&self) -> &[String] {
        &self.steps
    }

    /// Returns the values of the parameters.
    pub fn parameters(&self) -> impl Iterator<Item = (&str, &str)> {
        self.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run").field("name", &self.name).finish_non_exhaustive()
    }
}
