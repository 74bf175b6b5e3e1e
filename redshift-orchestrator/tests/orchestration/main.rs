//! Tests of the orchestrator, pipelines, waits and layers, on a scripted service in paused time.
#![allow(clippy::unwrap_used)]

#[cfg(feature = "arrow")]
mod circles;
mod definitions;
mod doubt;
mod dropping;
#[path = "../support/dying.rs"]
mod dying;
mod endings;
mod extremes;
mod fleet;
mod garbage;
mod identity;
#[path = "../support/intercept.rs"]
mod intercept;
mod layers;
mod odd_reports;
mod parts;
mod pipelines;
#[cfg(feature = "object-store")]
mod promises;
mod runs;
#[cfg(feature = "object-store")]
mod simulation;
mod support;
mod waiting;
mod walks;
