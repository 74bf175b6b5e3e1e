//! Decorators: executors in front of an executor, each for one purpose, in one file.
//!
//! Many statements at once need a [`Fleet`], and nothing else from here. What is special is put together by hand:
//!
//! ```
//! use redshift_data_local::{LocalExecutor, Script};
//! use redshift_orchestrator::layer::{Fleet, Limit, Rate, RequestRates, Retry, Traced};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! # let service = LocalExecutor::scripted(Script::new());
//! # let another = LocalExecutor::scripted(Script::new());
//! let executor = Fleet::new(service);
//! assert_eq!(executor.to_string(), "Fleet(Limit(500, Rate(Local(Scripted))))");
//!
//! let executor = Retry::new(Limit::new(Rate::new(Traced::new(another), RequestRates::default()), 200));
//! assert_eq!(executor.to_string(), "Retry(Limit(200, Rate(Traced(Local(Scripted)))))");
//! # }
//! ```
//!
//! | from outside | does | why here |
//! |---|---|---|
//! | [`Retry`] | repeats requests after transient errors | each repetition passes all others again |
//! | [`Limit`] | holds submits back while too many statements or sessions are active | a submit that waits here takes no share of the rate |
//! | [`Rate`] | spreads requests so that the account's limits are kept | closest to what is really sent |
//! | [`Traced`] | tells `tracing` of each request | sees every single one, and how long it took |
//!
//! An [`Orchestrator`](crate::Orchestrator) survives transient errors by itself, and counts them in its reports: it needs no
//! `Retry` for that. Fetching results through its executor does. The time that a request waits in `Limit` or `Rate` does not count
//! as time without an answer, neither for an orchestrator nor for a [`Wait`](crate::wait::Wait).
//!
//! Each of them is also a [`Catalog`](crate::Catalog) in front of one.

mod fleet;
mod limit;
mod rate;
mod retry;
mod semaphore;
mod trace;

pub use fleet::Fleet;
pub use limit::Limit;
pub use rate::{Rate, Request, RequestRates};
pub use retry::Retry;
pub use trace::Traced;
