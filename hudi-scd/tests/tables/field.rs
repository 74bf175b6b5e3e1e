//! Tables of other writers: versions 2 to 9, with and without a metadata table.

use std::{
    path::Path as FilePath,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use hudi_scd::{
    ErrorKind, Invariant, KeyChange, MetadataTable, Predicate, Query, RetentionPolicy, Table, TableOptions,
    timeline::{Action, CommitMetadata, archive::ArchiveLimits},
};
use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use rstest::rstest;

use crate::common::{self, Golden, as_spark_reads, expected, lines};

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
            // If the files were cleaned, Hudi up to 0.13 returns no rows, and later versions return an error.
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
    // The remains of a dead writer are still there.
    let left = [Invariant::Pending, Invariant::StrayFile, Invariant::StrayMarker];
    let mut found = table.validate().await.unwrap();
    found.retain(|found| !left.contains(&found.invariant));
    assert_eq!(found, []);
}

/// The properties do not say how these tables are written, or this crate does not write them so. Readers do
/// not need to know it.
#[rstest]
#[case::forms_of_folders("read-custom-0.15", "hoodie.table.partition.fields")]
#[case::date_pattern("read-timebased-0.9", "hoodie.keygen.timebased.output.dateformat")]
#[case::change_data_capture("read-cdc-0.15", "hoodie.table.cdc.enabled")]
#[case::partition_metadata("read-metafile-0.15", "hoodie.partition.metafile.use.base.format")]
#[case::bootstrap("read-bootstrap-0.15", BOOTSTRAP)]
#[tokio::test]
async fn tables_of_unknown_keys_or_folders_are_read_and_not_written(
    #[case] name: &str,
    #[case] property: &str,
) {
    let golden = Golden::unpack(name);
    let table = open(&golden).await;
    assert_eq!(table.version().to_string(), golden.about["table_version"].as_str().unwrap());
    let rows = table.read(Query::snapshot()).await.unwrap();
    assert_eq!(lines(&rows), expected(&golden.path("expected.jsonl")));
    assert_eq!(table.validate().await.unwrap(), []);
    let before = walk(&golden.path("table"));
    for refused in
        [table.upsert(&rows).await.map(drop), table.delete(&rows).await.map(drop), table.check_writable()]
    {
        expect_refusal(refused, property);
    }
    assert_eq!(without_locks(walk(&golden.path("table"))), before);
}

const BOOTSTRAP: &str = "hoodie.bootstrap.base.path";

/// The base files of such a bootstrap have only the meta columns. It leaves an index, and its commit until that
/// is archived.
#[tokio::test]
async fn a_bootstrap_that_wrote_only_the_meta_columns_is_refused() {
    for file in [".aux/.bootstrap/.partitions/p_1-0-1_00000000000001.hfile", "00000000000001.commit"] {
        let golden = Golden::unpack("read-bootstrap-0.15");
        let file = golden.path("table/.hoodie").join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, "").unwrap();
        expect_refusal(Table::open(golden.store(), "table".into()).await.map(drop), BOOTSTRAP);
    }
}

/// Spark's read of this table lacks the rows of the commits that were archived beyond the savepoint. They
/// return when the savepoint is deleted and its commit is archived.
#[tokio::test]
async fn commits_that_spark_archived_beyond_a_savepoint_are_read() {
    let golden = Golden::unpack("read-hole-0.15");
    let table = open(&golden).await;
    let ids = async || lines(&table.read(Query::snapshot().with_columns(["id"])).await.unwrap());
    let mut all: Vec<String> = (1..=10).map(|id| format!("{{\"id\":{id}}}")).collect();
    all.sort();
    assert_eq!(ids().await, all);
    assert_eq!(expected(&golden.path("expected.jsonl")).len(), 4);
    assert_eq!(table.validate().await.unwrap(), []);
    let rows = table.read(Query::snapshot()).await.unwrap();
    assert_eq!(table.upsert(&rows).await.unwrap().unchanged, 10);
    let saved = table.timeline().await.unwrap().completed(Action::Savepoint).next().unwrap().instant;
    table.delete_savepoint(saved).await.unwrap();
    let options = TableOptions::new().with_archive_limits(ArchiveLimits { keep_min: 1, keep_max: 1 });
    let options = options.with_retention(RetentionPolicy::commits(1));
    let table = Table::open_with(golden.store(), "table".into(), options).await.unwrap();
    table.archive().await.unwrap().unwrap();
    assert!(table.timeline().await.unwrap().completed_commits().all(|commit| commit.instant != saved));
    assert_eq!(ids().await, all);
    assert_eq!(table.validate().await.unwrap(), []);
}

