//! Pipelines from files: TOML and JSON with the same keys; errors that name line, step and way out.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use jiff::SignedDuration;
use serde::{Deserialize, Deserializer, de::Error as _};

use super::{
    DEFAULT_CONCURRENCY, Declared, OnFailure, Overlap, Pipeline, PipelineBuilder, Place, Problem, Retry,
    Step, Work, source::Source, suggest,
};
use crate::{
    Error, ErrorKind, ExecutionMode, FailureKind, Parameter, Result, Target, sql,
    toml_text::{self, Malformed},
};

impl Pipeline {
    /// Reads a pipeline from a TOML text. Steps with `file` need [`from_toml_file`](Self::from_toml_file).
    ///
    /// # Errors
    /// [`ErrorKind::Definition`] with the line, the step, what is wrong with it, and the way out.
    pub fn from_toml(text: &str) -> Result<Self> {
        read(text, Format::Toml, None)
    }

    /// Reads a pipeline from a JSON text with the keys of the TOML one.
    ///
    /// # Errors
    /// As [`from_toml`](Self::from_toml).
    pub fn from_json(text: &str) -> Result<Self> {
        read(text, Format::Json, None)
    }

    /// Reads a pipeline from a TOML file. The SQL files it names are looked for beside it.
    ///
    /// # Errors
    /// As [`from_toml`](Self::from_toml), also if a file cannot be read.
    pub fn from_toml_file(path: impl AsRef<Path>) -> Result<Self> {
        read_file(path.as_ref(), Format::Toml)
    }

    /// Reads a pipeline from a JSON file. The SQL files it names are looked for beside it.
    ///
    /// # Errors
    /// As [`from_toml_file`](Self::from_toml_file).
    pub fn from_json_file(path: impl AsRef<Path>) -> Result<Self> {
        read_file(path.as_ref(), Format::Json)
    }
}

#[derive(Clone, Copy)]
enum Format {
    Toml,
    Json,
}

fn read_file(path: &Path, format: Format) -> Result<Pipeline> {
    fs::read_to_string(path)
        .map_err(|error| {
            Error::new(ErrorKind::Definition, "the pipeline file cannot be read").with_source(error)
        })
        .and_then(|text| read(without_mark(&text), format, path.parent()))
        .map_err(|error| error.with_context("file", path.display()))
}

fn read(text: &str, format: Format, directory: Option<&Path>) -> Result<Pipeline> {
    let source = || match format {
        Format::Toml => Source::toml(text),
        Format::Json => Source::json(text),
    };
    let definition: Result<Definition, Malformed> = match format {
        Format::Toml => toml_text::read(text),
        Format::Json => serde_json::from_str(text).map_err(|error| {
            let mut message = error.to_string();
            // The place is told apart from the message.
            message.truncate(message.rfind(" at line ").unwrap_or(message.len()));
            Malformed { message, offset: Some(offset_of(text, error.line(), error.column())) }
        }),
    };
    let definition = definition.map_err(|mut wrong| {
        let begin = text.trim_start().chars().next();
        match format {
            Format::Toml if begin == Some('{') => {
                wrong
                    .message
                    .push_str("; this looks like JSON, in a file whose name does not end in `.json`");
            }
            Format::Json if begin != Some('{') => {
                wrong.message.push_str("; a file whose name ends in `.json` is JSON, and begins with `{`");
            }
            _ => {}
        }
        malformed(&source(), wrong)
    })?;
    definition.build(directory).and_then(PipelineBuilder::checked).map_err(|problem| {
        let line = source().line_of(&problem);
        let error = problem.into_error();
        match line {
            Some(line) => error.with_context("line", line),
            None => error,
        }
    })
}

/// A pipeline of redshift-orchestrator: a graph of SQL statements and stored procedures.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "cli", schemars(title = "Pipeline", extend("required" = ["name", "steps"])))]
pub(super) struct Definition {
    /// The pipeline's name: 1 to 200 characters.
    name: String,
    /// For people; nothing is done with it.
    #[serde(rename = "description")]
    _description: Option<String>,
    /// How many statements run at a time; 8 unless said otherwise.
    #[cfg_attr(feature = "cli", schemars(range(min = 1)))]
    concurrency: Option<usize>,
    /// After how long a step's statement is cancelled, for steps that say nothing else.
    timeout: Option<Text<Duration>>,
    /// How often, and after which failures, steps are tried again that say nothing else.
    retry: Option<RetryDefinition>,
    /// What the failure of a step means to others, for steps that say nothing else; skip-dependents unless said otherwise.
    on_failure: Option<OnFailure>,
    /// What a run does while another run of this pipeline is active.
    #[serde(default)]
    overlap: Overlap,
    /// Where the statements run, for the command line. Its options go before this.
    target: Option<TargetDefinition>,
    /// The parameters of each run, by name; `${name}` stands for the value.
    #[serde(default)]
    parameters: BTreeMap<String, ParameterDefinition>,
    /// The steps. They run in the order that `after` demands, and side by side otherwise.
    #[serde(default)]
    #[cfg_attr(feature = "cli", schemars(length(min = 1)))]
    steps: Vec<StepDefinition>,
}

