//! The Hudi steps of the pipeline.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use redshift_orchestrator::{
    Result,
    task::{Task, TaskCall, TaskOutcome},
};

use super::Lake;

/// Executor of the steps with `hudi`: a table takes in raw files. Repeating a step changes nothing, because a
/// table takes in each file once.
pub(crate) struct LakeSteps(Arc<Lake>);

impl LakeSteps {
    /// Writes to the tables of this lake.
    pub(crate) fn new(lake: Arc<Lake>) -> Self {
        Self(lake)
    }
}

impl fmt::Debug for LakeSteps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LakeSteps")
    }
}

#[async_trait]
impl Task for LakeSteps {
    async fn run(&self, call: &TaskCall) -> Result<TaskOutcome> {
        let step = call.hudi()?;
        Ok(match self.0.take_in(&step.table, &step.files).await {
            Ok(()) => TaskOutcome::finished(),
            Err(error) => TaskOutcome::failed(format!("{error:#}")),
        })
    }
}