/// Some files of these tables are older than a change of their columns. The first rows are in such a file.
#[rstest]
#[case::numbers_became_text("read-promoted-0.15")]
#[case::a_nested_field_was_dropped("read-unnested-0.15")]
#[tokio::test]
async fn files_that_are_older_than_the_schema_are_read_and_written_on(#[case] name: &str) {
    let golden = Golden::unpack(name);
    let table = open(&golden).await;
    let mut rows = expected(&golden.path("expected.jsonl"));
    assert_eq!(lines(&table.read(Query::snapshot()).await.unwrap()), rows);
    assert_eq!(table.validate().await.unwrap(), []);
    let first = common::batch(&common::schema("id bigint"), r#"{"id":1}"#);
    assert_eq!(table.delete(&[first]).await.unwrap().deleted, 1);
    rows.retain(|row| !row.contains(r#""id":1,"#));
    assert_eq!(lines(&table.read(Query::snapshot()).await.unwrap()), rows);
    assert_eq!(table.validate().await.unwrap(), []);
}

/// As text, 10 is less than 9, and in the statistics of the file it is greater.
#[tokio::test]
async fn statistics_of_numbers_that_became_text_exclude_nothing() {
    let golden = Golden::unpack("read-promoted-0.15");
    let table = open(&golden).await;
    let all = table.read(Query::snapshot().with_columns(["id", "m"])).await.unwrap();
    let text = |row: &String| {
        serde_json::from_str::<serde_json::Value>(row).unwrap()["m"].as_str().map(str::to_owned)
    };
    for value in ["1", "-1099511627776", "9223372036854775807", "5"] {
        let query = Query::snapshot().with_columns(["id", "m"]);
        let found = table.read(query.with_predicate(Predicate::at_most("m", value))).await.unwrap();
        let mut rows = lines(&all);
        rows.retain(|row| text(row).is_some_and(|text| *text <= *value));
        assert_eq!(lines(&found), rows, "{value}");
    }
}

/// On a local disk, Hadoop writes a checksum next to each file, the logs of changes included. The golden
/// tables are stored without them.
#[tokio::test]
async fn checksums_of_logs_are_not_logs() {
    let golden = Golden::unpack("read-cdc-0.15");
    for file in walk(&golden.path("table")) {
        let file = FilePath::new(&file);
        let bytes = std::fs::read(file).unwrap();
        let mut sums = b"crc\0\0\0\x02\0".to_vec();
        for chunk in bytes.chunks(512) {
            let mut crc = flate2::Crc::new();
            crc.update(chunk);
            sums.extend(crc.sum().to_be_bytes());
        }
        let name = format!(".{}.crc", file.file_name().unwrap().to_str().unwrap());
        std::fs::write(file.with_file_name(name), sums).unwrap();
    }
    assert!(walk(&golden.path("table")).iter().any(|file| file.ends_with(".cdc.crc")));
    let table = open(&golden).await;
    assert_eq!(
        lines(&table.read(Query::snapshot()).await.unwrap()),
        expected(&golden.path("expected.jsonl"))
    );
    assert_eq!(table.validate().await.unwrap(), []);
}

const VERSION: &str = "hoodie.table.version";
const META_FIELDS: &str = "hoodie.populate.meta.fields";
const DROPPED: &str = "hoodie.datasource.write.drop.partition.columns";

/// Base files of these tables lack the meta columns, or the partition columns: text, a day, a number, encoded
/// text, the null partition.
#[rstest]
#[case("read-virtual-flat-0.12", META_FIELDS)]
#[case("read-virtual-0.15", META_FIELDS)]
#[case("v8-virtual-flat-1.0", VERSION)]
#[case("v9-virtual-1.2", VERSION)]
#[case("read-dropped-0.12", DROPPED)]
#[case("read-dropped-plain-0.12", DROPPED)]
#[case("read-dropped-0.15", DROPPED)]
#[case("read-dropped-plain-0.15", DROPPED)]
#[case("read-dropped-sql-0.15", DROPPED)]
#[case("v8-dropped-1.0", VERSION)]
#[case("v9-dropped-plain-1.2", VERSION)]
#[tokio::test]
async fn tables_whose_files_lack_columns_are_read_and_not_written(
    #[case] name: &str,
    #[case] property: &str,
) {
    let golden = Golden::unpack(name);
    let before = walk(&golden.path("table"));
    let table = open(&golden).await;
    assert_eq!(table.version().to_string(), golden.about["table_version"].as_str().unwrap());
    let rows = table.read(Query::snapshot()).await.unwrap();
    assert_eq!(lines(&rows), expected(&golden.path("expected.jsonl")));
    for (instant, says) in golden.about["expected"]["as_of"].as_object().unwrap() {
        let rows = table.read(Query::as_of(instant.parse().unwrap())).await.unwrap();
        assert_eq!(lines(&rows), expected(&golden.path(says["dump"].as_str().unwrap())), "{instant}");
    }
    assert_eq!(table.validate().await.unwrap(), []);

    // Spark returns no meta columns if the files have none.
    let meta = lines(&table.read(Query::snapshot().with_meta_columns()).await.unwrap());
    let keys = lines(&table.read(Query::snapshot().with_columns(["_hoodie_record_key"])).await.unwrap());
    let commit = table.timeline().await.unwrap().latest_commit().unwrap();
    let since = table.read(Query::since(commit)).await.map(|rows| lines(&rows));
    let history = table.history("1").await.map(|history| history.len());
    if name.contains("virtual") {
        assert_eq!(keys, vec![r#"{"_hoodie_record_key":null}"#; meta.len()]);
        for refused in [since.map(drop), history.map(drop)] {
            expect_refusal(refused, META_FIELDS);
        }
    } else {
        assert_eq!(meta, expected(&golden.path("expected_meta.jsonl")));
        // The complex generator of Hudi 0.12 includes the field's name in a key.
        let named = table.history("id:1").await.unwrap().len();
        assert!(since.is_ok() && history.unwrap() + named > 0);
    }

    for refused in [
        table.upsert(&rows).await.map(drop),
        table.bulk_insert(&rows).await.map(drop),
        table.delete(&rows).await.map(drop),
        table.insert_overwrite_table(&rows).await.map(drop),
        table.check_writable(),
    ] {
        expect_refusal(refused, property);
    }
    assert_eq!(without_locks(walk(&golden.path("table"))), before);
}

/// Rows with the types that Avro writers of Hudi use and that have no own type in a table of ours.
fn file_of_other_types() -> Vec<u8> {
    use parquet::{
        data_type::{ByteArray, ByteArrayType, FixedLenByteArrayType, Int32Type, Int64Type},
        file::writer::SerializedFileWriter,
        schema::parser::parse_message_type,
    };
    let meta = hudi_scd::schema::META_COLUMNS.map(|name| format!("optional binary {name} (UTF8);"));
    let schema = format!(
        "message r {{ {} optional int64 id; optional binary tier (ENUM); optional fixed_len_byte_array(2) code;
        optional int32 opens (TIME_MILLIS); optional int64 closes (TIME_MICROS); optional int64 at; }}",
        meta.join(" ")
    );
    let schema = Arc::new(parse_message_type(&schema).unwrap());
    let mut file = SerializedFileWriter::new(Vec::new(), schema, Arc::default()).unwrap();
    let mut group = file.next_row_group().unwrap();
    let mut at = 0;
    while let Some(mut column) = group.next_column().unwrap() {
        let levels = Some(&[1, 1][..]);
        let texts = ["gold", "silver"].map(ByteArray::from);
        let written = match at {
            0..=4 | 6 => column.typed::<ByteArrayType>().write_batch(&texts, levels, None),
            7 => {
                let codes = [b"ab", b"cd"].map(|code| ByteArray::from(&code[..]).into());
                column.typed::<FixedLenByteArrayType>().write_batch(&codes, levels, None)
            }
            8 => column.typed::<Int32Type>().write_batch(&[28_800_000, 0], levels, None),
            9 => column.typed::<Int64Type>().write_batch(&[64_800_000_000, 0], levels, None),
            _ => column.typed::<Int64Type>().write_batch(&[1, 2], levels, None),
        };
        assert_eq!(written.unwrap(), 2);
        column.close().unwrap();
        at += 1;
    }
    group.close().unwrap();
    file.into_inner().unwrap()
}

#[tokio::test]
async fn enums_fixed_bytes_and_times_of_day_are_read_and_not_written() {
    let store = common::memory();
    let schema = common::schema("id bigint, at bigint");
    let definition = hudi_scd::TableDefinition::new("t", schema.clone(), ["id"]).with_ordering_field("at");
    let table = Table::create(store.clone(), "t".into(), definition).await.unwrap();
    let rows = common::batch(&schema, "{\"id\":1,\"at\":1}\n{\"id\":2,\"at\":2}");
    let commit = table.upsert(&[rows]).await.unwrap().instant.unwrap();
    let file = table.file_groups().await.unwrap()[0].versions[0].file.clone();
    store.put(&Path::from(format!("t/{file}")), file_of_other_types().into()).await.unwrap();
    let path = Path::from(format!("t/.hoodie/{commit}.commit"));
    let mut metadata: serde_json::Value =
        serde_json::from_slice(&store.get(&path).await.unwrap().bytes().await.unwrap()).unwrap();
    metadata["extraMetadata"]["schema"] = r#"{"type":"record","name":"r","fields":[
        {"name":"id","type":"long"},
        {"name":"tier","type":["null",{"type":"enum","name":"tier","symbols":["gold","silver"]}],"default":null},
        {"name":"code","type":{"type":"fixed","name":"code","size":2}},
        {"name":"opens","type":{"type":"int","logicalType":"time-millis"}},
        {"name":"closes","type":{"type":"long","logicalType":"time-micros"}},
        {"name":"at","type":"long"}]}"#
        .into();
    store.put(&path, metadata.to_string().into()).await.unwrap();

    let table = Table::open(store, "t".into()).await.unwrap();
    let rows = table.read(Query::snapshot()).await.unwrap();
    assert_eq!(
        lines(&rows),
        [
            r#"{"at":1,"closes":64800000000,"code":"YWI=","id":1,"opens":28800000,"tier":"gold"}"#,
            r#"{"at":2,"closes":0,"code":"Y2Q=","id":2,"opens":0,"tier":"silver"}"#,
        ]
    );
    let gold = Query::snapshot().with_columns(["id"]).with_predicate(Predicate::equal("tier", "gold"));
    assert_eq!(lines(&table.read(gold).await.unwrap()), [r#"{"id":1}"#]);
    for refused in [table.upsert(&rows).await.map(drop), table.delete(&rows).await.map(drop)] {
        let error = refused.unwrap_err();
        assert_eq!(
            (error.kind(), error.context("column"), error.context("type")),
            (ErrorKind::Unsupported, Some("tier"), Some("enum"))
        );
    }
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
        assert_eq!(error.context("property"), Some(VERSION));
        assert!(error.context("hint").unwrap().contains("downgrade"));
    }
    assert_eq!(walk(&golden.path("table")), before);
}

/// The names of completed actions contain two times, and the archive has a different format.
#[rstest]
#[tokio::test]
async fn the_files_of_every_action_of_later_versions_are_found(
    #[values("v8-1.0", "v8-archived-1.0", "v9-1.1")] name: &str,
) {
    let golden = Golden::unpack(name);
    let table = open(&golden).await;
    for entry in table.timeline().await.unwrap().entries() {
        let (path, bytes) = table.entry_file(entry).await.unwrap();
        if entry.action == Action::Commit && !entry.is_pending() {
            CommitMetadata::parse(&bytes, &path).unwrap();
        }
    }
    let archived = table.archived_entries().await.unwrap();
    assert_eq!(archived.is_empty(), name != "v8-archived-1.0");
    assert!(archived.iter().all(|entry| entry.commit_time.is_some() && entry.action_type.is_some()));
}

/// In version 8 a commit has two times. A range of commits uses the second one, as in Hudi 1.x.
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
    // The instant of a commit is earlier than its completion.
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
        assert_eq!(lines(std::slice::from_ref(batch)), [common::canonical(&row)]);
        assert!(
            history.windows(2).all(|pair| pair[0].instant < pair[1].instant && pair[1].instant > earliest)
        );
    }
}

