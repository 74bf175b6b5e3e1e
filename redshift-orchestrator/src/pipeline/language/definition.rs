//! The keys of a pipeline file. Their doc comments are the descriptions in the JSON Schema.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;

use super::value::{Scalar, Text};
use crate::{
    FailureKind,
    pipeline::{OnFailure, Overlap},
};

/// A pipeline of redshift-orchestrator: a graph of SQL statements, calls of stored procedures, Glue jobs, and
/// raw files for Hudi tables.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(title = "Pipeline", extend("required" = ["name", "steps"])))]
pub(super) struct Definition {
    /// Name of the pipeline: 1 to 200 characters.
    pub(super) name: String,
    /// Human-readable description. It has no effect.
    #[serde(rename = "description")]
    pub(super) _description: Option<String>,
    /// Maximum number of steps that run concurrently. Default: 8.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub(super) concurrency: Option<usize>,
    /// Timeout of each step that does not set its own. When it expires, the step's statement is cancelled.
    pub(super) timeout: Option<Text<Duration>>,
    /// Retry policy of each step that does not set its own.
    pub(super) retry: Option<RetryDefinition>,
    /// Effect of a failure on other steps, for each step that does not set its own. Default: skip-dependents.
    pub(super) on_failure: Option<OnFailure>,
    /// Behaviour of a run while another run of this pipeline is active. Default: refuse.
    #[serde(default)]
    pub(super) overlap: Overlap,
    /// Database in which the command line runs the statements. Options of the command line take precedence.
    pub(super) target: Option<TargetDefinition>,
    /// Parameters of each run, by name. `${name}` in a step is replaced by the value.
    #[serde(default)]
    pub(super) parameters: BTreeMap<String, ParameterDefinition>,
    /// Steps of the pipeline. A step starts when the steps in its `after` have ended; other steps run
    /// concurrently.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub(super) steps: Vec<StepDefinition>,
}

/// An Amazon Redshift database and the credentials for it. Without `database_user` and `secret`, the caller's
/// IAM identity is used.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(extend("oneOf" = [{"required": ["cluster"]}, {"required": ["workgroup"]}])))]
pub(super) struct TargetDefinition {
    /// The AWS region.
    pub(super) region: Option<String>,
    /// Identifier of a provisioned cluster.
    pub(super) cluster: Option<String>,
    /// Name of a serverless workgroup.
    pub(super) workgroup: Option<String>,
    /// Name of the database.
    pub(super) database: String,
    /// Name of the database user for temporary credentials. For clusters only.
    pub(super) database_user: Option<String>,
    /// ARN of the secret that contains the credentials.
    pub(super) secret: Option<String>,
}

/// A parameter of each run. A parameter without a default must be set by every run.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub(super) struct ParameterDefinition {
    /// Value for runs that do not set the parameter.
    pub(super) default: Option<Scalar>,
    /// Omits the values from the journal and from all output. A resumed run must set the parameter again.
    /// Default: false.
    #[serde(default)]
    pub(super) secret: bool,
    /// Human-readable description. It has no effect.
    #[serde(rename = "description")]
    pub(super) _description: Option<String>,
}

/// A step of the pipeline: a statement, a batch or a task. Exactly one of `sql`, `call`, `batch`, `file`,
/// `glue` and `hudi` must be set.
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
        {"required": ["glue"]},
        {"required": ["hudi"]},
    ]))
)]
pub(super) struct StepDefinition {
    /// Name of the step, unique in the pipeline: 1 to 200 characters.
    pub(super) name: String,
    /// Human-readable description. It has no effect.
    #[serde(rename = "description")]
    pub(super) _description: Option<String>,
    /// One SQL statement.
    pub(super) sql: Option<String>,
    /// Call of a stored procedure, without the word `CALL`, such as `mystore.load_sales(:cycle)`.
    pub(super) call: Option<String>,
    /// SQL statements, run in order. A transaction is limited to 40 statements. With `auto-commit`, a longer
    /// batch is submitted in parts of 40.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub(super) batch: Option<Vec<String>>,
    /// SQL file with one statement or a batch. The path is relative to the directory of the pipeline file.
    pub(super) file: Option<String>,
    /// The run of an AWS Glue job.
    pub(super) glue: Option<GlueDefinition>,
    /// Raw files that are taken in by a Hudi table, each once.
    pub(super) hudi: Option<HudiDefinition>,
    /// Commit mode of a batch. Default: transaction.
    pub(super) execution_mode: Option<Mode>,
    /// Values of the placeholders `:name` in the SQL.
    #[serde(default)]
    pub(super) parameters: BTreeMap<String, Scalar>,
    /// Steps after which this step runs.
    #[serde(default)]
    pub(super) after: Vec<String>,
    /// Tags, by which a run can select steps.
    #[serde(default)]
    pub(super) tags: Vec<String>,
    /// Timeout of an attempt. When it expires, the statement is cancelled, or the task is stopped.
    pub(super) timeout: Option<Text<Duration>>,
    /// Retry policy of the step.
    pub(super) retry: Option<RetryDefinition>,
    /// Effect of a failure on other steps.
    pub(super) on_failure: Option<OnFailure>,
    /// Declares that the step commits by itself (true), for example because a procedure contains COMMIT or
    /// TRUNCATE, or that it does not (false). A transaction batch that commits by itself is rejected.
    /// Default: determined from the SQL text, which does not show the contents of procedures.
    pub(super) commits: Option<bool>,
}

/// The run of an AWS Glue job. The job must exist.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub(super) struct GlueDefinition {
    /// Name of the job.
    pub(super) job: String,
    /// Arguments of the run, which replace the job's default arguments. Their names begin with `--`. Glue
    /// stores the values in plain text, so they must not be secrets.
    #[serde(default)]
    pub(super) arguments: BTreeMap<String, Scalar>,
}

/// Raw files that are taken in by a Hudi table, each once.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub(super) struct HudiDefinition {
    /// Name of the table: letters, digits, `_` and `-`.
    pub(super) table: String,
    /// URLs of the files, such as `s3://raw/customer/${day}.csv`, in the order in which their rows apply.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub(super) files: Vec<String>,
}

/// Number of attempts at a step, and the kinds of failure after which the step is retried. A retry can be
/// unsafe if the failed attempt has already committed changes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub(super) struct RetryDefinition {
    /// Total number of attempts.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub(super) attempts: u32,
    /// Kinds of failure after which another attempt is safe.
    #[serde(default)]
    pub(super) on: Vec<FailureKind>,
    /// First pause, which doubles with each attempt. Default: one second.
    pub(super) backoff: Option<Text<Duration>>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub(super) enum Mode {
    /// Runs all statements in one transaction. A failure rolls back all of them.
    Transaction,
    /// Commits each statement separately. A failure does not affect the other statements.
    AutoCommit,
}

impl StepDefinition {
    /// Keys that contain the work of a step. Exactly one of them is set.
    pub(super) const WORK: [&str; 6] = ["sql", "call", "batch", "file", "glue", "hudi"];
}
