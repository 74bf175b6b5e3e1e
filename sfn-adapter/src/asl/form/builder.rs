//! [`Builder`]: states in either query language over one layout of the data.
//!
//! The data of every state is one object: `parameters` contains the parameters of the run, `steps` the result
//! of each step that has ended, and `run` the data of the current step.

use serde_json::{Value, json};

use crate::asl::{
    expr::{Condition, Expr, QueryLanguage, Shape, jsonata_field, jsonata_put},
    model::{
        Branch, Catcher, Choice, Fail, Parallel, Pass, Rest, Retrier, Rule, State, States, Task, Then, Wait,
    },
};

/// A request of a task.
#[derive(Clone, Debug)]
pub(super) struct Call {
    /// ARN of the integration.
    pub(super) resource: String,
    /// Input of the request.
    pub(super) arguments: Shape,
    /// Members of the result to keep, as an object.
    pub(super) keep: Shape,
    /// Maximum duration in seconds.
    pub(super) timeout: u64,
    /// Errors after which the request is repeated.
    pub(super) retry: Vec<Retrier>,
}

/// Writes states in one query language.
#[derive(Clone, Copy, Debug)]
pub(super) struct Builder {
    pub(super) language: QueryLanguage,
    /// Language of the conditions of choices.
    pub(super) conditions: QueryLanguage,
}

impl Builder {
    /// Writes a value into the data.
    pub(super) fn put(self, path: &str, value: &Shape, next: &str) -> Pass {
        let pass = Pass { then: Then::next(next), ..Pass::default() };
        match self.language {
            QueryLanguage::Jsonata => {
                Pass { output: Some(jsonata_field(&jsonata_put(path, &value.jsonata()))), ..pass }
            }
            QueryLanguage::JsonPath => Pass {
                parameters: Some(value.render(self.language)),
                result_path: Some(json!(format!("$.{path}"))),
                ..pass
            },
        }
    }

    /// Replaces the data.
    pub(super) fn replace(self, value: &Shape, next: &str) -> Pass {
        let pass = Pass { then: Then::next(next), ..Pass::default() };
        let value = Some(value.render(self.language));
        match self.language {
            QueryLanguage::Jsonata => Pass { output: value, ..pass },
            QueryLanguage::JsonPath => Pass { parameters: value, ..pass },
        }
    }

    /// Sends a request and writes its result into the data at this path.
    pub(super) fn task(self, call: &Call, path: &str, next: &str) -> Task {
        let task = Task {
            resource: call.resource.clone(),
            timeout_seconds: Some(json!(call.timeout)),
            retry: call.retry.clone(),
            then: Then::next(next),
            ..Task::default()
        };
        let arguments = Some(call.arguments.render(self.language));
        match self.language {
            QueryLanguage::Jsonata => {
                let output = jsonata_put(path, &call.keep.jsonata());
                Task { arguments, output: Some(jsonata_field(&output)), ..task }
            }
            QueryLanguage::JsonPath => Task {
                parameters: arguments,
                result_selector: Some(call.keep.render(self.language)),
                result_path: Some(json!(format!("$.{path}"))),
                ..task
            },
        }
    }

    /// Writes the error into the data as `run.caught` with the members `Error` and `Cause`.
    pub(super) fn catch(self, errors: &[&str], next: &str) -> Catcher {
        self.catch_into("run.caught", errors, next)
    }

    /// Writes the error into the data at this path, with the members `Error` and `Cause`.
    pub(super) fn catch_into(self, path: &str, errors: &[&str], next: &str) -> Catcher {
        let catcher = Catcher {
            error_equals: errors.iter().map(|error| (*error).to_owned()).collect(),
            next: next.to_owned(),
            ..Catcher::default()
        };
        match self.language {
            QueryLanguage::Jsonata => {
                let output = jsonata_put(path, "$states.errorOutput");
                Catcher { output: Some(jsonata_field(&output)), ..catcher }
            }
            QueryLanguage::JsonPath => Catcher { result_path: Some(json!(format!("$.{path}"))), ..catcher },
        }
    }

    pub(super) fn choice(self, rules: Vec<(Condition, String)>, default: &str) -> Choice {
        let rule = |(condition, next): (Condition, String)| match self.conditions {
            QueryLanguage::Jsonata => {
                Rule { condition: Some(jsonata_field(&condition.jsonata())), next, ..Rule::default() }
            }
            QueryLanguage::JsonPath => {
                Rule { test: condition.json_path().into_iter().collect(), next, ..Rule::default() }
            }
        };
        Choice {
            choices: rules.into_iter().map(rule).collect(),
            default: Some(default.to_owned()),
            ..Choice::default()
        }
    }

    /// Waits for the number of seconds found in the data at `path`.
    pub(super) fn wait(self, path: &str, next: &str) -> Wait {
        let wait = Wait { then: Then::next(next), ..Wait::default() };
        match self.language {
            QueryLanguage::Jsonata => {
                Wait { seconds: Some(jsonata_field(&Expr::data(path).jsonata())), ..wait }
            }
            QueryLanguage::JsonPath => Wait { seconds_path: Some(format!("$.{path}")), ..wait },
        }
    }

