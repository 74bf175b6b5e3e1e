//! The plan of a pipeline before a run, and the results of the run after it.

mod attempt;
mod gantt;
mod plan;
mod result;
mod step;
mod table;
mod totals;

pub use attempt::AttemptReport;
pub(super) use attempt::AttemptResult;
pub use plan::Plan;
pub use result::Report;
pub use step::{StepReport, StepStatus};
pub use table::printable;
pub use totals::Totals;
