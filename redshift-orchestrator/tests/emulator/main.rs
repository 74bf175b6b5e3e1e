//! The emulator, over sockets: the real SDK client, this crate's executor on it, and plain HTTP.

#![allow(clippy::unwrap_used)]

mod binary;
mod conformance;
mod executor;
mod long_polls;
mod protocol;
mod sdk;
mod support;
