//! [`Suite`]: runs scenarios one after the other and collects their failures.

use std::{any::Any, fmt, panic::AssertUnwindSafe};

use futures::FutureExt;

/// A scenario that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FailedScenario {
    /// Name of the scenario.
    pub scenario: &'static str,
    /// Message of the failed assertion.
    pub message: String,
}

/// Results of the scenarios that have run.
#[derive(Default)]
pub(super) struct Suite {
    count: usize,
    failures: Vec<FailedScenario>,
}

impl Suite {
    /// Runs a scenario. If the scenario panics, records a failure, so that the next scenarios still run.
    pub(super) async fn run(&mut self, name: &'static str, scenario: impl Future<Output = ()>) {
        self.count += 1;
        if let Err(panic) = Box::pin(AssertUnwindSafe(scenario)).catch_unwind().await {
            self.failures.push(FailedScenario { scenario: name, message: message(&*panic) });
        }
    }

    /// Returns the failures in the order of the scenarios.
    pub(super) fn into_failures(self) -> Vec<FailedScenario> {
        self.failures
    }

    /// Panics with all failures, if there are any.
    pub(super) fn finish(self) {
        assert!(self.failures.is_empty(), "{self}");
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message").to_owned()
}

impl fmt::Display for FailedScenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:\n  {}", self.scenario, self.message.replace('\n', "\n  "))
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} scenarios failed", self.failures.len(), self.count)?;
        self.failures.iter().try_for_each(|failure| write!(f, "\n\n{failure}"))
    }
}
