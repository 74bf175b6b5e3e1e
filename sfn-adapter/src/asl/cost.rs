//! [`Cost`]: transitions, requests, delay and dollars of a run of a state machine.
//!
//! The machine itself is walked on a simulated clock. Every statement takes the same time, and no request
//! fails.

use serde::Serialize;
use serde_json::Value;

use super::model::{Choice, Retrier, State, StateMachine, States, Task, Wait};

/// Prices in dollars. <https://aws.amazon.com/step-functions/pricing/>, <https://aws.amazon.com/lambda/pricing/>
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Prices {
    /// Region of the prices.
    pub region: &'static str,
    /// Day on which the prices were looked up.
    pub date: &'static str,
    /// Price of a million state transitions of a Standard workflow.
    pub transitions: f64,
    /// Price of a million invocations of a function.
    pub invocations: f64,
    /// Price of a gigabyte-second of a function on arm64.
    pub gigabyte_second: f64,
}

/// The prices that [`cost`] uses. Free tiers are ignored, and events of AWS's services are free.
pub const PRICES: Prices = Prices {
    region: "us-east-1",
    date: "2026-11-23",
    transitions: 25.0,
    invocations: 0.20,
    gigabyte_second: 0.000_013_333_4,
};

/// Duration of an invocation in milliseconds, measured for the handlers on a warm function.
const INVOCATION_MS: u64 = 30;

/// Memory of a function in gigabytes.
const MEMORY: f64 = 0.125;

/// Memory of the function of a Hudi table in gigabytes.
const HUDI_MEMORY: f64 = 0.5;

/// Maximum duration of an invocation in seconds.
pub(super) const LONGEST_INVOCATION: u64 = 15 * 60;

/// Number of visited states after which a machine is considered endless.
const VISITS: u64 = 1_000_000;

/// Cost of one run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Cost {
    /// Duration of each statement and each Glue job in seconds, and of each write of a Hudi table up to 15
    /// minutes.
    pub duration: u64,
    /// Number of state transitions.
    pub transitions: u64,
    /// Number of invocations of functions.
    pub invocations: u64,
    /// Billed duration of the functions in milliseconds.
    pub lambda_ms: u64,
    /// Number of requests that the state machine itself sends to AWS's services.
    pub requests: u64,
    /// Mean time in seconds between the end of a statement and the poll that notices it.
    pub delay: f64,
    /// Dollars for 1,000 runs.
    pub dollars: f64,
}

/// Returns the cost of one run of a machine whose statements, Glue jobs and Hudi writes take `duration`
/// seconds each. The cost excludes Redshift and Glue.
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
/// Returns a message that names the state whose effect is unknown.
pub fn cost(machine: &StateMachine, duration: u64) -> Result<Cost, String> {
    let mut walk = Walk { duration, cost: Cost::default(), gigabyte_ms: 0.0, delays: Vec::new(), visits: 0 };
    let end = walk.states(&machine.states, &machine.start_at, Thread::default())?;
    let limit = machine.rest.get("TimeoutSeconds").and_then(Value::as_u64);
    if let Some(limit) = limit.filter(|limit| end > *limit) {
        return Err(format!(
            "the run would take {end} seconds, and TimeoutSeconds of the machine ends it after {limit}; raise it"
        ));
    }
    let mut cost = walk.cost;
    cost.duration = duration;
    if !walk.delays.is_empty() {
        cost.delay = walk.delays.iter().sum::<u64>() as f64 / walk.delays.len() as f64;
    }
    let millions = |count: u64| count as f64 / 1e6;
    let run = millions(cost.transitions) * PRICES.transitions
        + millions(cost.invocations) * PRICES.invocations
        + walk.gigabyte_ms / 1e3 * PRICES.gigabyte_second;
    cost.dollars = run * 1e3;
    Ok(cost)
}

/// Progress of one sequence of states.
#[derive(Clone, Copy, Default)]
struct Thread {
    /// Seconds since the start of the execution.
    now: u64,
    /// End of the running statement.
    end: Option<u64>,
    /// `true` if the last poll found that the statement had ended.
    ended: bool,
    /// Pause between polls of a generated machine.
    pause: u64,
}

struct Walk {
    duration: u64,
    cost: Cost,
    /// Duration of the functions in milliseconds, times their memory in gigabytes.
    gigabyte_ms: f64,
    delays: Vec<u64>,
    visits: u64,
}

