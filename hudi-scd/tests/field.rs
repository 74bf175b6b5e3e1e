//! Tables as other writers left them: of versions 2 to 9, with and without a metadata table.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{Golden, as_spark_reads, expected, lines};
use hudi_scd::{ErrorKind, Invariant, KeyChange, Query, Table, timeline::Action};
use rstest::rstest;

async fn open(golden: &Golden) -> Table {
    Table::open(golden.store(), "table".into()).await.unwrap()
}

async fn read(table: &Table, query: Query) -> Vec<String> {
    as_spark_reads(lines(&table.read(query).await.unwrap()))
}

#[rstest]
#[tokio::test]
async fn reads_what_spark_reads(
    #[values(
        "mdt-archived-0.15",
        "mdt-crashed-0.15",
        "mdt-files-0.15",
        "mdt-files-1.0-v6",
        "mdt-rli-1.0-v6",
        "mdt-rolledback-0.15",
        "mdt-stats-0.15",
        "mdt-unpartitioned-0.14",
        "old-0.10",
        "old-0.12",
        "old-0.9",
        "v8-1.0",
        "v8-archived-1.0",
        "v9-1.1"
    )]
    name: &str,
) {
    let golden = Golden::unpack(name);
    let table = open(&golden).await;
    assert_eq!(table.version().to_string(), golden.about["table_version"].as_str().unwrap());
    let listed = golden.about["metadata_partitions"].as_str().unwrap_or("");
    let mut listed: Vec<&str> = listed.split(',').filter(|name| !name.is_empty()).collect();
    listed.sort_unstable();
    assert_eq!(table.metadata_partitions(), listed);
    assert_eq!(read(&table, Query::snapshot()).await, expected(&golden.path("expected.jsonl")));
    let meta = read(&table, Query::snapshot().with_meta_columns()).await;
    assert_eq!(meta, expected(&golden.path("expected_meta.jsonl")));
    for (instant, says) in golden.about["expected"]["as_of"].as_object().unwrap() {
        let read_as_of = table.read(Query::as_of(instant.parse().unwrap())).await;
        match says.get("dump") {
            // Hudi up to 0.13 shows no rows where the files were cleaned; later ones refuse.
            Some(_) if says["rows"] == 0 => {
                assert_eq!(read_as_of.unwrap_err().kind(), ErrorKind::OutsideRetention);
            }
            Some(dump) => {
                let rows = as_spark_reads(lines(&read_as_of.unwrap()));
                assert_eq!(rows, expected(&golden.path(dump.as_str().unwrap())), "{instant}");
            }
            None => assert_eq!(read_as_of.unwrap_err().kind(), ErrorKind::OutsideRetention, "{instant}"),
        }
    }
    // What a dead writer left is there still.
    let left = [Invariant::Pending, Invariant::StrayFile, Invariant::StrayMarker];
    let mut found = table.validate().await.unwrap();
    found.retain(|found| !left.contains(&found.invariant));
    assert_eq!(found, []);
}

#[rstest]
#[tokio::test]
async fn later_versions_are_read_and_not_written(
    #[values("v8-1.0", "v8-archived-1.0", "v9-1.1")] name: &str,
) {
    let golden = Golden::unpack(name);
    let table = open(&golden).await;
    let before = walk(&golden.path("table"));
    let rows = table.read(Query::snapshot()).await.unwrap();
    let instant = table.timeline().await.unwrap().latest_commit().unwrap();
    let refused = [
        table.upsert(&rows).await.map(drop),
        table.bulk_insert(&rows).await.map(drop),
        table.delete(&rows).await.map(drop),
        table.insert_overwrite_table(&rows).await.map(drop),
        table.clean().await.map(drop),
        table.archive().await.map(drop),
        table.rollback(instant).await.map(drop),
        table.savepoint(instant, "test", "").await.map(drop),
        table.delete_savepoint(instant).await,
    ];
    for refused in refused {
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert_eq!(error.context("property"), Some("hoodie.table.version"));
        assert!(error.context("way out").unwrap().contains("downgrade"));
    }
    assert_eq!(walk(&golden.path("table")), before);
}

