//! Finishes or undoes writes that did not end: those of dead writers, and completed ones on request.

pub(crate) mod heartbeat;
pub(crate) mod markers;
mod repair;
mod rollback;
pub(crate) mod settle;
pub(crate) mod undo;

pub(crate) use self::repair::repair;
pub use self::undo::RollbackReport;