/// A commit that completes after later commits were archived is the first one of the active timeline. Base
/// files of the archived commits count, but only the archive shows that.
#[tokio::test]
async fn the_archive_tells_which_commits_completed_before_a_slower_one() {
    let golden = Golden::unpack("v8-archived-1.0");
    let timeline = golden.path("table/.hoodie/timeline");
    let count = async || read(&open(&golden).await, Query::snapshot()).await.len();
    let before = count().await;
    // A file group of an archived commit, and a file group of a commit that never existed.
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

    // Hudi deletes the file before it writes it again.
    let version = timeline.join("history/_version_");
    std::fs::write(timeline.join("history/manifest_0"), r#"{"files":[]}"#).unwrap();
    for broken in ["", "garbled"] {
        std::fs::write(&version, broken).unwrap();
        assert_eq!(count().await, 2 * before, "the manifest with the highest number counts");
    }
    std::fs::remove_file(&version).unwrap();
    assert_eq!(count().await, 2 * before);
    std::fs::write(&version, "2").unwrap();
    let error = open(&golden).await.read(Query::snapshot()).await.unwrap_err();
    assert!(error.context("file").unwrap().ends_with("history/manifest_2"), "{error}");
}

/// Replaces the version of the archive after its first read.
#[derive(Clone, Debug, Default)]
struct Archival(Arc<AtomicUsize>);

#[async_trait::async_trait]
impl common::interposed::Interposer for Archival {
    async fn get(
        &self,
        inner: &dyn ObjectStore,
        location: &Path,
        options: object_store::GetOptions,
    ) -> object_store::Result<object_store::GetResult> {
        let found = inner.get_opts(location, options).await;
        if location.filename() == Some("_version_") && self.0.fetch_add(1, Ordering::Relaxed) == 0 {
            inner.put(location, "1".into()).await?;
        }
        found
    }
}

/// A reader that is so slow that the files of its manifest are deleted begins again.
#[tokio::test]
async fn a_read_of_an_archive_that_was_replaced_meanwhile_begins_again() {
    let golden = Golden::unpack("v8-archived-1.0");
    let store = in_memory(&golden, true).await.0;
    let table = Table::open(store.clone(), "table".into()).await.unwrap();
    let archived = table.archived_entries().await.unwrap();
    let version = Path::from("table/.hoodie/timeline/history/_version_");
    let newest = store.get(&version).await.unwrap().bytes().await.unwrap();
    assert_eq!(newest, "1");
    store.put(&version, "0".into()).await.unwrap();
    let slow = common::interposed::Interposed::over(store, Archival::default());
    let table = Table::open(slow, "table".into()).await.unwrap();
    assert_eq!(table.archived_entries().await.unwrap(), archived);
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

fn properties(golden: &Golden) -> String {
    std::fs::read_to_string(golden.path("table/.hoodie/hoodie.properties")).unwrap()
}

#[rstest]
#[tokio::test]
async fn is_written_on_as_it_is_and_its_metadata_table_dropped(
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
        "old-0.9"
    )]
    name: &str,
) {
    let golden = Golden::unpack(name);
    let table = open(&golden).await;
    let before = read(&table, Query::snapshot()).await;
    let listed: Vec<String> = table.metadata_partitions().into_iter().map(str::to_owned).collect();
    let version = table.version();

    // Writing the stored rows again changes nothing. It therefore drops nothing, except the remains of a dead
    // writer.
    let stored = table.read(Query::snapshot()).await.unwrap();
    let again = table.upsert(&stored).await.unwrap();
    assert_eq!((again.instant, again.unchanged), (None, before.len() as u64), "{again}");
    if again.rolled_back.is_empty() {
        assert_eq!(open(&golden).await.metadata_partitions(), listed);
    }

    let mut known: serde_json::Value = serde_json::from_str(&before[0]).unwrap();
    known[golden.about["ordering"].as_str().unwrap()] = "2030-01-01T00:00:00.000000Z".into();
    let mut new = known.clone();
    new[golden.about["key"].as_str().unwrap()] = 424_242.into();
    let rows = common::batch(&golden.schema(), &format!("{known}\n{new}"));
    let report = table.upsert(&[rows]).await.unwrap();
    assert_eq!((report.inserted, report.updated), (1, 1), "{report}");
    if again.rolled_back.is_empty() {
        assert_eq!(report.metadata_table_dropped, listed);
    }
    let mut expected = before;
    expected[0] = common::canonical(&known);
    expected.push(common::canonical(&new));
    expected.sort();
    let table = open(&golden).await;
    assert_eq!(read(&table, Query::snapshot()).await, expected);
    assert_eq!(table.metadata_partitions(), [""; 0]);
    assert_eq!(table.version(), version, "never upgraded by a write");
    // In version 6, readers may still be planning with the directory. Before version 6, writers look for it.
    let stays = version == hudi_scd::TableVersion::SIX;
    assert_eq!(golden.path("table/.hoodie/metadata").exists(), stays);
    let mut found = table.validate().await.unwrap();
    found.retain(|found| found.invariant != Invariant::StrayFile);
    assert_eq!(found, []);
    if version.number() < 3 {
        // The next instant of a writer that counts in seconds is newer than this one.
        let second = report.instant.unwrap().to_string()[..14].to_owned();
        let now = hudi_scd::Clock::now(&hudi_scd::SystemClock);
        let now = jiff::tz::TimeZone::system().to_datetime(now).strftime("%Y%m%d%H%M%S").to_string();
        assert!(now > second, "{now} {second}");
    }
}

