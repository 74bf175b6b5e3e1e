//! Scenarios that every [`StatementExecutor`] must pass. They are public, so that you can test your own
//! executor.
//!
//! A [`Fixture`] provides the SQL for the scenarios and counts their effects. [`all`] runs the scenarios one
//! after the other and panics with the names and messages of all that fail; [`failures`] returns them. If
//! panics abort the process (`panic = "abort"`), the first failure ends it. The scenarios wait with long
//! polls, so that an executor on a paused clock takes no real time. The module [`journal`] contains the
//! scenarios for journals.
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

/// Generates scenarios from functions with a parameter that implements a trait, a list of their names, and
/// functions that run all of them.
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

// Declared after the macro, which these modules use.
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

    /// Returns the number of times that the effect `what` occurred.
    fn effects(&self, what: &str) -> impl Future<Output = usize> + Send;

    /// Returns a text that becomes part of names and tokens. It must differ between runs against the same
    /// service.
    fn name_suffix(&self) -> &str {
        ""
    }

    /// Advances the service's time. Returns `false` if this is not possible, which skips the scenarios of
    /// expiring tokens and records.
    fn advance(&self, time: Duration) -> impl Future<Output = bool> + Send {
        let _ = time;
        async { false }
    }
}

/// SQL of a scenario, by its effect. The enum is exhaustive, so that a fixture must handle
/// every new variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SampleSql<'a> {
    /// A query with the column `n` and the rows 1, 2, 3.
    Rows,
    /// A statement that fails with an error text that contains `division by zero`.
    Failure,
    /// A statement that runs much longer than a test.
    LongRunning,
    /// A statement with the effect of this name.
    Effect(&'a str),
    /// A statement with the effect whose name is the value of this parameter, used as `:name`.
    EffectOf(&'a str),
}
