//! Checks the budget of requests on object storage that docs/object-storage.md states.

use std::{collections::BTreeSet, ops::Range, sync::Arc, time::Duration};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use async_trait::async_trait;
use futures::{StreamExt, future::BoxFuture, stream::BoxStream};
use hudi_scd::{
    Codec, Query, Table, TableDefinition, TableOptions,
    scd::{Scd2, Scd2Table},
};
use object_store::{ObjectMeta, ObjectStore, path::Path};
use rstest::rstest;
use tokio::time::{Instant, sleep};

use crate::common::{
    self,
    interposed::{Interposed, Interposer},
    meter::{Kind, Meter, Requests},
    s3::S3,
    slow_files::SlowFiles,
};

const DDL: &str = "id bigint, part bigint, name string, at bigint";

/// Returns rows with these ids. Each of the `files` partitions has one file.
fn rows(ids: Range<i64>, files: i64, at: i64) -> RecordBatch {
    let line =
        |id: i64| format!(r#"{{"id":{id},"part":{},"name":"n{id} {at}","at":{at}}}"#, id % files) + "\n";
    common::batch(&common::schema(DDL), &ids.map(line).collect::<String>())
}

/// A table with one file in each of `files` partitions, in a storage like S3.
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

/// A distant storage: each response takes some time.
#[derive(Clone, Debug)]
struct Distant;

const ROUND: Duration = Duration::from_millis(30);

#[async_trait]
impl Interposer for Distant {
    async fn call<T: Send>(&self, call: BoxFuture<'_, object_store::Result<T>>) -> object_store::Result<T> {
        sleep(ROUND).await;
        call.await
    }

    fn list(
        &self,
        inner: &Arc<dyn ObjectStore>,
        prefix: Option<&Path>,
    ) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        let listed = inner.list(prefix);
        futures::stream::once(sleep(ROUND)).flat_map(|()| futures::stream::empty()).chain(listed).boxed()
    }
}

/// Returns the number of sequential rounds of requests that some work needs on a distant storage.
async fn rounds<T>(work: impl Future<Output = T>) -> (T, u128) {
    let begun = Instant::now();
    let done = work.await;
    (done, begun.elapsed().as_millis() / ROUND.as_millis())
}

