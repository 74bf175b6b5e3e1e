//! The orchestrator and its pipelines against the scripted service, on tokio's paused clock.
#![allow(clippy::unwrap_used)]

mod definitions;
mod pipelines;
mod support;
mod waiting;
