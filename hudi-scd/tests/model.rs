//! Any sequence of writes against a plain map: same rows, same counts, same past, sound files.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::BTreeMap;

use common::{batch, folder, lines, memory, repeatable, schema};
use hudi_scd::{CommitReport, Instant, Query, RetentionPolicy, Table, TableDefinition};
use proptest::prelude::*;

const COLUMNS: &str = "id int, day int, at int, text string";

#[derive(Clone, Debug)]
struct Row {
    id: i32,
    day: i32,
    at: i32,
    text: u8,
    deleted: bool,
}

#[derive(Clone, Debug)]
enum Step {
    Upsert(Vec<Row>),
    Insert(Vec<Row>),
    Delete(Vec<i32>),
    /// The handle is dropped and the table opened again.
    Reopen,
}

fn row() -> impl Strategy<Value = Row> {
    (0..12, 0..3, 0..6, 0..3_u8, prop::bool::weighted(0.15)).prop_map(|(id, day, at, text, deleted)| Row {
        id,
        day,
        at,
        text,
        deleted,
    })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::collection::vec(row(), 0..8).prop_map(Step::Upsert),
        1 => prop::collection::vec(row(), 0..4).prop_map(Step::Insert),
        1 => prop::collection::vec(0..12, 0..3).prop_map(Step::Delete),
        1 => Just(Step::Reopen),
    ]
}

/// What a table should be.
#[derive(Clone, Debug, Default)]
struct Model {
    rows: BTreeMap<i32, Row>,
    /// When a key was last deleted, by the ordering column.
    deleted: BTreeMap<i32, i32>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    inserted: u64,
    updated: u64,
    moved: u64,
    deleted: u64,
    late: u64,
    remembered: u64,
    unchanged: u64,
    superseded: u64,
}

impl Model {
    fn write(&mut self, rows: &[Row], insert: bool, partitioned: bool) -> Counts {
        let mut counts = Counts::default();
        let mut newest: BTreeMap<i32, &Row> = BTreeMap::new();
        for row in rows {
            if let Some(known) = newest.get(&row.id) {
                counts.superseded += 1;
                if row.at < known.at {
                    continue;
                }
            }
            newest.insert(row.id, row);
        }
        for row in newest.into_values() {
            match self.rows.get(&row.id) {
                Some(_) if insert => counts.unchanged += 1,
                Some(known) if row.at < known.at => counts.late += 1,
                Some(_) if row.deleted => {
                    counts.deleted += 1;
                    self.rows.remove(&row.id);
                    let at = self.deleted.entry(row.id).or_insert(row.at);
                    *at = row.at.max(*at);
                }
                Some(known) if (row.day, row.at, row.text) == (known.day, known.at, known.text) => {
                    counts.unchanged += 1
                }
                Some(known) => {
                    if partitioned && known.day != row.day {
                        counts.moved += 1;
                    } else {
                        counts.updated += 1;
                    }
                    self.rows.insert(row.id, row.clone());
                }
                None if row.deleted => match self.deleted.get(&row.id) {
                    Some(at) if row.at <= *at => counts.unchanged += 1,
                    _ => {
                        counts.remembered += 1;
                        self.deleted.insert(row.id, row.at);
                    }
                },
                None if self.deleted.get(&row.id).is_some_and(|at| row.at < *at) => counts.late += 1,
                None => {
                    counts.inserted += 1;
                    self.rows.insert(row.id, row.clone());
                }
            }
        }
        counts
    }

    fn delete(&mut self, keys: &[i32]) -> Counts {
        let mut counts = Counts::default();
        let mut seen = Vec::new();
        for key in keys {
            if seen.contains(key) {
                counts.superseded += 1;
                continue;
            }
            seen.push(*key);
            match self.rows.remove(key) {
                Some(row) => {
                    counts.deleted += 1;
                    let at = self.deleted.entry(*key).or_insert(row.at);
                    *at = row.at.max(*at);
                }
                None => counts.unchanged += 1,
            }
        }
        counts
    }

