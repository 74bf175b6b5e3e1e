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

/// Errors with which the handler `callback` reports the end of a statement.
const ABORTED: &str = "Statement.Aborted";
const FAILED: &str = "Statement.Failed";

/// Returns the condition that the handler's error reports a failure of one of these kinds. The text matters
/// only for a failed statement.
fn caught_with(step: &StepPlan, kinds: &[FailureKind]) -> Condition {
    let is = |error| Condition::is("run.caught.Error", error);
    let failed = Condition::All(vec![is(FAILED), texts("run.caught.Cause", kinds, step.is_batch())]);
    match kinds.contains(&FailureKind::Aborted) {
        true => Condition::Any(vec![is(ABORTED), failed]),
        false => failed,
    }
}

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
        Some(Callback { call, ended: vec![ABORTED, FAILED], failed_with: caught_with })
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

    fn failed_with(&self, step: &StepPlan, kinds: &[FailureKind]) -> Condition {
        self.0.failed_with(step, kinds)
    }

    fn invokes_function(&self) -> bool {
        self.0.invokes_function()
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
