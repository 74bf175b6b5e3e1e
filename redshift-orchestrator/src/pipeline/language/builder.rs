//! [`PipelineBuilder`]: the definition of a pipeline in code. Definitions in files are converted into a
//! builder, too, so that one method validates both.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use super::{
    TemplateText, check,
    problem::{Location, Problem},
};
use crate::{
    Result, Target,
    pipeline::{
        OnFailure, Overlap, Pipeline, RetryPolicy, Step,
        model::{Declared, Graph, suggest},
    },
};

/// Maximum number of names in the message about a cycle.
const MAX_NAMES_IN_CYCLE: usize = 12;

/// Default for the maximum number of steps that run concurrently.
pub(super) const DEFAULT_CONCURRENCY: usize = 8;

impl Pipeline {
    /// Creates a builder for a pipeline.
    ///
    /// ```
    /// use redshift_orchestrator::pipeline::{Pipeline, Step};
    ///
    /// let pipeline = Pipeline::builder("nightly")
    ///     .with_parameter("day", None)
    ///     .with_step(Step::call("load", "load_day(:day)").with_parameter("day", "${day}"))
    ///     .with_step(Step::sql("statistics", "ANALYZE sales").after(["load"]))
    ///     .build()?;
    /// assert_eq!(pipeline.name(), "nightly");
    /// # Ok::<(), redshift_orchestrator::Error>(())
    /// ```
    pub fn builder(name: impl Into<String>) -> PipelineBuilder {
        PipelineBuilder {
            name: name.into(),
            concurrency: DEFAULT_CONCURRENCY,
            overlap: Overlap::default(),
            target: None,
            region: None,
            timeout: None,
            retry: None,
            on_failure: None,
            parameters: BTreeMap::new(),
            steps: Vec::new(),
        }
    }
}

/// Builder of a [`Pipeline`]. [`build`](Self::build) validates the definition.
#[derive(Clone, Debug)]
pub struct PipelineBuilder {
    pub(super) name: String,
    pub(super) concurrency: usize,
    pub(super) timeout: Option<Duration>,
    pub(super) retry: Option<RetryPolicy>,
    pub(super) on_failure: Option<OnFailure>,
    pub(super) overlap: Overlap,
    pub(super) target: Option<Target>,
    pub(super) region: Option<String>,
    pub(super) parameters: BTreeMap<String, Declared>,
    pub(super) steps: Vec<Step>,
}

impl PipelineBuilder {
    /// Sets the maximum number of steps that run concurrently. Default: 8.
    #[must_use]
    pub fn with_concurrency(mut self, concurrency: usize) -> Self {
        self.concurrency = concurrency;
        self
    }

