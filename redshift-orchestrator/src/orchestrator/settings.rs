//! Settings of an [`Orchestrator`].

use std::{sync::Arc, time::Duration};

use super::Orchestrator;
use crate::{
    Backoff, Clock, MessageSource, Observer,
    identity::Namespace,
    journal::Journal,
    wait::{Durations, PollStrategy},
};

impl Orchestrator {
    /// Sets the journal for intents, ids and outcomes. Default: a journal in memory.
    ///
    /// A journal identifies an attempt by run, step and number. If orchestrators with different targets or
    /// scopes share a journal, their runs must have different names. Otherwise, the second orchestrator gets
    /// [`ErrorKind::StepKeyConflict`](crate::ErrorKind::StepKeyConflict).
    #[must_use]
    pub fn with_journal(mut self, journal: impl Journal + 'static) -> Self {
        self.journal = Arc::new(journal);
        self
    }

    /// Adds a name to the identity of each statement. The identity always includes the pipeline's name and
    /// the executor's [target](crate::StatementExecutor::target). If two orchestrators have the same pipeline
    /// and target, and no scope, equal statements with equal keys are the same statement and run once.
    #[must_use]
    pub fn with_scope(mut self, scope: impl Into<String>) -> Self {
        self.namespace = Arc::new(Namespace { scope: Some(scope.into()), ..(*self.namespace).clone() });
        self
    }

    /// Sets the poll strategy. Default: [`LongPoll`](crate::wait::LongPoll).
    #[must_use]
    pub fn with_strategy(mut self, strategy: impl PollStrategy + 'static) -> Self {
        self.strategy = Arc::new(strategy);
        self
    }

    /// Sets the source of wall-clock time. Default: [`SystemClock`](crate::SystemClock).
    #[must_use]
    pub fn with_clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Sets the observer, which is called with each event of a statement. Default: none.
    #[must_use]
    pub fn with_observer(mut self, observer: impl Observer + 'static) -> Self {
        self.observer = Arc::new(observer);
        self
    }

    /// Sets the source of the messages that stored procedures raise while they run. The messages are passed
    /// to the [observer](Self::with_observer). Default: none.
    #[must_use]
    pub fn with_messages(mut self, messages: impl MessageSource + 'static) -> Self {
        self.messages = Some(Arc::new(messages));
        self
    }

    /// Sets the pauses after errors that are retried.
    #[must_use]
    pub fn with_backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets the time for which a submit or a listing is retried while the service throttles it or cannot be
    /// reached. Default: 15 minutes. Polls of a submitted statement are retried until the statement's timeout
    /// expires.
    #[must_use]
    pub fn with_retry_timeout(mut self, retry_timeout: Duration) -> Self {
        self.retry_timeout = retry_timeout;
        self
    }

    /// Sets the time to wait for the end of a cancelled statement, which ends only after its rollback.
    /// Default: the time for which the statement has been running, but at least 15 minutes
    /// ([`Wait::with_cancel_grace`](crate::wait::Wait::with_cancel_grace)).
    ///
    /// If the statement has not ended by then, the outcome is [`TimedOut`](crate::OutcomeKind::TimedOut) with
    /// `cancel_pending`.
    #[must_use]
    pub fn with_cancel_grace(mut self, grace: Duration) -> Self {
        self.cancel_grace = Some(grace);
        self
    }

    /// Sets the durations of earlier runs, for [`Learned`](crate::wait::Learned). New durations are added to
    /// them.
    #[must_use]
    pub fn with_durations(mut self, durations: Durations) -> Self {
        self.durations = durations;
        self
    }

    /// Cancels the statement when the future that waits for it is dropped. Default: `false`.
    #[must_use]
    pub fn with_cancel_on_drop(mut self, cancel: bool) -> Self {
        self.cancel_on_drop = cancel;
        self
    }

    /// Redacts SQL, literals and parameter values that messages of the database and the service quote: they
    /// are replaced by `…` in errors, reports and the journal, except for the names of tables and columns.
    /// Default: `true`. [`Outcome::description`](crate::Outcome::description) always contains the original
    /// text.
    #[must_use]
    pub fn with_redaction(mut self, redaction: bool) -> Self {
        self.redaction = redaction;
        self
    }

    /// Begins each SQL text with a comment that contains the statement's name. Redshift's system views
    /// contain the SQL for 7 days, but not the statement names of the service. The comment makes it possible
    /// to find a statement with an unknown outcome in these views. Default: `false`.
    ///
    /// Client tokens do not depend on this setting, which can therefore be changed at any time.
    #[must_use]
    pub fn with_names_in_sql(mut self, names: bool) -> Self {
        self.names_in_sql = names;
        self
    }
}
