//! Decorators: executors that wrap another executor, each to add one behaviour.
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
//! | [`Retry`] | repeats requests after transient errors | each repetition passes through the other decorators |
//! | [`Limit`] | delays submits while too many statements or sessions are active | a submit that waits here does not use up the rate |
//! | [`Rate`] | delays requests to stay within the account's rates | counts only requests that are sent |
//! | [`Traced`] | reports each request to `tracing` | measures each request without its time in queues |
//!
//! An [`Orchestrator`](crate::Orchestrator) retries transient errors itself and counts them in its reports.
//! It needs `Retry` only if results are fetched through its executor. Time that a request spends in the queue
//! of `Limit` or `Rate` does not count towards its timeout in an orchestrator or in a
//! [`Wait`](crate::wait::Wait).
//!
//! Each decorator implements [`Catalog`](crate::Catalog) if the executor that it wraps does.

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