#[tokio::test]
async fn a_metadata_table_can_be_kept_by_refusing_to_write() {
    let golden = Golden::unpack("mdt-files-0.15");
    let options = TableOptions::new().with_metadata_table(MetadataTable::Refuse);
    let table = Table::open_with(golden.store(), "table".into(), options).await.unwrap();
    let rows = table.read(Query::snapshot()).await.unwrap();
    let files = || {
        let mut files = walk(&golden.path("table"));
        files.retain(|file| !file.contains("/.locks/"));
        (files, properties(&golden))
    };
    let before = files();
    let error = table.upsert(&rows).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(error.context("value"), Some("files"));
    assert_eq!(files(), before);
}

#[tokio::test]
async fn an_index_that_is_being_built_is_not_written_beside() {
    let golden = Golden::unpack("mdt-files-0.15");
    std::fs::write(golden.path("table/.hoodie/20261128001900000.indexing.requested"), "").unwrap();
    let table = open(&golden).await;
    let rows = table.read(Query::snapshot()).await.unwrap();
    assert_eq!(as_spark_reads(lines(&rows)), expected(&golden.path("expected.jsonl")));
    let before = properties(&golden);
    let error = table.delete(&rows).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.context("action")),
        (ErrorKind::Unsupported, Some("indexing")),
        "{error}"
    );
    assert_eq!(properties(&golden), before, "the metadata table is there still");
}

