//! The key index cache on the local disk. Tables are identical with and without it, it saves reads, and
//! damage to its files has no effect.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use hudi_scd::{CommitReport, Query, Table, TableDefinition, TableOptions};
use object_store::ObjectStore;

use crate::common::{self, meter::Meter};

const DDL: &str = "id bigint, name string, at bigint, region string";

fn rows(ids: impl IntoIterator<Item = i64>, at: i64) -> arrow::array::RecordBatch {
    let line =
        |id: i64| format!(r#"{{"id":{id},"name":"n{id} {at}","at":{at},"region":"r{}"}}"#, id % 3) + "\n";
    common::batch(&common::schema(DDL), &ids.into_iter().map(line).collect::<String>())
}

/// A table whose handles share nothing, like those of new processes.
struct Lake {
    store: Arc<dyn ObjectStore>,
    read: Meter,
    cache: Option<PathBuf>,
    options: TableOptions,
}

impl Lake {
    async fn new(cache: Option<&Path>) -> Self {
        let read = Meter::over(common::memory());
        let store = read.store();
        let definition = TableDefinition::new("t", common::schema(DDL), ["id"])
            .with_ordering_field("at")
            .with_partition_fields(["region"]);
        let options = common::repeatable();
        Table::create_with(store.clone(), "t".into(), definition, options.clone()).await.unwrap();
        Self { store, read, cache: cache.map(Path::to_owned), options }
    }

    async fn table(&self) -> Table {
        let options = match &self.cache {
            Some(folder) => self.options.clone().with_index_cache(folder),
            None => self.options.clone(),
        };
        Table::open_with(self.store.clone(), "t".into(), options).await.unwrap()
    }

    async fn upsert(&self, ids: impl IntoIterator<Item = i64>, at: i64) -> CommitReport {
        self.table().await.upsert(&[rows(ids, at)]).await.unwrap()
    }

    async fn delete(&self, ids: impl IntoIterator<Item = i64>) -> CommitReport {
        let keys = rows(ids, 0).project(&[0]).unwrap();
        self.table().await.delete(&[keys]).await.unwrap()
    }

    async fn lines(&self) -> Vec<String> {
        common::lines(&self.table().await.read(Query::snapshot()).await.unwrap())
    }
}

/// Returns the counts of a report.
fn counts(report: &CommitReport) -> [u64; 6] {
    [report.inserted, report.updated, report.moved, report.deleted, report.late, report.unchanged]
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    entries
}

#[tokio::test]
async fn the_table_is_the_same_with_a_cache_and_less_of_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let (with, without) = (Lake::new(Some(folder.path())).await, Lake::new(None).await);
    let (mut read_with, mut read_without) = (0, 0);
    for turn in 0..8_i64 {
        let ids = move || (0..600).filter(move |id| (id * 7 + turn) % 5 == 0);
        // The third turn is late, and the fourth repeats the stored rows. In later turns, keys are deleted
        // and return.
        let at = [1, 5, 3, 5, 6, 7, 8, 9][turn as usize];
        for lake in [&with, &without] {
            lake.read.lap();
        }
        let reports = match turn {
            5 => (with.delete(100..150).await, without.delete(100..150).await),
            _ => (with.upsert(ids(), at).await, without.upsert(ids(), at).await),
        };
        assert_eq!(counts(&reports.0), counts(&reports.1), "turn {turn}");
        read_with += with.read.lap().base_file_bytes();
        read_without += without.read.lap().base_file_bytes();
        assert_eq!(with.lines().await, without.lines().await, "turn {turn}");
    }
    assert_eq!(with.table().await.validate().await.unwrap(), []);
    assert!(read_with * 4 < read_without * 3, "{read_with} and {read_without} bytes");
}

#[tokio::test]
async fn a_lookup_of_known_files_reads_nothing_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let lake = Lake::new(Some(folder.path())).await;
    lake.upsert(0..900, 5).await;
    // Late rows are looked up, but change nothing.
    assert_eq!(lake.upsert(0..300, 4).await.late, 300);
    lake.read.lap();
    assert_eq!(lake.upsert(300..600, 4).await.late, 300);
    assert_eq!(lake.read.lap().base_file_bytes(), 0);
}

#[tokio::test]
async fn damaged_entries_are_left_out_and_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let lake = Lake::new(Some(folder.path())).await;
    lake.upsert(0..900, 5).await;
    assert_eq!(lake.upsert(0..300, 4).await.late, 300);
    let whole = entries(folder.path());
    assert_eq!(whole.len(), 6, "{whole:?}");
    type Damage<'a> = &'a dyn Fn(&mut Vec<u8>);
    let damages: [Damage<'_>; 5] = [
        &|bytes| bytes.clear(),
        &|bytes| bytes.truncate(bytes.len() / 2),
        &|bytes| bytes.push(0),
        &|bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        },
        &|bytes| *bytes = b"something else, which is long enough to be one".to_vec(),
    ];
    for (number, damage) in damages.iter().enumerate() {
        for entry in &whole {
            let mut bytes = fs::read(entry).unwrap();
            damage(&mut bytes);
            fs::write(entry, bytes).unwrap();
        }
        lake.read.lap();
        assert_eq!(lake.upsert(0..300, 4).await.late, 300, "damage {number}");
        assert!(lake.read.lap().base_file_bytes() > 0, "damage {number}");
        assert_eq!(lake.upsert(0..300, 4).await.late, 300, "damage {number}");
        assert_eq!(lake.read.lap().base_file_bytes(), 0, "damage {number}: made anew");
    }
    // An entry that replaces the entry of another file.
    fs::copy(&whole[0], &whole[2]).unwrap();
    fs::copy(&whole[1], &whole[3]).unwrap();
    assert_eq!(lake.upsert(0..300, 4).await.late, 300);
    // A folder that does not exist.
    fs::remove_dir_all(folder.path()).unwrap();
    fs::write(folder.path(), "").unwrap();
    assert_eq!(lake.upsert(0..300, 6).await.updated, 300);
    fs::remove_file(folder.path()).unwrap();
    assert_eq!(lake.upsert(0..300, 5).await.late, 300);
    assert_eq!(lake.table().await.validate().await.unwrap(), []);
}

#[tokio::test]
async fn tables_share_a_folder_and_it_stays_small() {
    let folder = tempfile::tempdir().unwrap();
    // Instants and file ids are equal, because both tables use the same seed and clock, but the rows differ.
    let (one, mut other) = (Lake::new(Some(folder.path())).await, Lake::new(Some(folder.path())).await);
    one.upsert(0..900, 5).await;
    other.options = other.options.with_base_url("s3://elsewhere/t");
    other.upsert(900..1_800, 5).await;
    assert_eq!(counts(&one.upsert(0..1_800, 5).await), [900, 0, 0, 0, 0, 900]);
    assert_eq!(counts(&other.upsert(0..1_800, 5).await), [900, 0, 0, 0, 0, 900]);

    let bytes = || entries(folder.path()).iter().map(|entry| entry.metadata().unwrap().len()).sum::<u64>();
    assert!(bytes() > 40_000, "{}", bytes());
    other.options = other.options.with_index_cache_bytes(40_000);
    other.upsert(0..600, 6).await;
    assert!(bytes() <= 40_000, "{}", bytes());
    assert_eq!(other.upsert(0..600, 5).await.late, 600);
}
