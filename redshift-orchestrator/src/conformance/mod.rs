//! Conformance tests: scenarios that every [`StatementExecutor`] must pass. Use them to test your own
//! executor.
//!
//! A [`Fixture`] provides the SQL for the scenarios and counts their effects. [`all`] runs the scenarios one
//! after the other, and finally panics with the names and messages of all scenarios that failed. [`failures`]
//! returns them instead. With `panic = "abort"`, the first failure ends the process. The scenarios wait with
//! long polls, so they take no real time with an executor on a paused clock. The module [`journal`] contains
//! the scenarios for journals.
//!
//! ```
//! use std::time::Duration;
//! use redshift_orchestrator::{Column, Field, conformance::{self, Fixture, SampleSql}};
//! use redshift_data_local::{LocalExecutor, ScriptedExecution, Script, Scripted};
//!
//! struct MyFixture(LocalExecutor<Scripted>);
//!
//! impl Fixture for MyFixture {
//!     type Executor = LocalExecutor<Scripted>;
//!     fn executor(&self) -> &Self::Executor {
//!         &self.0
//!     }
//!     fn sql(&self, sample: SampleSql<'_>) -> String {
//!         match sample {
//!             SampleSql::Rows => "rows".into(),
//!             SampleSql::Failure => "failure".into(),
//!             SampleSql::LongRunning => "nap".into(),
//!             SampleSql::Effect(what) => format!("effect '{what}'"),
//!             SampleSql::EffectOf(parameter) => format!("effect :{parameter}"),
//!         }
//!     }
//!     async fn effects(&self, what: &str) -> usize {
//!         self.0.effects().iter().filter(|effect| effect.sql.contains(what)).count()
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() {
//! let script = Script::new()
//!     .on("rows", ScriptedExecution::finished(Duration::ZERO).with_result(
//!         vec![Column::new("n", "int4")],
//!         (1..=3).map(|n| vec![Field::Long(n)]).collect(),
//!     ))
//!     .on("failure", ScriptedExecution::failed(Duration::ZERO, "ERROR: division by zero"))
//!     .on("nap", ScriptedExecution::finished(Duration::from_secs(600)));
//! conformance::all(&MyFixture(LocalExecutor::scripted(script))).await;
//! # }
//! ```

use std::{future::Future, time::Duration};

use crate::StatementExecutor;

/// Declares scenarios, each of which is a function with one parameter that implements `$trait`. Also
/// generates the list of their names, and the functions that run all of them.
macro_rules! scenarios {
    ($trait:ident; $($(#[$doc:meta])* async fn $name:ident($tested:ident) $body:block)*) => {
        /// Runs every scenario.
        ///
        /// # Panics
        /// Panics after the last scenario, with the name and message of each scenario that failed.
        pub async fn all<T: $trait>(tested: &T) {
            run_all(tested).await.finish();
        }

        /// Runs every scenario, and returns those that failed.
        pub async fn failures<T: $trait>(tested: &T) -> Vec<$crate::conformance::FailedScenario> {
            run_all(tested).await.into_failures()
        }

        async fn run_all<T: $trait>(tested: &T) -> $crate::conformance::suite::Suite {
            let mut suite = $crate::conformance::suite::Suite::default();
            $(suite.run(stringify!($name), $name(tested)).await;)*
            suite
        }

        /// Names of the scenarios.
        pub const SCENARIOS: &[&str] = &[$(stringify!($name)),*];

        $($(#[$doc])* pub async fn $name<T: $trait>($tested: &T) $body)*
    };
}

// These modules use the macro, so they must be declared after it.
mod catalog;
mod executor;
pub mod journal;
mod requests;
mod suite;

pub use catalog::catalog;
pub use executor::*;
pub use suite::FailedScenario;

/// An executor under test and the SQL for the scenarios.
pub trait Fixture: Sync {
    /// Type of the executor.
    type Executor: StatementExecutor;

    /// Returns the executor.
    fn executor(&self) -> &Self::Executor;

    /// Returns the SQL that a scenario runs.
    fn sql(&self, sample: SampleSql<'_>) -> String;

    /// Returns how many times the effect `what` has occurred.
    fn effects(&self, what: &str) -> impl Future<Output = usize> + Send;

    /// Returns a string that becomes part of all names and tokens. Must be different in each run of the
    /// scenarios against the same service. Default: empty.
    fn name_suffix(&self) -> &str {
        ""
    }

    /// Advances the service's clock. Returns `false` if the clock cannot be advanced; the scenarios about
    /// expiring tokens, records and sessions then end early. Default: returns `false`.
    fn advance(&self, time: Duration) -> impl Future<Output = bool> + Send {
        let _ = time;
        async { false }
    }
}

/// SQL that a scenario runs. The enum is exhaustive, so that the compiler reports a new variant to every
/// fixture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SampleSql<'a> {
    /// A query with the column `n` and the rows 1, 2, 3.
    Rows,
    /// A statement that fails with an error text that contains `division by zero`.
    Failure,
    /// A statement that runs much longer than a scenario.
    LongRunning,
    /// A statement with the effect of this name.
    Effect(&'a str),
    /// A statement whose effect is named by the value of this parameter, which the SQL uses as `:name`.
    EffectOf(&'a str),
}
