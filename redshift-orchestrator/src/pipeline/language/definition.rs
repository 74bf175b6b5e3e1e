//! Reading of pipelines from TOML and JSON files with the same keys. Errors name the line, the step and a
//! remedy.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use jiff::SignedDuration;
use serde::{Deserialize, Deserializer, de::Error as _};

use super::{
    builder::{DEFAULT_CONCURRENCY, PipelineBuilder},
    problem::{Place, Problem},
    source::Source,
};
use crate::{
    Error, ErrorKind, ExecutionMode, FailureKind, Parameter, Result, Target,
    pipeline::{
        OnFailure, Overlap, Pipeline, Retry, Step, Work,
        model::{Declared, suggest},
    },
    sql,
    toml_text::{self, Malformed},
};

impl Pipeline {
    /// Reads a pipeline from a TOML text. Steps with `file` need [`from_toml_file`](Self::from_toml_file).
    ///
    /// # Errors
    /// Returns [`ErrorKind::Definition`] with the line, the step, the problem and a remedy.
    pub fn from_toml(text: &str) -> Result<Self> {
        read(text, Format::Toml, None)
    }

    /// Reads a pipeline from a JSON text, which has the same keys as TOML.
    ///
    /// # Errors
    /// Returns the errors of [`from_toml`](Self::from_toml).
    pub fn from_json(text: &str) -> Result<Self> {
        read(text, Format::Json, None)
    }

    /// Reads a pipeline from a TOML file. Paths of SQL files are relative to its directory.
    ///
    /// # Errors
    /// Returns the errors of [`from_toml`](Self::from_toml), and an error if a file cannot be read.
    pub fn from_toml_file(path: impl AsRef<Path>) -> Result<Self> {
        read_file(path.as_ref(), Format::Toml)
    }

    /// Reads a pipeline from a JSON file. Paths of SQL files are relative to its directory.
    ///
    /// # Errors
    /// Returns the errors of [`from_toml_file`](Self::from_toml_file).
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
            // The position is reported separately.
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
                    .push_str("; this looks like JSON, but the name of the file does not end in `.json`");
            }
            Format::Json if begin != Some('{') => {
                wrong.message.push_str("; a file whose name ends in `.json` must be JSON and begin with `{`");
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
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(title = "Pipeline", extend("required" = ["name", "steps"])))]
pub(super) struct Definition {
    /// Name of the pipeline: 1 to 200 characters.
    name: String,
    /// Human-readable description. It has no effect.
    #[serde(rename = "description")]
    _description: Option<String>,
    /// Maximum number of concurrent statements. Default: 8.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    concurrency: Option<usize>,
    /// Default timeout of steps, after which a step's statement is cancelled.
    timeout: Option<Text<Duration>>,
    /// Default retry of steps: number of attempts, and failures after which a step is retried.
    retry: Option<RetryDefinition>,
    /// Default effect of a step's failure on other steps. Default: skip-dependents.
    on_failure: Option<OnFailure>,
    /// Behaviour of a run while another run of this pipeline is active.
    #[serde(default)]
    overlap: Overlap,
    /// Database in which the statements run, for the command line. Options of the command line take
    /// precedence.
    target: Option<TargetDefinition>,
    /// Parameters of each run by name; `${name}` is replaced by the value.
    #[serde(default)]
    parameters: BTreeMap<String, ParameterDefinition>,
    /// The steps. They run in the order defined by `after`, and concurrently otherwise.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    steps: Vec<StepDefinition>,
}

/// A database of Amazon Redshift and the authentication of its statements. Default: the caller's IAM
/// identity.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(extend("oneOf" = [{"required": ["cluster"]}, {"required": ["workgroup"]}])))]
struct TargetDefinition {
    /// The AWS region.
    region: Option<String>,
    /// Identifier of a provisioned cluster.
    cluster: Option<String>,
    /// Name of a serverless workgroup.
    workgroup: Option<String>,
    /// Name of the database.
    database: String,
    /// Name of a database user, who authenticates with temporary credentials; clusters only.
    database_user: Option<String>,
    /// ARN of the secret that contains the credentials.
    secret: Option<String>,
}

/// A parameter of each run. A parameter without a default must be set by every run.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct ParameterDefinition {
    /// Value for runs that do not set the parameter.
    default: Option<Scalar>,
    /// Omits the values from the journal and from all output. A resumed run must set the parameter again.
    /// Default: false.
    #[serde(default)]
    secret: bool,
    /// Human-readable description. It has no effect.
    #[serde(rename = "description")]
    _description: Option<String>,
}

