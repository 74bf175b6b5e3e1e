//! Conversion of a parsed pipeline file into a [`PipelineBuilder`].

use std::{fs, path::Path};

use super::{
    builder::{DEFAULT_CONCURRENCY, PipelineBuilder},
    definition::{
        Definition, GlueDefinition, HudiDefinition, Mode, RetryDefinition, StepDefinition, TargetDefinition,
    },
    problem::{Location, Problem},
    read::without_mark,
};
use crate::{
    Commits, ExecutionMode, Parameter, Target,
    pipeline::{RetryPolicy, Step, StepStatement, StepWork, model::Declared},
    sql,
    task::{GlueRun, HudiUpsert, TaskWork},
};

impl Definition {
    pub(super) fn build(self, directory: Option<&Path>) -> Result<PipelineBuilder, Problem> {
        let mut steps = Vec::new();
        for (number, step) in self.steps.into_iter().enumerate() {
            let name = step.name.clone();
            steps
                .push(step.build(directory).map_err(|(key, message)| {
                    Problem::of_step(&name, number, Location::key(key), message)
                })?);
        }
        Ok(PipelineBuilder {
            name: self.name,
            concurrency: self.concurrency.unwrap_or(DEFAULT_CONCURRENCY),
            timeout: self.timeout.map(|timeout| timeout.0),
            retry: self.retry.map(RetryDefinition::build),
            on_failure: self.on_failure,
            overlap: self.overlap,
            region: self.target.as_ref().and_then(|target| target.region.clone()),
            target: self
                .target
                .map(TargetDefinition::build)
                .transpose()
                .map_err(|message| Problem::of_pipeline("target", message))?,
            parameters: self
                .parameters
                .into_iter()
                .map(|(name, parameter)| {
                    let default = parameter.default.map(|default| default.0);
                    match parameter.secret && default.is_some() {
                        true => Err(Problem::of_parameter(
                            &name,
                            format!("the parameter `{name}` is secret, so its value must not be in a file; remove the default"),
                        )),
                        false => Ok((name, Declared { default, is_secret: parameter.secret })),
                    }
                })
                .collect::<Result<_, Problem>>()?,
            steps,
        })
    }
}

impl TargetDefinition {
    fn build(self) -> Result<Target, String> {
        let target = match (self.cluster, self.workgroup) {
            (Some(cluster), None) => Target::cluster(cluster, self.database),
            (None, Some(_)) if self.database_user.is_some() => {
                return Err(
                    "a workgroup does not support `database_user`; remove it, or use a `secret`".to_owned()
                );
            }
            (None, Some(workgroup)) => Target::workgroup(workgroup, self.database),
            _ => return Err("a target has either a `cluster` or a `workgroup`".to_owned()),
        };
        match (self.database_user, self.secret) {
            (None, None) => Ok(target),
            (Some(user), None) => Ok(target.with_database_user(user)),
            (None, Some(secret)) => Ok(target.with_secret(secret)),
            _ => Err("a target has a `database_user` or a `secret`, not both".to_owned()),
        }
    }
}

impl StepDefinition {
    fn build(mut self, directory: Option<&Path>) -> Result<Step, (&'static str, String)> {
        let work = self.work(directory)?;
        if self.execution_mode.is_some() && !matches!(work, StepWork::Statement(StepStatement::Batch(..))) {
            let message = match work {
                StepWork::Statement(_) => {
                    "a single statement has no execution mode; remove it, or make the step a `batch`"
                }
                StepWork::Task(_) => "only a batch has an execution mode; remove it",
            };
            return Err(("execution_mode", message.to_owned()));
        }
        let mut built = Step::new(self.name, work);
        built.parameters =
            self.parameters.into_iter().map(|(name, value)| Parameter::new(name, value.0)).collect();
        built.after = self.after;
        built.tags = self.tags;
        built.timeout = self.timeout.map(|timeout| timeout.0);
        built.retry = self.retry.map(RetryDefinition::build);
        built.on_failure = self.on_failure;
        built.commits = match self.commits {
            None => Commits::Detected,
            Some(true) => Commits::Yes,
            Some(false) => Commits::No,
        };
        Ok(built)
    }
}

impl StepDefinition {
    /// Takes the work out of the definition.
    fn work(&mut self, directory: Option<&Path>) -> Result<StepWork, (&'static str, String)> {
        let keys = || Self::WORK.map(|key| format!("`{key}`")).join(", ");
        let mode = match self.execution_mode {
            None | Some(Mode::Transaction) => ExecutionMode::Transaction,
            Some(Mode::AutoCommit) => ExecutionMode::AutoCommit,
        };
        let statements = (self.sql.take(), self.call.take(), self.batch.take(), self.file.take());
        let statement = match (statements, self.glue.take(), self.hudi.take()) {
            ((None, None, None, None), Some(glue), None) => {
                return Ok(StepWork::Task(TaskWork::Glue(glue.build())));
            }
            ((None, None, None, None), None, Some(hudi)) => {
                return Ok(StepWork::Task(TaskWork::Hudi(hudi.build())));
            }
            ((Some(sql), None, None, None), None, None) => StepStatement::Sql(sql),
            ((None, Some(call), None, None), None, None) => StepStatement::Call(call),
            ((None, None, Some(sqls), None), None, None) => StepStatement::Batch(sqls, mode),
            ((None, None, None, Some(file)), None, None) => statements_of_file(&file, directory, mode)?,
            ((None, None, None, None), None, None) => {
                return Err(("work", format!("the step runs nothing; add one of {}", keys())));
            }
            _ => return Err(("work", format!("the step has more than one of {}; keep one", keys()))),
        };
        Ok(StepWork::Statement(statement))
    }
}

impl GlueDefinition {
    fn build(self) -> GlueRun {
        let arguments = self.arguments.into_iter().map(|(name, value)| (name, value.0)).collect();
        GlueRun { job: self.job, arguments }
    }
}

impl HudiDefinition {
    fn build(self) -> HudiUpsert {
        HudiUpsert { table: self.table, files: self.files }
    }
}

fn statements_of_file(
    file: &str,
    directory: Option<&Path>,
    mode: ExecutionMode,
) -> Result<StepStatement, (&'static str, String)> {
    let Some(directory) = directory else {
        return Err((
            "file",
            "the path in `file` is relative to the pipeline file, but this pipeline was read from a text; read it from a file".into(),
        ));
    };
    let text = fs::read_to_string(directory.join(file))
        .map_err(|error| ("file", format!("the SQL file `{file}` cannot be read: {error}")))?;
    let mut statements = sql::split(without_mark(&text));
    match statements.len() {
        0 => Err(("file", format!("the SQL file `{file}` has no statement"))),
        1 => Ok(StepStatement::Sql(statements.remove(0))),
        _ => Ok(StepStatement::Batch(statements, mode)),
    }
}

impl RetryDefinition {
    fn build(self) -> RetryPolicy {
        let retry = RetryPolicy::new(self.attempts).on(self.on);
        match self.backoff {
            Some(backoff) => retry.with_initial_backoff(backoff.0),
            None => retry,
        }
    }
}
