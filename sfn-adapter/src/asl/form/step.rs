//! The states of one step: submit, wait, status, and an end for each outcome of a statement. The module
//! `task` contains the states of a task.
//!
//! No state of a step fails. A branch that failed would stop its siblings while their statements run, so each
//! outcome is recorded in the data as `steps.<step>`.

use redshift_orchestrator::FailureKind;
use serde_json::json;

use super::{
    builder::{Builder, Call},
    calls::{Calls, Schedule},
    task::TaskPlan,
};
use crate::asl::{
    RUNNING,
    expr::{Condition, Expr, QueryLanguage, Shape},
    model::{State, States},
};

/// Time in which a cancelled statement rolls back and ends, in seconds.
pub(super) const GRACE: u64 = 15 * 60;

/// Number of retries of a cancel request. If all fail, the request is repeated after the next poll.
const CANCEL_RETRIES: u64 = 3;

/// Path of a cancellation's error in the data.
const CANCEL_FAILED: &str = "run.cancel_failed";

/// A step in the form that the generator needs.
#[derive(Clone, Debug)]
pub(super) struct StepPlan {
    /// Name in the pipeline.
    pub(super) name: String,
    /// Name in the data, made of letters, digits and `_`.
    pub(super) key: String,
    /// Beginning of the names of its states.
    pub(super) label: String,
    pub(super) sqls: Vec<Expr>,
    /// Parts of the SQL that are kept in the data, as `run.texts.t0` and so on.
    pub(super) texts: Vec<String>,
    /// Commit mode of a batch.
    pub(super) execution_mode: Option<redshift_orchestrator::ExecutionMode>,
    pub(super) parameters: Vec<(String, Expr)>,
    /// Digest of the SQL and the names of the parameters, or of the task.
    pub(super) digest: String,
    /// The Glue job or the Hudi table; `None` for a statement.
    pub(super) task: Option<TaskPlan>,
    /// Timeout in seconds.
    pub(super) timeout: u64,
    pub(super) attempts: u64,
    pub(super) retried: Vec<FailureKind>,
    /// Pause before each further attempt, in seconds.
    pub(super) pauses: Vec<u64>,
    /// Conditions under which the step is skipped.
    pub(super) blocked_by: Vec<Condition>,
}

impl StepPlan {
    /// Returns the full name of one of the step's states.
    pub(super) fn state(&self, name: &str) -> String {
        format!("{}: {name}", self.label)
    }

    /// Returns the step's name for use in a computed string. Not every interpreter accepts a backslash in an
    /// intrinsic function of JSONPath, so backslashes are replaced, and the step's key in the data keeps the
    /// name unique.
    pub(super) fn name_in_text(&self) -> String {
        match self.name.contains('\\') {
            true => format!("{} ({})", self.name.replace('\\', "/"), self.key),
            false => self.name.clone(),
        }
    }

    /// Returns the path of the step in the data.
    pub(super) fn path(&self) -> String {
        format!("steps.{}", self.key)
    }

    /// Returns the name of the step's first state.
    pub(super) fn entry(&self, is_redrivable: bool) -> String {
        self.state(if self.has_ready(is_redrivable) { "ready" } else { "begin" })
    }

    fn has_ready(&self, is_redrivable: bool) -> bool {
        is_redrivable || !self.blocked_by.is_empty()
    }

    /// Returns `true` if the step runs several statements.
    pub(super) fn is_batch(&self) -> bool {
        self.execution_mode.is_some()
    }

    pub(super) fn retries(&self, kind: FailureKind) -> bool {
        self.attempts > 1 && self.retried.contains(&kind)
    }

    /// Returns the kinds of failure that the database reports and the step retries. `None` if there are none.
    fn retried_ends(&self) -> Option<Vec<FailureKind>> {
        let others = [FailureKind::NotSubmitted, FailureKind::TimedOut];
        let kinds: Vec<_> = self.retried.iter().copied().filter(|kind| !others.contains(kind)).collect();
        (self.attempts > 1 && !kinds.is_empty()).then_some(kinds)
    }
}

/// A cause of a caught error that is not a sentence.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cause {
    /// The reply of a function that failed.
    Reply,
    /// None, or an empty string, as after a timeout.
    Absent,
}