/// A database of Amazon Redshift, and as whom statements run there: the caller's IAM identity unless said otherwise.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "cli", schemars(extend("oneOf" = [{"required": ["cluster"]}, {"required": ["workgroup"]}])))]
struct TargetDefinition {
    /// The AWS region.
    region: Option<String>,
    /// The identifier of a provisioned cluster.
    cluster: Option<String>,
    /// The name of a serverless workgroup.
    workgroup: Option<String>,
    /// The database.
    database: String,
    /// As this user of the database, with temporary credentials; clusters only.
    database_user: Option<String>,
    /// With the credentials of this secret, by its ARN.
    secret: Option<String>,
}

/// A parameter of each run. Without a default, every run gives it a value.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
struct ParameterDefinition {
    /// Its value for runs that give none.
    default: Option<Scalar>,
    /// Whether its values are written down and shown nowhere: a run that goes on needs it again.
    #[serde(default)]
    secret: bool,
    /// For people; nothing is done with it.
    #[serde(rename = "description")]
    _description: Option<String>,
}

/// One statement, or batch, of the pipeline. It has one of `sql`, `call`, `batch`, `file`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[cfg_attr(
    feature = "cli",
    schemars(extend("oneOf" = [
        {"required": ["sql"]},
        {"required": ["call"]},
        {"required": ["batch"]},
        {"required": ["file"]},
    ]))
)]
struct StepDefinition {
    /// The step's name, unique in the pipeline: 1 to 200 characters.
    name: String,
    /// For people; nothing is done with it.
    #[serde(rename = "description")]
    _description: Option<String>,
    /// One SQL statement.
    sql: Option<String>,
    /// A stored procedure, as it stands behind `CALL`: `mystore.load_sales(:cycle)`.
    call: Option<String>,
    /// SQL statements, run one after the other: at most 40 as one transaction; as many as there are with `auto-commit`, 40 at a time.
    #[cfg_attr(feature = "cli", schemars(length(min = 1)))]
    batch: Option<Vec<String>>,
    /// A file of SQL statements, looked for beside the pipeline file: one statement, or a batch.
    file: Option<String>,
    /// How a batch commits; as one transaction unless said otherwise.
    execution_mode: Option<Mode>,
    /// The values of the placeholders `:name` in the SQL.
    #[serde(default)]
    parameters: BTreeMap<String, Scalar>,
    /// The steps it comes after.
    #[serde(default)]
    after: Vec<String>,
    /// Labels, for runs of a part of the pipeline.
    #[serde(default)]
    tags: Vec<String>,
    /// After how long its statement is cancelled.
    timeout: Option<Text<Duration>>,
    /// How often, and after which failures, it is tried again.
    retry: Option<RetryDefinition>,
    /// What its failure means to others.
    on_failure: Option<OnFailure>,
    /// Whether it commits by itself, as a procedure with COMMIT or TRUNCATE in it does: it is refused in a batch in one transaction then.
    /// Unless said so, only what stands in the SQL is seen.
    commits: Option<bool>,
}

/// How often, and after which failures, a step is tried again. Which are safe depends on what the step has committed by then.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
struct RetryDefinition {
    /// Attempts in all.
    #[cfg_attr(feature = "cli", schemars(range(min = 1)))]
    attempts: u32,
    /// The failures after which another attempt is safe.
    #[serde(default)]
    on: Vec<FailureKind>,
    /// The first pause; it doubles with each attempt. One second unless said otherwise.
    backoff: Option<Text<Duration>>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
enum Mode {
    /// All statements in one transaction; any failure rolls back all of them.
    Transaction,
    /// Each statement commits on its own; the failure of one leaves the others as they are.
    AutoCommit,
}

/// The text without the byte order mark that some editors put in front of it.
fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// A value that a person writes as text, number, date or truth, and the service takes as text.
pub(super) struct Scalar(String);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Text(String),
            Whole(i64),
            Natural(u64),
            Number(f64),
            Truth(bool),
            /// TOML's own dates and times.
            Time(toml::value::Datetime),
        }
        // Numbers beyond are not what was written any more when they are read.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        Ok(Self(match Written::deserialize(deserializer) {
            Ok(Written::Text(text)) => text,
            Ok(Written::Whole(number)) => number.to_string(),
            Ok(Written::Natural(number)) => number.to_string(),
            Ok(Written::Number(number)) if number.abs() < EXACT => number.to_string(),
            Ok(Written::Number(_)) => {
                return Err(D::Error::custom(
                    "the number is too large to be read exactly; write it as a text",
                ));
            }
            Ok(Written::Truth(truth)) => truth.to_string(),
            Ok(Written::Time(time)) => time.to_string(),
            Err(_) => return Err(D::Error::custom("a value is a text, a number, a date, true or false")),
        }))
    }
}

