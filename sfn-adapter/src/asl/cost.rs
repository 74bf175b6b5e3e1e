//! [`Cost`]: transitions, requests, delay and dollars of a run of a state machine.
//!
//! The machine itself is walked on a simulated clock: every statement takes the same time, and no request
//! fails.

use serde::Serialize;
use serde_json::Value;

use super::model::{Choice, State, StateMachine, States, Task, Wait};

/// Prices in dollars. <https://aws.amazon.com/step-functions/pricing/>, <https://aws.amazon.com/lambda/pricing/>
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Prices {
    /// Region of the prices.
    pub region: &'static str,
    /// Day on which they were read.
    pub date: &'static str,
    /// A million state transitions of a Standard workflow.
    pub transitions: f64,
    /// A million invocations of a function.
    pub invocations: f64,
    /// A gigabyte-second of a function on arm64.
    pub gigabyte_second: f64,
}

/// The prices with which [`cost`] computes. Free tiers are ignored, and events of AWS's services are free.
pub const PRICES: Prices = Prices {
    region: "us-east-1",
    date: "2026-11-23",
    transitions: 25.0,
    invocations: 0.20,
    gigabyte_second: 0.000_013_333_4,
};

/// Duration of an invocation in milliseconds, as measured for the handlers with a warm function.
const INVOCATION_MS: u64 = 30;

/// Memory of a function in gigabytes.
const MEMORY: f64 = 0.125;

/// Limit of the visited states, at which a machine counts as endless.
const VISITS: u64 = 1_000_000;

/// Cost of one run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Cost {
    /// Duration of each statement in seconds.
    pub duration: u64,
    /// Number of state transitions.
    pub transitions: u64,
    /// Number of invocations of functions.
    pub invocations: u64,
    /// Billed time of the functions in milliseconds.
    pub lambda_ms: u64,
    /// Number of requests to AWS's services by the state machine itself.
    pub requests: u64,
    /// Mean time in seconds between the end of a statement and the state that reads it.
    pub delay: f64,
    /// Dollars for 1,000 runs.
    pub dollars: f64,
}

/// Returns the cost of one run of a machine whose statements take `duration` seconds each.
///
/// ```
/// use sfn_adapter::asl::{cost, model::StateMachine};
///
/// let machine = StateMachine::from_json(r#"{
///   "StartAt": "Submit",
///   "States": {
///     "Submit": { "Type": "Task", "Resource": "arn:aws:lambda:us-east-1:1:function:f", "Next": "Wait" },
///     "Wait": { "Type": "Wait", "Seconds": 30, "Next": "Status" },
///     "Status": { "Type": "Task", "Resource": "arn:aws:lambda:us-east-1:1:function:f", "Next": "Ended" },
///     "Ended": {
///       "Type": "Choice",
///       "Choices": [{ "Variable": "$.Status", "StringEquals": "FINISHED", "Next": "Done" }],
///       "Default": "Wait"
///     },
///     "Done": { "Type": "Succeed" }
///   }
/// }"#)?;
/// let cost = cost(&machine, 7_200)?;
/// assert_eq!((cost.transitions, cost.invocations), (722, 241));
/// assert!((cost.dollars - 18.1).abs() < 0.1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Returns a message that names the state whose effect cannot be computed.
pub fn cost(machine: &StateMachine, duration: u64) -> Result<Cost, String> {
    let mut walk = Walk { duration, cost: Cost::default(), delays: Vec::new(), visits: 0 };
    walk.states(&machine.states, &machine.start_at, Thread::default())?;
    let mut cost = walk.cost;
    cost.duration = duration;
    cost.lambda_ms = cost.invocations * INVOCATION_MS;
    if !walk.delays.is_empty() {
        cost.delay = walk.delays.iter().sum::<u64>() as f64 / walk.delays.len() as f64;
    }
    let millions = |count: u64| count as f64 / 1e6;
    let run = millions(cost.transitions) * PRICES.transitions
        + millions(cost.invocations) * PRICES.invocations
        + cost.lambda_ms as f64 / 1e3 * MEMORY * PRICES.gigabyte_second;
    cost.dollars = run * 1e3;
    Ok(cost)
}

/// State of a sequence of states.
#[derive(Clone, Copy, Default)]
struct Thread {
    /// Seconds since the start of the execution.
    now: u64,
    /// End of the statement that runs.
    end: Option<u64>,
    /// `true` if the last poll found the statement ended.
    ended: bool,
    /// Pause between polls of a generated machine.
    pause: u64,
}

