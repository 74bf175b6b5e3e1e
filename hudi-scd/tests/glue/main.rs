//! The table in the Glue catalog: against recorded syncs of Hudi, with faults from seeds, in numbers of
//! requests, and as SQL.
#![allow(clippy::unwrap_used)]

mod automatic;
#[path = "../common/mod.rs"]
mod common;
mod crawler;
mod crawlers;
mod faults;
mod memory;
mod recorded;
mod recording;
mod redshift;
mod requests;
mod takeover;
