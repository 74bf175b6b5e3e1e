//! Plans the files of a commit: the file groups of new rows, and the compression.

pub(super) mod codec;
pub(super) mod pack;
