//! [`Emulator`]: a local Redshift Data API over HTTP, for any client of the real service.
//!
//! [`Emulator`] implements the service's protocol (AWS JSON 1.1, all 12 operations, validation, errors and
//! status codes) on top of any executor. Usually this is a
//! [`LocalExecutor`](redshift_data_local::LocalExecutor) with a script or a PostgreSQL server. AWS SDKs, and
//! tools that use them, only need to be given the emulator's URL as their endpoint:
//!
//! ```text
//! $ redshift-data-emulator --listen 127.0.0.1:8192 --postgres postgres://localhost/dev
//! listening on http://127.0.0.1:8192
//!
//! >>> client = boto3.client("redshift-data", endpoint_url="http://127.0.0.1:8192", region_name="eu-west-1",
//! ...                       aws_access_key_id="any", aws_secret_access_key="any")
//! >>> client.execute_statement(ClusterIdentifier="dwh", Database="dev", Sql="SELECT 1", WaitTimeSeconds=10)["Status"]
//! 'FINISHED'
//! ```
//!
//! In a Rust test:
//!
//! ```
//! use redshift_data_emulator::Emulator;
//! use redshift_data_local::{LocalExecutor, Script};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> std::io::Result<()> {
//! let emulator = Emulator::new(LocalExecutor::scripted(Script::new())).bind("127.0.0.1:0".parse().unwrap()).await?;
//! let endpoint = emulator.url();
//! let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
//! let serving = tokio::spawn(emulator.serve_until(async { stopped.await.unwrap_or(()) }));
//! // … aws_config::defaults(…).endpoint_url(endpoint) …
//! stop.send(()).unwrap();
//! serving.await.unwrap();
//! # Ok(()) }
//! ```
//!
//! # Same as the service
//!
//! | aspect | behaviour |
//! |---|---|
//! | requests | every member of every operation is parsed and validated against the service's model; one `ValidationException` lists all violations |
//! | results | `GetStatementResult` returns JSON results and `GetStatementResultV2` CSV results; each rejects the other format; pages by `NextToken` |
//! | long polls | `WaitTimeSeconds` on all five operations; `GetStatementResult` returns `ResourceNotFoundException` if the statement is still running after the wait |
//! | listings | `ListStatements` returns statements with the status `FINISHED` by default, matches names by prefix, and filters by target |
//! | errors | the service's names and members, in `__type` and `x-amzn-errortype`; status 500 for faults of the service, 400 for all others |
//!
//! # Different from the service
//!
//! * Signatures are not checked, so any credentials are accepted. For this reason the emulator only listens
//!   on loopback addresses, unless [`Emulator::with_remote_access`] is set.
//! * All callers share one role and one role session, so `RoleLevel` has no effect. Every cluster and
//!   workgroup exists, and so does every database, unless
//!   [`with_databases`](redshift_data_local::PostgresBuilder::with_databases) or `--database` lists them. All
//!   names refer to the executor's only database; responses and filters use the names as given.
//! * A page token of `ListStatements` is rejected with a `ValidationException` if the filter has changed. AWS
//!   does not document how the service responds to such a token.
//! * `WithEvent` sends no event.
//! * The errors [`Disconnected`](redshift_orchestrator::ErrorKind::Disconnected) and
//!   [`NotSent`](redshift_orchestrator::ErrorKind::NotSent) of an executor close the connection without a
//!   response, so that faults injected by [`Faulty`](redshift_data_local::Faulty) look like network failures.
//!
//! # Versions
//!
//! The public signatures contain types of `http` and `bytes` (both at version 1), and of the crates that
//! `redshift_orchestrator` lists under *Versions*. Updates of those crates are not breaking changes of this
//! crate.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod http;
mod members;
mod operation;
mod refusal;
mod response;
mod service;

#[doc = include_str!("../docs/testing.md")]
pub mod testing {}

pub use http::{BoundEmulator, Emulator, InProcessEmulator};
