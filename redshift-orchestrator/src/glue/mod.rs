//! Jobs of AWS Glue: each run is started at most once, waited for, and accounted for, like a statement.
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
//! Glue has no client token: a repeated `StartJobRun` starts a second run. Each run therefore has an argument
//! of its own, [`RUN_TOKEN`], by which a listing recognises it, and its intent is in the journal before the
//! request.
//!
//! | the process died, or lost the response | the journal contains | the next call |
//! |---|---|---|
//! | before the intent was durable | nothing | starts a run |
//! | before the request was sent | intent | lists the runs: not found, **unknown** |
//! | after the run was started | intent | lists the runs: found, waits for it |
//! | while it ran | intent, id | waits for it |
//! | after its ending was durable | everything | returns the recorded ending, sends nothing |
//! | the response was lost, and the process lives | intent | lists the runs for [two minutes](GlueJob::run): found, or **unknown** |
//! | Glue refused the start | intent, not submitted | starts a run |
//!
//! An unknown run is never started again, until an operator [settles](crate::journal::settle) it. The SDK's
//! own retries are off for this one request.
//!
//! Waiting, its poll strategies, and the cancel after a timeout are those of statements
//! ([`wait`](crate::wait)).

mod definition;
mod executor;
mod outcome;
mod run;
mod service;

pub use aws_sdk_glue;
pub use definition::{Ensured, JobDefinition};
pub use outcome::{JobOutcome, JobOutcomeKind, JobStart};
pub use run::{GlueJob, RUN_TOKEN};
pub use service::{GlueService, JobRun, JobRunPage, JobRunState, JobService};
