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

/// The requests that a form uses to submit, poll and cancel a statement.
pub(super) trait Calls {
    /// Submits the statement of a step and keeps its `id`.
    fn submit(&self, step: &StepPlan) -> Call;

    /// Submits the statement and waits for the event of its end. `None` in a form without events.
    fn callback(&self, _: &StepPlan) -> Option<Callback> {
        None
    }

    /// Reads the status of the statement in `run.statement.id`. Keeps its `status`, and the other members
    /// that [`failed_with`](Self::failed_with) and [`error_text`](Self::error_text) read.
    fn status(&self, step: &StepPlan) -> Call;

    /// Cancels the statement.
    fn cancel(&self) -> Call;

    /// Returns `true` if reading the error of a failed statement needs a separate request.
    fn reads_error(&self) -> bool {
        false
    }

    /// Reads the `error` of a failed statement.
    fn error(&self) -> Call {
        self.cancel()
    }

    /// Path of the database's message in the data.
    fn error_text(&self) -> &'static str;

    /// Returns the condition that the statement failed with one of these kinds.
    fn failed_with(&self, kinds: &[FailureKind]) -> Condition;

    /// Settings that the deployment needs.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    /// Errors of a submit after which the statement is certainly not running.
    fn not_submitted(&self) -> &'static [&'static str];
}

/// A submit that ends when the event of the statement's end arrives.
#[derive(Clone, Debug)]
pub(super) struct Callback {
    pub(super) call: Call,
    /// Errors that the event's handler uses to report the end of a statement.
    pub(super) ended: Vec<&'static str>,
}

/// Pauses between polls, in seconds.
///
/// If polls return at once, the pauses double from the first to the last one, and the first pause comes
/// before the first poll. If the service delays the response to a poll, polls begin at once, and the pauses
/// between them grow by the first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Schedule {
    /// First pause. 0 if polls follow each other without a pause, because the response to each one is
    /// delayed.
    pub(super) first: u64,
    /// Maximum pause.
    pub(super) last: u64,
    /// Time for which the service delays the response to a poll.
    pub(super) held: u64,
}

impl Schedule {
    /// Creates pauses that double from `first` while they do not exceed `limit`.
    pub(super) fn doubling(first: u64, limit: u64) -> Self {
        let first = first.max(1);
        let mut last = first;
        while last * 2 <= limit {
            last *= 2;
        }
        Self { first, last, held: 0 }
    }

    /// Creates long polls whose response is delayed for `held`, with pauses that grow by `pause` up to
    /// `limit`.
    pub(super) fn long_polls(pause: u64, limit: u64, held: u64) -> Self {
        Self { first: pause, last: if pause == 0 { 0 } else { limit.max(pause) }, held }
    }

    /// Returns `true` if there is a pause between polls.
    pub(super) fn has_pauses(self) -> bool {
        self.first > 0
    }

    /// Returns `true` if a poll comes first, and directly after a cancellation, because it is a long poll.
    pub(super) fn polls_first(self) -> bool {
        self.held > 0 || self.first == 0
    }

    /// Returns the initial pause in the clock of an attempt.
    pub(super) fn begin(self) -> u64 {
        if self.held > 0 { 0 } else { self.first }
    }

    /// Returns `true` if a later pause can be longer than the first one.
    pub(super) fn grows(self) -> bool {
        self.begin() < self.last
    }

    fn after(self, pause: u64) -> u64 {
        match self.held {
            _ if pause >= self.last => pause,
            0 => pause * 2,
            _ => pause + self.first,
        }
    }

    /// Returns the time, since the submit, at which each poll begins. All polls but the last find a statement
    /// of this duration still running.
    pub(super) fn polls(self, duration: u64) -> Vec<u64> {
        let mut wait = self.begin();
        let (mut polls, mut at) = (Vec::new(), wait);
        loop {
            polls.push(at);
            if at >= duration || (self.held > 0 && at + self.held >= duration) {
                return polls;
            }
            wait = self.after(wait);
            at += self.held + wait;
        }
    }

