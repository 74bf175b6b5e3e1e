//! [`Calls`]: the requests of a form; [`Schedule`]: its pauses between polls.

use redshift_orchestrator::FailureKind;

use super::{
    builder::Call,
    step::{GRACE, StepPlan, raw, seconds},
};
use crate::asl::{
    budget::{HISTORY, Polls},
    cost::number_after,
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

    /// Reads the `error` of a failed statement. `None` if [`status`](Self::status) returns it.
    fn error(&self) -> Option<Call> {
        None
    }

    /// Path of the database's message in the data.
    fn error_text(&self) -> &'static str;

    /// Returns the condition that the statement of a step failed with one of these kinds.
    fn failed_with(&self, step: &StepPlan, kinds: &[FailureKind]) -> Condition;

    /// Returns `true` if a request invokes a function. The cause of the function's error is then its reply.
    fn invokes_function(&self) -> bool {
        false
    }

    /// Returns the condition that an error with an ambiguous name proves that the statement is not running.
    fn refused(&self) -> Option<Condition> {
        None
    }

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
    /// Condition that the caught error reports a failure of one of these kinds.
    pub(super) failed_with: fn(&StepPlan, &[FailureKind]) -> Condition,
}

/// Maximum pause after the timeout of a statement, in seconds. A failed cancel request is repeated after each
/// of these pauses.
const LATE: u64 = GRACE / 3;

/// Pauses between polls, in seconds.
///
/// If polls return at once, the pauses double from the first to the last one, and the first pause comes
/// before the first poll. If the service delays the response to a poll, polls begin at once, and the pauses
/// between them grow by the first one. The last pause and the last long poll before the timeout of a
/// statement are shortened, so that the poll ends at the timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::asl) struct Schedule {
    /// First pause. 0 if polls follow each other without a pause, because the response to each one is
    /// delayed.
    pub(super) first: u64,
    /// Maximum pause.
    pub(super) last: u64,
    /// Time for which the service delays the response to a poll.
    pub(super) held: u64,
}