impl Walk {
    /// Walks the states until the end and returns the time of the end.
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
                        thread.pause += added(&pass.parameters).unwrap_or(thread.pause);
                    }
                    pass.then.next.clone()
                }
                State::Task(task) => {
                    self.poll_by_retries(&name, task, &mut thread)?;
                    Some(self.task(task, &mut thread)).filter(|next| !next.is_empty())
                }
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

    /// Repeats a status request that fails with `Statement.Running` until the statement has ended. Each retry
    /// is also a transition.
    fn poll_by_retries(&mut self, name: &str, task: &Task, thread: &mut Thread) -> Result<(), String> {
        let payload = task.arguments.as_ref().or(task.parameters.as_ref());
        let raises =
            payload.and_then(|payload| payload.pointer("/Payload/raise")) == Some(&Value::Bool(true));
        let (Some(end), true) = (thread.end, raises && kind(task, payload) == Kind::Status) else {
            return Ok(());
        };
        let names = ["Statement.Running", "States.TaskFailed", "States.ALL"];
        let is_for =
            |retrier: &&Retrier| names.iter().any(|name| retrier.error_equals.iter().any(|e| e == name));
        let fails = |reason: &str| Err(format!("the run would fail in the state {name}, because {reason}"));
        let Some(retrier) = task.retry.iter().find(is_for).filter(|_| thread.now < end) else {
            return if thread.now < end { fails("it does not retry Statement.Running") } else { Ok(()) };
        };
        let rate = retrier.backoff_rate.as_ref().and_then(serde_json::Number::as_f64).unwrap_or(2.0);
        let longest = retrier.max_delay_seconds.unwrap_or(u64::MAX) as f64;
        let mut pause = retrier.interval_seconds.unwrap_or(1) as f64;
        let mut left = retrier.max_attempts.unwrap_or(3);
        while thread.now < end {
            left = match left.checked_sub(1) {
                Some(left) => left,
                None => return fails("the statement runs longer than all retries take"),
            };
            // The request that failed. The request of the last retry is counted like a first one.
            self.invoke(INVOCATION_MS, MEMORY);
            self.cost.transitions += 1;
            thread.now = thread.now.saturating_add(pause.min(longest).round() as u64);
            pause *= rate;
        }
        Ok(())
    }

    /// Counts an invocation of a function with the given duration and memory.
    fn invoke(&mut self, milliseconds: u64, gigabytes: f64) {
        self.cost.invocations += 1;
        self.cost.lambda_ms += milliseconds;
        self.gigabyte_ms += milliseconds as f64 * gigabytes;
    }

    /// Sends the request of a task, and returns the next state, or an empty name at the end.
    fn task(&mut self, task: &Task, thread: &mut Thread) -> String {
        let payload = task.arguments.as_ref().or(task.parameters.as_ref());
        let next = task.then.next.clone().unwrap_or_default();
        let kind = kind(task, payload);
        match (task.resource.contains(":lambda:"), kind) {
            (false, _) => self.cost.requests += 1,
            (true, Kind::Upsert) => self.invoke(self.duration.min(LONGEST_INVOCATION) * 1_000, HUDI_MEMORY),
            (true, _) => self.invoke(INVOCATION_MS, MEMORY),
        }
        match (kind, thread.end) {
            (Kind::Other, _) => {}
            (Kind::Job, _) => thread.now += self.duration,
            (Kind::Upsert, _) => thread.now += self.duration.min(LONGEST_INVOCATION),
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
                // The function that completes the task.
                self.invoke(INVOCATION_MS, MEMORY);
            }
            // An equal submit returns the running statement.
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
                if let Some((limit, added)) = grows_below(task)
                    && thread.pause < limit
                {
                    thread.pause += added.unwrap_or(thread.pause);
                }
            }
            (Kind::Status, None) => {}
        }
        next
    }
}

/// Effect of a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Submit,
    Status,
    /// A function whose event does not name its effect. Its first invocation submits, and the others poll.
    Function,
    /// Runs a Glue job until its end.
    Job,
    /// Loads files into a Hudi table.
    Upsert,
    Other,
}

fn kind(task: &Task, payload: Option<&Value>) -> Kind {
    let action = payload.and_then(|payload| payload.pointer("/Payload/action")).and_then(Value::as_str);
    match (action, task.resource.rsplit(':').next().unwrap_or_default()) {
        (Some("submit"), _) | (None, "executeStatement" | "batchExecuteStatement") => Kind::Submit,
        (Some("upsert"), _) => Kind::Upsert,
        (None, "startJobRun.sync") => Kind::Job,
        (Some("status" | "wait"), _) | (None, "describeStatement") => Kind::Status,
        (None, _) if task.resource.contains(":lambda:") => Kind::Function,
        _ => Kind::Other,
    }
}

