//! Generates state machines from pipelines, in three forms.

use std::time::Duration;

use redshift_orchestrator::{
    Error, ErrorKind, Pipeline, Result,
    pipeline::{OnFailure, Overlap},
};

mod builder;
mod callback;
mod calls;
mod lambda;
mod machine;
mod plan;
mod sdk;
mod step;
mod task;
#[cfg(test)]
mod tests;

use builder::Builder;
use calls::Calls;
pub(super) use calls::{Clock, Schedule};
pub(super) use machine::ROUND;
pub(super) use task::LIMITS as GLUE_LIMITS;

use super::{
    budget::{Budget, HISTORY},
    expr::QueryLanguage,
    model::StateMachine,
};

/// How a state machine runs statements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Form {
    /// Through the handler `statement`: submit, wait with growing pauses, status. The default.
    #[default]
    Lambda,
    /// Directly, through Step Functions' integration of the Data API, with long polls. Needs no Lambda
    /// function.
    Sdk,
    /// Through the handlers `statement` and `callback`: a task ends when the event of the statement's end
    /// arrives. If the event does not arrive, the machine polls.
    Callback,
}

/// Settings of a generated state machine.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// The form. Default: [`Form::Lambda`].
    pub form: Form,
    /// Language of the expressions. Default: [`QueryLanguage::Jsonata`].
    pub query_language: QueryLanguage,
    /// ARN of the function, or a substitution that a deployment replaces. Default: `${LoaderArn}`.
    pub lambda_arn: String,
    /// ARN of the function of the handler `hudi`, or a substitution that a deployment replaces. `{table}` is
    /// replaced by the name of the table. Default: `${HudiArn}`.
    pub hudi_arn: String,
    /// First pause between two polls. It doubles up to a minute, or further if the history would be too long.
    /// In the form `sdk`, polls are long polls, and each pause between them is longer by this value. Default:
    /// 5 seconds; in the form `sdk`, the shortest pause for which the history is not too long, which is
    /// usually none. Maximum: one hour.
    pub poll_interval: Option<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            form: Form::default(),
            query_language: QueryLanguage::default(),
            lambda_arn: "${LoaderArn}".to_owned(),
            hudi_arn: "${HudiArn}".to_owned(),
            poll_interval: None,
        }
    }
}

/// A generated state machine.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Generated {
    /// The definition.
    pub machine: StateMachine,
    /// Differences from a run of the library, and settings that the deployment must provide.
    pub notes: Vec<String>,
    /// Length of the history.
    pub budget: Budget,
}

/// Maximum length of a definition in bytes.
/// <https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html>
const MAX_DEFINITION: usize = 1_048_576;

/// Maximum pause between polls, unless the history would be too long.
const PAUSE: u64 = 60;

/// Maximum pause that is chosen to shorten the history. The pauses between long polls grow up to it.
const MAX_PAUSE: u64 = 3_600;

/// Generates the state machine that runs a pipeline.
///
/// The execution's input is an object with the parameters of the run. Equal pipelines and options give equal
/// output.
///
/// ```
/// use redshift_orchestrator::Pipeline;
/// use sfn_adapter::asl::{Options, generate};
///
/// let pipeline = Pipeline::from_toml(r#"
/// name = "sales"
/// [parameters.day]
/// [[steps]]
/// name = "load"
/// call = "mystore.load_sales(:day)"
/// parameters = { day = "${day}" }
/// "#)?;
/// let generated = generate(&pipeline, &Options::default())?;
/// assert!(generated.machine.states.contains_key("load: submit"));
/// assert!(generated.budget.events < 25_000);
/// # Ok::<(), redshift_orchestrator::Error>(())
/// ```
///
/// # Errors
/// Returns [`ErrorKind::Definition`] for a pipeline that a state machine cannot run. The message names an
/// alternative.
pub fn generate(pipeline: &Pipeline, options: &Options) -> Result<Generated> {
    generate_with_conditions(pipeline, options, options.query_language)
}

