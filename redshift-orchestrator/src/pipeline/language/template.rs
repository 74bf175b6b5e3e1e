//! [`Template`]: the work of a pipeline's steps before a run's parameter values are inserted.

use std::{collections::BTreeMap, convert::Infallible};

use super::{TemplateText, check, is_allowed_in_sql};
use crate::{
    Error, ErrorKind, ExecutionMode, Result, Statement,
    pipeline::{Pipeline, Step, StepStatement, StepWork},
    task::TaskWork,
};

/// Steps of a pipeline, with each text split into literals and parameters of the run.
///
/// A template is the input of a generator. For example, a state machine is generated from a template once,
/// and receives the parameter values with each execution. [`Pipeline::run`] renders the same template with
/// the values of its [`Run`].
///
/// ```
/// use redshift_orchestrator::pipeline::{Piece, Pipeline, TemplateText};
///
/// let pipeline = Pipeline::from_toml(r#"
/// name = "sales"
/// [parameters.day]
/// [parameters.schema]
/// default = "mystore"
///
/// [[steps]]
/// name = "load"
/// call = "${schema}.load_sales(:day)"
/// parameters = { day = "${day}" }
/// "#)?;
///
/// // JSONata, in which `&` concatenates texts.
/// let jsonata = |text: &TemplateText| {
///     let pieces = text.pieces().iter().map(|piece| match piece {
///         Piece::Literal(text) => serde_json::json!(text).to_string(),
///         Piece::Parameter(name) => format!("$states.input.{name}"),
///     });
///     pieces.collect::<Vec<_>>().join(" & ")
/// };
/// let template = pipeline.template();
/// let step = &template.steps()[0];
/// assert_eq!(jsonata(&step.sqls[0]), r#""CALL " & $states.input.schema & ".load_sales(:day)""#);
/// assert_eq!(step.parameters[0].name, "day");
/// assert_eq!(jsonata(&step.parameters[0].value), "$states.input.day");
/// assert!(template.is_in_sql("schema") && !template.is_in_sql("day"));
/// # Ok::<(), redshift_orchestrator::Error>(())
/// ```
///
/// [`Run`]: crate::pipeline::Run
#[derive(Clone, Debug)]
pub struct Template<'a> {
    pipeline: &'a Pipeline,
    steps: Vec<StepTemplate<'a>>,
}

/// Step of a [`Template`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StepTemplate<'a> {
    pipeline: &'a Pipeline,
    /// Definition of the step: its name, dependencies, tags, timeout, retry, and the effect of its failure.
    pub step: &'a Step,
    /// SQL texts in execution order: the texts of a batch, or a single text. The text of a call begins with
    /// `CALL`. Empty for a task.
    pub sqls: Vec<TemplateText>,
    /// Commit mode of a batch, or `None` for a single statement.
    pub execution_mode: Option<ExecutionMode>,
    /// Values of the placeholders.
    pub parameters: Vec<TemplateParameter>,
    /// The Glue job or the Hudi table, or `None` for a statement or batch.
    pub task: Option<TaskWork<TemplateText>>,
}

/// Value of a `:name` placeholder in the SQL of a [`StepTemplate`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TemplateParameter {
    /// Name of the placeholder without its colon.
    pub name: String,
    /// The value.
    pub value: TemplateText,
}

impl Pipeline {
    /// Returns the template of the pipeline: its steps, with each text split into literals and parameters of
    /// the run.
    pub fn template(&self) -> Template<'_> {
        let step = |step| StepTemplate::new(self, step);
        Template { pipeline: self, steps: self.steps.iter().map(step).collect() }
    }
}

