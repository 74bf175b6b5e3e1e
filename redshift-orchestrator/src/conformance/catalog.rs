//! Scenarios for [`Catalog`].

use std::time::Duration;

use super::{
    Fixture, SampleSql,
    requests::{cancelled, submit},
    suite::Suite,
};
use crate::{
    ErrorKind, PageToken, SessionId, Statement, StatementExecutor, WaitTime,
    catalog::{Catalog, CatalogFilter, SessionFilter, SessionStatus},
};

/// Runs the scenarios for executors that implement [`Catalog`].
///
/// # Panics
/// Panics after the last scenario, with the name and message of each scenario that failed.
pub async fn catalog<F>(fixture: &F)
where
    F: Fixture,
    F::Executor: Catalog,
{
    let mut suite = Suite::default();
    let executor = fixture.executor();
    suite.run("the_own_database_is_listed", the_own_database_is_listed(executor)).await;
    suite.run("tables_are_listed_in_pages", tables_are_listed_in_pages(executor)).await;
    suite
        .run("a_session_is_listed_with_its_statement", a_session_is_listed_with_its_statement(fixture))
        .await;
    suite.finish();
}

async fn the_own_database_is_listed(executor: &impl Catalog) {
    let databases = executor.databases(&CatalogFilter::default(), None).await.expect("databases");
    assert!(!databases.entries.is_empty(), "the executor's own database is listed");
}

/// The pages of a listing together contain the same tables as one large page. A page token that the service
/// did not return is rejected.
async fn tables_are_listed_in_pages(executor: &impl Catalog) {
    let whole = executor.tables(&CatalogFilter::default(), None).await.expect("tables");
    let (mut found, mut page) = (Vec::new(), None);
    let filter = CatalogFilter { page_size: Some(7), ..CatalogFilter::default() };
    while found.len() < 50 {
        let response = executor.tables(&filter, page).await.expect("tables");
        assert!(response.entries.len() <= 7);
        found.extend(response.entries);
        page = response.next;
        if page.is_none() {
            break;
        }
    }
    assert_eq!(
        found[..],
        whole.entries[..found.len()],
        "the pages contain the same tables as one large page"
    );
    let nothing =
        executor.tables(&CatalogFilter::default().with_schema("no such schema"), None).await.expect("tables");
    assert!(nothing.entries.is_empty());
    for filter in [CatalogFilter::default().with_schema("no such schema"), CatalogFilter::default()] {
        let forged = executor
            .schemas(&filter, Some(PageToken::new("forged")))
            .await
            .expect_err("the token is not valid");
        assert_eq!(forged.kind(), ErrorKind::Invalid, "{forged}");
    }
}

/// A session is listed with its status and its current statement. Passes if the executor does not support
/// sessions.
async fn a_session_is_listed_with_its_statement<F>(fixture: &F)
where
    F: Fixture,
    F::Executor: Catalog,
{
    let executor = fixture.executor();
    let opens =
        Statement::sql(fixture.sql(SampleSql::Rows)).with_session_keep_alive(Duration::from_secs(3600));
    let session = match executor.submit(&opens, Some(WaitTime::MAX)).await {
        Err(error) if error.kind() == ErrorKind::Unsupported => return,
        opened => opened.expect("submit").session_id.expect("the requested session"),
    };
    let of = |id: &SessionId| SessionFilter { id: Some(id.clone()), ..SessionFilter::default() };
    let listed = executor.sessions(&of(&session), None).await.expect("sessions").entries;
    let described: Vec<_> = listed.iter().map(|session| (&session.id, &session.status)).collect();
    assert_eq!(described, [(&session, &SessionStatus::Available)]);
    let nap = Statement::sql(fixture.sql(SampleSql::LongRunning)).in_session(session.clone());
    let nap = submit(fixture, &nap).await;
    let listed = executor.sessions(&of(&session), None).await.expect("sessions").entries;
    assert_eq!((&listed[0].status, &listed[0].current_statement), (&SessionStatus::Busy, &Some(nap.clone())));
    cancelled(fixture, &nap).await;
    let closed = SessionFilter { status: Some(SessionStatus::Closed), ..SessionFilter::default() };
    let listed = executor.sessions(&closed, None).await.expect("sessions").entries;
    assert!(listed.iter().all(|one| one.id != session), "the session is open");
}
