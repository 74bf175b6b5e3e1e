//! Conversion of a parsed pipeline file into a [`PipelineBuilder`].

use std::{fs, path::Path};

use super::{
    builder::{DEFAULT_CONCURRENCY, PipelineBuilder},
    definition::{Definition, Mode, RetryDefinition, StepDefinition, TargetDefinition},
    problem::{Location, Problem},
    read::without_mark,
};
use crate::{
    ExecutionMode, Parameter, Target,
    pipeline::{RetryPolicy, Step, StepStatement, model::Declared},
    sql,
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
    fn build(self, directory: Option<&Path>) -> Result<Step, (&'static str, String)> {
        let mode = match self.execution_mode {
            None | Some(Mode::Transaction) => ExecutionMode::Transaction,
            Some(Mode::AutoCommit) => ExecutionMode::AutoCommit,
        };
        let work = match (self.sql, self.call, self.batch, self.file) {
            (Some(sql), None, None, None) => StepStatement::Sql(sql),
            (None, Some(call), None, None) => StepStatement::Call(call),
            (None, None, Some(sqls), None) => StepStatement::Batch(sqls, mode),
            (None, None, None, Some(file)) => statements_of_file(&file, directory, mode)?,
            (None, None, None, None) => {
                return Err((
                    "work",
                    "the step runs nothing; add one of `sql`, `call`, `batch`, `file`".to_owned(),
                ));
            }
            _ => {
                return Err((
                    "work",
                    "the step has more than one of `sql`, `call`, `batch`, `file`; keep one".to_owned(),
                ));
            }
        };
        if self.execution_mode.is_some() && !matches!(work, StepStatement::Batch(..)) {
            return Err((
                "execution_mode",
                "a single statement has no execution mode; remove it, or make the step a `batch`".to_owned(),
            ));
        }
        let mut built = Step::new(self.name, work);
        built.parameters =
            self.parameters.into_iter().map(|(name, value)| Parameter { name, value: value.0 }).collect();
        built.after = self.after;
        built.tags = self.tags;
        built.timeout = self.timeout.map(|timeout| timeout.0);
        built.retry = self.retry.map(RetryDefinition::build);
        built.on_failure = self.on_failure;
        built.commits = self.commits;
        Ok(built)
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
