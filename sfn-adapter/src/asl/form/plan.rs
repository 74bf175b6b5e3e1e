//! [`StepPlan`]s of a pipeline and their order.

use std::{collections::BTreeSet, time::Duration};

use redshift_orchestrator::{
    FailureKind, MAX_BATCH, Pipeline, Result,
    pipeline::{OnFailure, Piece, StepTemplate, TemplateText},
    task::TaskWork,
};
use sha2::{Digest, Sha256};

use super::{
    Options, problem,
    step::StepPlan,
    task::{self, TaskPlan},
};
use crate::asl::{
    expr::{Condition, Expr, QueryLanguage},
    graph::{Order, Plan},
};

/// The service's limit for the duration of a statement, in seconds.
const DAY: u64 = 86_400;

/// Maximum length of the step's part of a state's name. The service accepts names of up to 80 characters.
const LABEL: usize = 60;

/// A pipeline in the form that a generator needs.
pub(super) struct Planned {
    pub(super) steps: Vec<StepPlan>,
    pub(super) order: Order,
    pub(super) notes: Vec<String>,
}

impl Planned {
    /// Returns the timeout and the number of attempts of each step.
    pub(super) fn timeouts(&self) -> Vec<(String, u64, u64)> {
        self.steps.iter().map(|step| (step.label.clone(), step.timeout, step.attempts)).collect()
    }
}

pub(super) fn plan(pipeline: &Pipeline, options: &Options) -> Result<Planned> {
    check(pipeline)?;
    let number = |name: &str| pipeline.steps().iter().position(|step| step.name() == name);
    let edges: Vec<(usize, usize)> = pipeline
        .steps()
        .iter()
        .enumerate()
        .flat_map(|(later, step)| {
            step.dependencies().iter().filter_map(move |name| Some((number(name)?, later)))
        })
        .collect();
    let count = pipeline.steps().len();
    let stops = pipeline.steps().iter().any(|step| step.on_failure() == OnFailure::Stop);
    let plan = if stops { Plan::in_levels(count, &edges) } else { Plan::new(count, &edges) };
    let names = |steps: BTreeSet<usize>| {
        let names = steps.into_iter().map(|step| pipeline.steps()[step].name().to_owned());
        names.collect::<Vec<_>>().join(", ")
    };
    let mut notes: Vec<String> = plan
        .barriers
        .iter()
        .map(|barrier| {
            let edges = barrier.edges.iter().map(|(earlier, later)| {
                format!("{} -> {}", pipeline.steps()[*earlier].name(), pipeline.steps()[*later].name())
            });
            let later: BTreeSet<usize> = barrier.added.iter().map(|(_, later)| *later).collect();
            format!(
                "barrier instead of {}: {} also {} for {}",
                edges.collect::<Vec<_>>().join(", "),
                names(later.clone()),
                if later.len() == 1 { "waits" } else { "wait" },
                names(barrier.added.iter().map(|(earlier, _)| *earlier).collect()),
            )
        })
        .collect();
    let order = limited(pipeline, plan.order, stops, &mut notes);
    let mut steps = Vec::with_capacity(count);
    for template in pipeline.template().steps() {
        let step = step_plan(pipeline, template, &steps, options)?;
        steps.push(step);
    }
    let edges: BTreeSet<(usize, usize)> = edges.into_iter().collect();
    let written = order.steps();
    for later in 0..count {
        steps[later].blocked_by = blocked_by(pipeline, later, &edges, &steps, &written);
    }
    Ok(Planned { steps, order, notes })
}

/// Rejects definitions that a state machine cannot run.
fn check(pipeline: &Pipeline) -> Result<()> {
    let is_word = |name: &str| {
        name.starts_with(|first: char| first.is_ascii_alphabetic())
            && name.chars().all(|character| character.is_ascii_alphanumeric() || character == '_')
    };
    for (name, _) in pipeline.parameters() {
        if pipeline.is_secret(name) {
            return Err(problem(
                pipeline,
                format!(
                    "the parameter `{name}` is secret, and an execution's input is stored in its history; keep the \
                     value in Secrets Manager, and read it in the database"
                ),
            ));
        }
        if !is_word(name) {
            return Err(problem(
                pipeline,
                format!("the parameter `{name}` becomes a variable; rename it to letters, digits and `_`"),
            ));
        }
    }
    Ok(())
}

