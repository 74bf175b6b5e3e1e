//! Reads untrusted files from a storage. Each function returns a table, or an error that names the file, and
//! never panics. The targets of cargo-fuzz call these functions. The ordinary tests call them too, with bytes
//! generated from a seed.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "each target uses one of them; a failure must panic"
)]

use std::sync::{Arc, LazyLock};

use arrow::{
    array::{ArrayRef, Int32Array, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use bytes::Bytes;
use futures::TryStreamExt;
use hudi_scd::{ErrorKind, FnClock, Query, Result, RetentionPolicy, Table, TableDefinition, TableOptions};
use object_store::{ObjectStore, ObjectStoreExt, memory::InMemory, path::Path};

/// A small table with partitions, a delete, a clean and a savepoint.
static TABLE: LazyLock<Vec<(Path, Bytes)>> = LazyLock::new(|| run(make()).unwrap());

/// The timeline's folder in version 8.
const LATER: &str = "t/.hoodie/timeline";
/// The file of the archived timeline.
const ARCHIVED: &str = "20261128000149817_20261128000156341_0.parquet";

/// The same table with a timeline of version 8, an archive, and a slow commit that began before the archived
/// ones. Readers open the archive because of a base file of an archived commit.
static LATER_TABLE: LazyLock<Vec<(Path, Bytes)>> = LazyLock::new(|| {
    let mut files: Vec<(Path, Bytes)> = TABLE.iter().filter_map(later).collect();
    let manifest = format!(r#"{{"files":[{{"fileName":"{ARCHIVED}","fileLen":3195}}]}}"#);
    let archived = include_bytes!("archived-timeline.parquet");
    let (_, base_file) = TABLE.iter().rfind(|(path, _)| path.as_ref().ends_with(".parquet")).unwrap();
    for (path, bytes) in [
        (format!("{LATER}/history/_version_"), Bytes::from_static(b"1")),
        (format!("{LATER}/history/manifest_1"), manifest.into()),
        (format!("{LATER}/history/{ARCHIVED}"), Bytes::from_static(archived)),
        (format!("{LATER}/20250101000000000_20270101000000000.commit"), Bytes::new()),
        ("t/day=odd/a-0_0-0-0_20261128000149817.parquet".to_owned(), base_file.clone()),
    ] {
        files.push((Path::parse(path).unwrap(), bytes));
    }
    files
});

/// Converts a file of the table to version 8. The completion time of a completed action is its own instant.
/// Its metadata stay JSON, which readers of both versions accept.
fn later((path, bytes): &(Path, Bytes)) -> Option<(Path, Bytes)> {
    let name = path.filename()?;
    if name == "hoodie.properties" {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let text = text
            .replace("table.version=6", "table.version=8")
            .replace("layout.version=1", "layout.version=2");
        return Some((path.clone(), text.into()));
    }
    let Some(name) = path.as_ref().strip_prefix("t/.hoodie/").filter(|name| !name.contains('/')) else {
        return Some((path.clone(), bytes.clone()));
    };
    let name = match name.split_once('.')? {
        (instant, action) if !action.contains('.') && action != "inflight" => {
            format!("{instant}_{instant}.{action}")
        }
        _ => name.to_owned(),
    };
    Some((Path::parse(format!("{LATER}/{name}")).unwrap(), bytes.clone()))
}

/// A manifest of the archived timeline.
pub fn manifest(bytes: &[u8]) {
    // A changed name refers to a file that does not exist, and the error names it.
    with_later_file("manifest_1", bytes);
}

/// A file of the archived timeline.
pub fn archived(bytes: &[u8]) {
    with_later_file(ARCHIVED, bytes);
}

/// Lines with the names of timeline files of version 8.
pub fn later_timeline(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let names = text.lines().filter_map(|name| Path::parse(format!("{LATER}/{name}")).ok());
    let mut files = LATER_TABLE.clone();
    files.extend(names.take(50).map(|path| (path, Bytes::new())));
    use_table(&files, None);
}

fn with_later_file(name: &str, bytes: &[u8]) {
    let mut files = LATER_TABLE.clone();
    let victim = files.iter_mut().rfind(|(path, _)| path.filename() == Some(name)).unwrap();
    victim.1 = Bytes::copy_from_slice(bytes);
    use_table(&files, Some(name));
}

/// `hoodie.properties`.
pub fn properties(bytes: &[u8]) {
    with_file(|name| name == "hoodie.properties", bytes);
}

/// The metadata of a commit.
pub fn commit(bytes: &[u8]) {
    with_file(|name| name.ends_with(".commit"), bytes);
}

/// Lines with the names of timeline files.
pub fn timeline(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let names = text.lines().filter_map(|name| Path::parse(format!("t/.hoodie/{name}")).ok());
    let mut files = TABLE.clone();
    files.extend(names.take(50).map(|path| (path, Bytes::new())));
    use_table(&files, None);
}

/// The metadata of a clean.
pub fn clean(bytes: &[u8]) {
    with_file(|name| name.ends_with(".clean"), bytes);
}

/// A base file.
pub fn parquet(bytes: &[u8]) {
    with_file(|name| name.ends_with(".parquet"), bytes);
}

/// Reads a valid base file with a different footer.
pub fn footer(bytes: &[u8]) {
    let (_, file) = TABLE.iter().rfind(|(path, _)| path.as_ref().ends_with(".parquet")).unwrap();
    let length: [u8; 4] = file[file.len() - 8..file.len() - 4].try_into().unwrap();
    let data = &file[..file.len() - 8 - u32::from_le_bytes(length) as usize];
    let length = u32::try_from(bytes.len()).unwrap().to_le_bytes();
    parquet(&[data, bytes, &length, b"PAR1"].concat());
}

/// Returns valid bytes for the target with this name, as seeds.
pub fn sound(target: &str) -> Vec<Bytes> {
    let files = |fits: &dyn Fn(&str) -> bool| -> Vec<Bytes> {
        let fits = |(path, _): &&(Path, Bytes)| path.filename().is_some_and(fits);
        TABLE.iter().filter(fits).map(|(_, bytes)| bytes.clone()).collect()
    };
    let texts = |texts: &[&str]| texts.iter().map(|text| Bytes::copy_from_slice(text.as_bytes())).collect();
    match target {
        "properties" => files(&|name| name == "hoodie.properties"),
        "timeline" => {
            let names = "20260101000001000.commit.requested\n20260101000002000.inflight\n20260101000003000.clean.requested\n\
                20260101000004000.rollback.inflight\n20260101000005000.replacecommit\n20260101000006000.savepoint";
            texts(&names.lines().chain([names]).collect::<Vec<_>>())
        }
        "later_timeline" => {
            let names = "20260101000001000.commit.requested\n20260101000002000_20260101000003000.commit\n20260101000003000.clustering.inflight\n\
                20260101000004000_20260101000004001.rollback\n20260101000005000_20270101000005000.replacecommit";
            texts(&names.lines().chain([names]).collect::<Vec<_>>())
        }
        "manifest" | "archived" => {
            let name = if target == "manifest" { "manifest_1" } else { ARCHIVED };
            let fits = |(path, _): &&(Path, Bytes)| path.filename() == Some(name);
            LATER_TABLE.iter().filter(fits).map(|(_, bytes)| bytes.clone()).collect()
        }
        "commit" => files(&|name| name.ends_with(".commit")),
        "clean" => files(&|name| name.ends_with(".clean")),
        "parquet" => files(&|name| name.ends_with(".parquet")),
        "footer" => sound("parquet")
            .into_iter()
            .map(|file| {
                let end = file.len() - 8;
                let length = u32::from_le_bytes(file[end..end + 4].try_into().unwrap()) as usize;
                file.slice(end - length..end)
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// Replaces an empty input by a valid one and returns its length. Returns `None` for any other input, which
/// is mutated as usual.
pub fn begin(target: &str, bytes: &mut [u8], size: usize, max_size: usize, seed: u32) -> Option<usize> {
    let sound = if size > 1 { Vec::new() } else { sound(target) };
    let first = sound.get(seed as usize % sound.len().max(1))?;
    let fits = first.len() <= max_size;
    fits.then(|| {
        bytes[..first.len()].copy_from_slice(first);
        first.len()
    })
}

/// Replaces the last file with a matching name by these bytes.
fn with_file(fits: impl Fn(&str) -> bool, bytes: &[u8]) {
    let mut files = TABLE.clone();
    let victim = files.iter_mut().rfind(|(path, _)| path.filename().is_some_and(&fits)).unwrap();
    victim.1 = Bytes::copy_from_slice(bytes);
    let name = victim.0.filename().unwrap().to_owned();
    use_table(&files, Some(&name));
}

/// Runs all reads, and a write.
fn use_table(files: &[(Path, Bytes)], victim: Option<&str>) {
    run(async {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        for (path, bytes) in files {
            store.put(path, bytes.clone().into()).await.unwrap();
        }
        let table = match Table::open_with(store, "t".into(), options()).await {
            Ok(table) => table,
            Err(error) => return judge(&error, victim),
        };
        let done = [
            table.timeline().await.map(drop),
            table.read(Query::snapshot()).await.map(drop),
            table.history("1").await.map(drop),
            table.validate().await.map(drop),
            table.clean_plan().await.map(drop),
            table.upsert(&[rows(&[1, 7], 9)]).await.map(drop),
            table.clean().await.map(drop),
            table.archive().await.map(drop),
        ];
        for error in done.into_iter().filter_map(Result::err) {
            judge(&error, victim);
        }
    });
}

/// Checks an error. An error of the storage or of another writer would blame the wrong object.
fn judge(error: &hudi_scd::Error, victim: Option<&str>) {
    assert!(!matches!(error.kind(), ErrorKind::Storage | ErrorKind::Conflict), "{error:?}");
    if let (ErrorKind::Corrupt, Some(victim)) = (error.kind(), victim) {
        // The contents of a commit may cause an error in a different file. The error then names the commit.
        let (stem, text) = (victim.split('.').next().unwrap_or(victim), format!("{error:?}"));
        assert!(text.contains(stem), "{victim} is not named: {error:?}");
    }
}

fn options() -> TableOptions {
    let seconds = std::sync::atomic::AtomicI64::new(0);
    let now = move || {
        let start: jiff::Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        start + jiff::SignedDuration::from_secs(seconds.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
    };
    TableOptions::new()
        .with_clock(FnClock(now))
        .with_seed(7)
        .with_parallelism(1)
        .without_lock()
        .with_retention(RetentionPolicy::commits(2))
}

fn columns() -> SchemaRef {
    let field = |name, data_type| Field::new(name, data_type, true);
    Arc::new(Schema::new(vec![
        field("id", DataType::Int32),
        field("day", DataType::Utf8),
        field("at", DataType::Int32),
    ]))
}

fn rows(ids: &[i32], at: i32) -> RecordBatch {
    let days = ids.iter().map(|id| if id % 2 == 0 { "even" } else { "odd" });
    let columns_of_rows: [ArrayRef; 3] = [
        Arc::new(Int32Array::from(ids.to_vec())),
        Arc::new(StringArray::from_iter_values(days)),
        Arc::new(Int32Array::from(vec![at; ids.len()])),
    ];
    RecordBatch::try_new(columns(), columns_of_rows.to_vec()).unwrap()
}

async fn make() -> Result<Vec<(Path, Bytes)>> {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let definition =
        TableDefinition::new("t", columns(), ["id"]).with_ordering_field("at").with_partition_fields(["day"]);
    let table = Table::create_with(store.clone(), "t".into(), definition, options()).await?;
    for at in 1..=4 {
        table.upsert(&[rows(&[1, 2, 3, at + 3], at)]).await?;
    }
    table.delete(&[rows(&[3], 9).project(&[0]).unwrap()]).await?;
    let latest = table.timeline().await?.latest_commit().unwrap();
    table.savepoint(latest, "fuzz", "").await?;
    let mut files = Vec::new();
    for meta in store.list(None).try_collect::<Vec<_>>().await.unwrap() {
        let bytes = store.get(&meta.location).await.unwrap().bytes().await.unwrap();
        files.push((meta.location, bytes));
    }
    files.sort();
    Ok(files)
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(work)
}