/// Something that is written as a text, such as `90s` or `1h 30m`.
pub(super) struct Text<T>(T);

impl<'de> Deserialize<'de> for Text<Duration> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parsed =
            text.parse::<SignedDuration>().ok().and_then(|duration| Duration::try_from(duration).ok());
        parsed.map(Text).ok_or_else(|| {
            D::Error::custom("this is no duration; write it like \"90s\", \"10m\" or \"1h 30m\"")
        })
    }
}

impl Definition {
    fn build(self, directory: Option<&Path>) -> Result<PipelineBuilder, Problem> {
        let mut steps = Vec::new();
        for (number, step) in self.steps.into_iter().enumerate() {
            let name = step.name.clone();
            steps.push(
                step.build(directory)
                    .map_err(|(key, message)| Problem::of_step(&name, number, Place::key(key), message))?,
            );
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
                            format!("the parameter `{name}` is secret, so its value has no place in a file; take the default away"),
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
                    "a workgroup takes no `database_user`; take it away, or give a `secret`".to_owned()
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
            (Some(sql), None, None, None) => Work::Sql(sql),
            (None, Some(call), None, None) => Work::Call(call),
            (None, None, Some(sqls), None) => Work::Batch(sqls, mode),
            (None, None, None, Some(file)) => work_of_file(&file, directory, mode)?,
            (None, None, None, None) => {
                return Err((
                    "work",
                    "it runs nothing; give it one of `sql`, `call`, `batch`, `file`".to_owned(),
                ));
            }
            _ => {
                return Err((
                    "work",
                    "it has more than one of `sql`, `call`, `batch`, `file`; keep one".to_owned(),
                ));
            }
        };
        if self.execution_mode.is_some() && !matches!(work, Work::Batch(..)) {
            return Err((
                "execution_mode",
                "a single statement has no execution mode; take it away, or make it a `batch`".to_owned(),
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

fn work_of_file(
    file: &str,
    directory: Option<&Path>,
    mode: ExecutionMode,
) -> Result<Work, (&'static str, String)> {
    let Some(directory) = directory else {
        return Err((
            "file",
            "a text has no place beside which a file could be; read the pipeline from a file".into(),
        ));
    };
    let text = fs::read_to_string(directory.join(file))
        .map_err(|error| ("file", format!("the SQL file `{file}` cannot be read: {error}")))?;
    let mut statements = sql::split(without_mark(&text));
    match statements.len() {
        0 => Err(("file", format!("the SQL file `{file}` has no statement"))),
        1 => Ok(Work::Sql(statements.remove(0))),
        _ => Ok(Work::Batch(statements, mode)),
    }
}

impl RetryDefinition {
    fn build(self) -> Retry {
        let retry = Retry::new(self.attempts).on(self.on);
        match self.backoff {
            Some(backoff) => retry.with_backoff(backoff.0),
            None => retry,
        }
    }
}

/// An error of the format, or of a key or value that is not known.
fn malformed(source: &Source<'_>, Malformed { message, offset }: Malformed) -> Error {
    let message = without_value(&message.replace('\n', " "));
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let way_out = match quoted.split_first() {
        Some((wrong, known)) if message.starts_with("unknown ") => {
            suggest::close(wrong, known.iter().copied())
        }
        _ => of_another_type(&message).to_owned(),
    };
    let error = Error::new(ErrorKind::Definition, format!("{message}{way_out}"));
    let Some(offset) = offset else { return error };
    let error = match source.step_around(offset) {
        Some(step) => error.with_context("step", step),
        None => error,
    };
    error.with_context("line", source.line(offset))
}

/// How a value is written that has another type than the one that was given.
fn of_another_type(message: &str) -> &'static str {
    if !message.starts_with("invalid type") {
        ""
    } else if message.ends_with("expected a sequence") {
        "; write a list: `[\"…\"]`"
    } else if message.ends_with("expected a string") {
        "; write it in quotes"
    } else {
        ""
    }
}

/// A value of the wrong type is not told: it may well be SQL.
fn without_value(message: &str) -> String {
    const KIND: &str = "string \"";
    match (message.find(KIND), message.rfind("\", expected")) {
        (Some(begin), Some(end)) if message.starts_with("invalid ") && begin < end => {
            format!("{}string{}", &message[..begin], &message[end + 1..])
        }
        _ => message.to_owned(),
    }
}

fn offset_of(text: &str, line: usize, column: usize) -> usize {
    let begin: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    // serde_json counts bytes, and an error within a letter is an error at it.
    text.floor_char_boundary(begin + column.saturating_sub(1))
}