/// Limits the concurrency.
fn limited(pipeline: &Pipeline, order: Order, stops: bool, notes: &mut Vec<String>) -> Order {
    let (width, limit) = (order.width(), pipeline.concurrency());
    if width <= limit {
        return order;
    }
    let how = if stops { "groups" } else { "lanes" };
    notes.push(format!(
        "concurrency = {limit}: {width} branches share {how}, and the steps of each one run one after the other"
    ));
    if stops { order.in_groups(limit) } else { order.limited(limit) }
}

fn step_plan(
    pipeline: &Pipeline,
    template: &StepTemplate<'_>,
    before: &[StepPlan],
    options: &Options,
) -> Result<StepPlan> {
    let step = template.step;
    if template.sqls.len() > MAX_BATCH {
        let message = format!(
            "the step has {} statements, but a state machine submits at most {MAX_BATCH}; divide the step",
            template.sqls.len()
        );
        return Err(problem(pipeline, message).with_context("step", step.name()));
    }
    let retry = step.retry().filter(|retry| retry.attempts() > 1);
    let attempts = retry.map_or(1, |retry| u64::from(retry.attempts()));
    let pauses = (1..=u32::try_from(attempts).unwrap_or(u32::MAX))
        .map(|attempt| retry.map_or(0, |retry| seconds(retry.pause(attempt)).max(1)));
    let mut retried: Vec<FailureKind> = retry.into_iter().flat_map(|retry| retry.kinds()).collect();
    retried.sort();
    let mut texts = Vec::new();
    let mut sqls: Vec<Expr> = template.sqls.iter().map(expr).collect();
    let has_parameters = template.sqls.iter().any(|sql| sql.parameters().next().is_some());
    let mut task = match &template.task {
        Some(work) => {
            let planned = task_plan(pipeline, work, step.timeout().map(seconds), &options.hudi_arn);
            Some(planned.map_err(|error| error.with_context("step", step.name()))?)
        }
        None => None,
    };
    let parameters = template.parameters.iter();
    let mut parameters: Vec<(String, Expr)> =
        parameters.map(|parameter| (parameter.name.clone(), expr(&parameter.value))).collect();
    if options.query_language == QueryLanguage::JsonPath {
        if has_parameters {
            sqls.iter_mut().for_each(|sql| set_aside(sql, &mut texts));
        }
        for text in task.iter_mut().flat_map(TaskPlan::texts) {
            set_aside(text, &mut texts);
        }
        for (_, value) in &mut parameters {
            set_aside(value, &mut texts);
        }
    }
    Ok(StepPlan {
        name: step.name().to_owned(),
        key: unique(&key(step.name()), before, |step| &step.key),
        label: unique(&label(step.name()), before, |step| &step.label),
        sqls,
        texts,
        execution_mode: template.execution_mode,
        parameters,
        digest: digest(template),
        task,
        timeout: step.timeout().map_or(DAY, seconds).max(1),
        attempts,
        retried,
        pauses: if attempts > 1 { pauses.collect() } else { Vec::new() },
        blocked_by: Vec::new(),
    })
}

fn task_plan(
    pipeline: &Pipeline,
    work: &TaskWork<TemplateText>,
    timeout: Option<u64>,
    hudi_arn: &str,
) -> Result<TaskPlan> {
    match work {
        TaskWork::Glue(run) => Ok(TaskPlan::Glue {
            job: expr(&run.job),
            arguments: run.arguments.iter().map(|(name, value)| (name.clone(), expr(value))).collect(),
            timeout: timeout.map(|timeout| timeout.max(1)),
        }),
        TaskWork::Hudi(upsert) => {
            let (function, table) = task::function(pipeline, hudi_arn, &upsert.table)?;
            Ok(TaskPlan::Hudi { function, table, files: upsert.files.iter().map(expr).collect() })
        }
        other => Err(problem(
            pipeline,
            format!(
                "a state machine cannot run steps of the kind `{}`; run the pipeline with the library",
                other.kind()
            ),
        )),
    }
}

