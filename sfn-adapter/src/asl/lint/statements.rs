//! Checks machines that submit statements and poll until they end.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    Group, Report, StateRef,
    status::{self, Target},
};
use crate::asl::budget::HISTORY;

/// The service's limit for the duration of a statement, in seconds.
const DAY: u64 = 86_400;

pub(super) fn check(groups: &[Group<'_>], report: &mut Report<'_>) {
    let Some(machine) = groups.first() else { return };
    let has_timeout = machine.object.contains_key("TimeoutSeconds");
    let mut loops = false;
    for group in groups {
        for choice in group.states.iter().filter(|state| is_on_status(group, state)) {
            loops |= status_loop(group, choice, has_timeout, report);
        }
        if group.is_inner {
            siblings(group, groups, report);
        }
    }
    let all = || groups.iter().flat_map(|group| &group.states);
    let has_task = all().any(|state| state.is("Task"));
    if has_timeout && loops && has_task && !all().any(cancels) {
        report.add(
            "no-cancel",
            None,
            "/TimeoutSeconds",
            "the timeout ends the execution, and the statement keeps running, possibly next to that of the next execution",
            "count the time in the loop, and cancel the statement in a separate state",
        );
    }
    if !has_timeout {
        for state in all().filter(|state| state.is("Task") && loops) {
            let limits = ["TimeoutSeconds", "TimeoutSecondsPath"];
            if !limits.iter().any(|field| state.object.contains_key(*field)) {
                // A function ends the task of its invocation, but nothing ends a task that waits for a token.
                let resource = state.text("Resource").unwrap_or_default();
                let is_invocation = resource.contains(":lambda:") && !resource.ends_with(".waitForTaskToken");
                let reason = match is_invocation {
                    true => {
                        "an invocation may take 15 minutes, the maximum of a function, and the machine waits for it"
                    }
                    false => "the task may take a year, and nothing notices",
                };
                report.at("no-timeout", state, "", reason, "add TimeoutSeconds");
            }
        }
    }
}

/// Returns `true` for a choice on the status of a statement of the Data API.
fn is_on_status(group: &Group<'_>, state: &StateRef<'_>) -> bool {
    let describes = |state: &StateRef<'_>| {
        let follows = || state.text("Next").is_some();
        follows() && state.text("Resource").is_some_and(|resource| resource.ends_with(":describeStatement"))
    };
    let before = || group.states.iter().filter(|other| other.text("Next") == Some(state.name));
    state.is("Choice") && (status::names_a_status(state) || before().any(describes))
}

/// Returns `true` for a task whose request cancels a statement. A comment does not count.
fn cancels(state: &StateRef<'_>) -> bool {
    let request = ["Resource", "Parameters", "Arguments"].into_iter();
    let mut request = request.filter_map(|field| state.object.get(field));
    state.is("Task") && request.any(|value| value.to_string().contains("ancel"))
}

/// Returns `true` for a task that submits a statement. The states after it are about another statement.
fn submits(state: &StateRef<'_>) -> bool {
    let action = ["Parameters", "Arguments"]
        .iter()
        .find_map(|field| state.object.get(*field)?.pointer("/Payload/action"));
    let resource = state.text("Resource").unwrap_or_default();
    action.is_some_and(|action| action == "submit")
        || resource.ends_with(":executeStatement")
        || resource.ends_with(":batchExecuteStatement")
}

/// Checks a choice that leads back to itself. Returns `true` if the choice does.
fn status_loop(group: &Group<'_>, choice: &StateRef<'_>, has_timeout: bool, report: &mut Report<'_>) -> bool {
    let polled = group.leading_to(choice.name, submits);
    let returns = |target: &Target<'_>| target.next == choice.name || polled.contains(target.next);
    // A rule with a further condition, such as a counter, may end the loop.
    let endless = |status: &str| {
        let targets = status::targets(choice, status);
        targets.iter().all(returns).then(|| targets.into_iter().next_back()).flatten()
    };
    for status in status::ENDED {
        let Some(target) = endless(status) else { continue };
        let (ends, next) = (if status == "ABORTED" { "is cancelled" } else { "has ended" }, target.next);
        report.at(
            "aborted",
            choice,
            &target.path,
            format!("a statement that {ends} has the status {status}, which leads to {next} again and again"),
            match status {
                "FINISHED" => "let FINISHED lead out of the loop".to_owned(),
                "FAILED" => "add a rule for FAILED".to_owned(),
                _ => "add ABORTED next to FAILED".to_owned(),
            },
        );
    }
    if let Some(target) = endless(status::UNKNOWN) {
        let next = target.next;
        report.at(
            "unknown-status",
            choice,
            &target.path,
            format!("a status that the rules do not list leads to {next} again and again"),
            "list SUBMITTED, PICKED and STARTED for the loop, and let Default fail",
        );
    }
    let is_loop = choice.successors().iter().any(|(_, next)| *next == choice.name || polled.contains(next));
    if is_loop && !has_timeout {
        history(group, choice, report);
    }
    is_loop
}

/// Checks that a loop with constant pauses can poll a statement for 24 hours without exceeding the history.
fn history(group: &Group<'_>, choice: &StateRef<'_>, report: &mut Report<'_>) {
    // A caught error, such as the error of a redrive, does not continue a poll.
    let before = group.leading_to(choice.name, |_| false);
    let within: BTreeSet<&str> =
        group.reachable_without_errors(choice.name).intersection(&before).copied().collect();
    let states: Vec<&StateRef<'_>> = within.iter().filter_map(|name| group.state(name)).collect();
    let waits: Vec<&&StateRef<'_>> = states.iter().filter(|state| state.is("Wait")).collect();
    let [wait] = waits[..] else { return };
    let Some(seconds) = wait.object.get("Seconds").and_then(Value::as_u64) else { return };
    let events: u64 = states.iter().map(|state| if state.is("Task") { 5 } else { 2 }).sum();
    let total = DAY / seconds.max(1) * events;
    if total > HISTORY {
        let minutes = HISTORY / events * seconds / 60;
        report.at(
            "history",
            wait,
            "Seconds",
            format!("a poll each {seconds} s has {events} events, so the history of {HISTORY} events is full after {minutes} minutes and the execution fails"),
            "let the pauses grow, for example with SecondsPath",
        );
    }
}

/// Checks that no branch of a parallel state fails while statements of its siblings run.
fn siblings(group: &Group<'_>, groups: &[Group<'_>], report: &mut Report<'_>) {
    let Some((parent, _)) = group.pointer.rsplit_once("/Branches/") else { return };
    let polls = |group: &Group<'_>| group.states.iter().any(|state| is_on_status(group, state));
    let of_parent = |other: &&Group<'_>| {
        other.pointer.rsplit_once("/Branches/").is_some_and(|(other, _)| other == parent)
    };
    let siblings = groups.iter().filter(of_parent).filter(|other| other.pointer != group.pointer);
    if !siblings.clone().any(polls) {
        return;
    }
    if let Some(fail) = group.states.iter().find(|state| state.is("Fail")) {
        report.at(
            "siblings",
            fail,
            "",
            "a branch that fails ends its siblings, and their statements keep running without being polled",
            "record the failure in the output of the branch, and fail after the Parallel",
        );
    }
}