/// Returns the listed prefixes, except the folders of the timeline and the tombstones.
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
    // The number of retained commits is reached, so each further commit is followed by a clean, and some are
    // followed by an archival.
    for at in 1..45 {
        lake.meter.lap();
        // Stored rows in `changed` files, and a new row in one of them.
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

/// While a write takes its time, it renews its lock and its heartbeat.
#[tokio::test(start_paused = true)]
async fn an_hour_of_writing_costs_300_requests() {
    let lake = Lake::new(4).await;
    let store = SlowFiles::over(lake.meter.store(), Duration::from_secs(3_600));
    let table = Table::open_with(store, "t".into(), lake.options.clone()).await.unwrap();
    table.upsert(&[lake.rows(0..1, 1)]).await.unwrap();
    lake.meter.lap();
    assert_eq!(table.upsert(&[lake.rows(0..1, 2)]).await.unwrap().files, 1);
    let requests = lake.meter.lap();
    let of = |folder: &str| requests.0.iter().filter(|request| request.path.contains(folder)).count();
    // The first heartbeat and its deletion, and the acquisition, the check and the release of the lock.
    assert!(of(".heartbeat") <= 3_600 / 20 + 2 && of(".locks") <= 3_600 / 30 + 3, "{requests}");
    assert!(requests.0.len() <= 16 + 5 + 300, "{requests}");
}

/// Deletes also write a file of deleted keys, and each later write reads these files of the retained commits.
#[tokio::test(start_paused = true)]
async fn deletes_cost_what_they_change() {
    let lake = Lake::new(40).await;
    let table = lake.open().await;
    table.upsert(&[lake.rows(0..1, 1)]).await.unwrap();
    let deletes = 4;
    for round in 1..=deletes {
        lake.meter.lap();
        let keys = lake.rows(32 * round..32 * round + 8, 0).project(&[0]).unwrap();
        let report = table.delete(&[keys]).await.unwrap();
        let requests = lake.meter.lap();
        assert_eq!((report.deleted, report.files), (8, 8));
        let budget = 16 + 5 * 8 + 1;
        assert!(requests.0.len() <= budget, "delete {round}, budget {budget}:\n{requests}");
        assert_eq!(partition_listings(&requests), [""; 0]);
    }
    // A new row may be a late row of a deleted key.
    for at in 10..12 {
        assert_eq!(table.upsert(&[lake.rows(4_000 * at..4_000 * at + 8, at)]).await.unwrap().inserted, 8);
        let requests = lake.meter.lap();
        let budget = 16 + 5 * 8 + 1 + deletes as usize;
        assert!(requests.0.len() <= budget, "commit {at}, budget {budget}:\n{requests}");
        assert_eq!(partition_listings(&requests), [""; 0]);
    }
    assert_eq!(table.validate().await.unwrap(), []);
}

/// After a commit of another writer, its metadata and the footers of its files are read. Only the timeline is
/// listed.
#[tokio::test(start_paused = true)]
async fn a_commit_of_another_writer_costs_its_metadata_and_footers() {
    let lake = Lake::new(400).await;
    let (table, other) = (lake.open().await, lake.open().await);
    table.upsert(&[lake.rows(0..1, 1)]).await.unwrap();
    for at in (2..20).step_by(2) {
        assert_eq!(other.upsert(&[lake.rows(0..8, at)]).await.unwrap().files, 8);
        lake.meter.lap();
        let report = table.upsert(&[lake.rows(4..9, at + 1)]).await.unwrap();
        let requests = lake.meter.lap();
        assert_eq!((report.updated, report.files), (5, 5));
        if at > 4 && report.archived.is_none() {
            // The commit, its clean, and the lock of the other writer.
            let budget = 16 + 5 * 5 + 2 + 8 + 2;
            assert!(requests.0.len() <= budget, "commit {at}, budget {budget}:\n{requests}");
            assert_eq!(partition_listings(&requests), [""; 0]);
        }
    }
    assert_eq!(table.validate().await.unwrap(), []);
}

/// Small files are read and written sixteen at a time, even if there are few cores.
#[tokio::test(start_paused = true)]
async fn an_upsert_of_many_files_takes_few_rounds() {
    let lake = Lake::new(48).await;
    let store = Interposed::over(lake.meter.store(), Distant);
    let table = Table::open_with(store, "t".into(), lake.options.clone()).await.unwrap();
    table.upsert(&[lake.rows(0..1, 1)]).await.unwrap();
    let (report, taken) = rounds(table.upsert(&[lake.rows(0..48, 2)])).await;
    assert_eq!(report.unwrap().files, 48);
    // The interposed storage deletes the markers one by one.
    assert!(taken <= 48 + 13 + 4 * 48 / 16, "{taken} rounds");
    let (rows, taken) = rounds(table.read(Query::snapshot())).await;
    assert_eq!(rows.unwrap().iter().map(RecordBatch::num_rows).sum::<usize>(), 4 * 48);
    assert!(taken <= 1 + 48 / 16, "{taken} rounds");
}

/// A new process reads the properties, lists the table, and reads the metadata of the active commits and the
/// footers of all files. After that, it sends the same requests as a warm handle.
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
    // The folders of the first level have their own pages, and each of 1,500 partitions has a metadata file.
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

/// A table with one file of some megabytes, and the size of the file.
async fn one_file(meter: &Meter) -> (Table, u64) {
    let definition = TableDefinition::new("t", long_rows(0..1, 0).schema(), ["id"]).with_ordering_field("at");
    let options = common::repeatable().with_codec(Codec::Snappy);
    let table = Table::create_with(meter.store(), "t".into(), definition, options).await.unwrap();
    let report = table.upsert(&[long_rows(0..FILE_ROWS, 5)]).await.unwrap();
    assert_eq!((report.files, report.bytes > 3_000_000), (1, true), "{}", report.bytes);
    (table, report.bytes)
}

/// Returns the number of reads of base files, and the number of bytes read.
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

/// Without copies of ranges, a larger file is copied to the local disk.
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

const HISTORY_DDL: &str = "customer string, address string, changed_at timestamp";

/// Changes of customers on a day.
fn moves(customers: impl IntoIterator<Item = String>, day: usize) -> RecordBatch {
    let line = |customer| {
        let at = format!("2025-01-{day:02} 00:00:00");
        format!(r#"{{"customer":"{customer}","address":"a{day}","changed_at":"{at}"}}"#)
    };
    let lines: Vec<String> = customers.into_iter().map(line).collect();
    common::batch(&common::schema(HISTORY_DDL), &lines.join("\n"))
}

/// A history in files with 50 keys each.
async fn history(meter: &Meter, names: &[String], options: &TableOptions) -> Scd2Table {
    let scd = Scd2::new(["customer"], "changed_at").track(["address"]);
    let definition = Scd2Table::definition_of("t", &scd, &common::schema(HISTORY_DDL)).unwrap();
    let table = Scd2Table::create_with(meter.store(), "t".into(), definition, options.clone()).await.unwrap();
    for names in names.chunks(50) {
        table.apply(&[moves(names.iter().cloned(), 10)]).await.unwrap();
    }
    let files = table.table().file_groups().await.unwrap().len();
    assert_eq!(files, names.len().div_ceil(50));
    table
}

/// Returns the base files that were read.
fn read_files(requests: &Requests) -> BTreeSet<&str> {
    let gets = requests.of(Kind::Get).filter(|get| get.is_of_base_file());
    gets.map(|get| get.path.as_str()).collect()
}

/// The files of sorted keys have distinct key ranges. The files of random keys all have the same range, and
/// their filters exclude them.
#[rstest]
#[tokio::test(start_paused = true)]
async fn a_change_of_a_history_reads_the_files_of_its_keys(#[values(true, false)] is_sorted: bool) {
    let meter = Meter::over(S3::new().store());
    let mut random = fastrand::Rng::with_seed(3);
    let name = |number: usize| match is_sorted {
        true => format!("c{number:03}"),
        false => format!("c{:08x}", random.u32(..)),
    };
    let names: Vec<String> = (0..1_000).map(name).collect();
    let options = common::repeatable().with_file_sizes(0, 4_000);
    let table = history(&meter, &names, &options).await;
    meter.lap();
    let report = table.apply(&[moves([names[120].clone()], 5)]).await.unwrap();
    assert_eq!((report.counts.late, report.commit.files), (1, 1));
    let requests = meter.lap();
    assert!(read_files(&requests).len() <= 2, "{requests}");
    assert!(requests.0.len() <= 16 + 5 + 2, "{requests}");
    assert_eq!(partition_listings(&requests), [""; 0]);

    let key = |name: &str| moves([name.to_owned()], 1).project(&[0]).unwrap();
    assert_eq!(table.history(&key(&names[130])).await.unwrap().num_rows(), 1);
    let requests = meter.lap();
    assert!(read_files(&requests).len() <= 1, "{requests}");
    assert!(requests.0.len() <= 3, "{requests}");
    assert_eq!(table.history(&key("c unknown")).await.unwrap().num_rows(), 0);
    let requests = meter.lap();
    assert_eq!(read_files(&requests), BTreeSet::new(), "{requests}");

    // A new process reads the footers, all at the same time.
    let cold = Scd2Table::open_with(meter.store(), "t".into(), options).await.unwrap();
    meter.lap();
    assert_eq!(cold.history(&key(&names[130])).await.unwrap().num_rows(), 1);
    let requests = meter.lap();
    let of_rows = requests.of(Kind::Get).filter(|get| get.is_of_base_file()).count() - 21;
    assert!(of_rows <= 1, "beside 21 footers:\n{requests}");
    assert_eq!(table.table().validate().await.unwrap(), []);
}
