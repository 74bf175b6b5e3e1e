//! [`Runs`]: presents the runs of a job as statements, so that [`wait`](crate::wait) can wait for them.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use super::{JobRun, JobRunState, JobService};
use crate::{
    Description, Error, ErrorKind, PageToken, Result, ResultPage, Statement, StatementExecutor,
    StatementFilter, StatementId, StatementPage, Status, Submitted, Target, WaitTime,
};

/// Executor for the runs of one job. Runs can be polled and cancelled. `submit`, `list` and `result` return
/// [`ErrorKind::Unsupported`].
#[derive(Debug)]
pub(super) struct Runs {
    pub(super) service: Arc<dyn JobService>,
    pub(super) job: String,
    /// The run that the last `describe` returned.
    pub(super) last: Mutex<Option<JobRun>>,
}

/// Converts a run into the description of a statement.
fn described(id: &StatementId, run: &JobRun) -> Description {
    let status = match &run.state {
        JobRunState::Waiting => Status::Submitted,
        JobRunState::Starting => Status::Picked,
        JobRunState::Running | JobRunState::Stopping => Status::Started,
        JobRunState::Succeeded => Status::Finished,
        JobRunState::Stopped => Status::Aborted,
        JobRunState::Failed | JobRunState::Timeout | JobRunState::Error | JobRunState::Expired => {
            Status::Failed
        }
        JobRunState::Other(text) => Status::Other(text.clone()),
    };
    let mut description = Description::new(id.clone(), status);
    description.execution_time = run.execution_time;
    if run.state.is_terminal() && run.state != JobRunState::Succeeded {
        let text = run.error.as_deref().unwrap_or("the service gives no reason");
        description.error = Some(format!("{}: {text}", run.state));
    }
    description
}

fn unsupported(what: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("job runs of Glue {what}"))
}

#[async_trait]
impl StatementExecutor for Runs {
    async fn submit(&self, _: &Statement, _: Option<WaitTime>) -> Result<Submitted> {
        Err(unsupported("are not submitted as statements"))
    }

    async fn describe(&self, id: &StatementId, _: Option<WaitTime>) -> Result<Description> {
        let run = self.service.run(&self.job, id.as_str()).await?;
        let description = described(id, &run);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(run);
        Ok(description)
    }

    async fn cancel(&self, id: &StatementId) -> Result<bool> {
        self.service.stop(&self.job, id.as_str()).await
    }

    async fn result(&self, _: &StatementId, _: Option<PageToken>) -> Result<ResultPage> {
        Err(unsupported("have no result"))
    }

    async fn list(&self, _: &StatementFilter, _: Option<PageToken>) -> Result<StatementPage> {
        Err(unsupported("are not listed as statements"))
    }

    fn target(&self) -> Option<Target> {
        None
    }
}
