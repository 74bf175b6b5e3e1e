//! [`mocks`]: requests of the TestState API, one for each path through each state of a generated machine.

pub(super) mod choice;
mod data;

use redshift_orchestrator::{Pipeline, Result};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{
    expr::QueryLanguage,
    form::{Options, generate, generate_with_conditions},
    model::{Catcher, Retrier, State, StateMachine, States, Task},
};

/// A request of the TestState API, and the expected response.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Mock {
    /// Name of the state.
    pub state: String,
    /// The path through the state, such as `succeeds` or `catches States.ALL`.
    pub path: String,
    /// The request: members of `TestState`.
    pub request: Value,
    /// The response's `status`.
    pub status: &'static str,
    /// The response's `nextState`.
    pub next_state: Option<String>,
}

/// Returns requests that each test one state of a pipeline's machine, in the order of the definition.
///
/// A choice has one request for each rule and one for its default. A task has one for its success, one for
/// each retry and one for each catch. Results and errors are mocked: no service is called, and the requests
/// need no role.
///
/// # Errors
/// Returns the errors of [`generate`].
pub fn mocks(pipeline: &Pipeline, options: &Options) -> Result<Vec<Mock>> {
    let machine = generate(pipeline, options)?.machine;
    let twin = match options.query_language {
        QueryLanguage::JsonPath => machine.clone(),
        QueryLanguage::Jsonata => {
            generate_with_conditions(pipeline, options, QueryLanguage::JsonPath)?.machine
        }
    };
    let mut walk = Walk { machine: &machine, mocks: Vec::new() };
    walk.states(&machine.states, &twin.states);
    Ok(walk.mocks)
}

struct Walk<'a> {
    machine: &'a StateMachine,
    mocks: Vec<Mock>,
}

impl Walk<'_> {
    fn states(&mut self, states: &States, twins: &States) {
        for (name, state) in states {
            match (state, twins.get(name)) {
                (State::Choice(_), Some(State::Choice(twin))) => {
                    for path in choice::paths(twin) {
                        self.add(name, state, &path.name, path.input, Answer::to(&path.next), json!({}));
                    }
                }
                (State::Task(task), _) => self.task(name, state, task),
                (State::Parallel(parallel), twin) => {
                    let result: Vec<_> = parallel.branches.iter().map(|_| data::of(state)).collect();
                    let mock = json!({ "mock": { "result": json!(result).to_string() } });
                    self.add(name, state, "succeeds", data::of(state), Answer::then(&parallel.then), mock);
                    for (number, branch) in parallel.branches.iter().enumerate() {
                        let twin = match twin {
                            Some(State::Parallel(twin)) => twin.branches.get(number),
                            _ => None,
                        };
                        self.states(&branch.states, twin.map_or(&branch.states, |twin| &twin.states));
                    }
                }
                (State::Pass(pass), _) => {
                    self.add(name, state, "passes", data::of(state), Answer::then(&pass.then), json!({}));
                }
                (State::Wait(wait), _) => {
                    self.add(name, state, "waits", data::of(state), Answer::then(&wait.then), json!({}));
                }
                (State::Fail(_), _) => {
                    self.add(name, state, "fails", data::of(state), Answer::failed(), json!({}));
                }
                (State::Succeed(_), _) => {
                    let ended = Answer { status: "SUCCEEDED", next: None };
                    self.add(name, state, "succeeds", data::of(state), ended, json!({}));
                }
                (State::Choice(_) | State::Map(_), _) => {}
            }
        }
    }

    fn task(&mut self, name: &str, state: &State, task: &Task) {
        let input = data::of(state);
        let result = json!({ "mock": { "result": data::result(task).to_string() } });
        self.add(name, state, "succeeds", input.clone(), Answer::then(&task.then), result);
        for retrier in &task.retry {
            let error = retrier.error_equals.first().map_or("", String::as_str);
            let again = Answer { status: "RETRIABLE", next: None };
            self.add(name, state, &format!("retries {error}"), input.clone(), again, failure(error, 0));
        }
        for (number, catcher) in task.catch.iter().enumerate() {
            let error = thrown(catcher, &task.catch[..number]);
            let caught = Answer { status: "CAUGHT_ERROR", next: Some(catcher.next.clone()) };
            let listed = catcher.error_equals.first().map_or("", String::as_str);
            let mock = failure(&error, attempts(&task.retry, &error));
            self.add(name, state, &format!("catches {listed}"), input.clone(), caught, mock);
        }
        if !task.catch.iter().any(|catcher| catcher.error_equals == ["States.ALL"]) {
            let mock = failure(UNFORESEEN, attempts(&task.retry, UNFORESEEN));
            self.add(name, state, "fails", input, Answer::failed(), mock);
        }
    }

    fn add(
        &mut self,
        state: &str,
        definition: &State,
        path: &str,
        input: Value,
        answer: Answer,
        more: Value,
    ) {
        let mut definition = json!(definition);
        if let (Some(language), Some(members)) = (&self.machine.query_language, definition.as_object_mut()) {
            members.insert("QueryLanguage".to_owned(), json!(language));
        }
        let mut request = Map::new();
        request.insert("definition".to_owned(), json!(definition.to_string()));
        request.insert("input".to_owned(), json!(input.to_string()));
        request.insert("context".to_owned(), json!(data::context(state).to_string()));
        request.insert("inspectionLevel".to_owned(), json!("INFO"));
        if let Value::Object(more) = more {
            request.extend(more);
        }
        self.mocks.push(Mock {
            state: state.to_owned(),
            path: path.to_owned(),
            request: Value::Object(request),
            status: answer.status,
            next_state: answer.next,
        });
    }
}

/// An error name that no state lists.
const UNFORESEEN: &str = "Unforeseen";

/// The expected response.
struct Answer {
    status: &'static str,
    next: Option<String>,
}

impl Answer {
    fn to(next: &str) -> Self {
        Self { status: "SUCCEEDED", next: Some(next.to_owned()) }
    }

    fn then(then: &super::model::Then) -> Self {
        Self { status: "SUCCEEDED", next: then.next.clone() }
    }

    fn failed() -> Self {
        Self { status: "FAILED", next: None }
    }
}

/// Returns an error that this catcher matches and no earlier catcher does.
fn thrown(catcher: &Catcher, before: &[Catcher]) -> String {
    let is_free = |name: &&String| {
        *name != "States.ALL" && !before.iter().any(|earlier| names(&earlier.error_equals, name))
    };
    catcher.error_equals.iter().find(is_free).map_or_else(|| UNFORESEEN.to_owned(), Clone::clone)
}

/// Returns the number of retries after which an error is not retried again.
fn attempts(retriers: &[Retrier], error: &str) -> u64 {
    let matching = retriers.iter().find(|retrier| names(&retrier.error_equals, error));
    matching.map_or(0, |retrier| retrier.max_attempts.unwrap_or(3))
}

/// Returns `true` if a list of error names matches an error.
/// <https://states-language.net/#errors>
fn names(listed: &[String], error: &str) -> bool {
    listed.iter().any(|name| match name.as_str() {
        "States.ALL" => true,
        "States.TaskFailed" => error != "States.Timeout",
        name => name == error,
    })
}

fn failure(error: &str, retries: u64) -> Value {
    json!({
        "mock": { "errorOutput": { "error": error, "cause": "a mocked failure" } },
        "stateConfiguration": { "retrierRetryCount": retries },
    })
}
