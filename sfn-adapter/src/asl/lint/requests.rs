//! Requests of tasks: retries, errors, timeouts, callbacks and tokens.

use serde_json::Value;

use super::{Report, StateRef};
use crate::asl::form::GLUE_LIMITS;

/// Predefined error names.
/// <https://docs.aws.amazon.com/step-functions/latest/dg/concepts-error-handling.html>
const ERRORS: [&str; 16] = [
    "States.ALL",
    "States.DataLimitExceeded",
    "States.ExceedToleratedFailureThreshold",
    "States.HeartbeatTimeout",
    "States.Http.Socket",
    "States.IntrinsicFailure",
    "States.ItemReaderFailed",
    "States.NoChoiceMatched",
    "States.ParameterPathFailure",
    "States.BranchFailed",
    "States.Permissions",
    "States.QueryEvaluationError",
    "States.ResultPathMatchFailure",
    "States.ResultWriterFailed",
    "States.Runtime",
    "States.TaskFailed",
];

pub(super) fn check(state: &StateRef<'_>, report: &mut Report<'_>) {
    errors(state, report);
    for (number, retrier) in state.list("Retry").iter().enumerate() {
        retry(state, number, retrier, report);
        retried_job(state, number, retrier, report);
    }
    if state.is("Task") {
        task(state, report);
    }
}

fn errors(state: &StateRef<'_>, report: &mut Report<'_>) {
    for field in ["Retry", "Catch"] {
        let all = state.list(field);
        for (number, item) in all.iter().enumerate() {
            let path = format!("{field}/{number}/ErrorEquals");
            let names = item.get("ErrorEquals").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            if names.is_empty() {
                report.at(
                    "required-field",
                    state,
                    &format!("{field}/{number}"),
                    "ErrorEquals is missing or empty",
                    "list the names of the errors",
                );
            }
            let is_all = names.iter().any(|name| name == "States.ALL");
            if is_all && (names.len() > 1 || number + 1 < all.len()) {
                report.at(
                    "error-order",
                    state,
                    &path,
                    "States.ALL is alone in its list, and the list is the last one",
                    "move it to a separate entry at the end",
                );
            }
            for name in names.iter().filter_map(Value::as_str) {
                let known = ERRORS.contains(&name) || name == "States.Timeout";
                if name.starts_with("States.") && !known {
                    report.at(
                        "unknown-error",
                        state,
                        &path,
                        format!("there is no predefined error {name}, so the entry never applies"),
                        "correct the name; names are case-sensitive",
                    );
                }
            }
        }
    }
}

fn retry(state: &StateRef<'_>, number: usize, retrier: &Value, report: &mut Report<'_>) {
    let path = |field: &str| format!("Retry/{number}/{field}");
    if let Some(strategy) = retrier.get("JitterStrategy")
        && strategy != "FULL"
        && strategy != "NONE"
    {
        report.at(
            "jitter",
            state,
            &path("JitterStrategy"),
            format!("there is no jitter {strategy}"),
            "write FULL or NONE",
        );
    }
    let numbers = [
        ("IntervalSeconds", 1.0, 99_999_999.0),
        ("MaxAttempts", 0.0, 99_999_999.0),
        ("BackoffRate", 1.0, f64::MAX),
        ("MaxDelaySeconds", 1.0, 31_622_400.0),
    ];
    for (field, least, most) in numbers {
        let Some(value) = retrier.get(field) else { continue };
        if !value.as_f64().is_some_and(|value| (least..=most).contains(&value)) {
            report.at(
                "retry-numbers",
                state,
                &path(field),
                format!("{field} is {value}"),
                format!("write a number of at least {least}"),
            );
        }
    }
    let number_of = |field: &str| retrier.get(field).and_then(Value::as_f64);
    if let Some(most) = number_of("MaxDelaySeconds")
        && most <= number_of("IntervalSeconds").unwrap_or(1.0)
    {
        report.at(
            "retry-numbers",
            state,
            &path("MaxDelaySeconds"),
            "MaxDelaySeconds is not greater than IntervalSeconds",
            "raise MaxDelaySeconds",
        );
    }
}

/// Finds a retry of a job's start after an error that does not prove that Glue rejected the start.
fn retried_job(state: &StateRef<'_>, number: usize, retrier: &Value, report: &mut Report<'_>) {
    let is_start = state.text("Resource").is_some_and(|resource| resource.contains(":glue:startJobRun"));
    let names = retrier.get("ErrorEquals").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let unproved = names.iter().filter_map(Value::as_str).find(|name| !GLUE_LIMITS.contains(name));
    let never = retrier.get("MaxAttempts").is_some_and(|attempts| attempts == 0);
    if let (true, Some(name), false) = (is_start, unproved, never) {
        report.at(
            "retried-job",
            state,
            &format!("Retry/{number}/ErrorEquals"),
            format!("after {name} a run may exist, and the retry starts another one, because Glue has no client token"),
            "retry only the errors of Glue's limits, such as Glue.ConcurrentRunsExceededException, and look for the run after \
             other errors; ignore this finding if the job may run twice",
        );
    }
}