/// Generates the state machine, with the conditions of its choices in a different language from the rest. In
/// JSONPath, conditions are data that a program can read.
pub(super) fn generate_with_conditions(
    pipeline: &Pipeline,
    options: &Options,
    conditions: QueryLanguage,
) -> Result<Generated> {
    if let Some(interval) =
        options.poll_interval.filter(|interval| *interval > Duration::from_secs(MAX_PAUSE))
    {
        let (given, most) = (step::seconds(interval.as_secs()), step::seconds(MAX_PAUSE));
        return Err(problem(
            pipeline,
            format!(
                "the poll interval of {given} is too long; choose at most {most}, because a statement's end is noticed by a poll"
            ),
        ));
    }
    let plan = plan::plan(pipeline, options)?;
    let builder = Builder { language: options.query_language, conditions };
    let calls: Box<dyn Calls> = match options.form {
        Form::Lambda => Box::new(lambda::Lambda::new(pipeline, &options.lambda_arn)),
        Form::Callback => Box::new(callback::Callbacks::new(pipeline, &options.lambda_arn)),
        Form::Sdk => Box::new(sdk::Sdk::new(pipeline)),
    };
    let is_guarded = pipeline.overlap() != Overlap::Allow;
    let rounds = if pipeline.overlap() == Overlap::Queue { machine::ROUNDS } else { 0 };
    let mut notes = plan.notes.clone();
    let candidate = |schedule: Schedule| {
        let machine = machine::machine(pipeline, &plan, builder, &*calls, schedule, is_guarded);
        let budget = Budget::of(&machine, schedule.polls_of(&plan.timeouts()), rounds);
        (schedule, machine, budget)
    };
    let mut candidates = schedules(options).into_iter().map(candidate);
    let fits = |(_, _, budget): &(Schedule, StateMachine, Budget)| budget.fits();
    let Some((schedule, machine, budget)) = candidates.find(fits) else {
        let message = format!(
            "the history could exceed the {HISTORY} events at which the service ends an execution; set shorter timeouts \
             or fewer attempts, or divide the pipeline"
        );
        return Err(problem(pipeline, message));
    };
    let length = machine.to_json().len();
    if length > MAX_DEFINITION {
        return Err(problem(
            pipeline,
            format!(
                "the definition has {length} bytes, but the service accepts at most {MAX_DEFINITION}; divide the pipeline"
            ),
        ));
    }
    let has_statements = pipeline.steps().iter().any(|step| step.statement().is_some());
    if has_statements {
        notes.extend(calls.notes());
    }
    notes.extend(task::notes(pipeline, &options.hudi_arn));
    notes.extend(guard_notes(pipeline, options, is_guarded));
    if has_statements {
        notes.push(schedule.describe());
    }
    notes.push(budget.describe());
    Ok(Generated { machine, notes, budget })
}

/// Returns the schedules to try, starting with the shortest pauses.
fn schedules(options: &Options) -> Vec<Schedule> {
    let first =
        options.poll_interval.map(|interval| interval.as_secs() + u64::from(interval.subsec_nanos() > 0));
    let doubled = |from: u64| {
        std::iter::successors(Some(from), |pause| Some(pause * 2))
            .take_while(move |pause| *pause <= MAX_PAUSE.max(from))
    };
    match options.form {
        Form::Sdk => {
            let shortest = first.unwrap_or(0);
            let none = (shortest == 0).then_some(0);
            let pauses = none.into_iter().chain(doubled(shortest.max(1)));
            pauses.map(|pause| Schedule::long_polls(pause, MAX_PAUSE, sdk::LONG_POLL)).collect()
        }
        Form::Lambda | Form::Callback => {
            let shortest = first.unwrap_or(5);
            doubled(PAUSE.max(shortest)).map(|limit| Schedule::doubling(shortest, limit)).collect()
        }
    }
}

fn guard_notes(pipeline: &Pipeline, options: &Options, is_guarded: bool) -> Vec<String> {
    let mut notes = Vec::new();
    if is_guarded {
        notes.push(format!(
            "overlap = {}: the role needs states:ListExecutions on this state machine and states:SendTaskFailure; \
             a redrive repeats the steps that did not finish",
            if pipeline.overlap() == Overlap::Queue { "queue" } else { "refuse" }
        ));
    } else {
        notes.push(
            "overlap = allow: nothing guards against concurrent executions, and a redrive fails again at once, \
             because it repeats the final state only; start a new execution instead"
                .to_owned(),
        );
    }
    let has_statements = pipeline.steps().iter().any(|step| step.statement().is_some());
    let loader = Some(&options.lambda_arn).filter(|_| has_statements && options.form != Form::Sdk);
    let hudi = Some(&options.hudi_arn).filter(|_| !task::hudi_tables(pipeline).is_empty());
    for arn in loader.into_iter().chain(hudi).filter(|arn| arn.starts_with("${")) {
        notes.push(format!("{arn} is replaced by the deployment: DefinitionSubstitutions of the template"));
    }
    if pipeline.steps().iter().any(|step| step.on_failure() == OnFailure::Stop) {
        notes.push(
            "on_failure = stop: the steps run in levels, because a branch does not see the failures of its siblings"
                .to_owned(),
        );
    }
    notes
}

fn problem(pipeline: &Pipeline, message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Definition, message.into()).with_context("pipeline", pipeline.name())
}
