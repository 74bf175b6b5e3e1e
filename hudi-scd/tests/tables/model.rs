//! Compares random sequences of writes with a plain map: same rows, same counts, same past, valid files.

use std::collections::{BTreeMap, BTreeSet};

use hudi_scd::{CommitReport, Instant, Query, RetentionPolicy, Table, TableDefinition};
use proptest::prelude::*;

use crate::common::{batch, folder, lines, memory, repeatable, schema};

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
    Overwrite(Vec<Row>),
    /// Only keys that are not stored. The caller of a bulk insert must ensure this.
    BulkInsert(Vec<Row>),
    /// Drops the handle and opens the table again.
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
        1 => prop::collection::vec(row(), 0..5).prop_map(Step::Overwrite),
        1 => prop::collection::vec(row(), 0..5).prop_map(Step::BulkInsert),
        1 => Just(Step::Reopen),
    ]
}

/// The expected table.
#[derive(Clone, Debug, Default)]
struct Model {
    rows: BTreeMap<i32, Row>,
    /// The ordering value of the last deletion of each key.
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
    overwritten: u64,
    unchanged: u64,
    superseded: u64,
}

impl Model {
    fn write(&mut self, rows: &[Row], insert: bool, partitioned: bool) -> Counts {
        let mut counts = Counts::default();
        let newest = newest(rows, &mut counts);
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

    fn overwrite(&mut self, rows: &[Row], partitioned: bool) -> Counts {
        let mut counts = Counts::default();
        let newest = newest(rows, &mut counts);
        let partition = |row: &Row| if partitioned { row.day } else { 0 };
        let says = |row: &Row| (row.id, row.day, row.at, row.text);
        let before = self.rows.clone();
        let targets: BTreeSet<i32> = newest.values().map(|row| partition(row)).collect();
        let targets = targets.into_iter().filter(|target| {
            let stored: Vec<_> = before.values().filter(|row| partition(row) == *target).map(says).collect();
            let new = newest.values().filter(|row| partition(row) == *target && !row.deleted);
            stored != new.map(|row| says(row)).collect::<Vec<_>>()
        });
        let targets: BTreeSet<i32> = targets.collect();
        self.rows.retain(|_, row| !targets.contains(&partition(row)));
        counts.overwritten = (before.len() - self.rows.len()) as u64;
        for row in newest.into_values() {
            let known = before.get(&row.id);
            counts.overwritten -= u64::from(known.is_some_and(|known| targets.contains(&partition(known))));
            match known {
                Some(_) if row.deleted => counts.deleted += 1,
                None if row.deleted => counts.unchanged += 1,
                Some(known) if says(known) == says(row) => counts.unchanged += 1,
                Some(known) if partition(known) == partition(row) => counts.updated += 1,
                Some(_) => counts.moved += 1,
                None => counts.inserted += 1,
            }
            self.rows.remove(&row.id);
            if !row.deleted {
                self.rows.insert(row.id, row.clone());
            }
        }
        counts
    }

    fn bulk_insert(&mut self, rows: &[Row]) -> Counts {
        let mut counts = Counts::default();
        for row in newest(rows, &mut counts).into_values() {
            if row.deleted {
                counts.unchanged += 1;
            } else {
                counts.inserted += 1;
                self.rows.insert(row.id, row.clone());
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

/// Returns the winning row of each key.
fn newest<'a>(rows: &'a [Row], counts: &mut Counts) -> BTreeMap<i32, &'a Row> {
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
    newest
}

fn counts(report: &CommitReport) -> Counts {
    Counts {
        inserted: report.inserted,
        updated: report.updated,
        moved: report.moved,
        deleted: report.deleted,
        late: report.late,
        remembered: report.remembered,
        overwritten: report.overwritten,
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
    // The window is longer than any run, so tombstones are kept. Files have about three rows, so they are
    // split and filled.
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
                // Two batches must give the same result as one.
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
            Step::Overwrite(rows) => {
                let report = table.insert_overwrite(&[to_batch(&rows)]).await.unwrap();
                (report, model.overwrite(&rows, partitioned))
            }
            Step::BulkInsert(mut rows) => {
                rows.retain(|row| !model.rows.contains_key(&row.id));
                let report = table.bulk_insert(&[to_batch(&rows)]).await.unwrap();
                (report, model.bulk_insert(&rows))
            }
            Step::Reopen => {
                let later = options.clone();
                table = Table::open_with(store.clone(), "t".into(), later).await.unwrap();
                continue;
            }
        };
        assert_eq!(counts(&report), expected);
        let Counts { inserted, updated, moved, deleted, remembered, overwritten, .. } = expected;
        let changed = inserted + updated + moved + deleted + remembered + overwritten > 0;
        assert_eq!(report.instant.is_some(), changed);
        assert_eq!(lines(&table.read(data(Query::snapshot())).await.unwrap()), model.lines());
        past.extend(report.instant.map(|instant| (instant, model.lines())));
    }
    for (instant, rows) in past {
        assert_eq!(lines(&table.read(data(Query::as_of(instant))).await.unwrap()), rows);
    }
    assert_eq!(table.validate().await.unwrap(), []);
}

/// 64 cases, or the number in `PROPTEST_CASES`. A failure prints its steps, so no regressions file is needed.
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

/// For the lock, each of these handles is a separate process.
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
                // Readers run concurrently with the writers, on arbitrary threads.
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
