//! Decorators: executors that wrap an executor, each for one purpose.
//!
//! A [`Fleet`] covers the usual case of many statements at once. The other decorators can be combined for
//! special cases:
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
//! | from the outside in | effect | reason for its position |
//! |---|---|---|
//! | [`Retry`] | repeats requests after transient errors | each repetition passes the other decorators again |
//! | [`Limit`] | delays submits while too many statements or sessions are active | a submit that waits here uses no share of the rate |
//! | [`Rate`] | spreads requests to stay within the account's rates | closest to the requests that are sent |
//! | [`Traced`] | reports each request to `tracing` | sees every request and its duration |
//!
//! An [`Orchestrator`](crate::Orchestrator) retries transient errors by itself, and counts them in its
//! reports; it does not need `Retry`, except for fetching results through its executor. The time that a
//! request waits in `Limit` or `Rate` is not part of a request's timeout, neither in an orchestrator nor in a
//! [`Wait`](crate::wait::Wait).
//!
//! Each decorator is also a [`Catalog`](crate::Catalog) if the executor it wraps is one.

mod fleet;
mod limit;
pub(crate) mod queue_time;
mod rate;
mod retry;
mod semaphore;
mod trace;

pub use fleet::Fleet;
pub use limit::Limit;
pub use rate::{Rate, Request, RequestRates};
pub use retry::Retry;
pub use trace::Traced;
