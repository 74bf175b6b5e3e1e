//! [`Budget`]: the length of an execution's history in the worst case.

use std::collections::HashMap;

use super::{
    form::ROUND,
    model::{Branch, State, StateMachine, States},
};

/// Maximum number of events in the history of an execution. The service fails an execution that exceeds it.
/// <https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html>
pub const HISTORY: u64 = 25_000;

/// Number of events of a retry of a request.
const RETRY: u64 = 3;

/// Events reserved for retries of requests.
const RETRIES: u64 = 1_000;

/// Number of events in the history of an execution in the worst case: every step uses all its attempts, and
/// every attempt runs until its timeout. A machine with `overlap = "queue"` first waits for other executions for
/// as long as it can. Redrives are not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Budget {
    /// Number of events, without retries of requests.
    pub events: u64,
}

/// Polls of a step in the worst case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Polls {
    /// Beginning of the names of the step's states.
    pub(super) label: String,
    /// Number of attempts.
    pub(super) attempts: u64,
    /// Number of polls in each attempt.
    pub(super) polls: u64,
    /// Number of cancel requests in each attempt. All but the last one fail.
    pub(super) cancels: u64,
}

impl Budget {
    /// Counts the events of a machine whose steps poll this many times, and whose guard waits for other
    /// executions `rounds` times.
    pub(super) fn of(machine: &StateMachine, polls: impl IntoIterator<Item = Polls>, rounds: u64) -> Self {
        let polls = polls.into_iter().map(|polls| (polls.label.clone(), polls)).collect();
        let guard = machine.states.iter().filter(|(name, _)| ROUND.contains(&name.as_str()));
        let round: u64 = guard.map(|(_, state)| events(state)).sum();
        // The start and the end of the execution.
        Self { events: 2 + of_states(&machine.states, &polls) + round * rounds }
    }

    /// Returns `true` if the history has room for these events and for retries of requests.
    pub(super) fn fits(self) -> bool {
        self.events + RETRIES <= HISTORY
    }

    /// Describes the budget in one sentence.
    pub fn describe(self) -> String {
        format!(
            "without retries of requests and without redrives, the history has at most {} of {HISTORY} events, with every timeout and attempt \
             used up; each retry adds {RETRY}, and there is room for {}",
            self.events,
            HISTORY.saturating_sub(self.events) / RETRY
        )
    }
}

fn of_states(states: &States, polls: &HashMap<String, Polls>) -> u64 {
    let of_state =
        |(name, state): (&String, &State)| events(state) * visits(name, polls) + inner(state, polls);
    states.iter().map(of_state).sum()
}

fn inner(state: &State, polls: &HashMap<String, Polls>) -> u64 {
    let of_branch = |branch: &Branch| of_states(&branch.states, polls);
    match state {
        State::Parallel(parallel) => parallel.branches.iter().map(of_branch).sum(),
        State::Map(map) => of_branch(&map.item_processor),
        _ => 0,
    }
}

/// Returns the number of events that one visit of a state adds. The count agrees with AWS's history and with
/// the interpreters.
pub(super) fn events(state: &State) -> u64 {
    match state {
        // Entered, scheduled, started, succeeded, exited. A callback and a job are also submitted.
        State::Task(task)
            if [".waitForTaskToken", ".sync"].iter().any(|pattern| task.resource.ends_with(pattern)) =>
        {
            6
        }
        State::Task(_) => 5,
        State::Parallel(_) | State::Map(_) => 4,
        State::Fail(_) => 1,
        State::Choice(_) | State::Wait(_) | State::Pass(_) | State::Succeed(_) => 2,
    }
}

/// Names of the states that a poll visits.
const POLL: [&str; 4] = ["wait", "status", "ended", "wait on"];

fn visits(name: &str, polls: &HashMap<String, Polls>) -> u64 {
    let of_step = || {
        let (label, name) = name.rsplit_once(": ")?;
        let polls = polls.get(label)?;
        Some(match name {
            "cancel" => polls.attempts * polls.cancels,
            // A poll passes through one state that counts it. The others are rare, or count in place of it.
            name if POLL.contains(&name) => polls.attempts * polls.polls,
            _ => polls.attempts,
        })
    };
    of_step().unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_poll_of_the_reference_loop_has_nine_events() {
        let text = r#"{"StartAt": "a: submit", "States": {
            "a: submit": {"Type": "Task", "Resource": "r", "Next": "a: wait"},
            "a: wait": {"Type": "Wait", "Seconds": 30, "Next": "a: status"},
            "a: status": {"Type": "Task", "Resource": "r", "Next": "a: ended"},
            "a: ended": {"Type": "Choice", "Choices": [], "Default": "a: wait"},
            "Succeeded": {"Type": "Succeed"}}}"#;
        let machine = StateMachine::from_json(text).unwrap();
        let budget = |polls| {
            Budget::of(&machine, [Polls { label: "a".to_owned(), attempts: 1, polls, cancels: 1 }], 0).events
        };
        assert_eq!(budget(2) - budget(1), 9);
        // A statement that runs for 24 hours and is polled every 30 seconds.
        assert!(budget(2_880) > HISTORY);
    }
}
