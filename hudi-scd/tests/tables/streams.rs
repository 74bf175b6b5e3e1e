//! Reads and writes streams of batches.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use arrow::{
    array::{AsArray, RecordBatch},
    datatypes::Int32Type,
};
use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, future::BoxFuture, stream};
use hudi_scd::{Error, ErrorKind, Query, Table, TableDefinition, TableOptions};
use object_store::{GetOptions, GetResult, ObjectStore, path::Path};

use crate::common::{
    batch,
    interposed::{Interposed, Interposer},
    lines, memory, schema,
};

async fn table() -> (Table, arrow::datatypes::SchemaRef) {
    let schema = schema("id int, at int");
    let definition = TableDefinition::new("t", schema.clone(), ["id"]).with_ordering_field("at");
    (Table::create(memory(), "t".into(), definition).await.unwrap(), schema)
}

#[tokio::test]
async fn a_stream_is_written_as_its_batches_are() {
    let (table, schema) = table().await;
    let rows = [r#"{"id":1,"at":1}"#, r#"{"id":2,"at":1}"#, r#"{"id":1,"at":2}"#];
    let batches: Vec<_> = rows.iter().map(|row| Ok(batch(&schema, row))).collect();
    let report = table.upsert_stream(stream::iter(batches)).await.unwrap();
    assert_eq!((report.rows, report.inserted, report.superseded), (3, 2, 1));
    let read: Vec<_> = table.read_stream(Query::snapshot()).await.unwrap().try_collect().await.unwrap();
    assert_eq!(lines(&read), [r#"{"at":1,"id":2}"#, r#"{"at":2,"id":1}"#]);
}

#[tokio::test]
async fn a_stream_that_ends_with_an_error_writes_nothing() {
    let (table, schema) = table().await;
    let broken = Err(Error::new(ErrorKind::InvalidInput, "the source broke"));
    let rows = stream::iter([Ok(batch(&schema, r#"{"id":1,"at":1}"#)), broken]);
    let error = table.upsert_stream(rows).await.unwrap_err();
    assert_eq!(error.message(), "the source broke");
    assert_eq!(table.timeline().await.unwrap().latest_commit(), None);
}

#[tokio::test]
async fn a_stream_of_rows_may_be_left_early_and_tells_its_columns_even_if_there_are_none() {
    let (table, schema) = table().await;
    let empty: Vec<_> = table.read_stream(Query::snapshot()).await.unwrap().collect().await;
    assert_eq!(empty.len(), 1);
    assert_eq!(empty[0].as_ref().unwrap().schema(), schema);
    for id in 0..3 {
        table.upsert(&[batch(&schema, &format!(r#"{{"id":{id},"at":1}}"#))]).await.unwrap();
    }
    let mut rows = table.read_stream(Query::snapshot()).await.unwrap();
    assert_eq!(rows.next().await.unwrap().unwrap().num_rows(), 3);
}

/// Runs every write of a table. Returns the reports and the rows after each write as lines.
async fn written(options: TableOptions) -> Vec<String> {
    let schema = schema("id int, day date, at int, v string, _hoodie_is_deleted boolean");
    let definition = TableDefinition::new("t", schema.clone(), ["id"])
        .with_ordering_field("at")
        .with_partition_fields(["day"]);
    let table = Table::create_with(memory(), "t".into(), definition, options).await.unwrap();
    let mut rng = fastrand::Rng::with_seed(7);
    let mut all = Vec::new();
    for turn in 0..5 {
        let batches: Vec<_> = (0..30)
            .map(|_| {
                let rows = (0..40).map(|_| {
                    let (id, day, at) = (rng.u32(..900), 1 + rng.u32(..3), rng.u32(..6) + turn);
                    let deleted = rng.u32(..9) == 0;
                    format!(
                        r#"{{"id":{id},"day":"2025-01-0{day}","at":{at},"v":"value {id}","_hoodie_is_deleted":{deleted}}}"#
                    )
                });
                Ok(batch(&schema, &rows.collect::<Vec<_>>().join("\n")))
            })
            .collect();
        let rows = stream::iter(batches);
        let report = match turn {
            3 => table.insert_stream(rows).await,
            4 => {
                table
                    .delete_stream(rows.map(|rows| {
                        rows.map(|rows| rows.project(&[0]).unwrap()).map(|rows| rows.slice(0, 9))
                    }))
                    .await
            }
            _ => table.upsert_stream(rows).await,
        };
        let report = report.unwrap();
        assert!(report.superseded > 0 && report.rows >= 270, "{report:?}");
        all.push(format!(
            "{} {} {} {} {} {} {} {} {}",
            report.rows,
            report.inserted,
            report.updated,
            report.moved,
            report.deleted,
            report.late,
            report.remembered,
            report.unchanged,
            report.superseded
        ));
        assert_eq!(table.validate().await.unwrap(), []);
        all.extend(lines(&table.read(Query::snapshot()).await.unwrap()));
    }
    all
}

#[tokio::test]
async fn rows_that_do_not_fit_into_memory_are_written_as_rows_that_do() {
    let in_memory = written(TableOptions::new()).await;
    // A run is written after every few batches, so that runs are joined and then merged in many chunks.
    let spilled = written(TableOptions::new().with_memory_budget(4_000)).await;
    assert_eq!(in_memory, spilled);
    // The same with many files.
    let split = TableOptions::new().with_memory_budget(30_000).with_file_sizes(1_000, 4_000);
    assert_eq!(in_memory, written(split).await);
}

/// If rows were sorted by key, neighbours in a file would be less similar, and the file would be larger.
#[tokio::test]
async fn rows_that_do_not_fit_into_memory_have_the_order_of_the_input_section_by_section() {
    let schema = schema("id string, at int");
    let definition = TableDefinition::new("t", schema.clone(), ["id"]).with_ordering_field("at");
    let budget = 256 * 1024;
    let options = TableOptions::new().with_memory_budget(budget).with_parallelism(1);
    let table = Table::create_with(memory(), "t".into(), definition, options).await.unwrap();
    let mut rng = fastrand::Rng::with_seed(7);
    let rows: Vec<String> =
        (0..12_000).map(|at| format!(r#"{{"id":"{:016x}","at":{at}}}"#, rng.u64(..))).collect();
    let batches: Vec<_> = rows.chunks(500).map(|rows| Ok(batch(&schema, &rows.join("\n")))).collect();
    let bytes: usize = batches.iter().flatten().map(|batch| batch.get_array_memory_size()).sum();
    table.bulk_insert_stream(stream::iter(batches)).await.unwrap();
    let read = table.read(Query::snapshot()).await.unwrap();
    let at = |batch: &RecordBatch| batch.column(1).as_primitive::<Int32Type>().values().to_vec();
    let at: Vec<i32> = read.iter().flat_map(at).collect();
    assert_eq!(at.len(), rows.len());
    let sections = 1 + at.windows(2).filter(|pair| pair[0] > pair[1]).count();
    assert!(sections > 1 && sections <= 1 + bytes / (budget / 4), "{sections} sections of {bytes} bytes");
    assert_eq!(table.validate().await.unwrap(), []);
}

#[tokio::test]
async fn rows_on_the_local_disk_keep_their_places_and_collide_as_rows_in_memory_do() {
    let schema = schema("a string, b string, at int, _hoodie_is_deleted boolean");
    let spilling = TableOptions::new().with_memory_budget(1);
    let definition = TableDefinition::new("t", schema.clone(), ["a", "b"]).with_ordering_field("at");
    let table = Table::create_with(memory(), "t".into(), definition, spilling).await.unwrap();
    let stream = |rows: &[&str]| {
        let batches: Vec<_> = rows.iter().map(|row| Ok(batch(&schema, row))).collect();
        stream::iter(batches)
    };
    // A delete without an ordering value deletes the rows before it, but none after it.
    let rows = [
        r#"{"a":"x","b":"1","at":5}"#,
        r#"{"a":"y","b":"1","at":5}"#,
        r#"{"a":"x","b":"1","at":null,"_hoodie_is_deleted":true}"#,
        r#"{"a":"y","b":"1","at":null,"_hoodie_is_deleted":true}"#,
        r#"{"a":"y","b":"1","at":6}"#,
    ];
    table.upsert_stream(stream(&rows)).await.unwrap();
    let read = table.read(Query::snapshot()).await.unwrap();
    assert_eq!(lines(&read), [r#"{"_hoodie_is_deleted":null,"a":"y","at":6,"b":"1"}"#]);

    let error = table.upsert_stream(stream(&[rows[1], r#"{"a":"y","b":"1","at":null}"#])).await.unwrap_err();
    assert_eq!((error.context("row"), error.context("key")), (Some("1"), Some("a:y,b:1")));
    let twins = [r#"{"a":"x,b:1","b":"2","at":1}"#, r#"{"a":"x","b":"1,b:2","at":1}"#];
    let error = table.upsert_stream(stream(&twins)).await.unwrap_err();
    assert_eq!(error.context("key"), Some("a:x,b:1,b:2"));
    assert_eq!(error.context("one"), Some(r#""x,b:1" and "2""#));
    assert_eq!(error.context("other"), Some(r#""x" and "1,b:2""#));
}

/// Counts the reads of tombstone files, and the maximum number of open files in the spill folder.
#[derive(Clone, Debug)]
struct Watched {
    spill_folder: PathBuf,
    tombstones: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
}

impl Watched {
    /// Returns the number of this process's open files in the spill folder. These files have no names.
    fn open_files(&self) -> usize {
        let open = std::fs::read_dir("/proc/self/fd").unwrap();
        let targets = open.filter_map(|link| std::fs::read_link(link.unwrap().path()).ok());
        targets.filter(|target| target.starts_with(&self.spill_folder)).count()
    }
}

#[async_trait]
impl Interposer for Watched {
    async fn call<T: Send>(&self, call: BoxFuture<'_, object_store::Result<T>>) -> object_store::Result<T> {
        self.open.fetch_max(self.open_files(), Ordering::Relaxed);
        call.await
    }

    async fn get(
        &self,
        inner: &dyn ObjectStore,
        location: &Path,
        options: GetOptions,
    ) -> object_store::Result<GetResult> {
        if location.extension() == Some("tombstones") {
            self.tombstones.fetch_add(1, Ordering::Relaxed);
        }
        self.call(inner.get_opts(location, options)).await
    }
}

/// With a separate file for each chunk, a large write would reach the limit of open files.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_write_of_many_chunks_opens_few_files_and_reads_each_tombstone_file_once() {
    let folder = tempfile::tempdir().unwrap();
    let spill_folder = folder.path().canonicalize().unwrap();
    let watched = Watched { spill_folder, tombstones: Arc::default(), open: Arc::default() };
    let store = Interposed::over(memory(), watched.clone());
    let schema = schema("id int, at int, _hoodie_is_deleted boolean");
    let definition = TableDefinition::new("t", schema.clone(), ["id"]).with_ordering_field("at");
    let options = TableOptions::new().with_memory_budget(4_000).with_spill_folder(folder.path());
    let table = Table::create_with(store, "t".into(), definition, options).await.unwrap();
    for id in 0..3 {
        let row = format!(r#"{{"id":{id},"at":9,"_hoodie_is_deleted":true}}"#);
        assert_eq!(table.upsert(&[batch(&schema, &row)]).await.unwrap().remembered, 1);
    }
    watched.tombstones.store(0, Ordering::Relaxed);
    let batches: Vec<_> = (0..250)
        .map(|part| {
            let rows = (0..100).map(|row| format!(r#"{{"id":{},"at":1}}"#, part * 100 + row));
            Ok(batch(&schema, &rows.collect::<Vec<_>>().join("\n")))
        })
        .collect();
    let report = table.upsert_stream(stream::iter(batches)).await.unwrap();
    assert_eq!((report.inserted, report.late), (25_000 - 3, 3));
    assert_eq!(watched.tombstones.load(Ordering::Relaxed), 3, "three commits wrote tombstones");
    // There are 250 runs: 64 were joined three times, and 58 are left. During a join there is one more.
    let open = watched.open.load(Ordering::Relaxed);
    assert!((1..=66).contains(&open), "{open} open files");
    assert_eq!(watched.open_files(), 0);
}
