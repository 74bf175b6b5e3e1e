//! Machines that submit statements and poll for their ends.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Group, Report, StateRef};
use crate::asl::budget::HISTORY;

/// The service's limit for a statement in seconds.
const DAY: u64 = 86_400;

pub(super) fn check(groups: &[Group<'_>], report: &mut Report<'_>) {
    let Some(machine) = groups.first() else { return };
    let has_timeout = machine.object.contains_key("TimeoutSeconds");
    let mut loops = false;
    for group in groups {
        for choice in group.states.iter().filter(|state| state.is("Choice") && is_on_status(state)) {
            loops |= status_loop(group, choice, has_timeout, report);
        }
        if group.is_inner {
            siblings(group, groups, report);
        }
    }
    let all = || groups.iter().flat_map(|group| &group.states);
    let has_task = all().any(|state| state.is("Task"));
    if has_timeout && loops && has_task && !all().any(|state| state.contains("ancel")) {
        report.add(
            "no-cancel",
            None,
            "/TimeoutSeconds",
            "the timeout ends the execution, and the statement keeps running, possibly next to that of the next execution",
            "count the time in the loop, and cancel the statement in a state of its own",
        );
    }
    if !has_timeout {
        for state in all().filter(|state| state.is("Task") && loops) {
            let limits = ["TimeoutSeconds", "TimeoutSecondsPath"];
            if !limits.iter().any(|field| state.object.contains_key(*field)) {
                report.at(
                    "no-timeout",
                    state,
                    "",
                    "the task may take a year, and nothing notices",
                    "add TimeoutSeconds",
                );
            }
        }
    }
}

/// Returns `true` for a choice on the status of a statement of the Data API.
fn is_on_status(state: &StateRef<'_>) -> bool {
    state.contains("FINISHED")
}

/// Checks a choice that leads back to itself. Returns `true` if it does.
fn status_loop(group: &Group<'_>, choice: &StateRef<'_>, has_timeout: bool, report: &mut Report<'_>) -> bool {
    let returns =
        |name: &str| name == choice.name || group.reachable_without_errors(name).contains(choice.name);
    let default = choice.text("Default");
    let is_loop = choice.successors().iter().any(|(_, next)| returns(next));
    if let Some(default) = default.filter(|default| returns(default)) {
        if choice.contains("FAILED") && !choice.contains("ABORTED") {
            report.at(
                "aborted",
                choice,
                "Default",
                format!(
                    "a statement that is cancelled ends as ABORTED, which leads to {default} again and again"
                ),
                "add ABORTED beside FAILED",
            );
        }
        report.at(
            "unknown-status",
            choice,
            "Default",
            format!("a status that the rules do not list leads to {default} again and again"),
            "list SUBMITTED, PICKED and STARTED for the loop, and let Default fail",
        );
    }
    if is_loop && !has_timeout {
        history(group, choice, report);
    }
    is_loop
}

/// Checks that a loop with constant pauses, over a statement of 24 hours, fits in the history.
fn history(group: &Group<'_>, choice: &StateRef<'_>, report: &mut Report<'_>) {
    let within: BTreeSet<&str> = group
        .reachable(choice.name)
        .into_iter()
        .filter(|name| group.reachable(name).contains(choice.name))
        .collect();
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
            "let the pauses grow, for example by SecondsPath",
        );
    }
}

/// Checks that no branch of a parallel fails while statements of its siblings run.
fn siblings(group: &Group<'_>, groups: &[Group<'_>], report: &mut Report<'_>) {
    let Some((parent, _)) = group.pointer.rsplit_once("/Branches/") else { return };
    let polls =
        |group: &Group<'_>| group.states.iter().any(|state| state.is("Choice") && is_on_status(state));
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
            "a branch that fails ends its siblings, and their statements keep running unwatched",
            "record the failure in the output of the branch, and fail after the Parallel",
        );
    }
}