/// Between two writes of a handle, Spark creates a metadata table, leaves a stale Hadoop checksum, or
/// upgrades the table.
#[tokio::test]
async fn each_write_looks_at_the_properties_again() {
    let golden = Golden::unpack("mdt-unpartitioned-0.14");
    let table = open(&golden).await;
    let all = table.read(Query::snapshot()).await.unwrap();
    let key = |row: usize| all[0].slice(row, 1);
    let file = golden.path("table/.hoodie/hoodie.properties");
    let checksum = golden.path("table/.hoodie/.hoodie.properties.crc");
    std::fs::write(&checksum, "crc of other bytes").unwrap();
    assert_eq!(table.delete(&[key(0)]).await.unwrap().metadata_table_dropped, ["files"]);
    assert!(!checksum.exists());
    assert_eq!(table.delete(&[key(1)]).await.unwrap().metadata_table_dropped, [""; 0]);

    let listed = "hoodie.table.metadata.partitions=";
    std::fs::write(&file, properties(&golden).replace(listed, &format!("{listed}column_stats,files")))
        .unwrap();
    let report = table.delete(&[key(2)]).await.unwrap();
    assert_eq!(report.metadata_table_dropped, ["column_stats", "files"]);

    let upgraded = properties(&golden).replace("hoodie.table.version=6", "hoodie.table.version=8");
    std::fs::write(&file, upgraded).unwrap();
    let error = table.delete(&[key(3)]).await.unwrap_err();
    assert_eq!((error.kind(), error.context("to")), (ErrorKind::Conflict, Some("8")), "{error}");
}

