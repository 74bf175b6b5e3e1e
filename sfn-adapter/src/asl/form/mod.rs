//! State machines from pipelines, in three forms.

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

use builder::Builder;
use calls::{Calls, Schedule};

use super::{
    budget::{Budget, HISTORY},
    expr::QueryLanguage,
    model::StateMachine,
};

/// The way in which a state machine runs statements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Form {
    /// Through the handler `statement`: submit, wait with growing pauses, status. The default.
    #[default]
    Lambda,
    /// Directly, by Step Functions' integration of the Data API with long polls. No Lambda function.
    Sdk,
    /// Through the handlers `statement` and `callback`: a task that ends with the event of the statement's
    /// end, and polls if the event does not come.
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
    /// First pause between two polls; it doubles up to a minute, or further if the history would be too long.
    /// Default: 5 seconds, and none in the form `sdk`.
    pub poll_interval: Option<Duration>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            form: Form::default(),
            query_language: QueryLanguage::default(),
            lambda_arn: "${LoaderArn}".to_owned(),
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
    /// Differences from a run of the library, and settings that the deployment needs.
    pub notes: Vec<String>,
    /// Length of the history.
    pub budget: Budget,
}

/// Maximum length of a definition in bytes.
/// <https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html>
const MAX_DEFINITION: usize = 1_048_576;

/// Limit of the pauses between polls, unless the history would be too long.
const PAUSE: u64 = 60;

/// Longest pause that is chosen to shorten the history.
const MAX_PAUSE: u64 = 3_600;

/// Generates the state machine that runs a pipeline.
///
/// The execution's input is an object with the parameters of the run. The output is the same for the same
/// pipeline and options.
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
/// Returns [`ErrorKind::Definition`] for a pipeline that a state machine cannot run, with the way out.
pub fn generate(pipeline: &Pipeline, options: &Options) -> Result<Generated> {
    generate_with_conditions(pipeline, options, options.query_language)
}

/// Generates the state machine with the conditions of its choices in another language than the rest. In
/// JSONPath they are data, which a program can read.
pub(super) fn generate_with_conditions(
    pipeline: &Pipeline,
    options: &Options,
    conditions: QueryLanguage,
) -> Result<Generated> {
    let plan = plan::plan(pipeline, options.query_language)?;
    let builder = Builder { language: options.query_language, conditions };
    let calls: Box<dyn Calls> = match options.form {
        Form::Lambda => Box::new(lambda::Lambda::new(pipeline, &options.lambda_arn)),
        Form::Callback => Box::new(callback::Callbacks::new(pipeline, &options.lambda_arn)),
        Form::Sdk => Box::new(sdk::Sdk::new(pipeline)),
    };
    let is_guarded = pipeline.overlap() != Overlap::Allow;
    let mut notes = plan.notes.clone();
    let candidate = |schedule: Schedule| {
        let machine = machine::machine(pipeline, &plan, builder, &*calls, schedule, is_guarded);
        let budget = Budget::of(&machine, schedule.polls_of(&plan.timeouts()));
        (schedule, machine, budget)
    };
    let mut candidates = schedules(options).map(candidate);
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
                "the definition has {length} bytes and the service accepts {MAX_DEFINITION}; divide the pipeline"
            ),
        ));
    }
    notes.extend(calls.notes());
    notes.extend(guard_notes(pipeline, options, is_guarded));
    notes.push(schedule.describe());
    notes.push(budget.describe());
    Ok(Generated { machine, notes, budget })
}

/// Returns the schedules to try, from the shortest pauses on.
fn schedules(options: &Options) -> impl Iterator<Item = Schedule> {
    let first =
        options.poll_interval.map(|interval| interval.as_secs() + u64::from(interval.subsec_nanos() > 0));
    let is_sdk = options.form == Form::Sdk;
    let shortest = if is_sdk { first.unwrap_or(0) } else { first.unwrap_or(5).max(1) };
    let longer = std::iter::successors(Some(PAUSE.max(shortest)), |pause| Some(pause * 2))
        .take_while(move |pause| *pause <= MAX_PAUSE.max(shortest));
    let first = is_sdk.then(|| Schedule::long_polls(shortest, sdk::LONG_POLL));
    first.into_iter().chain(longer.map(move |limit| match is_sdk {
        true => Schedule::long_polls(limit, sdk::LONG_POLL),
        false => Schedule::doubling(shortest, limit),
    }))
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
    if options.form != Form::Sdk && options.lambda_arn.starts_with("${") {
        notes.push(format!(
            "{} is replaced by the deployment: DefinitionSubstitutions of the template",
            options.lambda_arn
        ));
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
