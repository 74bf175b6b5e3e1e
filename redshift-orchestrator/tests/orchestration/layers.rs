//! Effects of the individual decorators. `tests/conformance.rs` checks that they preserve the behaviour of
//! the executor.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use redshift_data_local::{Fault, Faults, Faulty, LocalExecutor, Operation, Script, ScriptedExecution};
use redshift_orchestrator::{
    ClientToken, ErrorKind, Statement, StatementExecutor, StatementId, Status, WaitTime,
    layer::{Fleet, Limit, Rate, Request, RequestRates, Retry, Traced},
};
use tokio::time::Instant;

use super::support::{Prepared, now};

fn statement() -> Statement {
    Statement::sql("CALL work()")
}

fn service(seconds: u64) -> LocalExecutor<redshift_data_local::Scripted> {
    LocalExecutor::scripted(
        Script::new().otherwise(ScriptedExecution::finished(Duration::from_secs(seconds))),
    )
}

#[tokio::test(start_paused = true)]
async fn a_lost_submit_is_repeated_only_with_a_client_token() {
    let lossy =
        |service| Faulty::new(service, Faults::seeded(1).with(Operation::Submit, Fault::LostReply, 0.7));
    let service = service(1);
    let executor = Retry::new(lossy(service.clone()));
    let token = ClientToken::new("token").unwrap();
    let submitted = executor.submit(&statement().with_client_token(token), None).await.unwrap();
    executor.describe(&submitted.id, Some(WaitTime::MAX)).await.unwrap();
    assert_eq!(service.effects().len(), 1);

    let executor = Retry::new(Faulty::new(
        service.clone(),
        Faults::seeded(1).with(Operation::Submit, Fault::LostReply, 1.0),
    ));
    let error = executor.submit(&statement(), None).await.unwrap_err();
    assert_eq!((error.kind(), executor.inner().injected().total()), (ErrorKind::Disconnected, 1));
    let error =
        Retry::new(Faulty::new(service, Faults::seeded(1).with(Operation::Submit, Fault::Throttle, 1.0)));
    let begun = Instant::now();
    assert_eq!(error.submit(&statement(), None).await.unwrap_err().kind(), ErrorKind::Throttled);
    assert!(begun.elapsed() > Duration::from_secs(240), "{:?}", begun.elapsed());
}

/// Regression: a cancel got no response, and its repetition was rejected. The layer reported a rejection, and
/// the orchestrator concluded that another client had aborted the statement.
#[tokio::test(start_paused = true)]
async fn a_rejected_repetition_does_not_prove_that_the_first_cancel_had_no_effect() {
    for seed in 0..40 {
        let service = service(3_600);
        let id = service.submit(&statement(), None).await.unwrap().id;
        let faults = Faults::seeded(seed).with(Operation::Cancel, Fault::LostReply, 0.3).with(
            Operation::Cancel,
            Fault::Throttle,
            0.3,
        );
        let executor = Retry::new(Faulty::new(service, faults));
        let answer = executor.cancel(&id).await;
        let was_lost = executor.inner().injected().iter().any(|(_, fault, _)| fault == "lost reply");
        match was_lost {
            true => assert_eq!(answer.unwrap_err().kind(), ErrorKind::Disconnected, "{seed}"),
            false => assert!(answer.unwrap(), "{seed}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn requests_are_sent_at_the_rate_and_in_order() {
    let prepared = Arc::new(Prepared::new([now(Status::Started)], []));
    let rates = RequestRates::default().with(Request::DescribeStatement, 10);
    // Executors of one account share the rate, by clones of one value.
    let executors = [Rate::new(prepared.clone(), rates.clone()), Rate::new(prepared.clone(), rates)];
    let id = StatementId::new("prepared");
    join_all((0..35).map(|n| executors[n % 2].describe(&id, None))).await;
    // Ten requests are sent in each second, at its beginning.
    let instants = prepared.instants();
    for (second, ten) in instants.chunks(10).enumerate() {
        assert!(ten.iter().all(|at| (at - second as f64).abs() < 0.002), "{instants:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_permit_is_held_until_its_statement_ends() {
    let service = service(10);
    let executor = Arc::new(Limit::new(service.clone(), 2));
    let begun = Instant::now();
    let run = |_| {
        let executor = executor.clone();
        async move {
            let id = executor.submit(&statement(), None).await.unwrap().id;
            executor.describe(&id, Some(WaitTime::MAX)).await.unwrap();
        }
    };
    join_all((0..5).map(run)).await;
    // Five statements of ten seconds, two at a time.
    assert!((30..31).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    assert_eq!(executor.active(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_uncertain_submit_keeps_its_permit_for_its_token() {
    let faults = Faults::seeded(1).with(Operation::Submit, Fault::LostReply, 1.0);
    let executor = Limit::new(Faulty::new(service(10), faults), 1);
    let token = ClientToken::new("token").unwrap();
    for _ in 0..3 {
        assert!(executor.submit(&statement().with_client_token(token.clone()), None).await.is_err());
        assert_eq!(executor.active(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stack_of_layers_is_printed_as_nested() {
    let prepared = Prepared::new([], []);
    let faulty = Faulty::new(service(1), Faults::seeded(1));
    assert_eq!(Fleet::new(faulty).to_string(), "Fleet(Limit(500, Rate(Faulty(Local(Scripted)))))");
    let stack = Retry::new(Limit::new(Rate::new(Traced::new(prepared), RequestRates::default()), 200));
    assert!(format!("{stack:?}").starts_with("Retry(Limit(200, Rate(Traced(Prepared"), "{stack:?}");
}
