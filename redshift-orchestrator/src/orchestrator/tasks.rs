//! Registration of the executors of steps that are not statements.

use std::sync::Arc;
#[cfg(feature = "glue")]
use std::time::Duration;

use super::Orchestrator;
use crate::task::{Task, TaskKind, Tasks};
#[cfg(feature = "glue")]
use crate::{Clock, glue::JobService};

impl Orchestrator {
    /// Registers the executor of the pipeline steps of one kind. Replaces an earlier executor of this kind.
    ///
    /// The work may be repeated after a death of the process; see [`Task`].
    #[must_use]
    pub fn with_task(mut self, kind: TaskKind, task: impl Task + 'static) -> Self {
        self.tasks.insert(kind, Arc::new(task));
        self
    }

    /// Runs the Glue jobs of pipelines through this service, each at most once for an attempt. Replaces an
    /// earlier executor of the kind `glue`.
    ///
    /// The orchestrator's journal, clock and [grace time of a cancel](Self::with_cancel_grace) apply. Its
    /// [retry timeout](Self::with_retry_timeout) limits the wait for renewed credentials. The other settings
    /// are the defaults of [`GlueJob`](crate::glue::GlueJob).
    #[cfg(feature = "glue")]
    #[must_use]
    pub fn with_glue(mut self, service: Arc<dyn JobService>) -> Self {
        self.tasks.insert_glue(service);
        self
    }

    pub(crate) fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    #[cfg(feature = "glue")]
    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    #[cfg(feature = "glue")]
    pub(crate) fn retry_timeout(&self) -> Duration {
        self.retry_timeout
    }

    #[cfg(feature = "glue")]
    pub(crate) fn cancel_grace(&self) -> Option<Duration> {
        self.cancel_grace
    }
}
