//! [`AttemptOptions`]: options of one attempt at a statement.

use std::time::Duration;

/// Options of one attempt, for [`Orchestrator::run_with`](crate::Orchestrator::run_with).
///
/// ```
/// # use std::time::Duration;
/// # use redshift_orchestrator::*;
/// # async fn example(orchestrator: Orchestrator) -> Result<()> {
/// let key = StepKey::new("cycle-007", "load-sales");
/// let statement = Statement::sql("CALL mystore.load_sales(7)");
/// let options = AttemptOptions::default().with_timeout(Duration::from_secs(600));
/// let outcome = orchestrator.run_with(&key, statement, options).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AttemptOptions {
    /// Time after which the statement is cancelled, counted from the accepted submit. If an earlier call
    /// submitted the statement, the time is counted from the record of its id in the journal, or from the
    /// intent if the journal does not contain the id. Default: the service's limit of 24 hours.
    pub timeout: Option<Duration>,
    /// `true` if the caller read an open entry of the attempt in the journal. After an error, the statement may
    /// then be running.
    pub(crate) is_open: bool,
}

impl AttemptOptions {
    /// Sets the timeout.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}
