//! The handlers: plain async functions over small traits, one module each. None of them knows AWS Lambda.
//!
//! | handler | over | does |
//! |---|---|---|
//! | [`redshift`] | [`StatementExecutor`](redshift_orchestrator::StatementExecutor) | replaces the reference solution's function |
//! | [`statement`] | [`StatementExecutor`](redshift_orchestrator::StatementExecutor), [`Catalog`](redshift_orchestrator::Catalog) | submits, polls, cancels, reads results, lists |
//! | [`callback`](callback()) | [`StatementExecutor`](redshift_orchestrator::StatementExecutor), [`TaskTokens`](crate::TaskTokens) | answers tasks when their statements end |

#[cfg(feature = "callback")]
mod callback;
mod dropin;
mod statement;

#[cfg(feature = "callback")]
pub use callback::callback;
pub use dropin::redshift;
pub use statement::statement;