impl<'a> Template<'a> {
    /// Returns the pipeline, with its name, concurrency, target and parameters.
    pub fn pipeline(&self) -> &'a Pipeline {
        self.pipeline
    }

    /// Returns the steps in the order of their definition.
    pub fn steps(&self) -> &[StepTemplate<'a>] {
        &self.steps
    }

    /// Returns `true` if an SQL text contains this parameter of the run. Its values must then be [allowed in
    /// SQL](is_allowed_in_sql).
    pub fn is_in_sql(&self, parameter: &str) -> bool {
        self.steps
            .iter()
            .flat_map(|step| &step.sqls)
            .any(|sql| sql.parameters().any(|name| name == parameter))
    }
}

impl<'a> StepTemplate<'a> {
    fn new(pipeline: &'a Pipeline, step: &'a Step) -> Self {
        let execution_mode = match step.work {
            StepWork::Statement(StepStatement::Batch(_, mode)) => Some(mode),
            StepWork::Statement(StepStatement::Sql(_) | StepStatement::Call(_)) | StepWork::Task(_) => None,
        };
        let parsed = |text: &'a String| Ok::<_, Infallible>(TemplateText::parse(text));
        let parameters = step.parameters.iter().map(|parameter| TemplateParameter {
            name: parameter.name.clone(),
            value: TemplateText::parse(&parameter.value),
        });
        Self {
            pipeline,
            step,
            sqls: step.work.sqls().iter().map(|sql| TemplateText::parse(sql)).collect(),
            execution_mode,
            parameters: parameters.collect(),
            task: step.task().map(|work| work.try_map(parsed).unwrap_or_else(|never| match never {})),
        }
    }

    /// Returns all texts: the SQL texts, and the values of the placeholders.
    fn texts(&self) -> impl Iterator<Item = &TemplateText> {
        self.sqls.iter().chain(self.parameters.iter().map(|parameter| &parameter.value))
    }

    /// Returns the work with these values of the run's parameters. Does not apply the default values of the
    /// pipeline.
    ///
    /// # Errors
    /// Returns [`ErrorKind::Definition`] if a parameter has no value, if a value is inserted into the SQL but
    /// not [allowed](is_allowed_in_sql) there, if the value of a placeholder is empty, or if the name of a
    /// job or table or the URL of a file is not valid with its values.
    pub fn render(&self, values: &BTreeMap<String, String>) -> Result<StepWork<Statement>> {
        let problem = |message: String| {
            Error::new(ErrorKind::Definition, message)
                .with_context("pipeline", self.pipeline.name())
                .with_context("step", self.step.name())
        };
        let missing = |name: &str| problem(format!("the parameter `{name}` has no value"));
        if let Some(task) = &self.task {
            let work = task.try_map(|text| text.render(values).map_err(missing))?;
            check::rendered(&work).map_err(problem)?;
            return Ok(StepWork::Task(work));
        }
        let not_allowed = |name: &&str| values.get(*name).is_some_and(|value| !is_allowed_in_sql(value));
        if let Some(name) = self.sqls.iter().flat_map(TemplateText::parameters).find(not_allowed) {
            return Err(problem(format!(
                "the value of `{name}` is not allowed in SQL: write `:{name}` there, and `{name} = \"${{{name}}}\"` \
                 among the step's parameters"
            )));
        }
        let sqls = self.sqls.iter().map(|sql| sql.render(values).map_err(missing));
        let mut sqls = sqls.collect::<Result<Vec<_>>>()?;
        let mut statement = match self.execution_mode {
            Some(mode) => Statement::batch(sqls).with_execution_mode(mode),
            None => Statement::sql(sqls.pop().unwrap_or_default()),
        };
        for parameter in &self.parameters {
            let value = parameter.value.render(values).map_err(missing)?;
            if value.is_empty() {
                return Err(problem(check::empty_value(&parameter.name)));
            }
            statement = statement.with_parameter(&parameter.name, value);
        }
        let secrets = self.texts().flat_map(TemplateText::parameters);
        let secrets =
            secrets.filter(|name| self.pipeline.is_secret(name)).filter_map(|name| values.get(name));
        let statement = secrets.fold(statement, Statement::with_secret);
        let statement = statement.with_commits(self.step.commits);
        Ok(StepWork::Statement(statement))
    }
}
