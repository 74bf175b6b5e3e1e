//! The active timeline stays short, and what leaves it is in the archive.
#![allow(clippy::unwrap_used)]

mod common;

use hudi_scd::{
    Query, RetentionPolicy, Table, TableDefinition,
    timeline::archive::{self, ArchiveLimits},
};
use object_store::ObjectStoreExt;

const LIMITS: ArchiveLimits = ArchiveLimits { keep_min: 6, keep_max: 8 };

fn row(table_schema: &arrow::datatypes::SchemaRef, id: usize, at: usize) -> arrow::array::RecordBatch {
    common::batch(table_schema, &format!(r#"{{"id": {id}, "v": "v{at}", "at": {at}}}"#))
}

#[tokio::test]
async fn the_timeline_is_bounded_and_every_read_stays_right() {
    let schema = common::schema("id bigint, v string, at bigint");
    let store = common::memory();
    let options =
        common::repeatable().with_retention(RetentionPolicy::commits(3)).with_archive_limits(LIMITS);
    let definition = TableDefinition::new("t", schema.clone(), ["id"]).with_ordering_field("at");
    let table = Table::create_with(store.clone(), "t".into(), definition, options).await.unwrap();

    let mut snapshots = Vec::new();
    let mut archived = 0;
    for commit in 0..30 {
        let report = table.upsert(&[row(&schema, commit % 4, commit)]).await.unwrap();
        archived += report.archived.map_or(0, |report| report.actions);
        let timeline = table.timeline().await.unwrap();
        assert!(timeline.completed_commits().count() <= LIMITS.keep_max, "after commit {commit}");
        snapshots
            .push((report.instant.unwrap(), common::lines(&table.read(Query::snapshot()).await.unwrap())));
        for (instant, rows) in snapshots.iter().rev().take(3) {
            assert_eq!(common::lines(&table.read(Query::as_of(*instant)).await.unwrap()), *rows);
        }
    }
    assert!(archived > 20);

    // Every file of an action that left the timeline is in the archive, once.
    let mut found = Vec::new();
    for number in 1.. {
        let path = format!("t/.hoodie/archived/{}", archive::file_name(number));
        let Ok(file) = store.get(&object_store::path::Path::parse(path).unwrap()).await else { break };
        found.extend(archive::decode(&file.bytes().await.unwrap()).unwrap());
    }
    assert_eq!(found.len() as u64, 3 * archived);
    let commits: Vec<_> = found
        .iter()
        .filter(|entry| entry.action_type.as_deref() == Some("commit"))
        .filter(|entry| entry.action_state.as_deref() == Some("COMPLETED"))
        .map(|entry| entry.commit_time.clone().unwrap())
        .collect();
    let expected: Vec<_> =
        snapshots.iter().take(commits.len()).map(|(instant, _)| instant.to_string()).collect();
    assert_eq!(commits, expected);
    assert!(found.iter().any(|entry| entry.hoodie_clean_metadata.is_some()));
}

#[tokio::test]
async fn nothing_of_the_retained_window_is_archived() {
    let schema = common::schema("id bigint, v string, at bigint");
    let options =
        common::repeatable().with_retention(RetentionPolicy::commits(10)).with_archive_limits(LIMITS);
    let definition = TableDefinition::new("t", schema.clone(), ["id"]).with_ordering_field("at");
    let table = Table::create_with(common::memory(), "t".into(), definition, options).await.unwrap();
    let mut instants = Vec::new();
    for commit in 0..20 {
        instants.push(table.upsert(&[row(&schema, 1, commit)]).await.unwrap().instant.unwrap());
        let timeline = table.timeline().await.unwrap();
        let active: Vec<_> = timeline.completed_commits().map(|entry| entry.instant).collect();
        let kept = instants.len().min(12);
        assert!(active.len() >= kept && active.ends_with(&instants[instants.len() - kept..]));
    }
    assert!(table.archive().await.unwrap().is_none());
}

#[tokio::test]
async fn goes_on_with_the_archive_that_spark_began() {
    let golden = common::Golden::unpack("archived-0.15");
    let options = common::repeatable().with_archive_limits(ArchiveLimits { keep_min: 12, keep_max: 14 });
    let table = Table::open_with(golden.store(), "table".into(), options).await.unwrap();
    let report = table.archive().await.unwrap();
    assert_eq!(report, None);
    let before = common::lines(&table.read(Query::snapshot()).await.unwrap());
    let limits = ArchiveLimits { keep_min: 12, keep_max: 13 };
    let table =
        Table::open_with(golden.store(), "table".into(), common::repeatable().with_archive_limits(limits))
            .await
            .unwrap();
    let report = table.archive().await.unwrap().unwrap();
    assert_eq!((report.actions, report.file.as_str()), (2, ".commits_.archive.3_1-0-1"));
    assert_eq!(common::lines(&table.read(Query::snapshot()).await.unwrap()), before);
}
