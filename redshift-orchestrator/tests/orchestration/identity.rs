//! The statement of an attempt is never confused with a statement of another pipeline, database or caller.

use std::{sync::Arc, time::Duration};

use crate::executor::{self, Intercepted};

use async_trait::async_trait;
use redshift_data_local::{LocalExecutor, Script, Scripted};
use redshift_orchestrator::{
    ClientToken, ErrorKind, Orchestrator, Origin, Pipeline, Result, Run, Statement, StatementExecutor,
    StepKey, Submitted, Target, WaitTime,
    journal::{EntryState, Event, Journal, MemoryJournal, Record},
    pipeline::{Step, StepStatus},
};

fn pipeline(name: &str) -> Pipeline {
    Pipeline::builder(name).with_step(Step::sql("statistics", "ANALYZE sales")).build().unwrap()
}

fn service() -> LocalExecutor<Scripted> {
    LocalExecutor::scripted(Script::new())
}

#[tokio::test(start_paused = true)]
async fn two_pipelines_with_equal_runs_steps_and_sql_are_two_statements() {
    let service = service();
    for name in ["sales", "returns"] {
        let orchestrator = Orchestrator::new(service.clone());
        let report = pipeline(name).run(&orchestrator, Run::new("2025-03-01T12:30")).await.unwrap();
        assert!(report.is_success(), "{report}");
    }
    let effects = service.effects();
    assert_eq!(effects.len(), 2);
    assert_ne!(effects[0].name, effects[1].name);
    assert!(effects[0].name.as_deref().unwrap().starts_with("sales/2025-03-01T12:30/statistics/1 "));
}

