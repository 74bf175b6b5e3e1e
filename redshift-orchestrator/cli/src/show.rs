//! Prints output of commands: human-readable lines or JSON objects.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use redshift_orchestrator::{Clock, Observer, ProgressEvent, StatementId, StepKey, SystemClock};
use serde_json::{Value, json};
use tokio::time::Instant;

/// Prints a line on standard output. Ignores errors, because standard output may be closed.
pub(crate) fn out(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Prints a human-readable line on standard error. Ignores errors, because standard error may be closed.
pub(crate) fn log(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Prints an object as one line, with the current time.
pub(crate) fn line(object: &Value) {
    let mut stamped = json!({"at": SystemClock.now().to_string()});
    if let (Some(stamped), Some(object)) = (stamped.as_object_mut(), object.as_object()) {
        stamped.extend(object.clone());
    }
    out(&stamped.to_string());
}

/// Observer that prints one object per event on standard output.
#[derive(Clone, Debug, Default)]
pub(crate) struct Objects {
    /// Last status of each attempt. An unchanged status is not printed again.
    seen: Arc<Mutex<BTreeMap<StepKey, String>>>,
}

impl Objects {
    fn is_news(&self, key: &StepKey, status: &str) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.insert(key.clone(), status.to_owned()).as_deref() != Some(status)
    }
}

impl Observer for Objects {
    fn observe(&self, key: &StepKey, event: &ProgressEvent<'_>) {
        if let ProgressEvent::Polled { status } = event
            && !self.is_news(key, &status.to_string())
        {
            return;
        }
        let mut object = json!({"run": key.run, "step": key.step, "attempt": key.attempt});
        if let Some(part) = key.part {
            object["part"] = json!(part);
        }
        if let (Some(object), Some(event)) = (object.as_object_mut(), as_json(event).as_object()) {
            object.extend(event.clone());
        }
        line(&object);
    }
}

fn as_json(event: &ProgressEvent<'_>) -> Value {
    match event {
        ProgressEvent::Submitted { id, reattached } => {
            json!({"event": "submitted", "statement_id": id.as_str(), "reattached": reattached})
        }
        ProgressEvent::Polled { status } => json!({"event": "status", "status": status.to_string()}),
        ProgressEvent::Message { level, text } => json!({"event": "message", "level": level, "text": text}),
        ProgressEvent::RequestRetried { error } => {
            json!({"event": "request-retried", "kind": error.kind().as_str(), "error": error.to_string()})
        }
        ProgressEvent::Ended { outcome } => json!({
            "event": "ended",
            "result": outcome.kind.as_str(),
            "statement_id": outcome.id.as_ref().map(StatementId::as_str),
            "failure": outcome.failure(),
            "text": outcome.kind.to_string(),
            "executing": outcome.execution_time().map(|duration| duration.as_secs_f64()),
        }),
        ProgressEvent::Unknown { error } => {
            json!({"event": "unknown", "kind": error.kind().as_str(), "error": error.to_string()})
        }
        ProgressEvent::NotSubmitted { error } => {
            json!({"event": "not-submitted", "kind": error.kind().as_str(), "error": error.to_string()})
        }
        ProgressEvent::TaskStarted { work } => {
            json!({"event": "task-started", "task": work.kind(), "text": work.summary()})
        }
        ProgressEvent::TaskEnded { outcome } => json!({
            "event": "task-ended",
            "result": outcome.kind.as_str(),
            "id": outcome.id,
            "failure": outcome.failure(),
            "text": outcome.to_string(),
            "executing": outcome.execution_time.map(|duration| duration.as_secs_f64()),
        }),
        ProgressEvent::StepRetried { failure, pause } => {
            json!({"event": "step-retried", "failure": failure, "pause": pause.as_secs_f64()})
        }
        ProgressEvent::Skipped { because_of } => json!({"event": "skipped", "because_of": because_of}),
        other => json!({"event": "other", "text": other.to_string()}),
    }
}

/// Observer that forwards all events and keeps track of the statements and tasks in flight.
#[derive(Debug)]
pub(crate) struct Tracker<O> {
    inner: O,
    in_flight: Arc<Mutex<InFlight>>,
}

/// Statements and tasks in flight.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    /// Statements, each with the time at which this process received its id.
    pub(crate) statements: BTreeMap<StepKey, (StatementId, Instant)>,
    pub(crate) tasks: BTreeSet<StepKey>,
}

impl<O> Tracker<O> {
    pub(crate) fn new(inner: O) -> Self {
        Self { inner, in_flight: Arc::default() }
    }

    pub(crate) fn in_flight(&self) -> Arc<Mutex<InFlight>> {
        self.in_flight.clone()
    }
}

/// Locks the state of a [`Tracker`].
pub(crate) fn lock(in_flight: &Mutex<InFlight>) -> MutexGuard<'_, InFlight> {
    in_flight.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<O: Observer> Observer for Tracker<O> {
    fn observe(&self, key: &StepKey, event: &ProgressEvent<'_>) {
        match event {
            ProgressEvent::Submitted { id, .. } => {
                lock(&self.in_flight).statements.insert(key.clone(), ((*id).clone(), Instant::now()));
            }
            ProgressEvent::TaskStarted { .. } => {
                lock(&self.in_flight).tasks.insert(key.clone());
            }
            ProgressEvent::Ended { .. }
            | ProgressEvent::TaskEnded { .. }
            | ProgressEvent::Unknown { .. }
            | ProgressEvent::NotSubmitted { .. } => {
                let mut in_flight = lock(&self.in_flight);
                in_flight.statements.remove(key);
                in_flight.tasks.remove(key);
            }
            _ => {}
        }
        self.inner.observe(key, event);
    }
}
