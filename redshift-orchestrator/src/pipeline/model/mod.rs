//! Pipelines and runs as values. The modules next to this one create, run and report them.

mod graph;
mod overlap;
mod pipeline;
mod run;
mod selection;
mod step;
pub(super) mod suggest;

pub use overlap::{Overlap, StopSignal};
pub use pipeline::Pipeline;
pub use run::Run;
pub use step::{OnFailure, RetryPolicy, Step, StepStatement};

pub(super) use graph::Graph;
pub(super) use pipeline::Declared;
