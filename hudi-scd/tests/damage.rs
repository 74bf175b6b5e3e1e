//! Reads damaged files. The result must be an error that names the file, or the original rows; never a panic
//! and never other rows.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::{panic::AssertUnwindSafe, sync::Arc};

use common::{Golden, batch, damage::damaged, lines, memory, repeatable, schema};
use futures::{FutureExt, TryStreamExt};
use hudi_scd::{ErrorKind, Invariant, Query, RetentionPolicy, Table, TableDefinition};
use object_store::{ObjectStore, ObjectStoreExt, memory::InMemory, path::Path};

/// A small table with partitions, moves, deletes, cleans, a pending write and an archive.
async fn table() -> Vec<(Path, bytes::Bytes)> {
    let store = memory();
    let schema = schema("id int, day date, at int, name string, amount decimal(12,2)");
    let definition = TableDefinition::new("t", schema.clone(), ["id"])
        .with_ordering_field("at")
        .with_partition_fields(["day"]);
    let options = repeatable().with_retention(RetentionPolicy::commits(2));
    let table = Table::create_with(store.clone(), "t".into(), definition, options).await.unwrap();
    for at in 1..=5 {
        let rows: Vec<String> = (0..20)
            .map(|id| {
                let day = 1 + (id + at) % 2;
                format!(
                    r#"{{"id":{id},"day":"2026-01-0{day}","at":{at},"name":"name {id}","amount":"{at}.50"}}"#
                )
            })
            .collect();
        table.upsert(&[batch(&schema, &rows.join("\n"))]).await.unwrap();
        table.delete(&[batch(&common::schema("id int"), r#"{"id":3}"#)]).await.unwrap();
    }
    files(&store).await
}

async fn files(store: &Arc<dyn ObjectStore>) -> Vec<(Path, bytes::Bytes)> {
    let mut files = Vec::new();
    for meta in store.list(None).try_collect::<Vec<_>>().await.unwrap() {
        files.push((meta.location.clone(), store.get(&meta.location).await.unwrap().bytes().await.unwrap()));
    }
    files.sort();
    files
}

#[derive(Debug, Default)]
struct Tally {
    refused: u32,
    unharmed: u32,
}

async fn one(files: &[(Path, bytes::Bytes)], rows: &[String], seed: u64, tally: &mut Tally) {
    let mut random = fastrand::Rng::with_seed(seed);
    let victim = random.usize(..files.len());
    let store = Arc::new(InMemory::new());
    for (index, (path, bytes)) in files.iter().enumerate() {
        let bytes = if index == victim { damaged(bytes, &mut random).into() } else { bytes.clone() };
        store.put(path, bytes.into()).await.unwrap();
    }
    let name = files[victim].0.as_ref();
    let store: Arc<dyn ObjectStore> = store;
    let used = async {
        let options = repeatable().with_retention(RetentionPolicy::commits(2));
        let table = Table::open_with(store.clone(), "t".into(), options).await?;
        let read = table.read(Query::snapshot()).await.map(|batches| lines(&batches));
        let schema = schema("id int, day date, at int, name string, amount decimal(12,2)");
        let row = r#"{"id":7,"day":"2026-01-01","at":99,"name":"late","amount":"0.00"}"#;
        let others = [
            table.history("7").await.map(drop),
            table.timeline().await.map(drop),
            table.upsert(&[batch(&schema, row)]).await.map(drop),
            table.clean().await.map(drop),
            table.validate().await.map(drop),
        ];
        for other in others {
            if let Err(error) = other {
                tally.refused += 1;
                tell(&error, name, seed);
            }
        }
        read
    };
    match AssertUnwindSafe(used).catch_unwind().await {
        Err(_) => panic!("seed {seed}: a panic over {name}"),
        Ok(Err(error)) => {
            tally.refused += 1;
            tell(&error, name, seed);
        }
        Ok(Ok(read)) => {
            tally.unharmed += 1;
            if name.ends_with(".parquet") && read != rows {
                // Without checksums, a flipped bit in a page may appear as a different value, which cannot be
                // detected. But no row is lost.
                assert_eq!(read.len(), rows.len(), "seed {seed}: rows are missing for damage in {name}");
            }
        }
    }
}

fn tell(error: &hudi_scd::Error, name: &str, seed: u64) {
    let text = format!("{error} {error:?}");
    assert!(
        matches!(
            error.kind(),
            ErrorKind::Corrupt
                | ErrorKind::NotFound
                | ErrorKind::Unsupported
                | ErrorKind::InvalidDefinition
                | ErrorKind::InvalidInput
                | ErrorKind::OutsideRetention
        ),
        "seed {seed}: {name}: {error:?}"
    );
    // The contents of a commit may cause an error in a different file. The error then names the commit's
    // instant.
    let file = name.rsplit('/').next().unwrap();
    let file = file.strip_suffix(".commit").unwrap_or(file);
    assert!(text.contains(file), "seed {seed}: {name} is not named: {text}");
}

/// Returns a hundred seeds, or the seeds given in the environment: `HUDI_SCD_DAMAGE_SEEDS=17` or `=0..5000`.
fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("HUDI_SCD_DAMAGE_SEEDS") else { return 0..100 };
    let number = |text: &str| text.trim().parse::<u64>().unwrap();
    match text.split_once("..") {
        Some((first, end)) => number(first)..number(end),
        None => number(&text)..number(&text) + 1,
    }
}

#[tokio::test]
async fn damage_is_an_error_and_never_a_panic() {
    let files = table().await;
    let rows = {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        for (path, bytes) in &files {
            store.put(path, bytes.clone().into()).await.unwrap();
        }
        lines(&Table::open(store, "t".into()).await.unwrap().read(Query::snapshot()).await.unwrap())
    };
    let mut tally = Tally::default();
    for seed in seeds() {
        one(&files, &rows, seed, &mut tally).await;
    }
    assert!(tally.refused > 20 && tally.unharmed > 20, "{tally:?}");
}

/// The rows that a commit replaced would reappear if its file were empty, or if another commit hid it.
#[tokio::test]
async fn an_empty_replacecommit_and_two_commits_of_an_instant_are_named() {
    let columns = common::schema("id int, v string");
    let rows = |v: &str| common::batch(&columns, &format!(r#"{{"id":1,"v":"{v}"}}"#));
    let store = common::memory();
    let definition = hudi_scd::TableDefinition::new("t", columns.clone(), ["id"]);
    let created = Table::create_with(store.clone(), "t".into(), definition, common::repeatable());
    let table = created.await.unwrap();
    table.upsert(&[rows("a")]).await.unwrap();
    let replaced = table.insert_overwrite(&[rows("b")]).await.unwrap().instant.unwrap();
    let file = Path::from(format!("t/.hoodie/{replaced}.replacecommit"));
    let whole = store.get(&file).await.unwrap().bytes().await.unwrap();
    let failed = async |file: &Path| {
        let table = Table::open(store.clone(), "t".into()).await.unwrap();
        for error in
            [table.read(Query::snapshot()).await.unwrap_err(), table.upsert(&[rows("c")]).await.unwrap_err()]
        {
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
            assert!(
                [error.context("file"), error.context("other")].contains(&Some(file.as_ref())),
                "{error}"
            );
        }
    };
    store.put(&file, Vec::new().into()).await.unwrap();
    failed(&file).await;
    store.put(&file, whole.into()).await.unwrap();
    store.put(&format!("t/.hoodie/{replaced}.commit").into(), Vec::new().into()).await.unwrap();
    failed(&file).await;
}

/// Without a timeline, no file belongs to a commit. The table must not look empty, and a write must not make
/// the rows of all files visible.
#[tokio::test]
async fn a_table_whose_timeline_is_gone_is_not_empty() {
    let columns = schema("id int, v string");
    let rows = |v: &str| batch(&columns, &format!(r#"{{"id":1,"v":"{v}"}}"#));
    let store = memory();
    let definition = TableDefinition::new("t", columns.clone(), ["id"]);
    let table = Table::create_with(store.clone(), "t".into(), definition, repeatable()).await.unwrap();
    assert_eq!(lines(&table.read(Query::snapshot()).await.unwrap()), [""; 0], "a new table is empty");
    table.upsert(&[rows("a")]).await.unwrap();
    table.delete(&[rows("a")]).await.unwrap();
    for (path, _) in files(&store).await {
        if path.filename().unwrap().starts_with("2026") {
            store.delete(&path).await.unwrap();
        }
    }
    let table = Table::open_with(store, "t".into(), repeatable()).await.unwrap();
    for error in [
        table.schema().await.map(drop).unwrap_err(),
        table.read(Query::snapshot()).await.map(drop).unwrap_err(),
        table.history("1").await.map(drop).unwrap_err(),
        table.file_groups().await.map(drop).unwrap_err(),
        table.upsert(&[rows("b")]).await.map(drop).unwrap_err(),
        table.delete(&[rows("b")]).await.map(drop).unwrap_err(),
    ] {
        assert_eq!((error.kind(), error.context("timeline")), (ErrorKind::Corrupt, Some("t/.hoodie")));
        assert!(error.context("file").unwrap().ends_with(".parquet"), "{error}");
        assert!(error.context("hint").unwrap().contains("restore"), "{error}");
    }
    let found = table.validate().await.unwrap();
    assert!(found.iter().any(|found| found.invariant == Invariant::StrayFile), "{found:?}");

    let golden = Golden::unpack("v8-1.0");
    std::fs::remove_dir_all(golden.path("table/.hoodie/timeline")).unwrap();
    let table = Table::open(golden.store(), "table".into()).await.unwrap();
    let error = table.read(Query::snapshot()).await.unwrap_err();
    let timeline = Some("table/.hoodie/timeline");
    assert_eq!((error.kind(), error.context("timeline")), (ErrorKind::Corrupt, timeline), "{error}");
}

/// A new table in their place would hide the old one.
#[tokio::test(start_paused = true)]
async fn a_table_whose_properties_are_gone_is_not_a_missing_table() {
    for name in ["old-0.9", "mdt-files-0.15", "v8-1.0", "v9-1.1"] {
        let golden = Golden::unpack(name);
        std::fs::remove_file(golden.path("table/.hoodie/hoodie.properties")).unwrap();
        let error = Table::open(golden.store(), "table".into()).await.unwrap_err();
        let file = Some("table/.hoodie/hoodie.properties");
        assert_eq!((error.kind(), error.context("file")), (ErrorKind::Corrupt, file), "{name}: {error}");
        assert!(error.context("hint").unwrap().contains("restore"), "{error}");
    }
    let error = Table::open(memory(), "t".into()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}
