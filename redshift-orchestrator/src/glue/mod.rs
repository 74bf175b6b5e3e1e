//! Jobs of AWS Glue. A [`GlueJob`] starts each run at most once, waits for it, and records its outcome in the
//! journal.
//!
//! ```no_run
//! use std::{sync::Arc, time::Duration};
//! use redshift_orchestrator::{StepKey, glue::{GlueJob, GlueService, JobDefinition}, journal::FileJournal};
//!
//! # async fn example(sdk: aws_sdk_glue::Client) -> redshift_orchestrator::Result<()> {
//! let definition = JobDefinition::new("customer-to-clean", "arn:aws:iam::123456789012:role/glue", "s3://bucket/job.py")
//!     .with_workers("G.1X", 2)
//!     .with_default_argument("--enable-glue-datacatalog", "true");
//! let job = GlueJob::new(Arc::new(GlueService::new(sdk)), FileJournal::open("journal.jsonl")?, "customer-to-clean")
//!     .with_timeout(Duration::from_secs(3600));
//! job.ensure(&definition).await?;
//! let outcome = job.run(&StepKey::new("cycle-007", "customers"), &[("--cycle", "7")]).await?;
//! println!("{outcome}");
//! # Ok(()) }
//! ```
//!
//! # At most one run
//!
//! Glue has no client token, so a repeated `StartJobRun` starts a second run. Each run therefore receives a
//! unique token in the argument [`RUN_TOKEN`], and the journal contains the intent before the request is
//! sent. If the response is lost, the run is found in the list of the job's runs by its token.
//!
//! | the process died or lost the response | the journal contains | the next call |
//! |---|---|---|
//! | before the intent was durable | nothing | starts a run |
//! | before the request was sent | intent | lists the runs, does not find it: **unknown** |
//! | after the run was started | intent | lists the runs, finds it and waits for it |
//! | while the run was active | intent, id | waits for it |
//! | after the outcome was durable | everything | returns the recorded outcome, sends nothing |
//! | the response was lost, but the process did not die | intent | this call lists the runs for [two minutes](GlueJob::run): found, or **unknown** |
//! | Glue rejected the start | intent, not submitted | starts a run |
//!
//! A start that Glue rejects because of its limits is repeated. Each start has an intent of its own, so the
//! two minutes and the timeout count from the last start.
//!
//! A run whose outcome is unknown is not started again until an operator [settles](crate::journal::settle)
//! it. The SDK's retries are turned off for `StartJobRun`.
//!
//! The wait for a run uses the same poll strategies as the wait for a statement, and stops the run when the
//! timeout expires (see [`wait`](crate::wait)).

mod definition;
mod executor;
mod outcome;
mod run;
mod service;
mod task;

pub use aws_sdk_glue;
pub use definition::{Ensured, JobDefinition};
pub use outcome::{JobOutcome, JobStart};
pub use run::GlueJob;

pub use crate::task::RUN_TOKEN;
pub use service::{GlueService, JobRun, JobRunPage, JobRunState, JobService};
