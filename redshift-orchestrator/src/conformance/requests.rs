//! Helpers for the scenarios. Each panics if its request fails.

use super::Fixture;
use crate::{
    ClientToken, Description, Field, PageData, Statement, StatementExecutor, StatementId, Status, WaitTime,
};

pub(super) fn token(text: &str) -> ClientToken {
    ClientToken::new(text).expect("a token of at most 64 characters: use a shorter name suffix")
}

pub(super) async fn submit<F: Fixture>(fixture: &F, statement: &Statement) -> StatementId {
    fixture.executor().submit(statement, None).await.expect("submit").id
}

pub(super) async fn run<F: Fixture>(fixture: &F, statement: &Statement) -> Description {
    let id = submit(fixture, statement).await;
    end(fixture, &id).await
}

/// Waits for the end of a statement, for at most two minutes.
pub(super) async fn end<F: Fixture>(fixture: &F, id: &StatementId) -> Description {
    for _ in 0..4 {
        let description = fixture.executor().describe(id, Some(WaitTime::MAX)).await.expect("describe");
        if description.status.is_terminal() {
            return description;
        }
    }
    panic!("statement {id} did not end within two minutes");
}

/// Cancels a running statement, and checks that it is aborted.
pub(super) async fn cancelled<F: Fixture>(fixture: &F, id: &StatementId) {
    assert!(fixture.executor().cancel(id).await.expect("cancel"), "the statement has already ended");
    assert_eq!(end(fixture, id).await.status, Status::Aborted);
}

/// Returns the rows of a result with one column of integers.
pub(super) async fn numbers<F: Fixture>(fixture: &F, id: &StatementId) -> Vec<i64> {
    let (mut numbers, mut page) = (Vec::new(), None);
    loop {
        let response = fixture.executor().result(id, page).await.expect("result");
        assert_eq!(response.columns.len(), 1);
        assert_eq!(response.columns[0].name, "n");
        let PageData::Records(records) = response.data else { panic!("not the requested format") };
        numbers.extend(records.into_iter().flatten().map(|field| match field {
            Field::Long(number) => number,
            other => panic!("not an integer: {other:?}"),
        }));
        page = response.next;
        if page.is_none() {
            return numbers;
        }
    }
}