/// In version 8 a commit has two times, and a range of commits goes by the second, as in Hudi 1.x.
#[tokio::test]
async fn changes_of_later_versions_go_by_completion_time() {
    let golden = Golden::unpack("v8-1.0");
    let table = open(&golden).await;
    let timeline = table.timeline().await.unwrap();
    let commits: Vec<_> = timeline.completed(Action::Commit).collect();
    let [.., third, fourth, last] = commits.as_slice() else { panic!("{commits:?}") };
    assert!(third.completed_at() < Some(fourth.instant));
    let written_by = async |since, until: Option<_>| {
        let query = Query::since(since).with_columns(["_hoodie_commit_time"]);
        let query = until.map_or_else(|| query.clone(), |until| query.clone().until(until));
        let mut times: Vec<String> = lines(&table.read(query).await.unwrap());
        times.dedup();
        times
    };
    let line = |instant| format!("{{\"_hoodie_commit_time\":\"{instant}\"}}");
    let (fourth_done, last_done) = (fourth.completed_at().unwrap(), last.completed_at().unwrap());
    assert_eq!(written_by(fourth_done, None).await, [line(last.instant)]);
    // The instant of a commit is before its completion.
    assert_eq!(written_by(last.instant, None).await, [line(last.instant)]);
    assert_eq!(written_by(third.completed_at().unwrap(), Some(fourth_done)).await, [line(fourth.instant)]);
    assert_eq!(written_by(last_done, None).await, [""; 0]);
}

#[rstest]
#[tokio::test]
async fn the_history_of_a_key_spans_its_versions(#[values("v8-1.0", "v9-1.1", "old-0.9")] name: &str) {
    let golden = Golden::unpack(name);
    let table = open(&golden).await;
    let earliest = table.earliest_instant().await.unwrap().unwrap();
    let fields = table.record_key_fields().to_vec();
    for row in expected(&golden.path("expected.jsonl")) {
        let row: serde_json::Value = serde_json::from_str(&row).unwrap();
        let history = table.history(&row[&fields[0]].to_string()).await.unwrap();
        let last = history.last().unwrap();
        let KeyChange::Written(batch) = &last.change else { panic!("{last:?}") };
        assert_eq!(lines(&[batch.clone()]), [common::canonical(&row)]);
        assert!(
            history.windows(2).all(|pair| pair[0].instant < pair[1].instant && pair[1].instant > earliest)
        );
    }
}

/// A commit that completes after later ones were archived is the first of the active timeline; base files of the archived
/// ones count, as only the archive can tell.
#[tokio::test]
async fn the_archive_tells_which_commits_completed_before_a_slower_one() {
    let golden = Golden::unpack("v8-archived-1.0");
    let timeline = golden.path("table/.hoodie/timeline");
    let count = async || read(&open(&golden).await, Query::snapshot()).await.len();
    let before = count().await;
    // A file group of a commit that is archived, and one of a commit that never was.
    let file =
        walk(&golden.path("table")).into_iter().find(|file| file.ends_with("_20261128000216450.parquet"));
    let (archived, never) = ("20261128000149817", "20261128000149999");
    for (id, instant) in [("a", archived), ("b", never)] {
        let name = format!("{id}-0_0-1-1_{instant}.parquet");
        std::fs::copy(file.as_ref().unwrap(), golden.path("table").join(name)).unwrap();
    }
    assert_eq!(count().await, 3 * before, "older than the active timeline, and so committed");
    let slow = "20261128000100000";
    for name in [format!("{slow}.commit.requested"), format!("{slow}_20261128000230000.commit")] {
        std::fs::write(timeline.join(name), "").unwrap();
    }
    assert_eq!(count().await, 2 * before, "the archive has one of them");
    std::fs::write(timeline.join("history/_version_"), "2").unwrap();
    let error = open(&golden).await.read(Query::snapshot()).await.unwrap_err();
    assert!(error.context("file").unwrap().ends_with("history/manifest_2"), "{error}");
}

#[tokio::test]
async fn a_handle_notices_that_another_writer_upgraded_the_table() {
    let (old, new) = (Golden::unpack("old-0.12"), Golden::unpack("v8-archived-1.0"));
    let table = open(&old).await;
    let (meta, upgraded) = (old.path("table/.hoodie"), new.path("table/.hoodie"));
    for file in std::fs::read_dir(&meta).unwrap().map(|entry| entry.unwrap().path()) {
        if file.is_file() {
            std::fs::remove_file(file).unwrap();
        }
    }
    std::fs::rename(upgraded.join("timeline"), meta.join("timeline")).unwrap();
    let error = table.read(Query::snapshot()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
}

fn walk(folder: &std::path::Path) -> Vec<String> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(walk(&path));
        } else {
            files.push(path.to_string_lossy().into_owned());
        }
    }
    files.sort();
    files
}
