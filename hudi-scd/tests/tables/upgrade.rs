//! Upgrades tables that old releases of Hudi wrote.

use std::{collections::BTreeMap, path::Path as FilePath, sync::Arc, sync::atomic::Ordering};

use hudi_scd::{ErrorKind, Query, Table, TableDefinition, TableOptions, TableVersion};
use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use rstest::rstest;

use crate::common::{self, Golden, as_spark_reads, expected, lines, mortal::Mortal};

async fn open(store: &Arc<dyn ObjectStore>) -> Table {
    let options = TableOptions::new().without_lock().with_parallelism(1);
    Table::open_with(store.clone(), "table".into(), options).await.unwrap()
}

/// Returns every file of a table in the folder, except those of a metadata table.
fn files(folder: &FilePath) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if !path.is_dir() {
            found.insert(path.to_string_lossy().into_owned(), std::fs::read(&path).unwrap());
        } else if !path.ends_with(".hoodie/metadata") {
            found.extend(files(&path));
        }
    }
    found
}

async fn in_memory(golden: &Golden) -> Arc<dyn ObjectStore> {
    fn all(folder: &FilePath, into: &mut Vec<std::path::PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { all(&path, into) } else { into.push(path) }
        }
    }
    let (store, mut found) = (common::memory(), Vec::new());
    all(&golden.path("table"), &mut found);
    for file in found {
        let relative = file.strip_prefix(golden.path("")).unwrap().to_str().unwrap();
        store.put(&Path::parse(relative).unwrap(), std::fs::read(&file).unwrap().into()).await.unwrap();
    }
    store
}

/// These are the properties that Hudi 0.15.0 set when it upgraded such tables.
#[rstest]
#[case("old-0.9", &["hoodie.datasource.write.hive_style_partitioning=false",
    "hoodie.datasource.write.partitionpath.urlencode=false", "hoodie.table.checksum=498511606"], &[])]
#[case("old-0.10", &["hoodie.table.checksum=498511606"], &[])]
#[case("old-0.12", &[], &["files"])]
#[tokio::test]
async fn sets_what_hudi_sets_and_changes_nothing_else(
    #[case] name: &str,
    #[case] properties: &[&str],
    #[case] metadata: &[&str],
) {
    let golden = Golden::unpack(name);
    let store = golden.store();
    let old = open(&store).await;
    let before = files(&golden.path("table"));
    let plan = old.upgrade_plan().await.unwrap();
    assert_eq!(files(&golden.path("table")), before);

    let report = old.upgrade().await.unwrap();
    assert_eq!(report, plan);
    assert_eq!((report.from, report.to), (old.version(), TableVersion::SIX));
    assert_eq!(report.metadata_table_dropped, metadata);
    assert_eq!(report.locked_out(), Some("0.9 to 0.13"));
    let set: Vec<String> = report.properties.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(set, [properties, &["hoodie.table.version=6"]].concat());
    assert!(!golden.path("table/.hoodie/metadata").exists());

    let mut after = files(&golden.path("table"));
    let file = golden.path("table/.hoodie/hoodie.properties").to_string_lossy().into_owned();
    let text = |files: &BTreeMap<String, Vec<u8>>| -> Vec<String> {
        let text = String::from_utf8(files[&file].clone()).unwrap();
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    };
    let mut expected_lines = text(&before);
    expected_lines
        .retain(|line| !line.starts_with("hoodie.table.version=") && !line.contains("metadata.partitions"));
    expected_lines.extend(set);
    if !metadata.is_empty() {
        expected_lines.push("hoodie.table.metadata.partitions=".to_owned());
        expected_lines.push("hoodie.table.metadata.partitions.inflight=".to_owned());
    }
    expected_lines.sort();
    let mut lines_after = text(&after);
    lines_after.sort();
    assert_eq!(lines_after, expected_lines);
    after.insert(file.clone(), before[&file].clone());
    assert_eq!(after, before, "only the properties");

    let table = open(&store).await;
    let rows = table.read(Query::snapshot()).await.unwrap();
    assert_eq!(as_spark_reads(lines(&rows)), expected(&golden.path("expected.jsonl")));
    assert_eq!(table.validate().await.unwrap(), []);
    assert!(table.upgrade().await.unwrap().is_empty());
    // A handle from before the upgrade would write the old version.
    let error = old.delete(&rows).await.unwrap_err();
    assert_eq!(error.context("hint"), Some("open the table again"));
    assert_eq!(table.delete(&[rows[0].slice(0, 1)]).await.unwrap().deleted, 1);
    assert_eq!(table.validate().await.unwrap(), []);
}

