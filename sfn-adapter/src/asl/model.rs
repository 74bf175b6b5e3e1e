//! Amazon States Language as types. They contain the fields that this crate reads or writes, and keep all
//! other fields of each object unchanged.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The fields of an object for which these types have no field.
pub type Rest = IndexMap<String, Value>;

/// States by name, in the order of the file.
pub type States = IndexMap<String, State>;

/// A state machine. <https://states-language.net/#structure-of-a-state-machine>
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct StateMachine {
    /// Human-readable comment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Language of the expressions: `JSONPath`, the default of the service, or `JSONata`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query_language: Option<String>,
    /// Name of the first state.
    pub start_at: String,
    /// The states.
    pub states: States,
    /// Other fields, such as `TimeoutSeconds` and `Version`.
    #[serde(flatten)]
    pub rest: Rest,
}

/// A state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "Type")]
pub enum State {
    /// Calls a service or a function.
    Task(Box<Task>),
    /// Branches by conditions.
    Choice(Choice),
    /// Pauses.
    Wait(Wait),
    /// Changes the data.
    Pass(Pass),
    /// Runs branches concurrently.
    Parallel(Parallel),
    /// Runs states for each item.
    Map(Map),
    /// Ends the execution or the branch.
    Succeed(Succeed),
    /// Fails the execution or the branch.
    Fail(Fail),
}

/// A state that calls a service or a function.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Task {
    /// Human-readable comment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// ARN of the integration or the function.
    pub resource: String,
    /// Input of the call in JSONPath.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Value>,
    /// Input of the call in JSONata.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arguments: Option<Value>,
    /// Selection from the result, in JSONPath.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result_selector: Option<Value>,
    /// Place of the result in the data, in JSONPath; `Some(Null)` discards the result.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub result_path: Option<Value>,
    /// Output of the state, in JSONata.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    /// Maximum duration in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<Value>,
    /// Errors after which the call is retried.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub retry: Vec<Retrier>,
    /// Errors that lead to another state.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub catch: Vec<Catcher>,
    /// The next state.
    #[serde(flatten)]
    pub then: Then,
    /// Other fields.
    #[serde(flatten)]
    pub rest: Rest,
}

/// The next state, or the end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Then {
    /// Name of the next state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// `true` if the execution or the branch ends with this state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<bool>,
}

impl Then {
    /// Continues with this state.
    pub fn next(name: impl Into<String>) -> Self {
        Self { next: Some(name.into()), end: None }
    }

    /// Ends the execution or the branch.
    pub fn end() -> Self {
        Self { next: None, end: Some(true) }
    }
}

/// Errors after which a call is retried.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Retrier {
    /// Names of the errors.
    pub error_equals: Vec<String>,
    /// First pause in seconds. The service's default is 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval_seconds: Option<u64>,
    /// Maximum number of retries. The service's default is 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u64>,
    /// Factor by which the pause grows. The service's default is 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff_rate: Option<serde_json::Number>,
    /// Maximum pause in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_delay_seconds: Option<u64>,
    /// `FULL` randomizes the pauses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter_strategy: Option<String>,
    /// Other fields.
    #[serde(flatten)]
    pub rest: Rest,
}

/// Errors that lead to another state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Catcher {
    /// Names of the errors.
    pub error_equals: Vec<String>,
    /// Place of the error in the data, in JSONPath.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result_path: Option<Value>,
    /// Input of the next state, in JSONata.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    /// The next state.
    pub next: String,
    /// Other fields.
    #[serde(flatten)]
    pub rest: Rest,
}

/// A state that branches.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Choice {
    /// Human-readable comment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Rules in order. The first rule that applies decides.
    pub choices: Vec<Rule>,
    /// The next state if no rule applies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// Other fields.
    #[serde(flatten)]
    pub rest: Rest,
}

/// A rule of a [`Choice`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Rule {
    /// Condition in JSONata. In JSONPath the comparison is in `test`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub condition: Option<Value>,
    /// The comparison in JSONPath, and other fields.
    #[serde(flatten)]
    pub test: Rest,
    /// The next state.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub next: String,
}

/// A state that pauses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Wait {
    /// Human-readable comment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Duration in seconds, or an expression in JSONata.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<Value>,
    /// Path of the duration, in JSONPath.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_path: Option<String>,
    /// The next state.
    #[serde(flatten)]
    pub then: Then,
    /// Other fields.
    #[serde(flatten)]
    pub rest: Rest,
}

