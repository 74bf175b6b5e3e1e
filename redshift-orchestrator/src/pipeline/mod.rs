//! Pipelines: graphs of steps, defined in a file or in code, that can be run and resumed.
//!
//! Example in TOML; JSON has the same keys:
//!
//! ```
//! # use redshift_orchestrator::pipeline::Pipeline;
//! let pipeline = Pipeline::from_toml(r#"
//! name = "mystore-cycle"
//! concurrency = 4                     # maximum number of concurrent statements; default: 8
//! timeout = "10m"                     # default for every step
//! on_failure = "skip-dependents"      # or stop, continue
//!
//! [parameters.cycle]                  # set by every run
//! [parameters.schema]
//! default = "mystore"                 # a run can override it
//!
//! [[steps]]
//! name = "dim-customer"
//! call = "${schema}.load_dim_customer(:cycle)"
//! parameters = { cycle = "${cycle}" }
//!
//! [[steps]]
//! name = "fact-sales"
//! call = "${schema}.load_fact_sales(:cycle)"
//! parameters = { cycle = "${cycle}" }
//! after = ["dim-customer"]
//! timeout = "2m"
//! retry = { attempts = 3, on = ["serialization-conflict", "deadlock"], backoff = "500ms" }
//!
//! [[steps]]
//! name = "statistics"
//! batch = ["ANALYZE ${schema}.dim_customer", "ANALYZE ${schema}.fact_sales"]
//! execution_mode = "auto-commit"      # or transaction, the default
//! after = ["fact-sales"]
//! on_failure = "continue"
//! "#)?;
//! assert_eq!(pipeline.steps().len(), 3);
//! println!("{}", pipeline.plan());
//! # Ok::<(), redshift_orchestrator::Error>(())
//! ```
//!
//! A step has one of `sql`, `call`, `batch`, and, in files, `file` (a path relative to the directory of the
//! pipeline file). `${name}` is replaced by a parameter of the run. In the values of `parameters`, which the
//! service keeps separate from the SQL, a parameter can have any value. In the SQL itself, only words,
//! numbers and qualified names are allowed. [`Pipeline::template`] returns the texts before replacement, split
//! at their parameters.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    time::Duration,
};

use crate::{Error, ErrorKind, Result, Statement, StepKey, Target};

mod attempts;
mod check;
mod definition;
mod gantt;
mod graph;
mod overlap;
mod plan;
mod report;
mod run;
#[cfg(feature = "schema")]
mod schema;
mod selection;
mod source;
mod step;
mod suggest;
mod template;

pub use overlap::{Overlap, Stop};
pub use plan::Plan;
#[doc(hidden)]
pub use report::printable;
pub use report::{AttemptReport, Report, StepReport, StepStatus, Totals};
pub use run::Run;
#[cfg(feature = "schema")]
pub use schema::{json_schema, schema_file};
pub use step::{OnFailure, Retry, Step, Work};
pub use template::{Piece, StepTemplate, Template, TemplateParameter, TemplateText, is_allowed_in_sql};

use graph::Graph;

/// Validated graph of steps: names are unique, dependencies exist, and there is no cycle.
#[derive(Clone, Debug)]
pub struct Pipeline {
    name: String,
    concurrency: usize,
    overlap: Overlap,
    target: Option<Target>,
    region: Option<String>,
    parameters: BTreeMap<String, Declared>,
    steps: Vec<Step>,
    graph: Graph,
}

/// A parameter of each run.
#[derive(Clone, Default)]
struct Declared {
    default: Option<String>,
    is_secret: bool,
}

impl fmt::Debug for Declared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Declared").field("is_secret", &self.is_secret).finish_non_exhaustive()
    }
}