/// If a writer dies, the table has either version, and the next upgrade completes it.
#[rstest]
#[tokio::test]
async fn an_upgrade_that_died_at_any_call_can_be_repeated(#[values("old-0.9", "old-0.12")] name: &str) {
    let golden = Golden::unpack(name);
    let rows = expected(&golden.path("expected.jsonl"));
    for calls in 0.. {
        let store = in_memory(&golden).await;
        let (mortal, left) = Mortal::after(store.clone(), calls, calls % 2 == 0);
        let options = TableOptions::new().without_lock().with_parallelism(1);
        let upgraded = match Table::open_with(mortal, "table".into(), options).await {
            Ok(table) => table.upgrade().await.is_ok(),
            Err(_) => false,
        };
        let table = open(&store).await;
        let found = table.read(Query::snapshot()).await.unwrap();
        assert_eq!(as_spark_reads(lines(&found)), rows, "call {calls}");
        assert!(table.metadata_partitions().is_empty() || !upgraded, "call {calls}");
        table.upgrade().await.unwrap();
        let table = open(&store).await;
        assert_eq!(
            (table.version(), table.metadata_partitions()),
            (TableVersion::SIX, vec![]),
            "call {calls}"
        );
        assert_eq!(
            as_spark_reads(lines(&table.read(Query::snapshot()).await.unwrap())),
            rows,
            "call {calls}"
        );
        if left.load(Ordering::SeqCst) > 0 {
            assert!(upgraded && calls > 3);
            return;
        }
    }
}

/// Up to version 4, the partition `default` contains nulls, and from version 5 on the text `default`.
#[tokio::test]
async fn rows_without_a_partition_value_are_moved_first() {
    let store = common::memory();
    let schema = common::schema("id bigint, p string, q string, at bigint");
    let definition = TableDefinition::new("t", schema.clone(), ["id"])
        .with_ordering_field("at")
        .with_partition_fields(["p", "q"]);
    Table::create(store.clone(), "table".into(), definition).await.unwrap();
    let file = Path::from("table/.hoodie/hoodie.properties");
    let text = String::from_utf8(store.get(&file).await.unwrap().bytes().await.unwrap().to_vec()).unwrap();
    let text = text.replace("hoodie.table.version=6", "hoodie.table.version=3");
    store.put(&file, text.into()).await.unwrap();
    let table = open(&store).await;
    let rows = common::batch(
        &schema,
        "{\"id\":1,\"p\":\"a\",\"q\":null,\"at\":1}\n{\"id\":2,\"p\":\"a\",\"q\":\"defaults\",\"at\":1}",
    );
    table.upsert(&[rows]).await.unwrap();
    for refused in [table.upgrade_plan().await, table.upgrade().await] {
        let error = refused.unwrap_err();
        assert_eq!(
            (error.kind(), error.context("partition")),
            (ErrorKind::Unsupported, Some("p=a/q=default"))
        );
    }
    assert_eq!(open(&store).await.version().number(), 3);
    let moved = common::batch(&schema, "{\"id\":1,\"p\":\"a\",\"q\":\"none\",\"at\":2}");
    table.upsert(&[moved]).await.unwrap();
    table.upgrade().await.unwrap();
    let table = open(&store).await;
    assert_eq!((table.version(), table.validate().await.unwrap()), (TableVersion::SIX, vec![]));
}

#[tokio::test]
async fn versions_without_a_way_to_six_are_refused() {
    let golden = Golden::unpack("v8-1.0");
    let table = open(&golden.store()).await;
    for refused in [table.upgrade_plan().await, table.upgrade().await] {
        let error = refused.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.context("hint").unwrap().contains("downgrade"));
    }
    let golden = Golden::unpack("old-0.9");
    let file = golden.path("table/.hoodie/hoodie.properties");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("hoodie.table.version=2", "hoodie.table.version=1")).unwrap();
    let error = open(&golden.store()).await.upgrade().await.unwrap_err();
    assert_eq!((error.kind(), error.context("value")), (ErrorKind::Unsupported, Some("1")));
}