/// A state that changes the data.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Pass {
    /// Human-readable comment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Selection from the data to read, in JSONPath.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input_path: Option<String>,
    /// New data in JSONPath.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Value>,
    /// Place of the new data, in JSONPath.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub result_path: Option<Value>,
    /// Output of the state, in JSONata.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    /// The next state.
    #[serde(flatten)]
    pub then: Then,
    /// Other fields.
    #[serde(flatten)]
    pub rest: Rest,
}

/// A state that runs branches concurrently.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Parallel {
    /// Human-readable comment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// The branches.
    pub branches: Vec<Branch>,
    /// Selection from the results of the branches, in JSONPath.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result_selector: Option<Value>,
    /// Place of the results, in JSONPath.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub result_path: Option<Value>,
    /// Output of the state, in JSONata.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    /// Errors after which all branches are retried.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub retry: Vec<Retrier>,
    /// Errors that lead to another state.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub catch: Vec<Catcher>,
    /// The next state.
    #[serde(flatten)]
    pub then: Then,
    /// Other fields.
    #[serde(flatten)]
    pub rest: Rest,
}

/// States that run within another state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Branch {
    /// Name of the first state.
    pub start_at: String,
    /// The states.
    pub states: States,
    /// Other fields.
    #[serde(flatten)]
    pub rest: Rest,
}

/// A state that runs other states for each item.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Map {
    /// The states of an item. `Iterator` is the old name of the field.
    #[serde(alias = "Iterator")]
    pub item_processor: Branch,
    /// The next state.
    #[serde(flatten)]
    pub then: Then,
    /// Other fields.
    #[serde(flatten)]
    pub rest: Rest,
}

/// A state that ends the execution or the branch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Succeed {
    /// Human-readable comment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Output of the execution, in JSONata.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    /// Other fields.
    #[serde(flatten)]
    pub rest: Rest,
}

/// A state that fails the execution or the branch.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Fail {
    /// Human-readable comment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Name of the error. In JSONPath it is a literal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Text of the error. In JSONPath it is a literal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Path of the name, in JSONPath.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_path: Option<String>,
    /// Path of the text, in JSONPath.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause_path: Option<String>,
    /// Other fields.
    #[serde(flatten)]
    pub rest: Rest,
}

impl StateMachine {
    /// Reads a definition.
    ///
    /// # Errors
    /// Returns the JSON parser's message with line and column.
    pub fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// Returns the definition as indented JSON that ends with a newline.
    pub fn to_json(&self) -> String {
        // Strings and maps with string keys always serialize.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}

impl State {
    /// Returns the names of the states that may follow this one.
    pub fn successors(&self) -> Vec<&str> {
        let (then, catch): (Option<&Then>, &[Catcher]) = match self {
            Self::Task(state) => (Some(&state.then), &state.catch),
            Self::Parallel(state) => (Some(&state.then), &state.catch),
            Self::Wait(state) => (Some(&state.then), &[]),
            Self::Pass(state) => (Some(&state.then), &[]),
            Self::Map(state) => (Some(&state.then), &[]),
            Self::Choice(state) => {
                let rules = state.choices.iter().map(|rule| rule.next.as_str());
                return rules.chain(state.default.as_deref()).collect();
            }
            Self::Succeed(_) | Self::Fail(_) => (None, &[]),
        };
        let next = then.and_then(|then| then.next.as_deref());
        next.into_iter().chain(catch.iter().map(|catcher| catcher.next.as_str())).collect()
    }
}

/// Distinguishes `null` from an absent field.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_is_written_as_it_was_read() {
        let text = r#"{
  "Comment": "c",
  "StartAt": "A",
  "States": {
    "A": {
      "Type": "Task",
      "Resource": "arn:aws:lambda:eu-west-1:1:function:f",
      "ResultPath": null,
      "Next": "B",
      "HeartbeatSeconds": 3
    },
    "B": {
      "Type": "Choice",
      "Choices": [
        {
          "Variable": "$.a",
          "IsPresent": true,
          "Next": "C"
        }
      ],
      "Default": "C"
    },
    "C": {
      "Type": "Fail",
      "ErrorPath": "$.e"
    }
  },
  "TimeoutSeconds": 5
}
"#;
        let machine = StateMachine::from_json(text).unwrap();
        assert_eq!(machine.to_json(), text);
        assert_eq!(machine.states["B"].successors(), ["C", "C"]);
    }
}