struct Walk {
    duration: u64,
    cost: Cost,
    delays: Vec<u64>,
    visits: u64,
}

impl Walk {
    /// Walks until the end, and returns its time.
    fn states(&mut self, states: &States, start: &str, mut thread: Thread) -> Result<u64, String> {
        let mut name = start.to_owned();
        loop {
            let state = states.get(&name).ok_or_else(|| format!("there is no state {name}"))?;
            self.visits += 1;
            self.cost.transitions += 1;
            if self.visits > VISITS {
                return Err(format!("the machine does not end; the last state was {name}"));
            }
            let next = match state {
                State::Succeed(_) => None,
                State::Fail(_) => {
                    return Err(format!(
                        "the run would fail in the state {name}: the duration exceeds a timeout"
                    ));
                }
                State::Wait(wait) => {
                    thread.now += pause(&name, wait, thread.pause)?;
                    wait.then.next.clone()
                }
                State::Pass(pass) => {
                    if let Some(pause) = first_pause(&pass.parameters, &pass.output) {
                        thread.pause = pause;
                    }
                    if name.ends_with(": wait longer") {
                        thread.pause *= 2;
                    }
                    pass.then.next.clone()
                }
                State::Task(task) => Some(self.task(task, &mut thread)).filter(|next| !next.is_empty()),
                State::Choice(choice) => Some(choose(&name, choice, &thread)?),
                State::Parallel(parallel) => {
                    let mut end = thread.now;
                    for branch in &parallel.branches {
                        end = end.max(self.states(&branch.states, &branch.start_at, thread)?);
                    }
                    thread.now = end;
                    parallel.then.next.clone()
                }
                State::Map(map) => {
                    let inner = &map.item_processor;
                    thread.now = self.states(&inner.states, &inner.start_at, thread)?;
                    map.then.next.clone()
                }
            };
            match next {
                Some(next) => name = next,
                None => return Ok(thread.now),
            }
        }
    }

    /// Sends the request of a task, and returns the next state, or an empty name at the end.
    fn task(&mut self, task: &Task, thread: &mut Thread) -> String {
        let is_function = task.resource.contains(":lambda:");
        if is_function {
            self.cost.invocations += 1;
        } else {
            self.cost.requests += 1;
        }
        let payload = task.arguments.as_ref().or(task.parameters.as_ref());
        let next = task.then.next.clone().unwrap_or_default();
        match (kind(task, payload), thread.end) {
            (Kind::Other, _) => {}
            (Kind::Submit, _) if task.resource.ends_with(".waitForTaskToken") => {
                let timeout = task.timeout_seconds.as_ref().and_then(Value::as_u64).unwrap_or(u64::MAX);
                thread.end = Some(thread.now + self.duration);
                if self.duration > timeout {
                    thread.now += timeout;
                    let caught = task.catch.iter().find(|catcher| catcher.error_equals == ["States.Timeout"]);
                    return caught.map_or(next, |catcher| catcher.next.clone());
                }
                thread.now += self.duration;
                self.delays.push(0);
                thread.end = None;
                // The function that answers the token.
                self.cost.invocations += 1;
            }
            // An equal submit returns the statement that runs.
            (Kind::Submit, Some(_)) => {}
            (Kind::Submit | Kind::Function, None) => {
                thread.end = Some(thread.now + self.duration);
                thread.ended = false;
            }
            (Kind::Status | Kind::Function, Some(end)) => {
                let held = payload.and_then(|payload| payload.get("WaitTimeSeconds")).and_then(Value::as_u64);
                thread.now = (thread.now + held.unwrap_or(0)).min(end.max(thread.now));
                if end <= thread.now {
                    self.delays.push(thread.now - end);
                    (thread.end, thread.ended) = (None, true);
                }
                if let Some(limit) = grows_below(task)
                    && thread.pause < limit
                {
                    thread.pause *= 2;
                }
            }
            (Kind::Status, None) => {}
        }
        next
    }
}

/// The effect of a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Submit,
    Status,
    /// A function whose event does not say its effect: it submits first, and then polls.
    Function,
    Other,
}

