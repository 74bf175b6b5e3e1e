//! Pipelines: graphs of steps that are defined in a file or in code and can be run and resumed.
//!
//! Example in TOML; JSON has the same keys:
//!
//! ```
//! # use redshift_orchestrator::pipeline::Pipeline;
//! let pipeline = Pipeline::from_toml(r#"
//! name = "mystore-cycle"
//! concurrency = 4                     # maximum number of concurrent statements; default: 8
//! timeout = "10m"                     # default for every step
//! on_failure = "skip-dependents"      # or stop, continue
//!
//! [parameters.cycle]                  # set by every run
//! [parameters.schema]
//! default = "mystore"                 # a run can override it
//!
//! [[steps]]
//! name = "dim-customer"
//! call = "${schema}.load_dim_customer(:cycle)"
//! parameters = { cycle = "${cycle}" }
//!
//! [[steps]]
//! name = "fact-sales"
//! call = "${schema}.load_fact_sales(:cycle)"
//! parameters = { cycle = "${cycle}" }
//! after = ["dim-customer"]
//! timeout = "2m"
//! retry = { attempts = 3, on = ["serialization-conflict", "deadlock"], backoff = "500ms" }
//!
//! [[steps]]
//! name = "statistics"
//! batch = ["ANALYZE ${schema}.dim_customer", "ANALYZE ${schema}.fact_sales"]
//! execution_mode = "auto-commit"      # or transaction, the default
//! after = ["fact-sales"]
//! on_failure = "continue"
//! "#)?;
//! assert_eq!(pipeline.steps().len(), 3);
//! println!("{}", pipeline.plan());
//! # Ok::<(), redshift_orchestrator::Error>(())
//! ```
//!
//! Each step has exactly one of `sql`, `call`, `batch`, `file`, `glue` and `hudi`. `file` is the path of an
//! SQL file, relative to the directory of the pipeline file. `glue` and `hudi` are [tasks](crate::task).
//! `${name}` is replaced by the value of the run's parameter `name`. In the step's `parameters`, this value
//! can be any text, because the service keeps these parameters separate from the SQL. In the SQL itself, the
//! value must be a word, a number or a qualified name. [`Pipeline::template`] returns the texts before the
//! replacement, split at their parameters.

mod language;
mod model;
mod report;
mod run;

pub use crate::stop::StopSignal;
pub use language::{
    Piece, PipelineBuilder, StepTemplate, Template, TemplateParameter, TemplateText, is_allowed_in_sql,
};
#[cfg(feature = "schema")]
pub use language::{json_schema, schema_file};
pub use model::{OnFailure, Overlap, Pipeline, RetryPolicy, Run, Step, StepStatement, StepWork};
#[doc(hidden)]
pub use report::printable;
pub use report::{AttemptReport, Plan, Report, StepReport, StepStatus, Totals};