    /// Fails with the error and the cause found in the data at `path`.
    pub(super) fn fail(self, path: &str) -> Fail {
        let member = |name: &str| Expr::data(format!("{path}.{name}"));
        let text = |expr: Expr| match jsonata_field(&expr.jsonata()) {
            Value::String(text) => text,
            other => other.to_string(),
        };
        match self.language {
            QueryLanguage::Jsonata => Fail {
                error: Some(text(member("error"))),
                cause: Some(text(member("cause"))),
                ..Fail::default()
            },
            QueryLanguage::JsonPath => Fail {
                error_path: Some(member("error").json_path()),
                cause_path: Some(member("cause").json_path()),
                ..Fail::default()
            },
        }
    }

    /// Ends with the results of the steps as output.
    ///
    /// This is not a Succeed state, because MiniStack ignores the output of a Succeed state in JSONata, and
    /// cfn-lint rejects it in JSONPath.
    pub(super) fn succeed(self) -> Pass {
        let steps = Expr::data("steps");
        let pass = Pass { then: Then::end(), ..Pass::default() };
        match self.language {
            QueryLanguage::Jsonata => Pass { output: Some(jsonata_field(&steps.jsonata())), ..pass },
            QueryLanguage::JsonPath => {
                let rest = Rest::from_iter([("OutputPath".to_owned(), json!(steps.json_path()))]);
                Pass { rest, ..pass }
            }
        }
    }

    /// Ends a branch that contains the steps with these keys. Its output is the data that
    /// [`parallel`](Self::parallel) joins. The output has the results of these steps only, because the
    /// results of the other steps may be those of an earlier redrive.
    ///
    /// In JSONata the output also has all of the data, because MiniStack ignores the output of a Parallel
    /// state.
    pub(super) fn end_of_branch(self, keys: &[&str]) -> Pass {
        let own = Shape::object(keys.iter().map(|key| (*key, Expr::data(format!("steps.{key}")).into())));
        let pass = Pass { then: Then::end(), ..Pass::default() };
        match self.language {
            QueryLanguage::Jsonata => {
                let output = format!("$merge([$states.input, {{'run': {{}}, 'own': {}}}])", own.jsonata());
                Pass { output: Some(jsonata_field(&output)), ..pass }
            }
            QueryLanguage::JsonPath => Pass { parameters: Some(own.render(self.language)), ..pass },
        }
    }

    /// Runs branches concurrently and adds the results of their steps to the data.
    pub(super) fn parallel(
        self,
        states: &mut States,
        name: &str,
        branches: Vec<Branch>,
        next: &str,
        comment: String,
    ) {
        let count = branches.len();
        let parallel = Parallel { branches, comment: Some(comment), ..Parallel::default() };
        let joined = format!("{name}: joined");
        let then = Then::next(&joined);
        let (parallel, pass) = match self.language {
            QueryLanguage::Jsonata => {
                let output = "$merge([$states.input[0], \
                              {'steps': $merge([$states.input[0].steps, $merge($states.input.own)]), 'own': {}}])";
                let output = Some(jsonata_field(output));
                (Parallel { then, ..parallel }, Pass { output, then: Then::next(next), ..Pass::default() })
            }
            QueryLanguage::JsonPath => {
                let parallel = Parallel {
                    result_selector: Some(json!({"steps.$": merged(0, count)})),
                    result_path: Some(json!("$.joined")),
                    then,
                    ..parallel
                };
                let steps = Expr::Raw {
                    jsonata: String::new(),
                    json_path: "States.JsonMerge($.steps, $.joined.steps, false)".to_owned(),
                };
                let data = Shape::object([
                    ("parameters", Expr::data("parameters").into()),
                    ("steps", steps.into()),
                    ("run", Shape::Value(json!({}))),
                ]);
                (parallel, self.replace(&data, next))
            }
        };
        states.insert(name.to_owned(), State::Parallel(parallel));
        states.insert(joined, State::Pass(pass));
    }
}

/// Merges the objects with these indexes. The calls form a balanced tree, because the service accepts at most
/// ten nested calls.
fn merged(begin: usize, end: usize) -> String {
    if end - begin == 1 {
        return format!("$[{begin}]");
    }
    let middle = begin + (end - begin) / 2;
    format!("States.JsonMerge({}, {}, false)", merged(begin, middle), merged(middle, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_branches_are_merged_by_nested_calls() {
        assert_eq!(merged(0, 1), "$[0]");
        assert_eq!(merged(0, 3), "States.JsonMerge($[0], States.JsonMerge($[1], $[2], false), false)");
        let depth = |text: &str| {
            let mut depth = (0, 0);
            for character in text.chars() {
                depth.0 += i32::from(character == '(') - i32::from(character == ')');
                depth.1 = depth.1.max(depth.0);
            }
            depth.1
        };
        assert_eq!(depth(&merged(0, 1000)), 10);
    }
}
