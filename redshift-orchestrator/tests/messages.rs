//! Messages of procedures, read while the statement runs.
#![allow(clippy::unwrap_used)]

use std::{
    sync::{Arc, Mutex as Lock},
    time::Duration,
};

use async_trait::async_trait;
use redshift_data_local::{LocalExecutor, Script, ScriptedExecution};
use redshift_orchestrator::{
    Column, Field, Message, MessageSource, Observer, Orchestrator, ProcedureMessages, ProgressEvent, Result,
    Statement, StatementId, StepKey,
};
use tokio::time::{Instant, sleep};

#[derive(Debug, Default, Clone)]
struct Heard(Arc<Lock<Vec<String>>>);

impl Observer for Heard {
    fn observe(&self, _: &StepKey, event: &ProgressEvent<'_>) {
        if let ProgressEvent::Message { level, text } = event {
            self.0.lock().unwrap().push(format!("{level}: {text}"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn reads_messages_from_the_system_view_and_reports_each_once() {
    let columns = || vec![Column::new("log_level", "varchar"), Column::new("message", "varchar")];
    let row = |text: &str| vec![Field::String("NOTICE".into()), Field::String(text.into())];
    let script = Script::new().on("CALL", ScriptedExecution::finished(Duration::from_secs(40))).on_each(
        "sys_procedure_messages",
        [
            ScriptedExecution::finished(Duration::ZERO).with_result(columns(), vec![row("one")]),
            ScriptedExecution::finished(Duration::ZERO).with_result(columns(), vec![row("one"), row("two")]),
            ScriptedExecution::finished(Duration::ZERO)
                .with_result(columns(), vec![row("one"), row("two"), row("three")]),
        ],
    );
    let service = Arc::new(LocalExecutor::scripted(script));
    let heard = Heard::default();
    let orchestrator = Orchestrator::new(service.clone())
        .with_observer(heard.clone())
        .with_messages(ProcedureMessages::new(service.clone()));
    let key = StepKey::new("r", "s");
    assert!(orchestrator.run(&key, Statement::sql("CALL load()")).await.unwrap().is_success());
    assert_eq!(*heard.0.lock().unwrap(), ["NOTICE: one", "NOTICE: two", "NOTICE: three"]);
    // One effect is the call, and three are the queries for messages: after 15 seconds, after 30 seconds, and
    // at the end.
    assert_eq!(service.effects().len(), 4);
    // For a statement that does not call a procedure, no messages are queried.
    assert!(
        orchestrator.run(&StepKey::new("r", "t"), Statement::sql("SELECT 1")).await.unwrap().is_success()
    );
    assert_eq!(service.effects().len(), 5);
}

/// Source that takes ten seconds for each read, and returns a message only in the last one.
#[derive(Debug)]
struct Slow;

#[async_trait]
impl MessageSource for Slow {
    async fn messages(&self, _: &StatementId, last: bool) -> Result<Vec<Message>> {
        sleep(Duration::from_secs(10)).await;
        Ok(if last { vec![Message::new("INFO", "done")] } else { Vec::new() })
    }

    fn interval(&self) -> Duration {
        Duration::from_secs(3600)
    }
}

#[tokio::test(start_paused = true)]
async fn slow_messages_delay_an_ending_by_at_most_a_second_and_are_reported_later() {
    let script = Script::new().on("CALL", ScriptedExecution::finished(Duration::from_secs(40)));
    let service = Arc::new(LocalExecutor::scripted(script));
    let heard = Heard::default();
    let orchestrator = Orchestrator::new(service).with_observer(heard.clone()).with_messages(Slow);
    let begun = Instant::now();
    let key = StepKey::new("r", "s");
    assert!(orchestrator.run(&key, Statement::sql("CALL load()")).await.unwrap().is_success());
    assert!(begun.elapsed() <= Duration::from_secs(42), "{:?}", begun.elapsed());
    assert!(heard.0.lock().unwrap().is_empty());
    sleep(Duration::from_secs(10)).await;
    assert_eq!(*heard.0.lock().unwrap(), ["INFO: done"]);
}
