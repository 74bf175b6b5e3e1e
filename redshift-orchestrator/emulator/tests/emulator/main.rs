//! Tests the emulator over sockets, with the real SDK client, with `DataApiExecutor`, and with plain HTTP.

#![allow(clippy::unwrap_used)]

mod batches;
mod binary;
mod conformance;
#[path = "../../../tests/support/connector.rs"]
mod connector;
mod executor;
mod in_process;
mod long_polls;
#[path = "../support/process.rs"]
mod process;
mod protocol;
#[path = "../../../tests/support/scripted.rs"]
mod scripted;
mod sdk;
mod support;
