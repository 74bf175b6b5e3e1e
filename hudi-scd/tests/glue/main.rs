//! The table in the Glue catalog: compared with recorded syncs of Hudi, with faults generated from seeds, in
//! numbers of requests, and as SQL.
#![allow(clippy::unwrap_used)]

mod automatic;
#[path = "../common/mod.rs"]
mod common;
mod crawler;
mod faults;
mod interrupted;
mod recorded;
mod recording;
mod redshift;
mod requests;
mod service;
mod takeover;
