//! Decides what becomes of each row: finds stored rows, compares them with incoming rows, and collects the
//! changes.

pub(super) mod bulk;
pub(super) mod changeset;
mod collision;
mod lookup;
pub(super) mod overwrite;
pub(super) mod patch;
pub(super) mod rows;
pub(super) mod tag;

pub(crate) use self::overwrite::Overwrite;
