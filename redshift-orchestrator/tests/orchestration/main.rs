//! Tests of the orchestrator, pipelines, waits and layers, on a scripted service in paused time.
#![allow(clippy::unwrap_used)]

mod definitions;
mod dropping;
#[path = "../support/dying.rs"]
mod dying;
#[path = "../support/executor.rs"]
mod executor;
mod extremes;
mod fleet;
mod garbage;
mod identity;
#[path = "../support/intercept.rs"]
mod intercept;
mod layers;
mod outcomes;
#[cfg(feature = "arrow")]
mod page_cycles;
mod parts;
mod pipelines;
#[cfg(feature = "object-store")]
mod promises;
mod runs;
#[cfg(feature = "object-store")]
mod simulation;
mod support;
mod uncertain_submits;
mod unusual_reports;
mod waiting;
mod walks;
