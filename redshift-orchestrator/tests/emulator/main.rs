//! The emulator, over sockets: the real SDK client, this crate's executor on it, and plain HTTP.

#![allow(clippy::unwrap_used)]

#[cfg(feature = "arrow")]
mod batches;
mod binary;
mod conformance;
#[path = "../support/connector.rs"]
mod connector;
mod executor;
mod in_process;
mod long_polls;
mod protocol;
mod sdk;
mod support;