    /// Sets the timeout of all steps that do not set their own.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sets the retry policy of all steps that do not set their own.
    #[must_use]
    pub fn with_retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = Some(retry);
        self
    }

    /// Sets the effect of a failure for all steps that do not set their own. Default:
    /// [`OnFailure::SkipDependents`].
    #[must_use]
    pub fn with_on_failure(mut self, on_failure: OnFailure) -> Self {
        self.on_failure = Some(on_failure);
        self
    }

    /// Adds a parameter of the pipeline. If `default` is `None`, every run must set the parameter.
    #[must_use]
    pub fn with_parameter(mut self, name: impl Into<String>, default: Option<&str>) -> Self {
        self.parameters
            .insert(name.into(), Declared { default: default.map(str::to_owned), is_secret: false });
        self
    }

    /// Adds a secret parameter. Its values are omitted from the journal and from all output. When a run is
    /// resumed, the parameter must be set again.
    #[must_use]
    pub fn with_secret_parameter(mut self, name: impl Into<String>) -> Self {
        self.parameters.insert(name.into(), Declared { default: None, is_secret: true });
        self
    }

    /// Sets the behaviour of a run while another run of the pipeline is active. Default: [`Overlap::Refuse`].
    /// A run can override the setting.
    #[must_use]
    pub fn with_overlap(mut self, overlap: Overlap) -> Self {
        self.overlap = overlap;
        self
    }

    /// Declares the database of the pipeline. The declaration only helps the caller to create an executor;
    /// statements run in the executor's database.
    #[must_use]
    pub fn with_declared_target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    /// Adds a step.
    #[must_use]
    pub fn with_step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// Validates the definition and returns the pipeline.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Definition`](crate::ErrorKind::Definition) with the step, the problem and a
    /// remedy.
    pub fn build(self) -> Result<Pipeline> {
        self.checked().map_err(Problem::into_error)
    }

    pub(super) fn checked(mut self) -> Result<Pipeline, Problem> {
        check::name("pipeline", &self.name).map_err(|message| Problem::of_pipeline("name", message))?;
        if self.concurrency == 0 {
            return Err(Problem::of_pipeline(
                "concurrency",
                "a concurrency of 0 would run nothing; use 1 or more",
            ));
        }
        if self.steps.is_empty() {
            return Err(Problem::of_pipeline("steps", "the pipeline has no steps; add `[[steps]]`"));
        }
        let mut numbers = HashMap::new();
        for (number, step) in self.steps.iter_mut().enumerate() {
            let name = step.name.clone();
            let at = |key: &'static str, message: String| {
                Problem::of_step(&name, number, Location::key(key), message)
            };
            check::name("step", &step.name).map_err(|message| at("name", message))?;
            if let Some(first) = numbers.insert(step.name.clone(), number) {
                return Err(at("name", format!("step {} has the same name; names are unique", first + 1)));
            }
            check::work(step).map_err(|message| at("work", message))?;
            check::commits(step).map_err(|(key, message)| at(key, message))?;
            check::task(step, &self.parameters)
                .map_err(|(location, message)| Problem::of_step(&name, number, location, message))?;
            check::tags(&step.tags).map_err(|message| at("tags", message))?;
            check::parameters(step, &self.parameters)
                .map_err(|(location, message)| Problem::of_step(&name, number, location, message))?;
            let retry = step.retry.as_ref().or(self.retry.as_ref());
            if let Some(retry) = retry {
                check::retry(retry).map_err(|message| at("retry", message))?;
            }
            let retry = retry.cloned();
            let timeout = step.timeout.or(self.timeout);
            if timeout == Some(Duration::ZERO) {
                return Err(at("timeout", "a timeout of zero cancels every statement at once".to_owned()));
            }
            step.retry = retry;
            step.timeout = timeout;
            step.on_failure = step.on_failure.or(self.on_failure);
        }
        let mut edges = Vec::new();
        for (number, step) in self.steps.iter().enumerate() {
            let mut seen = BTreeSet::new();
            for dependency in &step.after {
                let location = Location { key: "after", needle: dependency.clone() };
                let at = |message: String| Problem::of_step(&step.name, number, location, message);
                if !seen.insert(dependency) {
                    return Err(at(format!("`{dependency}` is listed twice in `after`; remove one")));
                }
                let Some(earlier) = numbers.get(dependency) else {
                    let known = self.steps.iter().map(Step::name).filter(|name| *name != step.name);
                    return Err(at(format!(
                        "the step comes after `{dependency}`, but this pipeline has no such step{}",
                        suggest::among(dependency, known)
                    )));
                };
                edges.push((*earlier, number));
            }
        }
        let graph = Graph::new(self.steps.len(), &edges).map_err(|cycle| {
            let mut names: Vec<_> = cycle.iter().map(|number| self.steps[*number].name.as_str()).collect();
            if names.len() > MAX_NAMES_IN_CYCLE {
                names.splice(MAX_NAMES_IN_CYCLE - 2..names.len() - 2, ["…"]);
            }
            let (number, step) = (cycle[0], &self.steps[cycle[0]]);
            let message =
                format!("the steps wait for each other: {}; remove one `after`", names.join(" -> "));
            Problem::of_step(&step.name, number, Location::key("after"), message)
        })?;
        if let Some(name) = self.unused_parameter() {
            return Err(Problem::of_parameter(
                &name,
                format!(
                    "no step uses the parameter `{name}`; use `${{{name}}}` in a step, or remove the parameter"
                ),
            ));
        }
        let Self { name, concurrency, overlap, target, region, parameters, steps, .. } = self;
        Ok(Pipeline { name, concurrency, overlap, target, region, parameters, steps, graph })
    }
}

impl PipelineBuilder {
    fn unused_parameter(&self) -> Option<String> {
        let texts = self.steps.iter().flat_map(|step| {
            let values = step.parameters.iter().map(|parameter| parameter.value.clone());
            step.work.texts().into_iter().chain(values)
        });
        let used: BTreeSet<String> = texts
            .flat_map(|text| TemplateText::parse(&text).parameters().map(str::to_owned).collect::<Vec<_>>())
            .collect();
        self.parameters.keys().find(|name| !used.contains(*name)).cloned()
    }
}
