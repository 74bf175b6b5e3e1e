//! [`Cost`]: transitions, requests, delay and dollars of a run of a state machine.
//!
//! The machine itself is walked on a simulated clock. Every statement takes the same time, and no request
//! fails. An attempt that exceeds its timeout is cancelled as the machine does it.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::{
    condition::{self, Comparison, split},
    form::{Clock, Schedule},
    model::{Choice, Pass, Retrier, Rule, State, StateMachine, States, Task, Wait},
};

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

/// Maximum duration of an execution in seconds.
/// <https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html>
const YEAR: u64 = 365 * 86_400;

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
    /// Number of attempts whose duration exceeds the timeout of their step. The machine ends them, and the
    /// run fails unless the pipeline continues after such a failure.
    pub timed_out: u64,
    /// Mean time in seconds between the end of a statement and the poll that notices it.
    pub delay: f64,
    /// Dollars for 1,000 runs.
    pub dollars: f64,
}

/// Returns the cost of one run of a machine whose statements, Glue jobs and Hudi writes take `duration`
/// seconds each. The cost excludes Redshift and Glue. If the duration exceeds the timeout of a step, it is
/// the cost of a run whose step times out.
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
/// Returns a message that names the state whose effect is unknown, or the limit of the duration.
pub fn cost(machine: &StateMachine, duration: u64) -> Result<Cost, String> {
    if duration > YEAR {
        return Err("an execution of Step Functions takes at most a year; give a shorter duration".to_owned());
    }
    let mut walk = Walk { duration, ..Walk::default() };
    let mut thread = Thread { attempt: 1, job: "SUCCEEDED", ..Thread::default() };
    walk.states(&machine.states, &machine.start_at, &mut thread)?;
    let end = thread.now;
    let limit = machine.rest.get("TimeoutSeconds").and_then(Value::as_u64);
    if let Some(limit) = limit.filter(|limit| end > *limit) {
        return Err(format!(
            "the run would take {end} seconds, and TimeoutSeconds of the machine ends it after {limit}; raise it"
        ));
    }
    if end > YEAR {
        return Err(format!(
            "the run would take {end} seconds, but an execution of Step Functions takes at most a year; give a shorter duration"
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
#[derive(Clone, Debug, Default)]
struct Thread {
    /// Seconds since the start of the execution.
    now: u64,
    /// End of the running statement.
    end: Option<u64>,
    /// Status that the last poll found.
    status: Option<&'static str>,
    /// `true` if the statement was cancelled.
    is_cancelled: bool,
    /// Final state of the last run of a Glue job.
    job: &'static str,
    /// Error that was caught last.
    caught: &'static str,
    /// Number of the attempt in a generated machine.
    attempt: u64,
    /// Pause before the next attempt in a generated machine.
    pause: u64,
    /// The next poll of a generated machine.
    clock: Option<Clock>,
    /// Time between the submit and the end of the last poll in a generated machine.
    waited: u64,
    /// Outcomes of the steps of a generated machine.
    outcomes: BTreeMap<String, String>,
}

#[derive(Default)]
struct Walk {
    duration: u64,
    cost: Cost,
    /// Duration of the functions in milliseconds, times their memory in gigabytes.
    gigabyte_ms: f64,
    delays: Vec<u64>,
    visits: u64,
    /// `true` once the run has failed.
    has_failed: bool,
}

impl Walk {
    /// Walks the states until the end.
    fn states(&mut self, states: &States, start: &str, thread: &mut Thread) -> Result<(), String> {
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
                State::Fail(_) if self.cost.timed_out > 0 => {
                    self.has_failed = true;
                    None
                }
                State::Fail(_) => return Err(format!("the run would fail in the state {name}")),
                State::Wait(wait) => {
                    thread.now = thread.now.saturating_add(pause(&name, wait, thread)?);
                    wait.then.next.clone()
                }
                State::Pass(pass) => {
                    thread.read(pass);
                    pass.then.next.clone()
                }
                State::Task(task) => {
                    self.poll_by_retries(&name, task, thread)?;
                    self.task(task, thread)
                }
                State::Choice(choice) => Some(choose(&name, choice, thread)?),
                State::Parallel(parallel) => {
                    let mut joined = thread.clone();
                    for branch in &parallel.branches {
                        let mut inner = thread.clone();
                        self.states(&branch.states, &branch.start_at, &mut inner)?;
                        joined.now = joined.now.max(inner.now);
                        joined.outcomes.append(&mut inner.outcomes);
                    }
                    *thread = joined;
                    parallel.then.next.clone()
                }
                State::Map(map) => {
                    let inner = &map.item_processor;
                    self.states(&inner.states, &inner.start_at, thread)?;
                    map.then.next.clone()
                }
            };
            match next {
                Some(next) if !self.has_failed => name = next,
                _ => return Ok(()),
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

    /// Sends the request of a task, and returns the next state.
    fn task(&mut self, task: &Task, thread: &mut Thread) -> Option<String> {
        let payload = task.arguments.as_ref().or(task.parameters.as_ref());
        let kind = kind(task, payload);
        let longest = self.duration.min(LONGEST_INVOCATION);
        match (task.resource.contains(":lambda:"), kind) {
            (false, _) => self.cost.requests += 1,
            (true, Kind::Upsert) => self.invoke(longest * 1_000, HUDI_MEMORY),
            (true, _) => self.invoke(INVOCATION_MS, MEMORY),
        }
        let timeout = task.timeout_seconds.as_ref().and_then(Value::as_u64).unwrap_or(u64::MAX);
        match (kind, thread.end) {
            (Kind::Other, _) => {}
            (Kind::Failure, _) => self.has_failed = true,
            (Kind::Job, _) => {
                let minutes = payload.and_then(|payload| payload.get("Timeout")).and_then(Value::as_u64);
                let limit = minutes.map_or(u64::MAX, |minutes| minutes.saturating_mul(60));
                let lasts = self.duration.min(limit).min(timeout);
                thread.now += lasts;
                thread.job = if limit == lasts && limit < self.duration { "TIMEOUT" } else { "SUCCEEDED" };
                if lasts < self.duration {
                    self.cost.timed_out += 1;
                    // The integration reports a run that did not succeed as an error.
                    let error = if thread.job == "TIMEOUT" { "States.TaskFailed" } else { TIMEOUT };
                    return self.fails(task, error, thread);
                }
            }
            (Kind::Upsert, _) => {
                thread.now += longest.min(timeout);
                if longest > timeout {
                    self.cost.timed_out += 1;
                    return self.fails(task, TIMEOUT, thread);
                }
            }
            (Kind::Submit, _) if task.resource.ends_with(".waitForTaskToken") => {
                thread.end = Some(thread.now + self.duration);
                if self.duration > timeout {
                    thread.now += timeout;
                    return self.fails(task, TIMEOUT, thread);
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
                thread.status = None;
            }
            (Kind::Status | Kind::Function, Some(end)) => {
                let held = payload.and_then(|payload| payload.get("WaitTimeSeconds")).and_then(Value::as_u64);
                let of_clock = thread.clock.map_or(0, |clock| clock.held);
                thread.now = (thread.now + held.unwrap_or(of_clock)).min(end.max(thread.now));
                thread.status = Some("STARTED");
                if end <= thread.now {
                    self.delays.push(thread.now - end);
                    thread.end = None;
                    thread.status = Some(if thread.is_cancelled { "ABORTED" } else { "FINISHED" });
                }
                thread.count(task);
            }
            (Kind::Cancel, Some(_)) => {
                self.cost.timed_out += 1;
                (thread.end, thread.is_cancelled) = (Some(thread.now), true);
            }
            (Kind::Status | Kind::Cancel, None) => {}
        }
        task.then.next.clone()
    }

    /// Returns the state that follows an error of a task. The run fails if no state does.
    fn fails(&mut self, task: &Task, error: &'static str, thread: &mut Thread) -> Option<String> {
        thread.caught = error;
        let catches = |name: &String| {
            name == error || name == "States.ALL" || (name == "States.TaskFailed" && error != TIMEOUT)
        };
        let caught = task.catch.iter().find(|catcher| catcher.error_equals.iter().any(catches));
        self.has_failed |= caught.is_none();
        caught.map(|catcher| catcher.next.clone())
    }
}

/// The error of a task that exceeds its timeout.
const TIMEOUT: &str = "States.Timeout";

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
    Cancel,
    /// Fails the task itself, as the last state of a generated machine does.
    Failure,
    Other,
}

fn kind(task: &Task, payload: Option<&Value>) -> Kind {
    let action = payload.and_then(|payload| payload.pointer("/Payload/action")).and_then(Value::as_str);
    match (action, task.resource.rsplit(':').next().unwrap_or_default()) {
        (Some("submit"), _) | (None, "executeStatement" | "batchExecuteStatement") => Kind::Submit,
        (Some("upsert"), _) => Kind::Upsert,
        (Some("cancel"), _) | (None, "cancelStatement") => Kind::Cancel,
        (None, "sendTaskFailure.waitForTaskToken") => Kind::Failure,
        (None, "startJobRun.sync") => Kind::Job,
        (Some("status" | "wait"), _) | (None, "describeStatement") => Kind::Status,
        (None, _) if task.resource.contains(":lambda:") => Kind::Function,
        _ => Kind::Other,
    }
}

/// Statuses of a statement, and final states of a Glue job that are not also statuses.
const STATUSES: [&str; 6] = ["ABORTED", "FAILED", "FINISHED", "PICKED", "STARTED", "SUBMITTED"];
const JOB_STATES: [&str; 5] = ["ERROR", "EXPIRED", "STOPPED", "SUCCEEDED", "TIMEOUT"];

/// Returns the next state. A rule about data that is not simulated, such as input, failures and other
/// executions, does not apply.
fn choose(name: &str, choice: &Choice, thread: &Thread) -> Result<String, String> {
    let decided: Vec<_> = choice.choices.iter().map(|rule| (rule, thread.decides(rule))).collect();
    let applies = decided.iter().find(|(_, decided)| *decided == Some(true));
    // A condition that this module cannot read, on the status.
    let names_status = || {
        let status = thread.status?;
        let names = |rule| serde_json::to_string(rule).is_ok_and(|text| text.contains(status));
        decided.iter().find(|(rule, decided)| decided.is_none() && names(*rule))
    };
    let next = applies.or_else(names_status).map(|(rule, _)| rule.next.clone());
    next.or_else(|| choice.default.clone())
        .ok_or_else(|| format!("the choice {name} has no rule for this case, and no Default"))
}

/// A value of the data.
enum Fact<'a> {
    Absent,
    Text(&'a str),
    Number(u64),
}

impl Thread {
    /// Evaluates a rule. Returns `None` if it depends on data that is not simulated.
    fn decides(&self, rule: &Rule) -> Option<bool> {
        match &rule.condition {
            Some(condition) => condition::jsonata(condition.as_str()?, &|part| self.jsonata(part)),
            None => {
                condition::json_path(&serde_json::to_value(&rule.test).ok()?, &|part| self.json_path(part))
            }
        }
    }

    fn json_path(&self, comparison: &Value) -> Option<bool> {
        let variable = comparison.get("Variable")?.as_str()?;
        let (operator, operand) = condition::operator(comparison)?;
        let text = operand.as_str().unwrap_or_default();
        match (self.fact(variable, &[text])?, operator) {
            (Fact::Absent, "IsPresent") => operand.as_bool().map(|expected| !expected),
            (Fact::Number(_), "IsPresent") => operand.as_bool(),
            (Fact::Absent, _) => Some(false),
            (Fact::Text(value), _) => condition::compared(comparison, value),
            (Fact::Number(number), operator) => {
                let limit = operand.as_u64()?;
                match operator {
                    "NumericLessThan" => Some(number < limit),
                    "NumericGreaterThanEquals" => Some(number >= limit),
                    _ => None,
                }
            }
        }
    }

    fn jsonata(&self, part: &str) -> Option<bool> {
        if let Some(variable) = part.strip_prefix("$exists(").and_then(|rest| rest.strip_suffix(')')) {
            return Some(!matches!(self.fact(variable, &[])?, Fact::Absent));
        }
        // Only a job run that did not succeed raises this error here, and its cause is the run's description.
        if part.starts_with("$contains('' & $states.input.run.caught.Cause, ") {
            return Some(self.caught == "States.TaskFailed");
        }
        for (operator, is_below) in [(" >= ", false), (" < ", true)] {
            if let Some((variable, limit)) = part.split_once(operator)
                && let (Some(Fact::Number(number)), Ok(limit)) =
                    (self.fact(variable, &[]), limit.parse::<u64>())
            {
                return Some((number < limit) == is_below);
            }
        }
        let Comparison { variable, is_equal, texts } = Comparison::read(part)?;
        match self.fact(variable, &texts)? {
            Fact::Text(value) => Some(texts.contains(&value) == is_equal),
            Fact::Absent => Some(!is_equal),
            Fact::Number(_) => None,
        }
    }

    /// Returns a value of the data. Other machines than generated ones may have a status under any name,
    /// which is found by the texts that it is compared with.
    fn fact(&self, variable: &str, compared: &[&str]) -> Option<Fact<'_>> {
        let path = variable.trim_start_matches("$states.input.").trim_start_matches("$.").replace('`', "");
        let present = |is_present| if is_present { Fact::Text("") } else { Fact::Absent };
        let status = || self.status.map(Fact::Text);
        if let Some(step) = path.strip_prefix("steps.").and_then(|path| path.strip_suffix(".outcome")) {
            return Some(self.outcomes.get(step).map_or(Fact::Absent, |outcome| Fact::Text(outcome)));
        }
        match path.as_str() {
            "run.clock.waited" => return Some(Fact::Number(self.waited)),
            "run.clock.wait" => return self.clock.map(|clock| Fact::Number(clock.wait)),
            "run.attempt" => return Some(Fact::Number(self.attempt)),
            "run.cancel" => return Some(present(self.is_cancelled)),
            "run.cancel_failed" => return Some(Fact::Absent),
            "run.caught.Error" => return Some(Fact::Text(self.caught)),
            "run.caught.Cause" if self.caught == "States.TaskFailed" => {
                return Some(Fact::Text("{\"JobRunState\":\"TIMEOUT\"}"));
            }
            _ => {}
        }
        let of = |known: &[&str]| compared.iter().any(|text| known.contains(text));
        if path.ends_with("JobRunState") || of(&JOB_STATES) {
            return Some(Fact::Text(self.job));
        }
        let is_status = path.to_ascii_lowercase().ends_with("status") || of(&STATUSES);
        if is_status { status() } else { None }
    }

    /// Reads what a state of a generated machine writes into the data.
    fn read(&mut self, pass: &Pass) {
        let Some((path, written)) = written(pass) else { return };
        if let Some(step) = path.strip_prefix("steps.") {
            if let Some(outcome) = written.text("outcome") {
                self.outcomes.insert(step.to_owned(), outcome);
            }
            return;
        }
        let number = |thread: &Self, name: &str| thread.number(&written.text(name)?);
        if path == "run" {
            let (attempt, pause) = (number(self, "attempt"), number(self, "pause"));
            self.attempt = attempt.unwrap_or(1);
            self.pause = pause.unwrap_or(0);
            (self.end, self.status, self.is_cancelled, self.clock) = (None, None, false, None);
        }
        if !["run", "run.clock"].contains(&path.as_str()) {
            return;
        }
        let clock = ["wait", "waited", "held"].map(|name| number(self, name));
        if let [Some(wait), Some(waited), held] = clock {
            let held = held.unwrap_or(0);
            // In JSONata, the poll itself counts the pause before it.
            let more = if matches!(written, Written::Jsonata(_)) { wait + held } else { 0 };
            self.waited = waited;
            self.clock = Some(Clock { wait, held, waited: waited + more });
        }
    }

    /// Counts a poll of a generated machine in JSONata.
    fn count(&mut self, task: &Task) {
        let counted = task.output.as_ref().and_then(Value::as_str).and_then(Schedule::read);
        if let (Some((schedule, timeout)), Some(clock)) = (counted, self.clock) {
            self.waited = clock.waited;
            self.clock = Some(schedule.next(clock, timeout));
        }
    }

    /// Computes a number as a generated machine does, in either language.
    fn number(&self, text: &str) -> Option<u64> {
        let sum = |parts: Vec<&str>| parts.into_iter().map(|part| self.number(part)).sum::<Option<u64>>();
        let element = |list: &str, index: &str| {
            let index = usize::try_from(self.number(index)?).ok()?;
            list.split(',').nth(index)?.trim().parse().ok()
        };
        let text = text.trim();
        if let Ok(number) = text.parse() {
            return Some(number);
        }
        if let Some(inner) = text.strip_prefix("States.MathAdd(").and_then(|rest| rest.strip_suffix(')')) {
            return sum(split(inner, ", ")?);
        }
        if let Some(inner) = text.strip_prefix("States.ArrayGetItem(States.Array(") {
            let (list, index) = inner.strip_suffix(')')?.split_once("), ")?;
            return element(list, index);
        }
        if let Some(inner) = text.strip_prefix('[') {
            let (list, index) = inner.strip_suffix(']')?.split_once("][")?;
            return element(list, index);
        }
        if let Some(parts) = split(text, " + ") {
            return sum(parts);
        }
        match self.fact(text, &[])? {
            Fact::Number(number) => Some(number),
            Fact::Absent | Fact::Text(_) => None,
        }
    }
}

/// The object that a state of a generated machine writes.
enum Written<'a> {
    JsonPath(&'a Value),
    Jsonata(&'a str),
}

impl Written<'_> {
    /// Returns a member, or a member of `clock`, as a literal or an expression.
    fn text(&self, name: &str) -> Option<String> {
        match self {
            Self::JsonPath(object) => {
                let computed = format!("{name}.$");
                let member = |object: &Value| object.get(name).or_else(|| object.get(&computed)).cloned();
                match member(object).or_else(|| member(object.get("clock")?))? {
                    Value::String(text) => Some(text),
                    other => Some(other.to_string()),
                }
            }
            Self::Jsonata(object) => {
                let (_, rest) = object.split_once(&format!("'{name}': "))?;
                let end = [", '", "}"].iter().filter_map(|mark| rest.find(mark)).min()?;
                Some(rest[..end].trim_matches('\'').to_owned())
            }
        }
    }
}

/// Returns the place in the data and the object that a state of a generated machine writes.
fn written(pass: &Pass) -> Option<(String, Written<'_>)> {
    if let (Some(path), Some(parameters)) = (&pass.result_path, &pass.parameters) {
        return Some((path.as_str()?.trim_start_matches("$.").to_owned(), Written::JsonPath(parameters)));
    }
    // `$merge([$states.input, {'run': $merge([$states.input.run, {'clock': {…}}])}])`
    let mut rest = pass.output.as_ref()?.as_str()?.trim_start_matches("{%").trim_start();
    let mut path = Vec::new();
    while let Some(inner) = rest.strip_prefix("$merge([$states.input") {
        let (_, member) = inner.split_once(", {'")?;
        let (name, value) = member.split_once("': ")?;
        path.push(name);
        rest = value;
    }
    Some((path.join("."), Written::Jsonata(rest)))
}

fn pause(name: &str, wait: &Wait, thread: &Thread) -> Result<u64, String> {
    let computed = || {
        let text = wait.seconds.as_ref().and_then(Value::as_str).or(wait.seconds_path.as_deref())?;
        match text {
            text if text.contains("run.clock.wait") => thread.clock.map(|clock| clock.wait),
            text if text.contains("run.pause") => Some(thread.pause),
            _ => None,
        }
    };
    wait.seconds.as_ref().and_then(Value::as_u64).or_else(computed).ok_or_else(|| {
        format!("the pause of the state {name} is computed by the machine; only constant pauses and those of generated machines are known")
    })
}

/// Returns the number that follows a mark in a text.
pub(super) fn number_after(text: &str, mark: &str) -> Option<u64> {
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

    /// Regression: a statement that exceeds its timeout was priced as if there were none.
    #[test]
    fn a_duration_beyond_the_timeout_is_that_of_a_run_that_cancels() {
        for form in [Form::Lambda, Form::Sdk, Form::Callback] {
            for query_language in [QueryLanguage::Jsonata, QueryLanguage::JsonPath] {
                let within = costs(form, query_language, 3 * 3_600);
                let [beyond, far_beyond] =
                    [10_801, 3_600_000].map(|duration| costs(form, query_language, duration));
                assert_eq!((within.timed_out, beyond.timed_out), (0, 1), "{form:?}");
                // The cancel, the poll after it, and the states that report the timeout.
                let more = beyond.transitions - within.transitions;
                assert!((3..=12).contains(&more), "{form:?} {query_language:?}: {more}");
                let requests = |cost: Cost| cost.invocations + cost.requests;
                assert_eq!(requests(beyond) - requests(within), 2);
                assert_eq!(far_beyond, Cost { duration: 3_600_000, ..beyond });
            }
        }
    }

    #[test]
    fn each_attempt_and_each_kind_of_step_has_its_timeout() {
        let head = "name = \"p\"\n[[steps]]\nname = \"a\"\ntimeout = \"10m\"\non_failure = \"continue\"\n";
        let retry = "retry = { attempts = 3, on = [\"timed-out\"], backoff = \"7s\" }\n";
        let next = "[[steps]]\nname = \"b\"\nsql = \"SELECT 1\"\nafter = [\"a\"]\ntimeout = \"20m\"\n";
        for work in [
            "sql = \"SELECT 1\"",
            "glue = { job = \"j\" }",
            "hudi = { table = \"t\", files = [\"s3://r/x\"] }",
        ] {
            for query_language in [QueryLanguage::Jsonata, QueryLanguage::JsonPath] {
                let of = |more: &str, duration| {
                    let text = format!("{head}{retry}{work}\n{more}");
                    let options = Options { query_language, ..Options::default() };
                    let machine = generate(&Pipeline::from_toml(&text).unwrap(), &options).unwrap().machine;
                    cost(&machine, duration).unwrap()
                };
                assert_eq!(of("", 600).timed_out, 0, "{work}");
                assert_eq!(of("", 660).timed_out, 3, "{work}");
                // A failure does not skip the next step, whose own timeout is not exceeded.
                assert_eq!(of(next, 660).timed_out, 3, "{work}");
                let more = of(next, 660).transitions - of("", 660).transitions;
                assert!(more > 10, "{work} {query_language:?}: {more}");
            }
        }
    }

    #[test]
    fn a_step_after_a_timeout_is_skipped() {
        let text = "name = \"p\"\n[[steps]]\nname = \"a\"\nsql = \"SELECT 1\"\ntimeout = \"1m\"\n\
                    [[steps]]\nname = \"and\"\nsql = \"SELECT 1\"\nafter = [\"a\"]\n";
        for query_language in [QueryLanguage::Jsonata, QueryLanguage::JsonPath] {
            let options = Options { query_language, ..Options::default() };
            let machine = generate(&Pipeline::from_toml(text).unwrap(), &options).unwrap().machine;
            let cost = cost(&machine, 61).unwrap();
            // Submits and cancels once, and polls after 5, 15, 35 and 60 seconds and after the cancellation.
            assert_eq!((cost.timed_out, cost.invocations), (1, 7), "{query_language:?}");
        }
    }

    #[test]
    fn a_duration_of_more_than_a_year_is_refused() {
        let machine =
            StateMachine::from_json(include_str!("../../tests/lint/machines/reference.json")).unwrap();
        assert!(cost(&machine, YEAR + 1).unwrap_err().contains("at most a year"));
    }

    #[test]
    fn numbers_are_computed_as_in_a_machine() {
        let clock = Some(Clock { wait: 5, held: 30, waited: 35 });
        let thread = Thread { attempt: 2, waited: 35, clock, ..Thread::default() };
        for (text, expected) in [
            ("7", Some(7)),
            ("$states.input.run.attempt + 1", Some(3)),
            ("[10, 20, 30][$states.input.run.attempt]", Some(30)),
            ("[10][$states.input.run.attempt]", None),
            ("States.MathAdd(States.MathAdd($.run.clock.waited, $.run.clock.wait), 30)", Some(70)),
            ("States.ArrayGetItem(States.Array(10, 20, 30), $.run.attempt)", Some(30)),
            ("$.run.other", None),
            ("States.MathAdd(", None),
            ("", None),
        ] {
            assert_eq!(thread.number(text), expected, "{text}");
        }
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