/// Up to version 4, the partition of nulls has a different name.
#[rstest]
#[tokio::test]
async fn null_partitions_have_the_name_of_the_version(
    #[values(("2", "p=default"), ("4", "p=default"), ("5", "p=__HIVE_DEFAULT_PARTITION__"))] case: (
        &str,
        &str,
    ),
) {
    let store = common::memory();
    let schema = common::schema("id bigint, p string, at bigint");
    let definition = hudi_scd::TableDefinition::new("t", schema.clone(), ["id"])
        .with_ordering_field("at")
        .with_partition_fields(["p"]);
    Table::create(store.clone(), "t".into(), definition).await.unwrap();
    let file = object_store::path::Path::from("t/.hoodie/hoodie.properties");
    let text = store.get(&file).await.unwrap().bytes().await.unwrap();
    let text = String::from_utf8(text.to_vec()).unwrap();
    let text = text.replace("hoodie.table.version=6", &format!("hoodie.table.version={}", case.0));
    store.put(&file, text.into()).await.unwrap();
    let table = Table::open(store, "t".into()).await.unwrap();
    let rows = common::batch(&schema, "{\"id\":1,\"p\":null,\"at\":1}\n{\"id\":2,\"p\":\"x\",\"at\":1}");
    table.upsert(&[rows]).await.unwrap();
    let groups = table.file_groups().await.unwrap();
    let partitions: Vec<&str> = groups.iter().map(|group| &*group.partition).collect();
    assert!(partitions.contains(&case.1), "{partitions:?}");
    assert_eq!(table.validate().await.unwrap(), []);
}

/// Counts calls, and records the paths of reads and listings.
#[derive(Clone, Debug, Default)]
struct Calls {
    number: Arc<AtomicUsize>,
    paths: Arc<Mutex<Vec<String>>>,
}

impl Calls {
    fn note(&self, path: Option<&Path>) {
        self.number.fetch_add(1, Ordering::Relaxed);
        self.paths.lock().unwrap().extend(path.map(Path::to_string));
    }