/// Returns the name of the state that reads the cause of a caught error before this end.
pub(super) fn why(end: &str) -> String {
    format!("why {end}")
}

/// Writes the states of a step.
pub(super) struct StepWriter<'a> {
    pub(super) builder: Builder,
    pub(super) calls: &'a dyn Calls,
    pub(super) schedule: Schedule,
    pub(super) is_redrivable: bool,
}

impl StepWriter<'_> {
    /// Adds the outcome of an attempt that did not run.
    pub(super) fn refused(&self, step: &StepPlan, exit: &str, states: &mut States) {
        let caught = |member: &str| Shape::Expr(Expr::data(format!("run.caught.{member}")));
        let failed =
            [("outcome", Shape::text("failed")), ("error", caught("Error")), ("cause", caught("Cause"))];
        let name = if step.retries(FailureKind::NotSubmitted) { "not submitted" } else { "refused" };
        self.put(step, states, name, &step.path(), &Shape::object(failed), exit);
    }

    /// Adds the states that make a sentence of the cause of a caught error. `end` follows them. `rules` come
    /// first.
    pub(super) fn explain(
        &self,
        step: &StepPlan,
        states: &mut States,
        end: &str,
        causes: &[Cause],
        mut rules: Vec<(Condition, String)>,
    ) {
        let path = || "run.caught.Cause".to_owned();
        let caught = |cause: Expr| {
            Shape::object([("Error", Expr::data("run.caught.Error").into()), ("Cause", cause.into())])
        };
        for cause in causes {
            let (condition, state) = match cause {
                Cause::Reply => {
                    let (read, message) = (format!("read {end}"), format!("message of {end}"));
                    let reply = Expr::Raw {
                        jsonata: "$parse($states.input.run.caught.Cause)".to_owned(),
                        json_path: "States.StringToJson($.run.caught.Cause)".to_owned(),
                    };
                    let body = Shape::object([("reply", reply.into())]);
                    self.put(step, states, &read, "run.body", &body, &step.state(&message));
                    let text = caught(Expr::data("run.body.reply.errorMessage"));
                    self.put(step, states, &message, "run.caught", &text, &step.state(end));
                    (Condition::Matches(path(), vec!["{*\"errorMessage\":*}".to_owned()]), read)
                }
                Cause::Absent => {
                    let none = format!("no cause of {end}");
                    let no_reason = caught(Expr::text("the service gives no reason"));
                    self.put(step, states, &none, "run.caught", &no_reason, &step.state(end));
                    let is_absent = Condition::IsPresent(path()).negated();
                    (Condition::Any(vec![is_absent, Condition::is(path(), "")]), none)
                }
            };
            rules.push((condition, step.state(&state)));
        }
        let choice = self.builder.choice(rules, &step.state(end));
        states.insert(step.state(&why(end)), State::Choice(choice));
    }

    /// Adds the states of a step. `exit` follows them.
    pub(super) fn write(&self, step: &StepPlan, exit: &str, states: &mut States) {
        if let Some(task) = &step.task {
            return self.write_task(step, task, exit, states);
        }
        self.begin(step, exit, states);
        self.submit(step, states);
        self.poll(step, states);
        self.cancel(step, states);
        self.again(step, states);
        self.ends(step, exit, states);
    }

    pub(super) fn begin(&self, step: &StepPlan, exit: &str, states: &mut States) {
        if step.has_ready(self.is_redrivable) {
            let mut rules = Vec::new();
            if self.is_redrivable {
                // Applies after a redrive. This rule comes first, because a finished step never runs twice.
                rules.push((Condition::is(format!("{}.outcome", step.path()), "finished"), exit.to_owned()));
            }
            if !step.blocked_by.is_empty() {
                rules.push((Condition::Any(step.blocked_by.clone()), step.state("skipped")));
            }
            let choice = self.builder.choice(rules, &step.state("begin"));
            states.insert(step.state("ready"), State::Choice(choice));
        }
        if !step.blocked_by.is_empty() {
            let skipped = Shape::object([("outcome", Shape::text("skipped"))]);
            self.put(step, states, "skipped", &step.path(), &skipped, exit);
        }
        let run = self.run(step, Expr::Number(1), Expr::Number(step.pauses.first().copied().unwrap_or(0)));
        self.put(step, states, "begin", "run", &run, &step.state(self.first(step)));
    }

    /// Returns the name of the state that starts an attempt.
    fn first(&self, step: &StepPlan) -> &'static str {
        match &step.task {
            Some(task) => task.first(),
            None if self.calls.callback(step).is_some() => "run",
            None => "submit",
        }
    }

    /// Returns the data of an attempt before its first request.
    fn run(&self, step: &StepPlan, attempt: Expr, pause: Expr) -> Shape {
        let mut run = vec![("attempt".to_owned(), attempt.into())];
        if step.attempts > 1 {
            run.push(("pause".to_owned(), pause.into()));
        }
        if !step.texts.is_empty() {
            let texts = step.texts.iter().enumerate();
            let texts = texts.map(|(number, text)| (format!("t{number}"), Shape::Value(json!(text))));
            run.push(("texts".to_owned(), Shape::object(texts)));
        }
        match &step.task {
            None => {
                let clock = self.schedule.start(self.builder.language, step.timeout, 0);
                run.push(("clock".to_owned(), clock));
            }
            Some(TaskPlan::Glue { .. }) => {
                let reason = json!({"ErrorMessage": "the service gives no reason"});
                run.push(("defaults".to_owned(), Shape::Value(reason)));
            }
            Some(TaskPlan::Hudi { .. }) => {}
        }
        Shape::Object(run)
    }

    fn submit(&self, step: &StepPlan, states: &mut States) {
        let invokes = self.calls.invokes_function();
        let refused = if invokes { why("refused") } else { "refused".to_owned() };
        let refused = self.builder.catch(self.calls.not_submitted(), &step.state(&refused));
        let lost = self.builder.catch(&["States.ALL"], &step.state(&why("submit lost")));
        if invokes {
            self.explain(step, states, "refused", &[Cause::Reply], Vec::new());
        }
        let denied = self.calls.refused().map(|condition| (condition, step.state("refused")));
        self.explain(step, states, "submit lost", self.causes(), denied.into_iter().collect());
        if let Some(callback) = self.calls.callback(step) {
            let mut task = self.builder.task(&callback.call, "run", &step.state("finished"));
            // The event may never arrive. The same submit then returns the statement that is already running.
            let timeout = self.builder.catch(&["States.Timeout"], &step.state("no event"));
            let ended = self.builder.catch(&callback.ended, &step.state("ended by event"));
            task.catch = vec![timeout, ended, refused.clone(), lost.clone()];
            task.comment = Some(format!(
                "Ends with the event of the statement's end, or after {}.",
                seconds(callback.call.timeout)
            ));
            states.insert(step.state("run"), State::Task(Box::new(task)));
            let clock = self.schedule.start(self.builder.language, step.timeout, callback.call.timeout);
            self.put(step, states, "no event", "run.clock", &clock, &step.state("submit"));
        }
        let next = step.state(self.first_poll());
        let mut call = self.calls.submit(step);
        call.keep = self.schedule.submitted(self.builder.language, call.keep);
        let mut task = self.builder.task(&call, "run.statement", &next);
        task.catch = vec![refused, lost];
        states.insert(step.state("submit"), State::Task(Box::new(task)));
    }

    /// Returns the causes of a request without a known result that are not sentences.
    fn causes(&self) -> &'static [Cause] {
        if self.calls.invokes_function() { &[Cause::Absent, Cause::Reply] } else { &[Cause::Absent] }
    }

    fn poll(&self, step: &StepPlan, states: &mut States) {
        if self.schedule.has_pauses() {
            let wait = self.builder.wait("run.clock.wait", &step.state("status"));
            states.insert(step.state("wait"), State::Wait(wait));
        }
        let call = self.calls.status(step);
        let is_jsonata = self.builder.language == QueryLanguage::Jsonata;
        let mut task = match is_jsonata {
            true => {
                let run = self.schedule.counted(&call.keep.jsonata(), step.timeout);
                let call = Call { keep: Shape::Expr(raw(run)), ..call };
                self.builder.task(&call, "run", &step.state("ended"))
            }
            false => self.builder.task(&call, "run.reply", &step.state("ended")),
        };
        task.catch = vec![self.builder.catch(&["States.ALL"], &step.state(&why("status lost")))];
        self.explain(step, states, "status lost", self.causes(), Vec::new());
        states.insert(step.state("status"), State::Task(Box::new(task)));
        states.insert(step.state("ended"), State::Choice(self.ended(step)));
        if !is_jsonata {
            for (name, clock) in self.schedule.counts(step.timeout, self.unpolled(step)) {
                let next = if name == "cancelled" { self.first_poll() } else { self.next_poll() };
                self.put(step, states, name, "run.clock", &clock, &step.state(next));
            }
        }
    }

    /// Returns the time between the submit and the first pause, in which the machine waits for an event.
    fn unpolled(&self, step: &StepPlan) -> u64 {
        self.calls.callback(step).map_or(0, |callback| callback.call.timeout)
    }

    /// Returns the state before the first poll, and before the first poll after a cancellation in JSONata.
    fn first_poll(&self) -> &'static str {
        if self.schedule.polls_first() { "status" } else { "wait" }
    }

    fn next_poll(&self) -> &'static str {
        if self.schedule.has_pauses() { "wait" } else { "status" }
    }

    /// Branches on the status of the statement.
    fn ended(&self, step: &StepPlan) -> crate::asl::model::Choice {
        let status = |statuses: &[&str]| Condition::is_one_of("run.reply.status", statuses.iter().copied());
        let is_cancelled = || Condition::IsPresent("run.cancel".to_owned());
        let has_failed = || Condition::IsPresent(CANCEL_FAILED.to_owned());
        let waited = |limit| Condition::AtLeast("run.clock.waited".to_owned(), limit);
        let may_retry = || Condition::Below("run.attempt".to_owned(), step.attempts);
        let all = |conditions: Vec<Condition>| Condition::All(conditions);
        let running = || status(&RUNNING);
        let mut rules = vec![
            (status(&["FINISHED"]), "finished"),
            // A failed cancel request is repeated for as long as the machine would wait after a successful
            // one.
            (all(vec![running(), has_failed(), waited(step.timeout + GRACE)]), "not cancelled"),
            (all(vec![running(), is_cancelled().negated(), waited(step.timeout)]), "cancel"),
            (all(vec![running(), waited(step.timeout + GRACE)]), "not cancelled"),
        ];
        match self.builder.language {
            QueryLanguage::Jsonata => rules.push((running(), self.next_poll())),
            QueryLanguage::JsonPath => {
                rules.push((all(vec![running(), waited(step.timeout)]), "wait late"));
                if let Some((last, _)) = self.schedule.shortened(step.timeout, self.unpolled(step)) {
                    rules.push((all(vec![running(), waited(last)]), "wait rest"));
                }
                if self.schedule.grows() {
                    let below = Condition::Below("run.clock.wait".to_owned(), self.schedule.last);
                    rules.push((all(vec![running(), below]), "wait longer"));
                }
                rules.push((running(), "wait on"));
            }
        }
        // A cancel without a known result may have taken effect.
        let stopped = || {
            Condition::Any(vec![
                all(vec![status(&["FAILED", "ABORTED"]), is_cancelled()]),
                all(vec![status(&["ABORTED"]), has_failed()]),
            ])
        };
        if step.retries(FailureKind::TimedOut) {
            rules.push((all(vec![stopped(), may_retry()]), "pause"));
        }
        rules.push((stopped(), "timed out"));
        if step.retries(FailureKind::Aborted) {
            rules.push((all(vec![status(&["ABORTED"]), may_retry()]), "pause"));
        }
        rules.push((status(&["ABORTED"]), "aborted"));
        if self.calls.error().is_some() {
            rules.push((status(&["FAILED"]), "error"));
        } else {
            if let Some(kinds) = step.retried_ends() {
                let kind = self.calls.failed_with(step, &kinds);
                rules.push((all(vec![status(&["FAILED"]), may_retry(), kind]), "pause"));
            }
            rules.push((status(&["FAILED"]), "failed"));
        }
        let rules = rules.into_iter().map(|(condition, name)| (condition, step.state(name))).collect();
        self.builder.choice(rules, &step.state("unknown status"))
    }

    fn cancel(&self, step: &StepPlan, states: &mut States) {
        // In JSONPath, the states `cancelled` and `wait late` count the time. Without them, a cancel that
        // always fails is repeated for ever.
        let (next, failed) = match self.builder.language {
            QueryLanguage::Jsonata => (self.first_poll(), self.next_poll()),
            QueryLanguage::JsonPath if self.schedule.polls_again() => ("cancelled", "wait late"),
            QueryLanguage::JsonPath => ("wait late", "wait late"),
        };
        let (next, failed) = (step.state(next), step.state(failed));
        let mut call = self.calls.cancel();
        for retrier in &mut call.retry {
            retrier.max_attempts = Some(CANCEL_RETRIES);
        }
        let mut task = self.builder.task(&call, "run.cancel", &next);
        task.catch = vec![self.builder.catch_into(CANCEL_FAILED, &["States.ALL"], &failed)];
        task.comment = Some(format!("The timeout of {} has expired.", seconds(step.timeout)));
        states.insert(step.state("cancel"), State::Task(Box::new(task)));
    }

    pub(super) fn again(&self, step: &StepPlan, states: &mut States) {
        if step.attempts <= 1 {
            return;
        }
        let wait = self.builder.wait("run.pause", &step.state("again"));
        states.insert(step.state("pause"), State::Wait(wait));
        // The pause after attempt n has the index n - 1. This pause belongs to the attempt that starts now.
        let pause = Expr::Element(step.pauses.clone(), Box::new(Expr::data("run.attempt")));
        let attempt = Expr::data("run.attempt").plus(Expr::Number(1));
        self.put(
            step,
            states,
            "again",
            "run",
            &self.run(step, attempt, pause),
            &step.state(self.first(step)),
        );
        let may_retry = Condition::Below("run.attempt".to_owned(), step.attempts);
        if step.retries(FailureKind::NotSubmitted) {
            let rules = vec![(may_retry.clone(), step.state("pause"))];
            let choice = self.builder.choice(rules, &step.state("not submitted"));
            states.insert(step.state("refused"), State::Choice(choice));
        }
    }

    fn ends(&self, step: &StepPlan, exit: &str, states: &mut States) {
        let id = || Expr::data("run.statement.id");
        let outcome = |outcome: &str| ("outcome".to_owned(), Shape::text(outcome));
        let failed = |error: Expr, cause: Expr| {
            [("error".to_owned(), error.into()), ("cause".to_owned(), cause.into())]
        };
        let statement = || {
            [
                ("statement_id".to_owned(), id().into()),
                ("attempt".to_owned(), Expr::data("run.attempt").into()),
            ]
        };
        let with = |first, more: Vec<(String, Shape)>, last: bool| {
            let last = last.then(statement).into_iter().flatten();
            Shape::Object([first].into_iter().chain(more).chain(last).collect())
        };
        let end = |states: &mut States, name: &str, shape: Shape| {
            self.put(step, states, name, &step.path(), &shape, exit);
        };
        end(states, "finished", with(outcome("finished"), vec![], true));
        let caught = || failed(Expr::data("run.caught.Error"), Expr::data("run.caught.Cause")).to_vec();
        self.refused(step, exit, states);
        if let Some(callback) = self.calls.callback(step) {
            if let Some(kinds) = step.retried_ends() {
                let kind = (callback.failed_with)(step, &kinds);
                let may_retry = Condition::Below("run.attempt".to_owned(), step.attempts);
                let rules = vec![(Condition::All(vec![may_retry, kind]), step.state("pause"))];
                let choice = self.builder.choice(rules, &step.state("failed by event"));
                states.insert(step.state("ended by event"), State::Choice(choice));
                end(states, "failed by event", with(outcome("failed"), caught(), false));
            } else {
                end(states, "ended by event", with(outcome("failed"), caught(), false));
            }
        }
        if let Some(call) = self.calls.error() {
            self.read_error(step, &call, states);
        }
        let text = |parts: Vec<Expr>| Expr::Concat(parts);
        let error = |name: &str, cause: Expr| failed(Expr::text(name), cause).to_vec();
        let known = |name, cause| with(outcome("failed"), error(name, cause), true);
        let of_statement =
            |rest: &str| text(vec![Expr::text("statement "), id(), Expr::text(format!(" {rest}"))]);
        end(states, "failed", known("Statement.Failed", Expr::data(self.calls.error_text())));
        end(
            states,
            "aborted",
            known("Statement.Aborted", of_statement("was cancelled by another client or by the service")),
        );
        let timed_out = format!("was cancelled, because it did not end within {}", seconds(step.timeout));
        end(states, "timed out", known("Statement.TimedOut", of_statement(&timed_out)));
        let unknown =
            |cause, has_statement| with(outcome("unknown"), error("Statement.Unknown", cause), has_statement);
        let not_cancelled = format!(
            "did not end within {}, and was not cancelled within {} after that; it may still run",
            seconds(step.timeout),
            seconds(GRACE)
        );
        end(states, "not cancelled", unknown(of_statement(&not_cancelled), true));
        let caught =
            [Expr::data("run.caught.Error"), Expr::text(": "), Expr::data("run.caught.Cause")].into_iter();
        let submit_lost = [Expr::text("the submit has no known result: ")];
        let submit_lost = text(submit_lost.into_iter().chain(caught.clone()).collect());
        end(states, "submit lost", unknown(submit_lost, false));
        let status_lost =
            [Expr::text("statement "), id(), Expr::text(" may still run; its status is not available: ")];
        let status_lost = text(status_lost.into_iter().chain(caught).collect());
        end(states, "status lost", unknown(status_lost, true));
        let status = text(vec![
            Expr::text("statement "),
            id(),
            Expr::text(" has the unknown status "),
            Expr::data("run.reply.status"),
        ]);
        end(states, "unknown status", unknown(status, true));
    }

    /// Reads the error of a failed statement. Only then does the service return this member.
    fn read_error(&self, step: &StepPlan, call: &Call, states: &mut States) {
        let (next, kind) = match step.retried_ends() {
            Some(kinds) => ("retried", Some(self.calls.failed_with(step, &kinds))),
            None => ("failed", None),
        };
        let mut task = self.builder.task(call, "run.failure", &step.state(next));
        task.catch = vec![self.builder.catch(&["States.ALL"], &step.state("error lost"))];
        states.insert(step.state("error"), State::Task(Box::new(task)));
        let lost = Shape::object([("error", Shape::text("the database's message is not available"))]);
        self.put(step, states, "error lost", "run.failure", &lost, &step.state("failed"));
        if let Some(kind) = kind {
            let may_retry = Condition::Below("run.attempt".to_owned(), step.attempts);
            let rules = vec![(Condition::All(vec![may_retry, kind]), step.state("pause"))];
            let choice = self.builder.choice(rules, &step.state("failed"));
            states.insert(step.state("retried"), State::Choice(choice));
        }
    }

    pub(super) fn put(
        &self,
        step: &StepPlan,
        states: &mut States,
        name: &str,
        path: &str,
        shape: &Shape,
        next: &str,
    ) {
        states.insert(step.state(name), State::Pass(self.builder.put(path, shape, next)));
    }
}

/// Creates an expression that exists only in JSONata.
pub(super) fn raw(jsonata: String) -> Expr {
    Expr::Raw { jsonata, json_path: String::new() }
}

/// Formats seconds for people.
pub(super) fn seconds(seconds: u64) -> String {
    let units = [(86_400, "day"), (3_600, "hour"), (60, "minute")];
    let unit = units.into_iter().find(|(size, _)| seconds >= *size && seconds.is_multiple_of(*size));
    let (number, unit) = unit.map_or((seconds, "second"), |(size, unit)| (seconds / size, unit));
    format!("{number} {unit}{}", if number == 1 { "" } else { "s" })
}

/// Creates the retry rule of an error.
pub(super) fn retrier(
    errors: &[&str],
    interval: u64,
    attempts: u64,
    max_delay: u64,
) -> crate::asl::model::Retrier {
    crate::asl::model::Retrier {
        error_equals: errors.iter().map(|error| (*error).to_owned()).collect(),
        interval_seconds: Some(interval),
        max_attempts: Some(attempts),
        backoff_rate: json!(2).as_number().cloned(),
        max_delay_seconds: Some(max_delay),
        jitter_strategy: Some("FULL".to_owned()),
        ..crate::asl::model::Retrier::default()
    }
}
