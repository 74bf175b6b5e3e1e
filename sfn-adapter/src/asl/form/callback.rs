//! The form `callback`: a task that ends when the event of the statement's end arrives.
//!
//! The handler `statement` puts the task token into the statement's name, and the handler `callback`
//! completes the task. If no event arrives within [`EVENT`], the machine repeats the submit, gets the same
//! statement and polls it as in the form `lambda`.

use redshift_orchestrator::{FailureKind, Pipeline};

use super::{
    builder::Call,
    calls::{Callback, Calls},
    lambda::Lambda,
    sdk::texts,
    step::StepPlan,
};
use crate::asl::expr::{Condition, Expr, Shape};

/// Maximum time to wait for an event, in seconds. It is far below the 8 hours after which the service may run
/// an equal submit again.
const EVENT: u64 = 15 * 60;

#[derive(Debug)]
pub(super) struct Callbacks(Lambda);

impl Callbacks {
    pub(super) fn new(pipeline: &Pipeline, arn: &str) -> Self {
        Self(Lambda::new(pipeline, arn))
    }
}

impl Calls for Callbacks {
    fn submit(&self, step: &StepPlan) -> Call {
        self.0.submit(step)
    }

    fn callback(&self, step: &StepPlan) -> Option<Callback> {
        let event = self.0.event(step, Some(Expr::Context("Task.Token").into()));
        let statement = Shape::object([("id", Expr::Result("id".to_owned()).into())]);
        let mut call = self.0.invoke(".waitForTaskToken", event, statement, EVENT.min(step.timeout));
        // A timeout means that the event did not arrive. It does not mean that the invocation failed.
        for retrier in &mut call.retry {
            retrier.error_equals.retain(|error| error != "States.Timeout");
        }
        Some(Callback { call, ended: vec!["Statement.Aborted", "Statement.Failed"] })
    }

    fn status(&self, step: &StepPlan) -> Call {
        self.0.status(step)
    }

    fn cancel(&self) -> Call {
        self.0.cancel()
    }

    fn error_text(&self) -> &'static str {
        self.0.error_text()
    }

    fn failed_with(&self, kinds: &[FailureKind]) -> Condition {
        Condition::Any(vec![self.0.failed_with(kinds), texts("run.caught.Cause", kinds)])
    }

    fn notes(&self) -> Vec<String> {
        vec![
            "the function `callback` must receive the events of the statements: an EventBridge rule for source \
             aws.redshift-data, detail-type Redshift Data Statement Status Change"
                .to_owned(),
        ]
    }

    fn not_submitted(&self) -> &'static [&'static str] {
        self.0.not_submitted()
    }
}