    fn lap(&self) -> usize {
        self.number.swap(0, Ordering::Relaxed)
    }

    fn metadata_table(&self) -> usize {
        self.paths.lock().unwrap().iter().filter(|path| path.contains(".hoodie/metadata")).count()
    }
}

#[async_trait::async_trait]
impl common::interposed::Interposer for Calls {
    async fn call<T: Send>(
        &self,
        call: futures::future::BoxFuture<'_, object_store::Result<T>>,
    ) -> object_store::Result<T> {
        self.note(None);
        call.await
    }

    fn list(
        &self,
        inner: &Arc<dyn ObjectStore>,
        prefix: Option<&Path>,
    ) -> futures::stream::BoxStream<'static, object_store::Result<object_store::ObjectMeta>> {
        self.note(prefix);
        inner.list(prefix)
    }

    async fn get(
        &self,
        inner: &dyn ObjectStore,
        location: &Path,
        options: object_store::GetOptions,
    ) -> object_store::Result<object_store::GetResult> {
        self.note(Some(location));
        inner.get_opts(location, options).await
    }
}

/// Loads a golden table into memory, optionally without its metadata table.
async fn in_memory(golden: &Golden, metadata: bool) -> (Arc<dyn ObjectStore>, Calls) {
    let store = common::memory();
    let root = golden.path("");
    for file in walk(&golden.path("table")) {
        let relative = FilePath::new(&file).strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
        let mut bytes = std::fs::read(&file).unwrap();
        if relative.ends_with(".hoodie/hoodie.properties") && !metadata {
            let text = String::from_utf8(bytes).unwrap();
            bytes = text.replace("metadata.partitions=files", "metadata.partitions=").into_bytes();
        }
        if metadata || !relative.contains(".hoodie/metadata/") {
            store.put(&Path::parse(relative).unwrap(), bytes.into()).await.unwrap();
        }
    }
    let calls = Calls::default();
    (common::interposed::Interposed::over(store, calls.clone()), calls)
}

/// The write that drops the metadata table needs one more request. Every other write reads the properties
/// again, which is one request.
#[tokio::test]
async fn a_metadata_table_costs_readers_nothing_and_the_write_that_drops_it_one_request() {
    let golden = Golden::unpack("mdt-archived-0.15");
    let mut costs = Vec::new();
    for metadata in [true, false] {
        let (store, calls) = in_memory(&golden, metadata).await;
        let options = TableOptions::new().without_lock().with_parallelism(1);
        let table = Table::open_with(store, "table".into(), options).await.unwrap();
        let rows = table.read(Query::snapshot()).await.unwrap();
        let read = calls.lap();
        let report = table.delete(&[rows[0].slice(0, 1)]).await.unwrap();
        assert_eq!(report.metadata_table_dropped.is_empty(), !metadata);
        let write = calls.lap();
        assert_eq!(calls.metadata_table(), 0, "the directory stays for readers that are planning");
        costs.push((read, write));
        let again =
            || calls.paths.lock().unwrap().iter().filter(|path| path.ends_with(".properties")).count();
        let before = again();
        table.delete(&[rows[0].slice(1, 1)]).await.unwrap();
        assert_eq!(again() - before, 1, "requests of a write after that");
    }
    assert_eq!(costs[0].0, costs[1].0, "requests of opening and reading");
    assert_eq!(costs[0].1, costs[1].1 + 1, "requests of the write");
}

/// Up to version 5, the write also lists and deletes the directory. Together with the properties this is four
/// requests on S3.
#[tokio::test]
async fn the_write_that_deletes_a_metadata_table_needs_four_requests() {
    let golden = Golden::unpack("old-0.12");
    let mut costs = Vec::new();
    for metadata in [true, false] {
        let (store, _) = in_memory(&golden, metadata).await;
        let meter = common::meter::Meter::over(store);
        let options = TableOptions::new().without_lock().with_parallelism(1);
        let table = Table::open_with(meter.store(), "table".into(), options).await.unwrap();
        let rows = table.read(Query::snapshot()).await.unwrap();
        meter.lap();
        let report = table.delete(&[rows[0].slice(0, 1)]).await.unwrap();
        assert_eq!(report.metadata_table_dropped.is_empty(), !metadata);
        let write = meter.lap();
        table.delete(&[rows[0].slice(1, 1)]).await.unwrap();
        let next = meter.lap();
        let properties = next.0.iter().filter(|request| request.path.ends_with("hoodie.properties"));
        assert_eq!(properties.count(), 1, "requests of a write after that: {next}");
        assert!(!next.to_string().contains(".hoodie/metadata"), "{next}");
        costs.push((write, next));
    }
    let [(dropping, after), (plain, again)] = costs.as_slice() else { panic!() };
    assert_eq!(dropping.0.len(), plain.0.len() + 4, "{dropping}");
    assert_eq!(after.0.len(), again.0.len());
}