fn kind(task: &Task, payload: Option<&Value>) -> Kind {
    let action = payload.and_then(|payload| payload.pointer("/Payload/action")).and_then(Value::as_str);
    match (action, task.resource.rsplit(':').next().unwrap_or_default()) {
        (Some("submit"), _) | (None, "executeStatement" | "batchExecuteStatement") => Kind::Submit,
        (Some("status" | "wait"), _) | (None, "describeStatement") => Kind::Status,
        (None, _) if task.resource.contains(":lambda:") => Kind::Function,
        _ => Kind::Other,
    }
}

fn choose(name: &str, choice: &Choice, thread: &Thread) -> Result<String, String> {
    let texts = || choice.choices.iter().map(|rule| (serde_json::to_string(rule).unwrap_or_default(), rule));
    let default = choice.default.clone();
    let problem = || format!("the choice {name} has no rule for this case, and no Default");
    let finished = texts().find(|(text, _)| text.contains("FINISHED"));
    let Some((_, finished)) = finished else {
        // Other choices are about input, failures and other executions.
        return default.ok_or_else(problem);
    };
    if thread.ended {
        return Ok(finished.next.clone());
    }
    for (text, rule) in texts().filter(|(text, _)| text.contains("STARTED") && !text.contains("clock.waited"))
    {
        match number_after(&text, "\"NumericLessThan\":") {
            Some(limit) if thread.pause >= limit => {}
            _ => return Ok(rule.next.clone()),
        }
    }
    default.ok_or_else(problem)
}

fn pause(name: &str, wait: &Wait, pause: u64) -> Result<u64, String> {
    let computed = || {
        let text = wait.seconds.as_ref().and_then(Value::as_str).or(wait.seconds_path.as_deref())?;
        (text.contains("run.clock.wait") && pause > 0).then_some(pause)
    };
    wait.seconds.as_ref().and_then(Value::as_u64).or_else(computed).ok_or_else(|| {
        format!("the pause of the state {name} is computed by the machine; only constant pauses and those of generated machines are known")
    })
}

/// Returns the pause with which a generated step begins.
fn first_pause(parameters: &Option<Value>, output: &Option<Value>) -> Option<u64> {
    let json_path =
        parameters.as_ref().and_then(|value| value.pointer("/clock/wait").or(value.get("wait"))?.as_u64());
    json_path.or_else(|| number_after(output.as_ref()?.as_str()?, "'clock': {'wait': "))
}

/// Returns the pause below which a generated poll in JSONata doubles it.
fn grows_below(task: &Task) -> Option<u64> {
    number_after(task.output.as_ref()?.as_str()?, ".wait < ")
}

fn number_after(text: &str, mark: &str) -> Option<u64> {
    let (_, rest) = text.split_once(mark)?;
    let end = rest.find(|character: char| !character.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use redshift_orchestrator::Pipeline;

    use super::*;
    use crate::asl::{Form, Options, QueryLanguage, generate};

    fn costs(form: Form, query_language: QueryLanguage, duration: u64) -> Cost {
        let text = "name = \"p\"\noverlap = \"allow\"\ntimeout = \"3h\"\n[[steps]]\nname = \"s\"\nsql = \"SELECT 1\"\n";
        let pipeline = Pipeline::from_toml(text).unwrap();
        let options = Options { form, query_language, ..Options::default() };
        cost(&generate(&pipeline, &options).unwrap().machine, duration).unwrap()
    }

    #[test]
    fn both_languages_poll_at_the_same_times() {
        for duration in [1, 60, 3_600, 10_000] {
            let [jsonata, json_path] = [QueryLanguage::Jsonata, QueryLanguage::JsonPath]
                .map(|language| costs(Form::Lambda, language, duration));
            assert_eq!(jsonata.invocations, json_path.invocations, "{duration}");
            assert_eq!(jsonata.delay, json_path.delay, "{duration}");
        }
        // Polls after 5, 15, 35 and 75 seconds.
        let cost = costs(Form::Lambda, QueryLanguage::Jsonata, 60);
        assert_eq!((cost.invocations, cost.delay), (5, 15.0));
    }

    #[test]
    fn an_event_ends_a_short_statement_and_polls_follow_a_lost_one() {
        let short = costs(Form::Callback, QueryLanguage::Jsonata, 60);
        assert_eq!((short.invocations, short.delay), (2, 0.0));
        let sdk = costs(Form::Sdk, QueryLanguage::Jsonata, 3_600);
        assert_eq!((sdk.invocations, sdk.requests, sdk.delay), (0, 121, 0.0));
    }
}