fn task(state: &StateRef<'_>, report: &mut Report<'_>) {
    let resource = state.text("Resource").unwrap_or_default();
    let seconds = |field: &str| state.object.get(field).and_then(Value::as_f64);
    if let (Some(heartbeat), Some(timeout)) = (seconds("HeartbeatSeconds"), seconds("TimeoutSeconds"))
        && heartbeat >= timeout
    {
        report.at(
            "heartbeat",
            state,
            "HeartbeatSeconds",
            "HeartbeatSeconds is not shorter than TimeoutSeconds",
            "shorten HeartbeatSeconds",
        );
    }
    if resource.ends_with(".waitForTaskToken") {
        if !state.contains("$$.Task.Token")
            && !state.contains("$states.context.Task.Token")
            && !state.contains("\"$$\"")
        {
            report.at(
                "callback-token",
                state,
                "Resource",
                "the request does not carry the task token, so nothing can complete the task",
                "pass $$.Task.Token, or $states.context.Task.Token in JSONata",
            );
        }
        let limits = ["TimeoutSeconds", "TimeoutSecondsPath", "HeartbeatSeconds", "HeartbeatSecondsPath"];
        if !limits.iter().any(|field| state.object.contains_key(*field)) {
            report.at(
                "callback-timeout",
                state,
                "Resource",
                "if the response is lost, the task waits for a year",
                "add TimeoutSeconds, and a Catch of States.Timeout that looks up the actual state",
            );
        }
    }
    let is_redshift = resource.contains(":redshiftdata:") || resource.contains(":redshift-data:");
    if resource.contains(".sync") && resource.contains(":aws-sdk:")
        || is_redshift && !resource.contains(":aws-sdk:redshiftdata:")
    {
        report.at(
            "unsupported-sync",
            state,
            "Resource",
            format!("there is no integration {resource}"),
            "use arn:aws:states:::aws-sdk:redshiftdata:executeStatement and a loop on describeStatement",
        );
    }
    if resource.ends_with(":executeStatement") || resource.ends_with(":batchExecuteStatement") {
        submit(state, report);
    }
    for source in RETRY_COUNTS {
        if state.contains(source) && (state.contains("ClientToken") || state.contains("token")) {
            report.at(
                "unstable-token",
                state,
                "",
                format!(
                    "a token with {source} changes when a lost reply is retried, and the statement runs twice"
                ),
                "derive the token from $$.Execution.Id, $$.Execution.RedriveCount and the step",
            );
        }
    }
    identity(state, report);
}

/// Expressions of the number of a state's retries.
const RETRY_COUNTS: [&str; 2] = ["$$.State.RetryCount", "$states.context.State.RetryCount"];

/// Expressions whose value is another one in each retry.
const CHANGING: [&str; 5] = ["States.UUID()", "$uuid()", "$random()", "$millis()", "$now("];

/// Checks the `identity` of a submit, from which the handler `statement` derives the client token. Other
/// actions only log it.
fn identity(state: &StateRef<'_>, report: &mut Report<'_>) {
    for field in ["Arguments", "Parameters"] {
        let Some(request) = state.object.get(field) else { continue };
        let (path, event) = match request.get("Payload") {
            Some(event) => (format!("{field}/Payload"), event),
            None => (field.to_owned(), request),
        };
        let action = event.get("action").and_then(Value::as_str);
        if action.is_some_and(|action| action != "submit") {
            continue;
        }
        let member = ["identity", "identity.$"].into_iter().find(|name| event.get(*name).is_some());
        // An event that is one expression in JSONata names the member in the expression.
        let whole = event.as_str().filter(|text| text.contains("identity") && text.contains("submit"));
        let (path, text) = match (member, whole) {
            (Some(name), _) => (format!("{path}/{name}"), event[name].to_string()),
            (None, Some(text)) => (path, text.to_owned()),
            (None, None) => continue,
        };
        if let Some(source) = RETRY_COUNTS.iter().chain(&CHANGING).find(|source| text.contains(**source)) {
            report.at(
                "unstable-token",
                state,
                &path,
                format!(
                    "the client token is derived from `identity`, so with {source} it changes when a lost reply is retried, \
                     and the statement runs twice"
                ),
                "set execution and redrive from $$.Execution.Id and $$.Execution.RedriveCount, and count attempt in the \
                 machine",
            );
        }
    }
}

/// Checks a submit through Step Functions' integration of the Data API.
fn submit(state: &StateRef<'_>, report: &mut Report<'_>) {
    if !state.text("Resource").unwrap_or_default().contains(":aws-sdk:redshiftdata:") {
        return;
    }
    let token = ["Arguments", "Parameters"].iter().find_map(|field| {
        let members = state.object.get(*field)?.as_object()?;
        members.get("ClientToken").or_else(|| members.get("ClientToken.$"))?.as_str()
    });
    let changes = |token: &str| CHANGING.iter().any(|source| token.contains(source));
    if state.contains("States.UUID()") || state.contains("$uuid()") || token.is_some_and(changes) {
        report.at(
            "unstable-token",
            state,
            "",
            "a random token, or one of the time, changes when a lost reply is retried, and the statement runs twice",
            "derive the token from $$.Execution.Id, $$.Execution.RedriveCount and the step",
        );
    }
    let retries = |retry: &Value| retry.get("MaxAttempts").and_then(Value::as_u64) != Some(0);
    if state.list("Retry").iter().any(retries) && !state.contains("\"ClientToken") {
        report.at("retry-without-token", state, "Retry", "a retry after a lost reply runs the statement a second time, because each request gets a new token", "pass a ClientToken derived from $$.Execution.Id, $$.Execution.RedriveCount and the step");
    }
}
