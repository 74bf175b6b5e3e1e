//! Tests the journal's recovery table with a server, sockets and a manual clock: the outcome of a run that
//! resumes hours after its process died.

use std::{path::Path, sync::Arc};

use redshift_orchestrator::{
    ClientToken, ErrorKind, Orchestrator, Origin, Outcome, OutcomeKind, Statement, StatementExecutor,
    StatementFilter, Status, StepKey, UnknownReason, journal::FileJournal,
};

use crate::{
    dying::Dying,
    emulator::Served,
    harness::{Database, ended, run},
    turned::TurnedClock,
};

fn found(outcome: &Outcome) -> std::result::Result<Origin, UnknownReason> {
    match &outcome.kind {
        OutcomeKind::Unknown(unknown) => Err(unknown.reason),
        _ => Ok(outcome.origin),
    }
}

/// Lets the orchestrator die at an append to the journal. `hours` later, the service and the orchestrator are
/// started again and run the same step. Returns how the outcome was found and the total number of effects.
async fn after_death(
    death: usize,
    after: bool,
    hours: f64,
) -> (std::result::Result<Origin, UnknownReason>, i64) {
    let database = Database::new(&format!("expiry_{death}_{after}_{}", (hours * 10.0) as u32)).await;
    let directory = tempfile::tempdir().unwrap();
    let journal = |path: &Path| FileJournal::open(path.join("journal.jsonl")).unwrap();
    let clock = TurnedClock::new();
    let start = async || {
        let service = database.service().with_clock(Arc::new(clock.clone())).start().await.unwrap();
        Served::new(service).await
    };
    let (key, statement) =
        (StepKey::new("run", "step"), Statement::sql("INSERT INTO effects VALUES ('step')"));

    let service = start().await;
    let (dying, dead) = Dying::at(journal(directory.path()), death, after);
    let orchestrator = Orchestrator::new(service.executor()).with_journal(dying).with_clock(clock.clone());
    tokio::select! {
        _ = orchestrator.run(&key, statement.clone()) => panic!("the orchestrator did not die"),
        () = dead.notified() => {}
    }
    if death > 0 {
        database.until("SELECT bool_and(ended_at IS NOT NULL) FROM redshift_data_local.statement").await;
    }
    drop(orchestrator);
    service.stop().await;
    // The task that waits for the response to the submit still holds the old journal. Continuing with a copy
    // of the file makes sure that this task cannot write to it, as if its process were dead.
    std::fs::copy(directory.path().join("journal.jsonl"), directory.path().join("next")).unwrap();
    clock.turn(hours);

    let service = start().await;
    let journal = FileJournal::open(directory.path().join("next")).unwrap();
    let orchestrator = Orchestrator::new(service.executor()).with_journal(journal).with_clock(clock.clone());
    let outcome = orchestrator.run(&key, statement).await.unwrap();
    (found(&outcome), database.effects("step").await)
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn the_next_run_recovers_as_documented_hours_later() {
    use UnknownReason as U;
    for (death, after, hours, expected) in [
        // The intent is durable, but nothing was sent.
        (0, true, 7.0, (Ok(Origin::Reattached), 1)),
        (0, true, 8.0, (Err(U::NotListed), 0)),
        (0, true, 24.0, (Err(U::SubmitTooOld), 0)),
        // The service has the statement, but its id was not recorded.
        (1, false, 7.0, (Ok(Origin::Reattached), 1)),
        (1, false, 8.5, (Ok(Origin::Reattached), 1)),
        (1, false, 24.5, (Err(U::SubmitTooOld), 1)),
        // The id is recorded, but the outcome is not.
        (1, true, 23.9, (Ok(Origin::Reattached), 1)),
        (1, true, 24.1, (Err(U::RecordExpired), 1)),
        // Everything is recorded.
        (2, true, 1_000.0, (Ok(Origin::Journal), 1)),
    ] {
        assert_eq!(after_death(death, after, hours).await, expected, "{death} {after} {hours}");
    }
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server: scripts/test"]
async fn a_token_and_a_record_expire_by_the_clock_for_every_process() {
    let database = Database::new("expiry_processes").await;
    let clock = TurnedClock::new();
    let start = async || database.service().with_clock(Arc::new(clock.clone())).start().await.unwrap();
    let other = start().await;
    let service = start().await;
    let statement = Statement::sql("INSERT INTO effects VALUES ('token')")
        .with_client_token(ClientToken::new("token").unwrap());
    let first = run(&service, &statement).await.id;
    clock.turn(7.9);
    assert_eq!(service.submit(&statement, None).await.unwrap().id, first);
    assert_eq!(start().await.submit(&statement, None).await.unwrap().id, first);
    clock.turn(0.2);
    let second = service.submit(&statement, None).await.unwrap().id;
    assert_ne!(second, first);
    assert_eq!(ended(&service, &second).await.status, Status::Finished);
    assert_eq!(start().await.submit(&statement, None).await.unwrap().id, second);
    assert_eq!(database.effects("token").await, 2);

    clock.turn(16.0);
    let listed = |service: redshift_data_local::LocalExecutor<_>| async move {
        let page = service.list(&StatementFilter::default(), None).await.unwrap();
        page.statements.into_iter().map(|statement| statement.id).collect::<Vec<_>>()
    };
    // Three processes: the one that submitted the statement, one that was running but did not receive it, and
    // one that starts now.
    for service in [service, other, start().await] {
        assert_eq!(listed(service.clone()).await, std::slice::from_ref(&second));
        assert_eq!(service.describe(&first, None).await.unwrap_err().kind(), ErrorKind::RecordExpired);
        assert_eq!(service.result(&first, None).await.unwrap_err().kind(), ErrorKind::RecordExpired);
        assert_eq!(service.cancel(&first).await.unwrap_err().kind(), ErrorKind::RecordExpired);
        assert_eq!(service.describe(&second, None).await.unwrap().status, Status::Finished);
    }
}
