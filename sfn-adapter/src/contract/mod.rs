//! Events and replies of the handlers, one module for each handler.
//!
//! | handler | event | reply |
//! |---|---|---|
//! | `redshift` | [`dropin::Request`] | [`dropin::Reply`]: the shapes of the reference solution |
//! | `statement` | [`statement::Request`], version 1 | [`statement::Reply`] |
//! | `hudi` | an event of S3, directly, through EventBridge or SQS, or [`hudi::Action`](hudi/index.html), version 1 | [`hudi::Reply`](hudi/index.html), or SQS's list of failed messages |
//! | `glue` | [`glue::Action`](glue/index.html), version 1 | [`glue::Reply`](glue/index.html) |
//! | `callback` | an event of EventBridge, directly or through SQS | [`callback::Reply`](callback/index.html), or SQS's list of failed messages |
//!
//! The JSON Schemas are in the crate's directory `schemas`, and examples of each event and reply in
//! `fixtures`.

use std::time::Duration;

#[cfg(feature = "callback")]
pub mod callback;
pub mod dropin;
#[cfg(feature = "glue")]
pub mod glue;
#[cfg(feature = "hudi")]
pub mod hudi;
mod members;
#[cfg(feature = "schema")]
pub mod schema;
pub mod statement;

/// Version of the contracts of `statement`, `hudi` and `glue`, and of the replies of `callback`.
pub const VERSION: u32 = 1;

/// Maximum size of a reply in bytes. Step Functions passes at most 256 KiB between two states. The difference
/// leaves room for the envelope that Step Functions adds.
pub const MAX_REPLY: usize = 248 * 1024;

/// Maximum length of a cause in characters. Step Functions accepts 32,768.
const LONGEST_CAUSE: usize = 4_000;

/// Longest pause between two polls in seconds.
const LONGEST_POLL: u32 = 300;

/// Returns the pause in whole seconds before the next poll: half of `age`, at least `first`, and at most
/// [`LONGEST_POLL`].
fn next_poll(age: Duration, first: u32) -> u32 {
    let half = u32::try_from(age.as_secs() / 2).unwrap_or(LONGEST_POLL);
    half.clamp(first.clamp(1, LONGEST_POLL), LONGEST_POLL)
}
