//! Tests `DataApiExecutor` with the real SDK client and the emulator: it must return the same as the executor
//! behind the emulator.

use std::time::Duration;

use jiff::{RoundMode, Timestamp, TimestampRound, Unit};
use redshift_data_local::{Fault, Faults, Faulty, LocalExecutor, Operation, Script, ScriptedExecution};
use redshift_orchestrator::{
    Column, Compute, Description, ErrorKind, Field, PageData, Statement, StatementExecutor, StatementFilter,
    Status, WaitTime,
    catalog::{Catalog, CatalogFilter, SessionFilter, Table},
};

use crate::support::Served;

fn script() -> Script {
    let columns = vec![Column::new("n", "int8"), Column::new("nothing", "text")];
    Script::new()
        .on(
            "SELECT",
            ScriptedExecution::finished(Duration::ZERO)
                .with_result(columns, vec![vec![Field::Long(7), Field::Null]]),
        )
        .on(
            "CALL broken",
            ScriptedExecution::failed(
                Duration::ZERO,
                "ERROR: 1023 Serializable isolation violation on table",
            ),
        )
        .on("CALL slow", ScriptedExecution::finished(Duration::from_secs(600)))
        .with_table(Table::new("mystore", "sale"), [Column::new("id", "int4")])
}

#[tokio::test]
async fn a_description_is_transmitted_exactly() {
    let service = LocalExecutor::scripted(script());
    let executor = Served::new(service.clone()).await.into_executor();
    let statement =
        Statement::batch(["SELECT :a", "CALL broken(:a)"]).with_parameter("a", "1").with_name("both");
    let submitted = executor.submit(&statement, Some(WaitTime::MAX)).await.unwrap();
    assert_eq!(submitted.status, Some(Status::Failed));
    for id in [submitted.id.clone(), submitted.id.sub_statement(2)] {
        let (there, here) =
            (executor.describe(&id, None).await.unwrap(), service.describe(&id, None).await.unwrap());
        assert_eq!(
            to_the_millisecond(there, RoundMode::HalfExpand),
            to_the_millisecond(here, RoundMode::Trunc)
        );
    }
    let filter = StatementFilter::default().with_name_prefix("bo");
    let there = executor.list(&filter, None).await.unwrap().statements.remove(0);
    let here = service.list(&filter, None).await.unwrap().statements.remove(0);
    assert_eq!(
        (there.id, there.status, there.name, there.sqls),
        (here.id, here.status, here.name, here.sqls)
    );
    assert_eq!(
        (there.is_batch, there.result_format, there.parameters),
        (here.is_batch, here.result_format, here.parameters)
    );
}

/// Rounds the times to milliseconds. The service sends them as floating-point numbers truncated to
/// milliseconds, which the SDK parses with a small error.
fn to_the_millisecond(mut description: Description, mode: RoundMode) -> Description {
    let rounding = TimestampRound::new().smallest(Unit::Millisecond).mode(mode);
    let round = |time: &mut Option<Timestamp>| {
        *time = time.map(|time| time.round(rounding).unwrap());
    };
    round(&mut description.created_at);
    round(&mut description.updated_at);
    for sub in &mut description.sub_statements {
        round(&mut sub.created_at);
        round(&mut sub.updated_at);
    }
    description
}

#[tokio::test]
async fn a_result_and_the_catalog_are_transmitted_exactly() {
    let service = LocalExecutor::scripted(script());
    let executor = Served::new(service.clone()).await.into_executor();
    let id = executor.submit(&Statement::sql("SELECT 1"), Some(WaitTime::MAX)).await.unwrap().id;
    let page = executor.result(&id, None).await.unwrap();
    assert_eq!(page.data, PageData::Records(vec![vec![Field::Long(7), Field::Null]]));
    assert_eq!(page.total_rows, Some(1));
    let filter = CatalogFilter::default().with_schema("mystore");
    assert_eq!(executor.tables(&filter, None).await.unwrap(), service.tables(&filter, None).await.unwrap());
    let column = &executor.columns(&filter, None).await.unwrap().entries[0];
    assert_eq!((column.name.as_str(), column.table.as_deref()), ("id", Some("sale")));
    assert_eq!(executor.databases(&CatalogFilter::default(), None).await.unwrap().entries, ["dev"]);
    assert!(executor.sessions(&SessionFilter::default(), None).await.unwrap().entries.is_empty());
}

#[tokio::test]
async fn error_kinds_are_transmitted_exactly() {
    let faults = Faults::seeded(0).with(Operation::Cancel, Fault::WrappedThrottle, 1.0).with(
        Operation::List,
        Fault::LostReply,
        1.0,
    );
    let executor = Served::new(Faulty::new(LocalExecutor::scripted(script()), faults)).await.into_executor();
    let kind = |error: redshift_orchestrator::Error| error.kind();
    let unknown = redshift_orchestrator::StatementId::new("d9b6c0c9-0747-4bf4-b142-e8883122f766");
    assert_eq!(executor.describe(&unknown, None).await.map_err(kind), Err(ErrorKind::NotFound));
    assert_eq!(
        executor.submit(&Statement::sql(" "), None).await.map_err(kind).err(),
        Some(ErrorKind::Invalid)
    );
    assert_eq!(executor.cancel(&unknown).await.map_err(kind), Err(ErrorKind::Throttled));
    let listed = executor.list(&StatementFilter::default(), None).await;
    assert_eq!(listed.map_err(kind).err(), Some(ErrorKind::Disconnected));
}

#[tokio::test]
async fn listings_are_filtered_by_target() {
    let executor = Served::new(LocalExecutor::scripted(script())).await.into_executor();
    let id = executor.submit(&Statement::sql("SELECT 1"), Some(WaitTime::MAX)).await.unwrap().id;
    let mut filter = StatementFilter::default();
    for (compute, found) in
        [(Compute::Cluster("dwh".to_owned()), vec![id]), (Compute::Workgroup("dwh".to_owned()), vec![])]
    {
        filter.compute = Some(compute);
        let page = executor.list(&filter, None).await.unwrap();
        assert_eq!(page.statements.into_iter().map(|summary| summary.id).collect::<Vec<_>>(), found);
    }
}
