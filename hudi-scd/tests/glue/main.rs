//! The table in the Glue catalog: against recorded syncs of Hudi, with faults from seeds, and in numbers of
//! requests.
#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
mod faults;
mod memory;
mod recorded;
mod recording;
mod requests;
mod takeover;