    /// Returns the number of polls of each step in the worst case: it reaches its timeout and the time limit
    /// of its cancellation.
    pub(super) fn polls_of(self, timeouts: &[(String, u64, u64)]) -> Vec<Polls> {
        // One poll follows the cancellation. A long poll is counted only after the next one.
        let more = 1 + u64::from(self.held > 0);
        let polls = |(label, timeout, attempts): &(String, u64, u64)| {
            let [in_time, all] =
                [*timeout, timeout + GRACE].map(|duration| self.polls(duration).len() as u64);
            // Each poll after the timeout can be followed by a cancellation.
            Polls {
                label: label.clone(),
                attempts: *attempts,
                polls: all + more,
                cancels: all - in_time + 1 + more,
            }
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
            Self { first, held, last } => format!(
                "polls that wait up to {} for the end, and pauses between them that grow by {} up to {}",
                seconds(held),
                seconds(first),
                seconds(last)
            ),
        }
    }

    /// Returns the clock before the first poll.
    pub(super) fn start(self, language: QueryLanguage) -> Shape {
        let wait = ("wait", Shape::Expr(Expr::Number(self.begin())));
        let waited = ("waited", Shape::Expr(Expr::Number(0)));
        match (self.held, language) {
            (0, _) | (_, QueryLanguage::JsonPath) => Shape::object([wait, waited]),
            // An interpreter without long polls responds at once, so the number of polls is no measure of
            // time.
            (_, QueryLanguage::Jsonata) => {
                Shape::object([wait, waited, ("since", super::step::raw("$millis()".to_owned()).into())])
            }
        }
    }

    /// Returns, in JSONata, the step's data after a poll with this reply.
    pub(super) fn counted(self, reply: &str) -> String {
        let clock = "$states.input.run.clock";
        let wait = match self.held {
            _ if !self.grows() => format!("{clock}.wait"),
            0 => format!("{clock}.wait < {} ? {clock}.wait * 2 : {clock}.wait", self.last),
            _ => format!("{clock}.wait < {} ? {clock}.wait + {} : {clock}.wait", self.last, self.first),
        };
        let rest = match self.held {
            0 => format!("'waited': {clock}.waited + {clock}.wait"),
            _ => format!("'waited': $floor(($millis() - {clock}.since) / 1000), 'since': {clock}.since"),
        };
        format!("$merge([$states.input.run, {{'reply': {reply}, 'clock': {{'wait': {wait}, {rest}}}}}])")
    }

    /// Returns the states that count a poll in JSONPath, as their names and the new clocks.
    pub(super) fn counts(self) -> Vec<(&'static str, Shape)> {
        let member = |name: &str| Expr::data(format!("run.clock.{name}"));
        let waited = || {
            let waited = member("waited").plus(member("wait"));
            if self.held > 0 { waited.plus(Expr::Number(self.held)) } else { waited }
        };
        let clock = |wait: Expr| Shape::object([("wait", wait.into()), ("waited", waited().into())]);
        let mut counts = vec![("wait on", clock(member("wait")))];
        if self.grows() {
            let more = if self.held > 0 { Expr::Number(self.first) } else { member("wait") };
            counts.insert(0, ("wait longer", clock(member("wait").plus(more))));
        }
        counts
    }
}

/// Creates a payload from the members that are present.
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
    fn a_long_poll_begins_at_once_and_ends_with_the_statement() {
        assert_eq!(Schedule::long_polls(0, 0, 30).polls(61), [0, 30, 60]);
        assert_eq!(Schedule::long_polls(10, 3_600, 30).polls(1), [0]);
    }

    #[test]
    fn pauses_between_long_polls_grow_by_the_same_time() {
        let schedule = Schedule::long_polls(2, 5, 30);
        // Pauses of 2, 4, 6 and 6 seconds.
        assert_eq!(schedule.polls(180), [0, 32, 66, 102, 138, 174]);
        assert_eq!(Schedule::long_polls(9, 5, 30).last, 9);
    }
}
