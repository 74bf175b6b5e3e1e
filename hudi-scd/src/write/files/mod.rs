//! Writes base files: merges the rows of the previous version with the changes, and encodes or copies
//! columns.

mod arranged;
pub(super) mod base_file;
mod chunk;
mod distinct;
pub(super) mod merge;
mod nan;
mod pages;
