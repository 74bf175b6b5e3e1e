//! [`Calls`]: the requests of a form; [`Schedule`]: its pauses between polls.

use redshift_orchestrator::FailureKind;

use super::{
    builder::Call,
    step::{GRACE, StepPlan, seconds},
};
use crate::asl::{
    budget::Polls,
    expr::{Condition, Expr, QueryLanguage, Shape},
};

/// The requests with which a form submits, watches and cancels a statement.
pub(super) trait Calls {
    /// Submits the statement of a step; keeps its `id`.
    fn submit(&self, step: &StepPlan) -> Call;

    /// Submits the statement and waits for the event of its end, in the form that has events.
    fn callback(&self, _: &StepPlan) -> Option<Callback> {
        None
    }

    /// Reads the status of the statement in `run.statement.id`; keeps its `status`, and what else
    /// [`failed_with`](Self::failed_with) and [`error_text`](Self::error_text) read.
    fn status(&self, step: &StepPlan) -> Call;

    /// Cancels the statement.
    fn cancel(&self) -> Call;

    /// Returns `true` if the error of a failed statement needs a request of its own.
    fn reads_error(&self) -> bool {
        false
    }

    /// Reads the `error` of a failed statement.
    fn error(&self) -> Call {
        self.cancel()
    }

    /// Path of the database's message in the data.
    fn error_text(&self) -> &'static str;

    /// The failure of a statement is one of these kinds.
    fn failed_with(&self, kinds: &[FailureKind]) -> Condition;

    /// Settings that the deployment needs.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// Errors of a submit after which the statement certainly does not run.
    fn not_submitted(&self) -> &'static [&'static str];
}

/// A submit that ends with the event of the statement's end.
#[derive(Clone, Debug)]
pub(super) struct Callback {
    pub(super) call: Call,
    /// Errors with which the event's handler reports the end of a statement.
    pub(super) ended: Vec<&'static str>,
}

/// Pauses between polls, in seconds. They double from the first to the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Schedule {
    /// First pause; 0 if polls follow each other, because each of them waits.
    pub(super) first: u64,
    /// Last pause.
    pub(super) last: u64,
    /// Time for which a poll itself waits.
    pub(super) held: u64,
}

impl Schedule {
    /// Creates pauses that double from `first` as long as they do not exceed `limit`.
    pub(super) fn doubling(first: u64, limit: u64) -> Self {
        let first = first.max(1);
        let mut last = first;
        while last * 2 <= limit {
            last *= 2;
        }
        Self { first, last, held: 0 }
    }

    /// Creates equal pauses between polls that wait themselves.
    pub(super) fn long_polls(pause: u64, held: u64) -> Self {
        Self { first: pause, last: pause, held }
    }

    /// Returns the time at which each poll begins that finds the statement of this duration running, or ended
    /// in the last case, from the submit on.
    pub(super) fn polls(self, duration: u64) -> Vec<u64> {
        let (mut polls, mut wait, mut at) = (Vec::new(), self.first, 0);
        loop {
            at += wait;
            polls.push(at);
            if at >= duration || (self.held > 0 && at + self.held >= duration) {
                return polls;
            }
            at += self.held;
            if wait < self.last {
                wait *= 2;
            }
        }
    }

    /// Returns the polls of each step in the worst case: it reaches its timeout and the time of a cancellation.
    pub(super) fn polls_of(self, timeouts: &[(String, u64, u64)]) -> Vec<Polls> {
        let polls = |(label, timeout, attempts): &(String, u64, u64)| Polls {
            label: label.clone(),
            attempts: *attempts,
            polls: self.polls(timeout + GRACE).len() as u64 + 1,
        };
        timeouts.iter().map(polls).collect()
    }

    /// Describes the pauses in one sentence.
    pub(super) fn describe(self) -> String {
        match self {
            Self { held: 0, first, last } if first == last => format!("polls each {}", seconds(first)),
            Self { held: 0, first, last } => {
                format!("polls after {}, then with pauses up to {}", seconds(first), seconds(last))
            }
            Self { first: 0, held, .. } => format!("polls that wait up to {} for the end", seconds(held)),
            Self { first, held, .. } => format!(
                "pauses of {} between polls that wait up to {} for the end",
                seconds(first),
                seconds(held)
            ),
        }
    }

    /// Returns the clock before the first poll.
    pub(super) fn start(self, language: QueryLanguage) -> Shape {
        let wait = ("wait", Shape::Expr(Expr::Number(self.first)));
        let waited = ("waited", Shape::Expr(Expr::Number(0)));
        match (self.held, language) {
            (0, _) | (_, QueryLanguage::JsonPath) => Shape::object([wait, waited]),
            // An interpreter without long polls answers at once, so the polls are no measure of the time.
            (_, QueryLanguage::Jsonata) => {
                Shape::object([wait, waited, ("since", super::step::raw("$millis()".to_owned()).into())])
            }
        }
    }

    /// Returns the step's data after a poll with this reply, in JSONata.
    pub(super) fn counted(self, reply: &str) -> String {
        let clock = "$states.input.run.clock";
        let clock = match self.held {
            0 if self.first < self.last => format!(
                "{{'wait': {clock}.wait < {} ? {clock}.wait * 2 : {clock}.wait, 'waited': {clock}.waited + {clock}.wait}}",
                self.last
            ),
            0 => format!("{{'wait': {clock}.wait, 'waited': {clock}.waited + {clock}.wait}}"),
            _ => format!(
                "{{'wait': {clock}.wait, 'waited': $floor(($millis() - {clock}.since) / 1000), 'since': {clock}.since}}"
            ),
        };
        format!("$merge([$states.input.run, {{'reply': {reply}, 'clock': {clock}}}])")
    }

    /// Returns the states that count a poll in JSONPath: their names and the new clocks.
    pub(super) fn counts(self) -> Vec<(&'static str, Shape)> {
        let member = |name: &str| Expr::data(format!("run.clock.{name}"));
        let waited = || {
            let waited = member("waited").plus(member("wait"));
            if self.held > 0 { waited.plus(Expr::Number(self.held)) } else { waited }
        };
        let clock = |wait: Expr| Shape::object([("wait", wait.into()), ("waited", waited().into())]);
        let mut counts = vec![("wait on", clock(member("wait")))];
        if self.first < self.last {
            counts.insert(0, ("wait longer", clock(member("wait").plus(member("wait")))));
        }
        counts
    }
}

/// Creates a payload from its members, without those that are absent.
pub(super) fn payload<const N: usize>(members: [(&str, Option<Shape>); N]) -> Shape {
    let members = members.into_iter().filter_map(|(name, member)| Some((name.to_owned(), member?)));
    Shape::Object(members.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_limit() {
        let schedule = Schedule::doubling(5, 60);
        assert_eq!((schedule.first, schedule.last), (5, 40));
        assert_eq!(schedule.polls(100), [5, 15, 35, 75, 115]);
        assert_eq!(Schedule::doubling(0, 0), Schedule { first: 1, last: 1, held: 0 });
    }

    #[test]
    fn a_long_poll_ends_with_the_statement() {
        assert_eq!(Schedule::long_polls(0, 30).polls(61), [0, 30, 60]);
        assert_eq!(Schedule::long_polls(10, 30).polls(1), [10]);
    }
}