#[tokio::test(start_paused = true)]
async fn one_pipeline_on_two_databases_of_one_account_is_two_statements() {
    let service = service();
    for workgroup in ["dev", "prod"] {
        let orchestrator =
            Orchestrator::new(service.clone().with_target(Target::workgroup(workgroup, "mystore")));
        let report = pipeline("sales").run(&orchestrator, Run::new("2025-03-01T12:30")).await.unwrap();
        assert!(report.is_success(), "{report}");
    }
    assert_eq!(service.effects().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_began_on_another_target_is_rejected() {
    let (service, journal) = (service(), Arc::new(MemoryJournal::new()));
    let on = |workgroup: &str| {
        Orchestrator::new(service.clone().with_target(Target::workgroup(workgroup, "mystore")))
            .with_journal(journal.clone())
    };
    assert!(pipeline("sales").run(&on("dev"), Run::new("r")).await.unwrap().is_success());
    let error = pipeline("sales").run(&on("prod"), Run::new("r")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Definition);
    assert!(error.to_string().contains("workgroup/dev/mystore"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_scope_distinguishes_equal_keys_of_executors_without_a_target() {
    let service = service();
    for scope in ["a", "b", "b"] {
        let orchestrator = Orchestrator::new(service.clone()).with_scope(scope);
        let key = StepKey::new("r", "s");
        assert!(orchestrator.run(&key, Statement::sql("CALL load()")).await.unwrap().is_success());
    }
    assert_eq!(service.effects().len(), 2);
    let nameless = Orchestrator::new(service).with_scope("");
    let error = nameless.run(&StepKey::new("r", "s"), Statement::sql("SELECT 1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

/// Regression: a call for one target returned the outcome that the journal had recorded for another target.
#[tokio::test(start_paused = true)]
async fn one_journal_for_two_targets_never_returns_the_outcome_of_the_other() {
    let (service, journal) = (service(), Arc::new(MemoryJournal::new()));
    let on = |workgroup: &str| {
        Orchestrator::new(service.clone().with_target(Target::workgroup(workgroup, "mystore")))
            .with_journal(journal.clone())
    };
    let (key, statement) = (StepKey::new("r", "statistics"), Statement::sql("CALL load()"));
    assert!(on("dev").run(&key, statement.clone()).await.unwrap().is_success());
    for (other, was) in [
        (on("prod"), "workgroup/dev/mystore, not to workgroup/prod/mystore"),
        (on("dev").with_scope("a"), "no scope and no pipeline, not to the scope or pipeline `a`"),
    ] {
        let error = other.run(&key, statement.clone()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StepKeyConflict);
        assert!(error.to_string().contains(was), "{error}");
        assert!(error.to_string().contains("another name for the run"), "{error}");
    }
    let report = pipeline("sales").run(&on("dev"), Run::new("r")).await.unwrap();
    assert_eq!(report.step("statistics").unwrap().status, StepStatus::NotSubmitted, "{report}");
    // After a step is redefined, the recorded outcome of the attempt remains valid.
    let redefined = on("dev").run(&key, Statement::sql("CALL load_better()")).await.unwrap();
    assert_eq!((redefined.is_success(), redefined.origin), (true, Origin::Journal));
    assert_eq!(service.effects().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_intent_without_a_target_is_continued() {
    let (service, journal) = (service(), Arc::new(MemoryJournal::new()));
    let intent = r#"{"event":"intent","token":"ro2-0123456789abcdef","name":"r/s/1 0123456789abcdef"}"#;
    let intent: Event = serde_json::from_str(intent).unwrap();
    let id = service.submit(&Statement::sql("CALL load()"), None).await.unwrap().id;
    let (at, key) = (service.effects()[0].at, StepKey::new("r", "s"));
    for event in [intent, Event::Submitted { id }] {
        journal.append(Record::new(at, key.clone(), event)).await.unwrap();
    }
    let prod = service.with_target(Target::workgroup("prod", "mystore"));
    let clock = redshift_orchestrator::TokioClock::starting_at(at);
    let orchestrator = Orchestrator::new(prod).with_journal(journal).with_clock(clock);
    let outcome = orchestrator.run(&key, Statement::sql("CALL load()")).await.unwrap();
    assert_eq!((outcome.is_success(), outcome.origin), (true, Origin::Reattached));
}

/// Service that treats all client tokens as equal, and returns the first statement for every submit.
#[derive(Debug)]
struct OneToken {
    inner: LocalExecutor<Scripted>,
    /// `true` if the response to a submit contains neither the creation time nor the target.
    is_silent: bool,
}

#[async_trait]
impl executor::Intercept for OneToken {
    fn inner(&self) -> &dyn StatementExecutor {
        &self.inner
    }

    async fn submit(&self, statement: &Statement, wait: Option<WaitTime>) -> Result<Submitted> {
        let statement = statement.clone().with_client_token(ClientToken::new("one")?);
        let submitted = self.inner.submit(&statement, wait).await?;
        Ok(if self.is_silent { Submitted::new(submitted.id) } else { submitted })
    }
}

#[tokio::test(start_paused = true)]
async fn a_statement_that_was_created_before_the_intent_is_an_error_and_never_a_success() {
    for is_silent in [false, true] {
        let inner = service();
        inner
            .submit(&Statement::sql("CALL other()").with_client_token(ClientToken::new("one").unwrap()), None)
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_secs(10 * 60)).await;
        let created = inner.effects()[0].at;
        let clock = redshift_orchestrator::TokioClock::starting_at(created + Duration::from_secs(10 * 60));
        let orchestrator =
            Orchestrator::new(Intercepted(OneToken { inner: inner.clone(), is_silent })).with_clock(clock);
        let report = pipeline("sales").run(&orchestrator, Run::new("r")).await.unwrap();
        let step = report.step("statistics").unwrap();
        assert_eq!(step.status, StepStatus::Unknown, "{report}");
        assert!(report.to_string().contains("identity conflict"), "{report}");
        // Later calls must not mistake the other statement for this one.
        let key = StepKey::new("r", "statistics");
        for _ in 0..2 {
            let error = pipeline("sales").run(&orchestrator, Run::new("r")).await.unwrap();
            assert_eq!(error.step("statistics").unwrap().status, StepStatus::Unknown);
            let entry = orchestrator.journal().entry(&key).await.unwrap().unwrap();
            assert!(matches!(entry.state, EntryState::Unknown(_)), "{entry:?}");
        }
        assert_eq!(inner.effects().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_statement_whose_journal_was_lost_is_continued_for_5_minutes_and_then_unknown() {
    for (minutes, is_continued) in [(4, true), (6, false)] {
        let epoch = "2026-11-23T06:30:00Z".parse().unwrap();
        let service = LocalExecutor::scripted(Script::new().starting_at(epoch));
        let clock = redshift_orchestrator::TokioClock::starting_at(epoch);
        let process = || Orchestrator::new(service.clone()).with_clock(clock);
        let (key, statement) = (StepKey::new("r", "s"), Statement::sql("CALL load()"));
        assert!(process().run(&key, statement.clone()).await.unwrap().is_success());
        tokio::time::sleep(Duration::from_secs(60 * minutes)).await;
        match process().run(&key, statement).await {
            Ok(outcome) => assert!(is_continued && outcome.is_success(), "{minutes}: {outcome:?}"),
            Err(error) => {
                assert_eq!((error.kind(), is_continued), (ErrorKind::IdentityConflict, false), "{error}");
                assert!(
                    error.to_string().contains("if the journal with the first intent was lost"),
                    "{error}"
                );
            }
        }
        assert_eq!(service.effects().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_statement_in_another_database_is_an_error_of_its_own_kind() {
    for is_silent in [false, true] {
        let inner = service();
        let dev = inner.clone().with_target(Target::cluster("dwh", "dev"));
        dev.submit(&Statement::sql("CALL load()").with_client_token(ClientToken::new("one").unwrap()), None)
            .await
            .unwrap();
        let inner = inner.clone().with_target(Target::cluster("dwh", "prod"));
        let prod = Intercepted(OneToken { inner, is_silent });
        let orchestrator = Orchestrator::new(prod);
        let key = StepKey::new("r", "s");
        let error = orchestrator.run(&key, Statement::sql("CALL load()")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::IdentityConflict);
        assert!(error.to_string().contains("cluster/dwh/dev and not in cluster/dwh/prod"), "{error}");
        assert!(error.to_string().contains("with_scope"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_listing_by_name_ignores_statements_older_than_the_intent() {
    let (inner, journal) = (service(), Arc::new(MemoryJournal::new()));
    let (key, name) = (StepKey::new("r", "s"), "r/s/1 0123456789abcdef");
    inner.submit(&Statement::sql("CALL load()").with_name(name), None).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let intended_at = inner.effects()[0].at + Duration::from_secs(10 * 60);
    let token = ClientToken::new("ro2-0123456789abcdef").unwrap();
    let event = Event::Intent { token, name: name.to_owned(), target: None };
    journal.append(Record::new(intended_at, key.clone(), event)).await.unwrap();
    let clock = redshift_orchestrator::TokioClock::starting_at(intended_at + Duration::from_hours(9));
    let orchestrator = Orchestrator::new(inner).with_journal(journal).with_clock(clock);
    let outcome = orchestrator.run(&key, Statement::sql("CALL load()")).await.unwrap();
    assert_eq!(outcome.kind.as_str(), "unknown");
}
