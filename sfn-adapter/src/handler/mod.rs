//! The handlers: plain async functions over small traits, one module each. None of them depends on AWS
//! Lambda.
//!
//! | handler | over | purpose |
//! |---|---|---|
//! | [`redshift`] | [`StatementExecutor`](redshift_orchestrator::StatementExecutor) | replaces the reference solution's function |
//! | [`statement`] | [`StatementExecutor`](redshift_orchestrator::StatementExecutor), [`Catalog`](redshift_orchestrator::Catalog) | submits, polls, cancels, reads results, lists |
//! | [`glue`](glue()) | [`GlueServices`] | starts and polls jobs, registers tables, excludes tables from crawlers |
//! | [`hudi`](hudi()) | [`Lake`](crate::Lake) | takes raw files into a Hudi table, each once |
//! | [`callback`](callback()) | [`StatementExecutor`](redshift_orchestrator::StatementExecutor), [`TaskTokens`](crate::TaskTokens) | completes tasks when their statements end |

#[cfg(feature = "callback")]
mod callback;
mod dropin;
#[cfg(feature = "glue")]
mod glue;
#[cfg(feature = "hudi")]
mod hudi;
#[cfg(any(feature = "callback", feature = "hudi"))]
mod queue;
mod statement;

#[cfg(feature = "callback")]
pub use callback::callback;
pub use dropin::redshift;
#[cfg(feature = "glue")]
pub use glue::{GlueServices, JournalPlace, glue};
#[cfg(feature = "hudi")]
pub use hudi::{ColumnType, DateColumn, HudiConfig, Profile, hudi};
pub use statement::statement;
