//! Maintains a table: cleans, archives, keeps savepoints, and drops the metadata table of other writers.

mod archive;
mod clean;
pub(crate) mod metadata_table;
mod savepoint;

pub use self::{archive::ArchiveReport, clean::CleanReport, savepoint::SavepointReport};
pub(crate) use self::{
    archive::{archive, archive_now},
    clean::{clean, clean_now, clean_plan, finish_pending_cleans},
    savepoint::{delete_savepoint, drop_pending_savepoints, savepoint},
};