/// Returns the conditions under which a step does not run: a dependency did not finish, or an earlier step
/// that stops the run failed.
fn blocked_by(
    pipeline: &Pipeline,
    number: usize,
    edges: &BTreeSet<(usize, usize)>,
    steps: &[StepPlan],
    written: &[usize],
) -> Vec<Condition> {
    let outcome = |step: usize, outcomes: &[&str]| {
        Condition::is_one_of(format!("{}.outcome", steps[step].path()), outcomes.iter().copied())
    };
    let dependencies =
        pipeline.steps().iter().enumerate().filter(|(earlier, _)| edges.contains(&(*earlier, number)));
    let mut conditions: Vec<Condition> = dependencies
        .map(|(earlier, step)| match step.on_failure() {
            OnFailure::Continue => outcome(earlier, &["unknown", "skipped"]),
            _ => outcome(earlier, &["failed", "unknown", "skipped"]),
        })
        .collect();
    // Steps that are written earlier have already ended, because such a pipeline runs in levels.
    let before = written.iter().take_while(|step| **step != number).copied();
    let stopping = before.filter(|step| {
        pipeline.steps()[*step].on_failure() == OnFailure::Stop && !edges.contains(&(*step, number))
    });
    conditions.extend(stopping.map(|step| outcome(step, &["failed", "unknown"])));
    conditions
}

/// Converts a string with parameters to an expression.
fn expr(text: &TemplateText) -> Expr {
    let pieces = text.pieces().iter().map(|piece| match piece {
        Piece::Literal(text) => Expr::text(text),
        Piece::Parameter(name) => Expr::data(format!("parameters.{name}")),
    });
    Expr::Concat(pieces.collect())
}

/// Moves literals with line breaks or backslashes into members of the data. Not every interpreter accepts
/// them in an intrinsic function of JSONPath.
fn set_aside(sql: &mut Expr, texts: &mut Vec<String>) {
    let Expr::Concat(parts) = sql else { return };
    for part in parts {
        if let Expr::Text(text) = part
            && text.contains(|character: char| character.is_control() || character == '\\')
        {
            let path = format!("run.texts.t{}", texts.len());
            texts.push(std::mem::take(text));
            *part = Expr::data(path);
        }
    }
}

/// Returns the digest of a step's SQL, mode and parameters, or of its task. It excludes the values of the
/// run, which belong to the execution.
fn digest(template: &StepTemplate<'_>) -> String {
    let mut digest = Sha256::new();
    let mut text = |text: &str| {
        digest.update((text.len() as u64).to_be_bytes());
        digest.update(text.as_bytes());
    };
    let plain = |text: &TemplateText| {
        let pieces = text.pieces().iter().map(|piece| match piece {
            Piece::Literal(text) => text.clone(),
            Piece::Parameter(name) => format!("${{{name}}}"),
        });
        pieces.collect::<String>()
    };
    text(match template.execution_mode {
        None => "single",
        Some(redshift_orchestrator::ExecutionMode::AutoCommit) => "auto-commit",
        Some(_) => "transaction",
    });
    template.sqls.iter().for_each(|sql| text(&plain(sql)));
    for parameter in &template.parameters {
        text(&parameter.name);
        text(&plain(&parameter.value));
    }
    match &template.task {
        Some(TaskWork::Glue(run)) => {
            text(&plain(&run.job));
            for (name, value) in &run.arguments {
                text(name);
                text(&plain(value));
            }
        }
        Some(TaskWork::Hudi(upsert)) => {
            text(&plain(&upsert.table));
            upsert.files.iter().for_each(|file| text(&plain(file)));
        }
        _ => {}
    }
    digest.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

fn key(name: &str) -> String {
    let word = |character: char| if character.is_ascii_alphanumeric() { character } else { '_' };
    let key: String = name.chars().map(word).take(LABEL).collect();
    match key.starts_with(|first: char| first.is_ascii_alphabetic()) {
        true => key,
        false => format!("step_{key}"),
    }
}

fn label(name: &str) -> String {
    // CloudFormation would substitute a name with `${`, and `{%` begins an expression.
    name.replace("${", "$ {").replace("{%", "{ %").replace("%}", "% }").chars().take(LABEL).collect()
}

/// Adds a number to a name that another step already has.
fn unique(name: &str, before: &[StepPlan], of: impl Fn(&StepPlan) -> &String) -> String {
    let is_free = |name: &String| before.iter().all(|step| of(step) != name);
    let numbered = (2_usize..).map(|number| format!("{name}_{number}"));
    std::iter::once(name.to_owned()).chain(numbered).find(is_free).unwrap_or_default()
}
