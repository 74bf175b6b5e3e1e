//! Data types of pipelines and runs. The sibling modules create pipelines, run them, and report the results.

mod graph;
mod overlap;
mod pipeline;
mod run;
mod selection;
mod step;
pub(super) mod suggest;
mod work;

pub use overlap::Overlap;
pub use pipeline::Pipeline;
pub use run::Run;
pub use step::{OnFailure, RetryPolicy, Step, StepStatement};
pub use work::StepWork;

pub(super) use graph::Graph;
pub(super) use pipeline::Declared;
