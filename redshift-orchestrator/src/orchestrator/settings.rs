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
    /// Sets the journal for intents, ids and endings. Default: a journal in memory.
    ///
    /// A journal finds an outcome by run, step and attempt. Orchestrators with different targets or scopes
    /// therefore need journals of their own, or different names of runs; with equal names, the second one gets
    /// [`ErrorKind::StepKeyConflict`](crate::ErrorKind::StepKeyConflict).
    #[must_use]
    pub fn with_journal(mut self, journal: impl Journal + 'static) -> Self {
        self.journal = Arc::new(journal);
        self
    }

    /// Adds a name to the identity of each statement. Without a scope, two orchestrators whose executors have
    /// equal [targets](crate::StatementExecutor::target), or none, treat equal statements with equal keys as one
    /// statement. The pipeline's name and the executor's target are always part of the identity.
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

    /// Sets the observer of events.
    #[must_use]
    pub fn with_observer(mut self, observer: impl Observer + 'static) -> Self {
        self.observer = Arc::new(observer);
        self
    }

    /// Sets the source of messages that stored procedures raise while they run; they are passed to the
    /// [observer](Self::with_observer). Default: none.
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

    /// Sets the time for which submits and listings are retried while the service throttles or cannot be
    /// reached. Default: 15 minutes. A wait for a submitted statement continues until the timeout of the
    /// statement.
    #[must_use]
    pub fn with_retry_timeout(mut self, retry_timeout: Duration) -> Self {
        self.retry_timeout = retry_timeout;
        self
    }

    /// Sets the time to wait for the end of a cancelled statement. Default: the time that the statement ran,
    /// and at least 15 minutes, because a cancelled statement ends only after its rollback
    /// ([`Wait::with_cancel_grace`](crate::wait::Wait::with_cancel_grace)).
    ///
    /// A statement that has not ended by then is [timed out](crate::OutcomeKind::TimedOut) with
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

    /// Keeps SQL texts, literals and parameter values that messages of the database and the service quote, in
    /// errors, reports and the journal. By default, these quotations are replaced by `…`; names of tables and
    /// columns are kept. [`Outcome::description`](crate::Outcome::description) always contains the database's original text. Default:
    /// `false`.
    #[must_use]
    pub fn with_quotations(mut self, quotations: bool) -> Self {
        self.quotations = quotations;
        self
    }

    /// Begins each SQL text with a comment that contains the statement's name. Redshift's system views do not
    /// contain the statement names of the service, but they contain the SQL for 7 days. With the comment, a
    /// statement whose outcome is unknown can be identified there with certainty. Default: `false`.
    ///
    /// Client tokens do not depend on this setting, so it can be changed at any time.
    #[must_use]
    pub fn with_names_in_sql(mut self, names: bool) -> Self {
        self.names_in_sql = names;
        self
    }
}