/// The next poll of a statement, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::asl) struct Clock {
    /// Pause before the poll.
    pub(in crate::asl) wait: u64,
    /// Maximum delay of the response.
    pub(in crate::asl) held: u64,
    /// Time between the submit and the end of the poll.
    pub(in crate::asl) waited: u64,
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

    /// Returns the first pause of an attempt.
    fn begin(self) -> u64 {
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

    /// Returns the pause before the first poll after the timeout.
    fn again(self) -> u64 {
        if self.polls_first() { 0 } else { self.first.min(LATE) }
    }

    /// Returns the later pauses after the timeout.
    fn late(self) -> u64 {
        self.last.min(LATE)
    }

    /// Returns the clock of a poll after this pause, shortened to the time that is left.
    fn clock(self, wait: u64, timeout: u64, waited: u64) -> Clock {
        let left = timeout.saturating_sub(waited);
        let held = self.held.min(left);
        let wait = wait.min(left - held);
        Clock { wait, held, waited: waited + wait + held }
    }

    /// Returns the first clock of a statement that was submitted `waited` seconds ago.
    fn first_clock(self, timeout: u64, waited: u64) -> Clock {
        self.clock(self.begin(), timeout, waited)
    }

    /// Returns the clock of the poll after this one.
    pub(in crate::asl) fn next(self, clock: Clock, timeout: u64) -> Clock {
        match clock.waited < timeout {
            true => self.clock(self.after(clock.wait), timeout, clock.waited),
            false => {
                let pause = clock.wait + clock.held;
                let is_first = clock.waited - pause < timeout || pause == 0;
                let (wait, held) = (if is_first { self.again() } else { self.late() }, self.held);
                Clock { wait, held, waited: clock.waited + wait + held }
            }
        }
    }

    /// Returns the clocks of the polls of a statement that runs for as long as the machine polls it. The
    /// history has no room for more of them.
    fn clocks(self, timeout: u64, waited: u64) -> impl Iterator<Item = Clock> {
        let first = self.first_clock(timeout, waited);
        std::iter::successors(Some(first), move |clock| Some(self.next(*clock, timeout)))
            .take_while(move |clock| clock.waited - clock.wait - clock.held < timeout + GRACE)
            .take(HISTORY as usize)
    }

    /// Returns the number of polls of each step in the worst case: it reaches its timeout and the time limit
    /// of its cancellation.
    pub(super) fn polls_of(self, timeouts: &[(String, u64, u64)]) -> Vec<Polls> {
        // One poll follows the cancellation. A long poll is counted only after the next one.
        let more = 1 + u64::from(self.held > 0);
        let polls = |(label, timeout, attempts): &(String, u64, u64)| {
            let (mut all, mut late) = (0, 0);
            for clock in self.clocks(*timeout, 0) {
                all += 1;
                late += u64::from(clock.waited >= *timeout);
            }
            // Each poll after the timeout can be followed by a cancellation.
            Polls { label: label.clone(), attempts: *attempts, polls: all + more, cancels: late + more }
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

    /// Returns the clock before the first poll of a statement that was submitted `waited` seconds ago.
    ///
    /// In JSONPath, `waited` is the time at the end of the poll, because the pauses are counted before it. In
    /// JSONata, the poll itself counts them.
    pub(super) fn start(self, language: QueryLanguage, timeout: u64, waited: u64) -> Shape {
        let first = self.first_clock(timeout, waited);
        shape(self.constant(match language {
            QueryLanguage::JsonPath => first,
            QueryLanguage::Jsonata => Clock { waited, ..first },
        }))
    }

    /// Adds, in JSONata, the time of the submit to the members that are kept of its result. An interpreter
    /// without long polls responds at once, so the number of polls is no measure of time.
    pub(super) fn submitted(self, language: QueryLanguage, keep: Shape) -> Shape {
        match keep {
            Shape::Object(mut members) if self.held > 0 && language == QueryLanguage::Jsonata => {
                members.push(("since".to_owned(), raw("$millis()".to_owned()).into()));
                Shape::Object(members)
            }
            other => other,
        }
    }

    /// Returns the members of a clock that are the same in every execution.
    fn constant(self, clock: Clock) -> Vec<(&'static str, Expr)> {
        let number = Expr::Number;
        self.members(number(clock.wait), number(clock.waited), number(clock.held))
    }

    fn members(self, wait: Expr, waited: Expr, held: Expr) -> Vec<(&'static str, Expr)> {
        let held = (self.held > 0).then_some(("held", held));
        [("wait", wait), ("waited", waited)].into_iter().chain(held).collect()
    }

    /// Returns, in JSONata, the step's data after a poll with this reply. [`read`](Self::read) reads it.
    pub(super) fn counted(self, reply: &str, timeout: u64) -> String {
        let clock = "$states.input.run.clock";
        let Self { first, last, held } = self;
        let (waited, more) = match held {
            0 => (format!("{clock}.waited + {clock}.wait"), String::new()),
            _ => (
                "$floor(($millis() - $states.input.run.statement.since) / 1000)".to_owned(),
                format!(", 'held': {WAITED} < {timeout} ? $min([{held}, {timeout} - ({WAITED})]) : {held}"),
            ),
        };
        let grown = match (self.grows(), held) {
            (false, _) => format!("{clock}.wait"),
            (true, 0) => format!("{clock}.wait < {last} ? {clock}.wait * 2 : {clock}.wait"),
            (true, _) => format!("{clock}.wait < {last} ? {clock}.wait + {first} : {clock}.wait"),
        };
        let late = format!(
            "$exists($states.input.run.cancel) or $exists($states.input.run.cancel_failed) ? {} : {}",
            self.late(),
            self.again()
        );
        let wait = match (self.has_pauses(), held) {
            (false, _) => "0".to_owned(),
            (true, 0) => format!("{WAITED} < {timeout} ? $min([{grown}, {timeout} - ({WAITED})]) : {late}"),
            (true, _) => format!(
                "{WAITED} < {timeout} ? $max([0, $min([{grown}, {timeout} - {held} - ({WAITED})])]) : {late}"
            ),
        };
        let counted =
            format!("'clock': {{'wait': {wait}, 'waited': {WAITED}{more}}}").replace(WAITED, &waited);
        format!("$merge([$states.input.run, {{'reply': {reply}, {counted}}}])")
    }

    /// Reads the pauses and the timeout from an expression of [`counted`](Self::counted).
    pub(in crate::asl) fn read(counted: &str) -> Option<(Self, u64)> {
        let (_, text) = counted.split_once("'clock': {'wait': ")?;
        let (wait, rest) = text.split_once(", 'waited': ")?;
        let held = rest.split_once("'held': ").and_then(|(_, text)| number_after(text, "$min(["));
        let limit =
            if held.is_some() { "/ 1000) < " } else { "clock.waited + $states.input.run.clock.wait < " };
        let timeout = number_after(text, limit)?;
        let late = number_after(wait, "cancel_failed) ? ").unwrap_or(0);
        let again = wait.rsplit_once(" : ").and_then(|(_, again)| again.parse().ok()).unwrap_or(0);
        let grown = wait.split_once("$min([").map_or("", |(_, grown)| grown);
        let last = number_after(grown, "clock.wait < ").unwrap_or(late);
        let first = match held {
            Some(_) => number_after(grown, "clock.wait + ").unwrap_or(late),
            None => again,
        };
        Some((Self { first, last, held: held.unwrap_or(0) }, timeout))
    }

    /// Returns the states that count a poll in JSONPath, as their names and the new clocks. `waited` is the
    /// time between the submit and the first pause.
    pub(super) fn counts(self, timeout: u64, waited: u64) -> Vec<(&'static str, Shape)> {
        let member = |name: &str| Expr::data(format!("run.clock.{name}"));
        let clock = |wait: Expr| {
            let counted = member("waited").plus(wait.clone());
            let counted = if self.held > 0 { counted.plus(Expr::Number(self.held)) } else { counted };
            shape(self.members(wait, counted, Expr::Number(self.held)))
        };
        let mut counts = vec![("wait on", clock(member("wait")))];
        if self.grows() {
            let more = if self.held > 0 { Expr::Number(self.first) } else { member("wait") };
            counts.push(("wait longer", clock(member("wait").plus(more))));
        }
        if let Some((_, rest)) = self.shortened(timeout, waited) {
            counts.push(("wait rest", shape(self.constant(rest))));
        }
        counts.push(("wait late", clock(Expr::Number(self.late()))));
        if self.polls_again() {
            counts.push(("cancelled", clock(Expr::Number(self.again()))));
        }
        counts
    }

    /// Returns `true` if the pause after a cancellation is shorter than the later ones.
    pub(super) fn polls_again(self) -> bool {
        self.again() < self.late()
    }

    /// Returns the time of the last poll before the timeout, and the clock of the next one, if its pause or
    /// its delay is shortened.
    pub(super) fn shortened(self, timeout: u64, waited: u64) -> Option<(u64, Clock)> {
        let last = self.clocks(timeout, waited).take_while(|clock| clock.waited < timeout).last()?;
        let rest = self.next(last, timeout);
        let full = last.waited + self.after(last.wait) + self.held;
        (rest.waited < full).then_some((last.waited, rest))
    }
}

/// Represents the time since the submit in a text.
const WAITED: &str = "WAITED";

fn shape(members: Vec<(&'static str, Expr)>) -> Shape {
    Shape::object(members.into_iter().map(|(name, member)| (name, Shape::Expr(member))))
}

/// Creates a payload from the members that are present.
pub(super) fn payload<const N: usize>(members: [(&str, Option<Shape>); N]) -> Shape {
    let members = members.into_iter().filter_map(|(name, member)| Some((name.to_owned(), member?)));
    Shape::Object(members.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the times at which the polls end.
    fn polls(schedule: Schedule, timeout: u64, count: usize) -> Vec<u64> {
        schedule.clocks(timeout, 0).map(|clock| clock.waited).take(count).collect()
    }

    #[test]
    fn pauses_double_up_to_the_limit() {
        let schedule = Schedule::doubling(5, 60);
        assert_eq!((schedule.first, schedule.last), (5, 40));
        assert_eq!(polls(schedule, 1_000, 5), [5, 15, 35, 75, 115]);
        assert_eq!(Schedule::doubling(0, 0), Schedule { first: 1, last: 1, held: 0 });
    }

    #[test]
    fn a_long_poll_begins_at_once_and_ends_with_the_statement() {
        assert_eq!(polls(Schedule::long_polls(0, 0, 30), 61, 3), [30, 60, 61]);
        let first = Schedule::long_polls(10, 3_600, 30).first_clock(100, 0);
        assert_eq!(first, Clock { wait: 0, held: 30, waited: 30 });
    }

    #[test]
    fn pauses_between_long_polls_grow_by_the_same_time() {
        let schedule = Schedule::long_polls(2, 5, 30);
        // Pauses of 2, 4, 6 and 6 seconds.
        assert_eq!(polls(schedule, 1_000, 6), [30, 62, 96, 132, 168, 204]);
        assert_eq!(Schedule::long_polls(9, 5, 30).last, 9);
    }

    /// Regression: a cancel came up to a pause after the timeout that it named.
    #[test]
    fn a_poll_ends_at_the_timeout_and_later_pauses_leave_time_for_further_cancels() {
        for (first, limit, held) in [(1, 1, 0), (5, 60, 0), (3_600, 3_600, 0), (0, 0, 30), (7, 3_600, 30)] {
            let schedule = match held {
                0 => Schedule::doubling(first, limit),
                _ => Schedule::long_polls(first, limit, held),
            };
            for timeout in [1, 3, 29, 30, 31, 44, 600, 1_801, 5_000] {
                let clocks: Vec<_> = schedule.clocks(timeout, 0).collect();
                assert!(clocks.iter().any(|clock| clock.waited == timeout), "{schedule:?} {timeout}");
                let cancels = clocks.iter().filter(|clock| clock.waited >= timeout).count();
                assert!(cancels >= 3, "{schedule:?} {timeout}: {cancels} cancels");
                // The event of the callback did not arrive within the timeout.
                assert_eq!(schedule.first_clock(timeout, timeout).waited, timeout);
            }
        }
    }

    #[test]
    fn the_pauses_are_read_from_the_expression_that_counts_them() {
        for (first, limit, held) in [(1, 1, 0), (5, 60, 0), (3_600, 3_600, 0), (0, 0, 30), (7, 3_600, 30)] {
            let schedule = match held {
                0 => Schedule::doubling(first, limit),
                _ => Schedule::long_polls(first, limit, held),
            };
            let (read, timeout) = Schedule::read(&schedule.counted("{'status': 'x'}", 1_801)).unwrap();
            assert_eq!(timeout, 1_801);
            let mut clock = schedule.first_clock(timeout, 0);
            for expected in schedule.clocks(timeout, 0).take(200) {
                assert_eq!(clock, expected, "{schedule:?}, read as {read:?}");
                clock = read.next(clock, timeout);
            }
        }
    }
}
