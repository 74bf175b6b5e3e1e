//! The format of Apache Hudi's copy-on-write tables (table version 6, timeline layout 1): names and bytes,
//! without storage access.
//!
//! This crate accesses no files, is not asynchronous, and does not know tables as a whole. `hudi-scd` adds
//! these on top of it.
//!
//! ```
//! use hudi_format::timeline::{Action, State, Timeline};
//!
//! let timeline = Timeline::from_file_names([
//!     "20260101000000001.commit.requested",
//!     "20260101000000001.inflight",
//!     "20260101000000001.commit",
//!     "20260101000000002.clean.requested",
//! ]);
//! let entries: Vec<_> = timeline.entries().iter().map(|entry| (entry.action, entry.state)).collect();
//! assert_eq!(entries, [(Action::Commit, State::Completed), (Action::Clean, State::Requested)]);
//! ```
//!
//! | subject | module |
//! |---|---|
//! | names of files and folders | [`names`] |
//! | instants, the timeline, the metadata of commits, Avro records, the archive | [`timeline`] |
//! | `hoodie.properties` | [`properties`] |
//! | record keys and partition paths | [`key`] |
//! | schemas in Avro and Arrow, and rows that conform to one | [`schema`] |
//! | bloom filters of base files | [`bloom`] |
//! | file versions that a clean deletes | [`retention`] |
//!
//! # Versions
//!
//! The public signatures contain types of `arrow` (59) and `jiff` (0.2). A new incompatible version of either
//! is not considered a breaking change of this crate. Both are re-exported. With the re-exports, your version
//! always matches.

pub mod bloom;
mod error;
pub mod key;
pub mod members;
pub mod names;
pub mod properties;
pub mod retention;
pub mod schema;
pub mod timeline;

pub use ::arrow;
pub use ::jiff;
pub use error::{Error, ErrorKind, Result};
