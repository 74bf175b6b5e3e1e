//! Decorators: executors in front of an executor, each for one purpose, in one file.
//!
//! ```
//! use redshift_orchestrator::{layer::{Limit, Rate, RequestRates, Retry, Traced}, local::{LocalExecutor, Script}};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! # let service = LocalExecutor::scripted(Script::new());
//! let executor = Retry::new(Limit::new(Rate::new(Traced::new(service), RequestRates::default()), 200));
//! # let _ = executor;
//! # }
//! ```
//!
//! | from outside | does | why here |
//! |---|---|---|
//! | [`Retry`] | repeats requests after transient errors | each repetition passes all others again |
//! | [`Limit`] | holds submits back while too many statements are active | a submit that waits here takes no share of the rate |
//! | [`Rate`] | spreads requests so that the account's limits are kept | closest to what is really sent |
//! | [`Traced`] | tells `tracing` of each request | sees every single one, and how long it took |
//!
//! An [`Orchestrator`](crate::Orchestrator) survives transient errors by itself, and counts them in its reports: it needs no
//! `Retry` for that. Fetching results through its executor does.

mod limit;
mod rate;
mod retry;
mod trace;

pub use limit::Limit;
pub use rate::{Rate, RequestRates};
pub use retry::Retry;
pub use trace::Traced;
