//! The keys of a pipeline file. Their descriptions are those of the JSON Schema.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;

use super::value::{Scalar, Text};
use crate::{
    FailureKind,
    pipeline::{OnFailure, Overlap},
};

/// A pipeline of redshift-orchestrator: a graph of SQL statements and stored procedures.
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
    /// Maximum number of concurrent statements. Default: 8.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub(super) concurrency: Option<usize>,
    /// Default timeout of steps, after which a step's statement is cancelled.
    pub(super) timeout: Option<Text<Duration>>,
    /// Default retry of steps: number of attempts, and failures after which a step is retried.
    pub(super) retry: Option<RetryDefinition>,
    /// Default effect of a step's failure on other steps. Default: skip-dependents.
    pub(super) on_failure: Option<OnFailure>,
    /// Behaviour of a run while another run of this pipeline is active.
    #[serde(default)]
    pub(super) overlap: Overlap,
    /// Database in which the statements run, for the command line. Options of the command line take
    /// precedence.
    pub(super) target: Option<TargetDefinition>,
    /// Parameters of each run by name; `${name}` is replaced by the value.
    #[serde(default)]
    pub(super) parameters: BTreeMap<String, ParameterDefinition>,
    /// The steps. They run in the order defined by `after`, and concurrently otherwise.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub(super) steps: Vec<StepDefinition>,
}

/// A database of Amazon Redshift and the authentication of its statements. Default: the caller's IAM
/// identity.
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
    /// Name of a database user, who authenticates with temporary credentials; clusters only.
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
pub(super) struct StepDefinition {
    /// Name of the step, unique in the pipeline: 1 to 200 characters.
    pub(super) name: String,
    /// Human-readable description. It has no effect.
    #[serde(rename = "description")]
    pub(super) _description: Option<String>,
    /// One SQL statement.
    pub(super) sql: Option<String>,
    /// Call of a stored procedure without the word `CALL`: `mystore.load_sales(:cycle)`.
    pub(super) call: Option<String>,
    /// SQL statements, run in order: at most 40 as one transaction, any number with `auto-commit`, which runs
    /// 40 at a time.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub(super) batch: Option<Vec<String>>,
    /// SQL file with one statement or a batch. The path is relative to the directory of the pipeline file.
    pub(super) file: Option<String>,
    /// Commit mode of a batch. Default: transaction.
    pub(super) execution_mode: Option<Mode>,
    /// Values of the placeholders `:name` in the SQL.
    #[serde(default)]
    pub(super) parameters: BTreeMap<String, Scalar>,
    /// Steps after which this step runs.
    #[serde(default)]
    pub(super) after: Vec<String>,
    /// Tags, by which a run can select a part of the pipeline.
    #[serde(default)]
    pub(super) tags: Vec<String>,
    /// Timeout, after which the statement is cancelled.
    pub(super) timeout: Option<Text<Duration>>,
    /// Number of attempts, and failures after which the step is retried.
    pub(super) retry: Option<RetryDefinition>,
    /// Effect of a failure on other steps.
    pub(super) on_failure: Option<OnFailure>,
    /// Declares whether the step commits by itself, as a procedure that contains COMMIT or TRUNCATE does.
    /// Such a statement is rejected in a batch in one transaction. By default, only the SQL text is
    /// inspected.
    pub(super) commits: Option<bool>,
}

/// Number of attempts, and failures after which a step is retried. A retry is safe or not depending on what
/// the step has already committed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub(super) struct RetryDefinition {
    /// Total number of attempts.
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub(super) attempts: u32,
    /// The failures after which another attempt is safe.
    #[serde(default)]
    pub(super) on: Vec<FailureKind>,
    /// First pause, which doubles with each attempt. Default: one second.
    pub(super) backoff: Option<Text<Duration>>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub(super) enum Mode {
    /// All statements in one transaction; any failure rolls back all of them.
    Transaction,
    /// Each statement commits on its own; a failure leaves the other statements unaffected.
    AutoCommit,
}