fn choose(name: &str, choice: &Choice, thread: &Thread) -> Result<String, String> {
    let texts = || choice.choices.iter().map(|rule| (serde_json::to_string(rule).unwrap_or_default(), rule));
    let default = choice.default.clone();
    let problem = || format!("the choice {name} has no rule for this case, and no Default");
    // The choice after the end of a Glue job.
    if let Some((_, succeeded)) = texts().find(|(text, _)| text.contains("SUCCEEDED")) {
        return Ok(succeeded.next.clone());
    }
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

/// Returns the pause that a generated step starts with.
fn first_pause(parameters: &Option<Value>, output: &Option<Value>) -> Option<u64> {
    let json_path =
        parameters.as_ref().and_then(|value| value.pointer("/clock/wait").or(value.get("wait"))?.as_u64());
    json_path.or_else(|| number_after(output.as_ref()?.as_str()?, "'clock': {'wait': "))
}

/// Returns the limit below which a generated poll in JSONata lengthens the pause, and the number of seconds
/// that it adds. Without a number, it doubles the pause.
fn grows_below(task: &Task) -> Option<(u64, Option<u64>)> {
    let output = task.output.as_ref()?.as_str()?;
    let (_, rest) = output.split_once(".wait < ")?;
    Some((number_after(output, ".wait < ")?, number_after(rest, ".wait + ")))
}

/// Returns the number of seconds that a generated state in JSONPath adds to the pause. Without a number, the
/// state doubles the pause.
fn added(parameters: &Option<Value>) -> Option<u64> {
    let wait = parameters.as_ref()?.get("wait.$")?.as_str()?;
    number_after(wait, "States.MathAdd($.run.clock.wait, ")
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
    fn jobs_and_hudi_writes_take_the_given_time() {
        let text = "name = \"p\"\noverlap = \"allow\"\n[[steps]]\nname = \"j\"\nglue = { job = \"clean\" }\n\
                    [[steps]]\nname = \"h\"\nhudi = { table = \"t\", files = [\"s3://raw/x\"] }\nafter = [\"j\"]\n";
        let pipeline = Pipeline::from_toml(text).unwrap();
        for query_language in [QueryLanguage::Jsonata, QueryLanguage::JsonPath] {
            let options = Options { query_language, ..Options::default() };
            let cost = cost(&generate(&pipeline, &options).unwrap().machine, 60).unwrap();
            assert_eq!((cost.requests, cost.invocations, cost.lambda_ms), (1, 1, 60_000));
        }
    }

    #[test]
    fn a_short_statement_ends_with_the_first_long_poll_however_long_the_history_may_get() {
        let step = "[[steps]]\nname = \"NAME\"\nsql = \"SELECT 1\"\nretry = { attempts = 3, on = [\"connection\"], backoff = \"1s\" }\n";
        let steps: String = (0..4).map(|number| step.replace("NAME", &format!("s{number}"))).collect();
        let text = format!("name = \"p\"\noverlap = \"allow\"\n{steps}");
        let pipeline = Pipeline::from_toml(&text).unwrap();
        for query_language in [QueryLanguage::Jsonata, QueryLanguage::JsonPath] {
            let options = Options { form: Form::Sdk, query_language, ..Options::default() };
            let generated = generate(&pipeline, &options).unwrap();
            assert!(generated.notes.iter().any(|note| note.contains("grow by")), "{:?}", generated.notes);
            let delay = |duration| cost(&generated.machine, duration).unwrap().delay;
            assert_eq!((delay(1), delay(30)), (0.0, 0.0));
            // For longer statements the delay is a small part of the statement's own duration.
            for duration in [60, 480, 3_600, 80_000] {
                assert!(delay(duration) <= (duration / 3) as f64, "{duration}: {}", delay(duration));
            }
        }
    }

    #[test]
    fn a_poll_by_retries_costs_a_transition_for_each() {
        let text = r#"{"StartAt": "Submit", "States": {
            "Submit": {"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke",
              "Parameters": {"FunctionName": "f", "Payload": {"version": 1, "action": "submit", "sql": "SELECT 1"}},
              "ResultPath": "$.s", "Next": "Wait"},
            "Wait": {"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke",
              "Parameters": {"FunctionName": "f",
                "Payload": {"version": 1, "action": "status", "raise": true, "id.$": "$.s.Payload.id"}},
              "Retry": [{"ErrorEquals": ["Statement.Running"], "IntervalSeconds": 30, "BackoffRate": 1,
                "MaxAttempts": ATTEMPTS}], "Next": "Ok"},
            "Ok": {"Type": "Succeed"}}}"#;
        let of = |attempts: &str| {
            cost(&StateMachine::from_json(&text.replace("ATTEMPTS", attempts)).unwrap(), 7_200)
        };
        let cost = of("9999").unwrap();
        assert_eq!((cost.transitions, cost.invocations, cost.delay), (243, 242, 0.0));
        assert!(of("10").unwrap_err().contains("state Wait"));
    }

    #[test]
    fn a_run_beyond_the_timeout_of_the_machine_has_no_cost() {
        let text = include_str!("../../tests/lint/machines/reference.json");
        let machine = StateMachine::from_json(text).unwrap();
        assert!(cost(&machine, 1_700).is_ok());
        assert!(cost(&machine, 1_900).unwrap_err().contains("1800"));
        // A statement that ends at once is found by the first poll.
        assert_eq!(cost(&machine, 0).unwrap().delay, 30.0);
    }

    #[test]
    fn an_event_ends_a_short_statement_and_polls_follow_a_lost_one() {
        let short = costs(Form::Callback, QueryLanguage::Jsonata, 60);
        assert_eq!((short.invocations, short.delay), (2, 0.0));
        let sdk = costs(Form::Sdk, QueryLanguage::Jsonata, 3_600);
        assert_eq!((sdk.invocations, sdk.requests, sdk.delay), (0, 121, 0.0));
    }
}
