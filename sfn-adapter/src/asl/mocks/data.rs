//! Sample data of a generated machine, valid in any of its states.

use redshift_orchestrator::{Description, StatementId, Status};
use serde_json::{Map, Value, json};

use crate::{
    asl::model::{State, Task},
    contract::statement,
};

/// ARN of the sample execution.
pub(super) const EXECUTION: &str = "arn:aws:states:eu-west-1:111122223333:execution:load:7f3a";

const STATEMENT: &str = "d9b6c0c9-0747-4bf4-b142-e8883122f766";

/// A task token.
const TOKEN: &str = "AQCEAAAAKgAAAAMAAAAA";

/// Reply of the handler `hudi` to an upsert.
const UPSERTED: &str = include_str!("../../../fixtures/hudi.upsert.reply.json");

/// Returns a run of a Glue job, as the integration returns it.
fn job_run(state: &str) -> Value {
    json!({
        "Id": "jr_22f56ba41ce2f4f9", "JobName": "clean-customer", "JobRunState": state, "ExecutionTime": 90,
        "ErrorMessage": "ValueError: no such column",
    })
}

/// Returns the context object in a state.
pub(super) fn context(state: &str) -> Value {
    json!({
        "Execution": {
            "Id": EXECUTION, "Name": "7f3a", "Input": {}, "RedriveCount": 0, "StartTime": "2026-11-28T06:30:00Z",
            "RoleArn": "arn:aws:iam::111122223333:role/load",
        },
        "State": { "Name": state, "EnteredTime": "2026-11-28T06:30:05Z", "RetryCount": 0 },
        "StateMachine": { "Id": "arn:aws:states:eu-west-1:111122223333:stateMachine:load", "Name": "load" },
        "Task": { "Token": TOKEN },
    })
}

/// Returns the data between two steps, while a statement runs.
pub(super) fn base() -> Value {
    json!({
        "parameters": {},
        "steps": {},
        "queue": { "pause": { "seconds": 60 } },
        "run": {
            "attempt": 1,
            "clock": { "wait": 5, "waited": 0 },
            "statement": { "id": STATEMENT },
            "reply": { "status": "STARTED", "cause": null, "failure": null },
        },
    })
}

/// Returns the input of a state: the data with a sample of each member that the state reads.
pub(super) fn of(state: &State) -> Value {
    let text = json!(state).to_string();
    let mut input = base();
    for path in paths(&text) {
        set_missing(&mut input, &path);
    }
    // After a parallel state, JSONata reads the outputs of its branches.
    match text.contains("$states.input[") {
        true => json!([input, input]),
        false => input,
    }
}

/// Returns the paths of the members that a definition reads.
fn paths(definition: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for (root, own) in [("$states.input.", true), ("$.", false)] {
        for (at, _) in definition.match_indices(root) {
            let is_context = !own && definition[..at].ends_with('$');
            let rest = &definition[at + root.len()..];
            let end = rest.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '.' | '`' | '-')));
            let path = rest[..end.unwrap_or(rest.len())].trim_end_matches('.').replace('`', "");
            if !is_context && !path.is_empty() {
                found.push(path.split('.').map(str::to_owned).collect());
            }
        }
    }
    // Longer paths come first, so that a string does not replace their members.
    found.sort_by_key(|path: &Vec<String>| std::cmp::Reverse(path.len()));
    found
}

fn set_missing(data: &mut Value, path: &[String]) {
    let Some((last, parents)) = path.split_last() else { return };
    let mut place = data;
    for name in parents {
        let Some(members) = place.as_object_mut() else { return };
        place = members.entry(name.clone()).or_insert_with(|| Value::Object(Map::new()));
    }
    if let Some(members) = place.as_object_mut() {
        members.entry(last.clone()).or_insert_with(|| sample(last));
    }
}

/// Returns a sample value for the member with this name.
pub(super) fn sample(name: &str) -> Value {
    match name {
        "attempt" => json!(1),
        "pause" | "since" | "wait" => json!(5),
        "held" => json!(30),
        "waited" | "RedriveCount" => json!(0),
        "arns" => json!([EXECUTION]),
        "arn" => json!(EXECUTION),
        "id" => json!(STATEMENT),
        "rest" => json!(""),
        "status" => json!("STARTED"),
        "outcome" => json!("finished"),
        "steps" | "parameters" | "run" | "clock" | "defaults" | "input" | "own" | "queue" | "values" => {
            json!({})
        }
        "redriven" => json!("1"),
        "seconds" => json!(60),
        // The cause of a failed job run is its description.
        "Cause" => json!(job_run("FAILED").to_string()),
        _ => json!("text"),
    }
}

/// Returns the result of a task's request.
pub(super) fn result(task: &Task) -> Value {
    let request = task.arguments.as_ref().or(task.parameters.as_ref());
    let payload = request.and_then(|request| request.get("Payload"));
    if task.resource.contains(":lambda:invoke") {
        if payload.and_then(|payload| payload["action"].as_str()) == Some("upsert") {
            let upserted = serde_json::from_str::<Value>(UPSERTED).unwrap_or_default();
            return json!({ "StatusCode": 200, "ExecutedVersion": "$LATEST", "Payload": upserted });
        }
        let is_submit = payload.and_then(|payload| payload["action"].as_str()) == Some("submit");
        let waits = task.resource.ends_with(".waitForTaskToken");
        let status = if is_submit && !waits { Status::Submitted } else { Status::Finished };
        let state = statement::State::described(&Description::new(StatementId::new(STATEMENT), status));
        return match waits {
            // The output of the task, which the handler `callback` sends.
            true => json!(state),
            false => json!({ "StatusCode": 200, "ExecutedVersion": "$LATEST", "Payload": state }),
        };
    }
    if task.resource.ends_with(":glue:startJobRun.sync") {
        return job_run("SUCCEEDED");
    }
    let operation = task.resource.rsplit(':').next().unwrap_or_default();
    match operation.split('.').next().unwrap_or_default() {
        "executeStatement" | "batchExecuteStatement" => json!({ "Id": STATEMENT }),
        "describeStatement" => {
            json!({ "Id": STATEMENT, "Status": "FINISHED", "Duration": 41_250_000_000_u64, "HasResultSet": false })
        }
        "cancelStatement" => json!({ "Status": true }),
        "listExecutions" => json!({ "Executions": [{
            "ExecutionArn": EXECUTION, "StateMachineArn": "arn:aws:states:eu-west-1:111122223333:stateMachine:load",
            "Name": "7f3a", "Status": "RUNNING", "StartDate": "2026-11-28T06:30:00Z",
        }] }),
        _ => json!({}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_members_that_a_state_reads_are_in_its_input() {
        let state = json!({
            "Type": "Pass", "InputPath": "$.joined.steps", "Next": "x",
            "Parameters": { "a.$": "$$.Execution.Id", "b.$": "States.Format('{}', $.steps.load.cause)" },
        });
        let input = of(&serde_json::from_value(state).unwrap());
        assert_eq!(
            (&input["joined"]["steps"], &input["steps"]["load"]["cause"]),
            (&json!({}), &json!("text"))
        );
        assert_eq!(input.get("Execution"), None);
    }
}
