//! [`Emulator`]: a local Redshift Data API over HTTP, for any client of the real one.
//!
//! It implements the service's protocol (AWS JSON 1.1, all 12 operations, its checks, errors and status
//! codes) in front of any executor, usually a [`LocalExecutor`](redshift_data_local::LocalExecutor), scripted
//! or on a PostgreSQL server. The AWS SDKs and tools built on them need only another endpoint:
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
//! The same in a Rust test:
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
//! # Like the service
//!
//! | what | how |
//! |---|---|
//! | requests | every member of every operation is read and checked against the constraints of the service's model; one `ValidationException` names all violations |
//! | results | `GetStatementResult` for JSON, `GetStatementResultV2` for CSV, each rejects the other's results; pages by `NextToken` |
//! | long polls | `WaitTimeSeconds` on all five operations; `GetStatementResult` returns `ResourceNotFoundException` if the statement is still running when the wait is over |
//! | listings | `ListStatements` returns statements with the status `FINISHED` by default, matches names by prefix, and filters by target |
//! | errors | the service's names and members, in `__type` and `x-amzn-errortype`; 500 for its faults, 400 for all others |
//!
//! # Unlike the service
//!
//! * Any credentials are accepted: signatures are not checked. The emulator therefore listens on loopback
//!   addresses only, unless [`Emulator::with_remote_access`] is set.
//! * All callers share one role and one session of it (`RoleLevel` has no effect), and every cluster,
//!   workgroup and database name stands for the executor's one database. Names are returned and filtered as
//!   they were given.
//! * `WithEvent` sends no event.
//! * An executor's [`Disconnected`](redshift_orchestrator::ErrorKind::Disconnected) and
//!   [`NotSent`](redshift_orchestrator::ErrorKind::NotSent) close the connection without a response. The
//!   faults of [`Faulty`](redshift_data_local::Faulty) thus look like those of a real network.
//!
//! # Versions
//!
//! The public signatures contain types of `http` and `bytes` (both at version 1) and of the crates that
//! `redshift_orchestrator` lists under *Versions*. Updates of the latter are not breaking changes of this
//! crate.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod answer;
mod http;
mod members;
mod operation;
mod refusal;
mod service;

#[doc = include_str!("../docs/testing.md")]
pub mod testing {}

pub use http::{BoundEmulator, Emulator, InProcessEmulator};