    fn lines(&self) -> Vec<String> {
        let line = |row: &Row| {
            format!(r#"{{"at":{},"day":{},"id":{},"text":"{}"}}"#, row.at, row.day, row.id, row.text)
        };
        let mut lines: Vec<String> = self.rows.values().map(line).collect();
        lines.sort();
        lines
    }
}

fn counts(report: &CommitReport) -> Counts {
    Counts {
        inserted: report.inserted,
        updated: report.updated,
        moved: report.moved,
        deleted: report.deleted,
        late: report.late,
        remembered: report.remembered,
        unchanged: report.unchanged,
        superseded: report.superseded,
    }
}

async fn plays_like_a_map(steps: Vec<Step>, partitioned: bool, split: bool) {
    let store = memory();
    let with_deletes = schema(&format!("{COLUMNS}, _hoodie_is_deleted boolean"));
    let mut definition = TableDefinition::new("t", with_deletes.clone(), ["id"]).with_ordering_field("at");
    if partitioned {
        definition = definition.with_partition_fields(["day"]);
    }
    // The window is longer than any run: tombstones last. Files of three rows or so are split and filled.
    let mut options = repeatable().with_retention(RetentionPolicy::commits(100));
    if split {
        options = options.with_file_sizes(100, 200);
    }
    let mut table = Table::create_with(store.clone(), "t".into(), definition, options.clone()).await.unwrap();
    let mut model = Model::default();
    let mut past: Vec<(Instant, Vec<String>)> = Vec::new();
    let to_batch = |rows: &[Row]| {
        let line = |row: &Row| {
            format!(
                r#"{{"id":{},"day":{},"at":{},"text":"{}","_hoodie_is_deleted":{}}}"#,
                row.id, row.day, row.at, row.text, row.deleted
            )
        };
        batch(&with_deletes, &rows.iter().map(line).collect::<Vec<_>>().join("\n"))
    };
    let data = |query: Query| query.with_columns(["id", "day", "at", "text"]);
    for step in steps {
        let (report, expected) = match step {
            Step::Upsert(rows) => {
                // In two batches, which must not make a difference.
                let (first, second) = rows.split_at(rows.len() / 2);
                let report = table.upsert(&[to_batch(first), to_batch(second)]).await.unwrap();
                (report, model.write(&rows, false, partitioned))
            }
            Step::Insert(rows) => {
                let report = table.insert(&[to_batch(&rows)]).await.unwrap();
                (report, model.write(&rows, true, partitioned))
            }
            Step::Delete(keys) => {
                let lines: Vec<String> = keys.iter().map(|key| format!(r#"{{"id":{key}}}"#)).collect();
                let report = table.delete(&[batch(&schema("id int"), &lines.join("\n"))]).await.unwrap();
                (report, model.delete(&keys))
            }
            Step::Reopen => {
                let later = options.clone();
                table = Table::open_with(store.clone(), "t".into(), later).await.unwrap();
                continue;
            }
        };
        assert_eq!(counts(&report), expected);
        let changed =
            expected.inserted + expected.updated + expected.moved + expected.deleted + expected.remembered
                > 0;
        assert_eq!(report.instant.is_some(), changed);
        assert_eq!(lines(&table.read(data(Query::snapshot())).await.unwrap()), model.lines());
        past.extend(report.instant.map(|instant| (instant, model.lines())));
    }
    for (instant, rows) in past {
        assert_eq!(lines(&table.read(data(Query::as_of(instant))).await.unwrap()), rows);
    }
    assert_eq!(table.validate().await.unwrap(), []);
}

/// 64 cases, or as many as `PROPTEST_CASES` says. A failure prints its steps, so nothing is written down.
fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases.unwrap_or(64)) }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_table_plays_like_a_map(
        steps in prop::collection::vec(step(), 1..14),
        partitioned in any::<bool>(),
        split in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(plays_like_a_map(steps, partitioned, split));
    }
}

/// Each of these is another process as far as the lock can tell.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_of_one_table_on_disk_queue_and_lose_nothing() {
    let disk = tempfile::tempdir().unwrap();
    let schema = schema("id int, at int");
    let definition = TableDefinition::new("t", schema.clone(), ["id"]).with_ordering_field("at");
    Table::create(folder(disk.path()), "t".into(), definition).await.unwrap();
    let writers = (0..4).map(|writer| {
        let (store, schema) = (folder(disk.path()), schema.clone());
        tokio::spawn(async move {
            let table = Table::open(store, "t".into()).await.unwrap();
            for at in 0..5 {
                let line = format!(r#"{{"id":{},"at":{at}}}"#, writer * 100 + at);
                let report = table.upsert(&[batch(&schema, &line)]).await.unwrap();
                assert_eq!((report.inserted, report.rolled_back), (1, vec![]));
                // Readers beside the writers: and all of it on any thread.
                table.read(Query::snapshot()).await.unwrap();
                table.history("1").await.unwrap();
                table.clean().await.unwrap();
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let table = Table::open(folder(disk.path()), "t".into()).await.unwrap();
    let rows: usize = table.read(Query::snapshot()).await.unwrap().iter().map(|batch| batch.num_rows()).sum();
    assert_eq!(rows, 20);
    assert_eq!(table.timeline().await.unwrap().completed_commits().count(), 20);
    assert_eq!(table.validate().await.unwrap(), []);
}