/// Default for the maximum number of concurrent statements.
const DEFAULT_CONCURRENCY: usize = 8;

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
    pub fn target(&self) -> Option<&Target> {
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

    /// Returns the statements of all steps for a run with these parameters, in the order of the steps.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Definition`] if a parameter is missing or unknown, or if a value is not allowed
    /// where it is used; [`ErrorKind::Invalid`] if the name of the run is not valid.
    pub fn statements(&self, run: &Run) -> Result<Vec<Statement>> {
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

/// Builder of a pipeline. [`build`](Self::build) checks the definition.
#[derive(Clone, Debug)]
pub struct PipelineBuilder {
    name: String,
    concurrency: usize,
    timeout: Option<Duration>,
    retry: Option<Retry>,
    on_failure: Option<OnFailure>,
    overlap: Overlap,
    target: Option<Target>,
    region: Option<String>,
    parameters: BTreeMap<String, Declared>,
    steps: Vec<Step>,
}

impl PipelineBuilder {
    /// Sets the maximum number of concurrent statements. Default: 8.
    #[must_use]
    pub fn with_concurrency(mut self, concurrency: usize) -> Self {
        self.concurrency = concurrency;
        self
    }

    /// Sets the default timeout of steps.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sets the default retry of steps.
    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.retry = Some(retry);
        self
    }

    /// Sets the default effect of a step's failure.
    #[must_use]
    pub fn with_on_failure(mut self, on_failure: OnFailure) -> Self {
        self.on_failure = Some(on_failure);
        self
    }

    /// Adds a parameter of each run, with a default for runs that do not set it.
    #[must_use]
    pub fn with_parameter(mut self, name: impl Into<String>, default: Option<&str>) -> Self {
        self.parameters
            .insert(name.into(), Declared { default: default.map(str::to_owned), is_secret: false });
        self
    }

    /// Adds a parameter whose values are omitted from the journal and from all output. A resumed run must set
    /// it again.
    #[must_use]
    pub fn with_secret_parameter(mut self, name: impl Into<String>) -> Self {
        self.parameters.insert(name.into(), Declared { default: None, is_secret: true });
        self
    }

    /// Sets the behaviour of a run while another one is active; a run can override it.
    #[must_use]
    pub fn with_overlap(mut self, overlap: Overlap) -> Self {
        self.overlap = overlap;
        self
    }

    /// Sets the database of the definition, for the code that creates an executor.
    #[must_use]
    pub fn with_target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    /// Adds a step.
    #[must_use]
    pub fn with_step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// Checks the definition and returns the pipeline.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Definition`] with the step, the problem and a remedy.
    pub fn build(self) -> Result<Pipeline> {
        self.checked().map_err(Problem::into_error)
    }

    fn checked(mut self) -> Result<Pipeline, Problem> {
        check::name("pipeline", &self.name).map_err(|message| Problem::of_pipeline("name", message))?;
        if self.concurrency == 0 {
            return Err(Problem::of_pipeline(
                "concurrency",
                "a concurrency of 0 would run nothing; give 1 or more",
            ));
        }
        if self.steps.is_empty() {
            return Err(Problem::of_pipeline("steps", "the pipeline has no steps; add `[[steps]]`"));
        }
        let mut numbers = HashMap::new();
        for (number, step) in self.steps.iter_mut().enumerate() {
            let name = step.name.clone();
            let at = |key: &'static str, message: String| {
                Problem::of_step(&name, number, Place::key(key), message)
            };
            check::name("step", &step.name).map_err(|message| at("name", message))?;
            if let Some(first) = numbers.insert(step.name.clone(), number) {
                return Err(at("name", format!("step {} has the same name; names are unique", first + 1)));
            }
            check::work(step).map_err(|message| at("work", message))?;
            check::commits(step).map_err(|(key, message)| at(key, message))?;
            check::tags(&step.tags).map_err(|message| at("tags", message))?;
            check::parameters(step, &self.parameters)
                .map_err(|(place, message)| Problem::of_step(&name, number, place, message))?;
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
                let place = Place { key: "after", needle: dependency.clone() };
                let at = |message: String| Problem::of_step(&step.name, number, place, message);
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
        let graph = Graph::new(self.steps.len(), &edges).map_err(|circle| {
            let names: Vec<_> = circle.iter().map(|number| self.steps[*number].name.as_str()).collect();
            let (number, step) = (circle[0], &self.steps[circle[0]]);
            let message =
                format!("the steps wait for each other: {}; remove one `after`", names.join(" -> "));
            Problem::of_step(&step.name, number, Place::key("after"), message)
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
        let uses = |step: &Step, name: &str| {
            let values = step.parameters.iter().map(|parameter| parameter.value.clone());
            step.work
                .sqls()
                .into_iter()
                .chain(values)
                .any(|text| TemplateText::parse(&text).parameters().any(|it| it == name))
        };
        self.parameters.keys().find(|name| !self.steps.iter().any(|step| uses(step, name))).cloned()
    }
}

/// Problem of a definition and its location, to which a file adds the line.
#[derive(Debug)]
struct Problem {
    message: String,
    /// Name of the step and its number in the definition.
    step: Option<(String, usize)>,
    place: Place,
}

/// A key of a step or of the head of the file, and a text to find there.
#[derive(Debug)]
struct Place {
    /// `work` denotes the one of `sql`, `call`, `batch`, `file` that is present.
    key: &'static str,
    needle: String,
}

impl Place {
    fn key(key: &'static str) -> Self {
        Self { key, needle: String::new() }
    }
}

impl Problem {
    fn of_pipeline(key: &'static str, message: impl Into<String>) -> Self {
        Self { message: message.into(), step: None, place: Place::key(key) }
    }

    fn of_parameter(name: &str, message: String) -> Self {
        Self { message, step: None, place: Place { key: "parameters", needle: name.to_owned() } }
    }

    fn of_step(name: &str, number: usize, place: Place, message: String) -> Self {
        Self { message, step: Some((name.to_owned(), number)), place }
    }

    fn into_error(self) -> Error {
        let error = Error::new(ErrorKind::Definition, self.message);
        match self.step {
            Some((name, _)) if !name.is_empty() => error.with_context("step", name),
            Some((_, number)) => error.with_context("step", format_args!("number {}", number + 1)),
            None => error,
        }
    }
}