/// One statement or batch of the pipeline. It has one of `sql`, `call`, `batch`, `file`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(
    feature = "schema",
    schemars(extend("oneOf" = [
        {"required": ["sql"]},
        {"required": ["call"]},
        {"required": ["batch"]},
        {"required": ["file"]},
    ]))
)]
struct StepDefinition {
    /// Name of the step, unique in the pipeline: 1 to 200 characters.
    name: String,
    /// Human-readable description. It has no effect.
    #[serde(rename = "description")]
    _description: Option<String>,
    /// One SQL statement.
    sql: Option<String>,
    /// Call of a stored procedure without the word `CALL`: `mystore.load_sales(:cycle)`.
    call: Option<String>,
    /// SQL statements, run in order: at most 40 as one transaction, any number with `auto-commit`, which runs
    /// 40 at a time.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    batch: Option<Vec<String>>,
    /// SQL file with one statement or a batch. The path is relative to the directory of the pipeline file.
    file: Option<String>,
    /// Commit mode of a batch. Default: transaction.
    execution_mode: Option<Mode>,
    /// Values of the placeholders `:name` in the SQL.
    #[serde(default)]
    parameters: BTreeMap<String, Scalar>,
    /// Steps after which this step runs.
    #[serde(default)]
    after: Vec<String>,
    /// Tags, by which a run can select a part of the pipeline.
    #[serde(default)]
    tags: Vec<String>,
    /// Timeout, after which the statement is cancelled.
    timeout: Option<Text<Duration>>,
    /// Number of attempts, and failures after which the step is retried.
    retry: Option<RetryDefinition>,
    /// Effect of a failure on other steps.
    on_failure: Option<OnFailure>,
    /// Declares whether the step commits by itself, as a procedure that contains COMMIT or TRUNCATE does.
    /// Such a statement is rejected in a batch in one transaction. By default, only the SQL text is
    /// inspected.
    commits: Option<bool>,
}

/// Number of attempts, and failures after which a step is retried. A retry is safe or not depending on what
/// the step has already committed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
struct RetryDefinition {
    /// Total number of attempts.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    attempts: u32,
    /// The failures after which another attempt is safe.
    #[serde(default)]
    on: Vec<FailureKind>,
    /// First pause, which doubles with each attempt. Default: one second.
    backoff: Option<Text<Duration>>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
enum Mode {
    /// All statements in one transaction; any failure rolls back all of them.
    Transaction,
    /// Each statement commits on its own; a failure leaves the other statements unaffected.
    AutoCommit,
}

/// Removes the byte order mark that some editors add at the beginning.
fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// Value written as a text, number, date or boolean. The service receives it as text.
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
            /// Dates and times of TOML.
            Time(toml::value::Datetime),
        }
        // Larger numbers are not read exactly.
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
            Err(_) => {
                return Err(D::Error::custom("a value must be a text, a number, a date, true or false"));
            }
        }))
    }
}

/// Value that is written as a text, such as `90s` or `1h 30m`.
pub(super) struct Text<T>(T);

impl<'de> Deserialize<'de> for Text<Duration> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let parsed =
            text.parse::<SignedDuration>().ok().and_then(|duration| Duration::try_from(duration).ok());
        parsed.map(Text).ok_or_else(|| {
            D::Error::custom("not a valid duration; write it like \"90s\", \"10m\" or \"1h 30m\"")
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
            (Some(sql), None, None, None) => Work::Sql(sql),
            (None, Some(call), None, None) => Work::Call(call),
            (None, None, Some(sqls), None) => Work::Batch(sqls, mode),
            (None, None, None, Some(file)) => work_of_file(&file, directory, mode)?,
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
        if self.execution_mode.is_some() && !matches!(work, Work::Batch(..)) {
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

fn work_of_file(
    file: &str,
    directory: Option<&Path>,
    mode: ExecutionMode,
) -> Result<Work, (&'static str, String)> {
    let Some(directory) = directory else {
        return Err((
            "file",
            "a `file` needs a directory, which a text does not have; read the pipeline from a file".into(),
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

/// Converts an error of the format, of a key or of a value.
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

/// Returns a hint for writing a value whose type is wrong.
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

/// Removes a value of the wrong type from a message, because it may be SQL.
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
    // serde_json counts bytes. An error within a character is reported at its first byte.
    text.floor_char_boundary(begin + column.saturating_sub(1))
}