/// A writer that dies at any storage call leaves a correct metadata table, or none: when it dies, the
/// metadata table lists every visible change. Up to version 5 the directory counts too.
#[rstest]
#[tokio::test]
async fn no_death_leaves_a_metadata_table_beside_a_change(
    #[values("mdt-unpartitioned-0.14", "mdt-crashed-0.15", "old-0.12")] name: &str,
) {
    let golden = Golden::unpack(name);
    for calls in 0.. {
        let (store, _) = in_memory(&golden, true).await;
        let completed = async || {
            let table = Table::open(store.clone(), "table".into()).await.unwrap();
            let timeline = table.timeline().await.unwrap();
            let entries = timeline.entries().iter().filter(|entry| !entry.is_pending());
            let entries: Vec<_> = entries.map(|entry| (entry.instant, entry.action)).collect();
            let lists = !table.metadata_partitions().is_empty();
            let tied_to_directory = table.version().number() < 6;
            let folder = Path::from("table/.hoodie/metadata");
            let files = store.list_with_delimiter(Some(&folder)).await.unwrap();
            (entries, lists || (tied_to_directory && !files.common_prefixes.is_empty()))
        };
        let (before, _) = completed().await;
        let options = || TableOptions::new().without_lock().with_parallelism(1);
        let whole = Table::open_with(store.clone(), "table".into(), options()).await.unwrap();
        let rows = whole.read(Query::snapshot()).await.unwrap();
        let (mortal, left) = common::mortal::Mortal::after(store.clone(), calls, calls % 2 == 0);
        let written = async {
            let table = Table::open_with(mortal, "table".into(), options()).await?;
            table.delete(&[rows[0].slice(0, 1)]).await
        };
        let done = written.await.is_ok() && left.load(Ordering::SeqCst) > 0;
        let (after, trusted) = completed().await;
        assert!(after == before || !trusted, "died at call {calls}: {after:?}");
        // The next writer completes the rest.
        if whole.delete(&[rows[0].slice(0, 1)]).await.unwrap().instant.is_some() || done {
            assert!(!completed().await.1, "died at call {calls}");
        }
        if done {
            assert!(calls > 20);
            return;
        }
    }
}

/// Whatever a file of the timeline of version 8 contains, a read returns the table's rows or an error that
/// names the file.
#[tokio::test]
async fn damage_of_the_later_timeline_is_an_error_and_never_a_panic() {
    let golden = Golden::unpack("v8-archived-1.0");
    let timeline = golden.path("table/.hoodie/timeline");
    // A slow commit and a file of an archived commit make reads open the archive.
    std::fs::write(timeline.join("20261128000100000_20261128000230000.commit"), "").unwrap();
    let file =
        walk(&golden.path("table")).into_iter().find(|file| file.ends_with("_20261128000216450.parquet"));
    let copy = golden.path("table").join("a-0_0-1-1_20261128000149817.parquet");
    std::fs::copy(file.unwrap(), copy).unwrap();
    let rows = read(&open(&golden).await, Query::snapshot()).await.len();
    let mut random = fastrand::Rng::with_seed(13);
    for file in walk(&timeline).into_iter().filter(|file| !file.contains("00100000_")) {
        let sound = std::fs::read(&file).unwrap();
        for attempt in 0..8 {
            std::fs::write(&file, common::damage::damaged(&sound, &mut random)).unwrap();
            match open(&golden).await.read(Query::snapshot()).await {
                Ok(found) => assert!(lines(&found).len() <= 2 * rows, "{file}, attempt {attempt}"),
                Err(error) => {
                    assert!(
                        error.context("file").is_some() || error.context("commit").is_some(),
                        "{file}: {error}"
                    );
                }
            }
        }
        std::fs::write(&file, sound).unwrap();
    }
    assert_eq!(read(&open(&golden).await, Query::snapshot()).await.len(), rows);
}

/// Expects an error that a call is not supported because of this property.
fn expect_refusal(refused: hudi_scd::Result<()>, property: &str) {
    let error = refused.unwrap_err();
    assert_eq!(
        (error.kind(), error.context("property")),
        (ErrorKind::Unsupported, Some(property)),
        "{error}"
    );
}

fn without_locks(mut files: Vec<String>) -> Vec<String> {
    files.retain(|file| !file.contains("/.hoodie/.locks/"));
    files
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
