//! The budget of requests on object storage, as docs/object-storage.md states it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::{ops::Range, sync::Arc};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use common::{
    meter::{Kind, Meter, Requests},
    s3::S3,
};
use hudi_scd::{
    Codec, Query, Table, TableDefinition, TableOptions,
    scd::{Scd2, Scd2Table},
};
use rstest::rstest;

const DDL: &str = "id bigint, part bigint, name string, at bigint";

/// Returns rows with these ids; each of the `files` partitions has one file.
fn rows(ids: Range<i64>, files: i64, at: i64) -> RecordBatch {
    let line =
        |id: i64| format!(r#"{{"id":{id},"part":{},"name":"n{id} {at}","at":{at}}}"#, id % files) + "\n";
    common::batch(&common::schema(DDL), &ids.map(line).collect::<String>())
}

/// A table of one file in each of `files` partitions, in a storage like S3.
struct Lake {
    meter: Meter,
    files: i64,
    options: TableOptions,
}

impl Lake {
    async fn new(files: i64) -> Self {
        let meter = Meter::over(S3::new().store());
        let definition = TableDefinition::new("t", common::schema(DDL), ["id"])
            .with_ordering_field("at")
            .with_partition_fields(["part"]);
        let options = common::repeatable();
        let table = Table::create_with(meter.store(), "t".into(), definition, options.clone()).await.unwrap();
        table.upsert(&[rows(0..4 * files, files, 0)]).await.unwrap();
        Self { meter, files, options }
    }

    async fn open(&self) -> Table {
        Table::open_with(self.meter.store(), "t".into(), self.options.clone()).await.unwrap()
    }

    fn rows(&self, ids: Range<i64>, at: i64) -> RecordBatch {
        rows(ids, self.files, at)
    }
}

/// Returns the listed prefixes other than the folder of the timeline and the tombstones.
fn partition_listings(requests: &Requests) -> Vec<&str> {
    let prefixes = requests.of(Kind::List).map(|list| list.path.as_str());
    prefixes.filter(|prefix| !prefix.starts_with("t/.hoodie")).collect()
}

#[rstest]
#[tokio::test(start_paused = true)]
async fn an_upsert_on_a_warm_handle_costs_what_it_changes(
    #[values((1, 40), (1, 400), (8, 40), (40, 40))] (changed, files): (i64, i64),
) {
    let lake = Lake::new(files).await;
    let table = lake.open().await;
    // The retained commits are reached, and each further commit is followed by a clean; some by an archival.
    for at in 1..45 {
        lake.meter.lap();
        // Stored rows of `changed` files, and a new row in one of them.
        let new = 4 * files + at * files;
        let batches = [lake.rows(0..changed, at), lake.rows(new..new + 1, at)];
        let report = table.upsert(&batches).await.unwrap();
        let requests = lake.meter.lap();
        assert_eq!((report.updated, report.inserted, report.files), (changed as u64, 1, changed as u64));
        if at > 2 && report.archived.is_none() {
            let budget = 16 + 5 * changed as usize;
            assert!(requests.0.len() <= budget, "commit {at}, budget {budget}:\n{requests}");
            assert_eq!(partition_listings(&requests), [""; 0], "commit {at}");
        }
        assert_eq!(report.upkeep_failed, [""; 0]);
    }
    assert_eq!(table.validate().await.unwrap(), []);
}

/// A new process reads the properties, lists the table, and reads the metadata of the active commits and the
/// footers of all files; the rest is what a warm handle sends.
#[rstest]
#[tokio::test(start_paused = true)]
async fn a_cold_process_adds_a_listing_the_commits_and_the_footers(#[values(1, 40, 1_500)] files: i64) {
    let lake = Lake::new(files).await;
    let warm = lake.open().await;
    for at in 1..4 {
        warm.upsert(&[lake.rows(0..1, at)]).await.unwrap();
    }
    lake.meter.lap();
    let table = lake.open().await;
    let opened = lake.meter.lap();
    assert_eq!(opened.0.len(), 2, "the properties and our own:\n{opened}");
    assert_eq!(table.upsert(&[lake.rows(0..1, 9)]).await.unwrap().updated, 1);
    let requests = lake.meter.lap();
    // The first folder level has pages of its own, and each of 1,500 partitions a metadata file.
    let listed = files.unsigned_abs() as usize + 4 + files.unsigned_abs() as usize;
    let listings = files.unsigned_abs().div_ceil(1_000) as usize + listed.div_ceil(1_000);
    let commits = 4;
    let budget = 16 + 5 + listings + commits + files as usize;
    assert!(requests.0.len() <= budget, "budget {budget}:\n{requests}");
    assert!(partition_listings(&requests).len() <= listings, "{requests}");
}

const FILE_ROWS: i64 = 60_000;

/// Rows whose text makes up most of a file.
fn long_rows(ids: Range<i64>, at: i64) -> RecordBatch {
    let mut random = fastrand::Rng::with_seed(1);
    let texts: Vec<String> =
        (0..FILE_ROWS).map(|_| format!("{:032x}{:032x}", random.u128(..), random.u128(..))).collect();
    let count = (ids.end - ids.start) as usize;
    let columns: [(&str, ArrayRef); 3] = [
        ("id", Arc::new(Int64Array::from_iter_values(ids.clone()))),
        ("text", Arc::new(StringArray::from_iter_values(ids.map(|id| &texts[(id % FILE_ROWS) as usize])))),
        ("at", Arc::new(Int64Array::from(vec![at; count]))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

/// A table of one file of some megabytes, with the size of that.
async fn one_file(meter: &Meter) -> (Table, u64) {
    let definition = TableDefinition::new("t", long_rows(0..1, 0).schema(), ["id"]).with_ordering_field("at");
    let options = common::repeatable().with_codec(Codec::Snappy);
    let table = Table::create_with(meter.store(), "t".into(), definition, options).await.unwrap();
    let report = table.upsert(&[long_rows(0..FILE_ROWS, 5)]).await.unwrap();
    assert_eq!((report.files, report.bytes > 3_000_000), (1, true), "{}", report.bytes);
    (table, report.bytes)
}

/// Returns the numbers of reads of base files, and their bytes.
fn base_file_reads(requests: &Requests) -> (usize, u64) {
    let reads = requests.of(Kind::Get).filter(|get| get.is_of_base_file()).count();
    (reads, requests.base_file_bytes())
}

#[tokio::test(start_paused = true)]
async fn a_write_reads_of_a_file_what_it_needs_to_know() {
    let meter = Meter::over(S3::new().store());
    let (table, bytes) = one_file(&meter).await;

    meter.lap();
    assert_eq!(table.upsert(&[long_rows(7..8, 4)]).await.unwrap().late, 1);
    let late = meter.lap();
    let (reads, read) = base_file_reads(&late);
    assert!(reads <= 2 && read < bytes / 4, "keys and ordering values, of {bytes}:\n{late}");

    assert_eq!(table.upsert(&[long_rows(7..8, 5)]).await.unwrap().unchanged, 1);
    let unchanged = meter.lap();
    let (reads, read) = base_file_reads(&unchanged);
    assert!(reads <= 5 && read < 3 * bytes / 4, "these, and the pages of a row, of {bytes}:\n{unchanged}");

    assert_eq!(table.upsert(&[long_rows(7..8, 6)]).await.unwrap().updated, 1);
    let updated = meter.lap();
    let (reads, read) = base_file_reads(&updated);
    assert!(reads <= 3 && read < 5 * bytes / 4, "keys, and the file once, of {bytes}:\n{updated}");
}

/// Without copies of ranges, a larger file passes through the local disk.
#[tokio::test]
async fn a_file_of_several_parts_is_read_once_and_sent_once() {
    const ROWS: i64 = 180_000;
    const PART: u64 = 8 * 1024 * 1024;
    let meter = Meter::over(S3::new().store());
    let (spill, at) = (tempfile::tempdir().unwrap(), 5);
    let definition = TableDefinition::new("t", long_rows(0..1, 0).schema(), ["id"]).with_ordering_field("at");
    let options = common::repeatable().with_codec(Codec::Snappy).with_spill_folder(spill.path());
    let table = Table::create_with(meter.store(), "t".into(), definition, options).await.unwrap();
    let bytes = table.upsert(&[long_rows(0..ROWS, at)]).await.unwrap().bytes;
    let sent = |requests: &Requests| {
        let of = |kind| requests.of(kind).filter(|request| request.is_of_base_file());
        (
            of(Kind::Upload).count(),
            of(Kind::Part).count() as u64,
            of(Kind::Part).map(|part| part.up).sum::<u64>(),
        )
    };
    assert!(bytes > PART, "{bytes}");
    assert_eq!(sent(&meter.lap()), (2, bytes.div_ceil(PART), bytes), "the first version");

    let report = table.upsert(&[long_rows(7..8, at + 1)]).await.unwrap();
    let requests = meter.lap();
    assert_eq!((report.updated, report.bytes_sent, report.bytes_copied), (1, report.bytes, 0));
    let parts = report.bytes.div_ceil(PART);
    assert_eq!(sent(&requests), (2, parts, report.bytes), "{requests}");
    let whole = requests.of(Kind::Get).filter(|get| get.is_of_base_file() && get.down == bytes);
    assert_eq!(whole.count(), 1, "{requests}");
    assert!(requests.base_file_bytes() < bytes * 3 / 2, "the keys and the file, of {bytes}:\n{requests}");
    let budget = 16 + 5 + (parts as usize + 1) + 2;
    assert!(requests.0.len() <= budget, "budget {budget}:\n{requests}");
    assert_eq!(std::fs::read_dir(spill.path()).unwrap().count(), 0, "the file on the disk has no name");
}

#[tokio::test(start_paused = true)]
async fn a_read_of_some_columns_or_of_a_key_reads_no_others() {
    let meter = Meter::over(S3::new().store());
    let (table, bytes) = one_file(&meter).await;
    meter.lap();
    let ids = table.read(Query::snapshot().with_columns(["id"])).await.unwrap();
    assert_eq!(ids.iter().map(RecordBatch::num_rows).sum::<usize>(), FILE_ROWS as usize);
    let requests = meter.lap();
    assert!(requests.base_file_bytes() < bytes / 4, "of {bytes}:\n{requests}");

    assert_eq!(table.history("7").await.unwrap().len(), 1);
    let requests = meter.lap();
    assert!(requests.base_file_bytes() < 3 * bytes / 4, "of {bytes}:\n{requests}");
    assert_eq!(table.history("no such key").await.unwrap(), []);
    let requests = meter.lap();
    assert_eq!(requests.base_file_bytes(), 0, "{requests}");
}

/// A late change of one key reads the files whose record keys begin with it, and of these one.
#[tokio::test(start_paused = true)]
async fn a_change_of_a_history_reads_the_files_of_its_keys() {
    let meter = Meter::over(S3::new().store());
    let schema = common::schema("customer string, address string, changed_at timestamp");
    let line = |customer: usize, day: usize| {
        let (customer, address) = (format!("c{customer:03}"), format!("a{day}"));
        format!(
            r#"{{"customer":"{customer}","address":"{address}","changed_at":"2025-01-{day:02} 00:00:00"}}"#
        )
    };
    let rows = |customers: Range<usize>, day| {
        let lines: Vec<String> = customers.map(|customer| line(customer, day)).collect();
        common::batch(&schema, &lines.join("\n"))
    };
    let scd = Scd2::new(["customer"], "changed_at").track(["address"]);
    // Each file takes 50 keys.
    let options = common::repeatable().with_file_sizes(0, 4_000);
    let definition = Scd2Table::definition_of("t", &scd, &schema).unwrap();
    let table = Scd2Table::create_with(meter.store(), "t".into(), definition, options).await.unwrap();
    for first in (0..400).step_by(50) {
        table.apply(&[rows(first..first + 50, 10)]).await.unwrap();
    }
    let files = table.table().file_groups().await.unwrap().len();
    assert!(files >= 8, "{files}");
    meter.lap();
    table.apply(&[rows(120..121, 5)]).await.unwrap();
    let requests = meter.lap();
    let mut read: Vec<&str> = requests.of(Kind::Get).map(|get| get.path.as_str()).collect();
    read.retain(|path| path.ends_with(".parquet"));
    read.sort_unstable();
    read.dedup();
    assert!(read.len() <= 2, "of {files} files:\n{requests}");
}
