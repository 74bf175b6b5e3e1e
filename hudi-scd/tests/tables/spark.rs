//! Spark's options, and files that only the metadata of Spark's commits record.

use std::{sync::Arc, time::Duration};

use futures::stream;
use hudi_scd::{
    Codec, ErrorKind, Query, RetentionPolicy, SourceFile, Table, TableDefinition, TimestampPartition,
    TimestampType,
    scd::{Scd2, Scd2Table},
    spark::{self, Engine, Limits, Release, Work, choose},
    timeline::archive::ArchiveLimits,
};
use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use rstest::rstest;
use serde_json::{Value, json};

use crate::common::{batch, lines, memory, repeatable, schema};

fn shown(definition: &TableDefinition, release: Release) -> String {
    let options = spark::options(definition, release).unwrap();
    options.iter().map(|(name, value)| format!("{name}={value}\n")).collect()
}

fn customer() -> TableDefinition {
    let columns = schema("customer_id bigint, name string, at timestamp");
    TableDefinition::new("store_customer", columns, ["customer_id"]).with_ordering_field("at")
}

#[test]
fn options_of_hudi_0_15() {
    insta::assert_snapshot!(shown(&customer(), Release::V0), @r"
    hoodie.bloom.index.update.partition.path=true
    hoodie.cleaner.commits.retained=10
    hoodie.cleaner.policy=KEEP_LATEST_COMMITS
    hoodie.datasource.write.hive_style_partitioning=true
    hoodie.datasource.write.keygenerator.class=org.apache.hudi.keygen.NonpartitionedKeyGenerator
    hoodie.datasource.write.operation=upsert
    hoodie.datasource.write.partitionpath.field=
    hoodie.datasource.write.partitionpath.urlencode=false
    hoodie.datasource.write.payload.class=org.apache.hudi.common.model.DefaultHoodieRecordPayload
    hoodie.datasource.write.precombine.field=at
    hoodie.datasource.write.recordkey.field=customer_id
    hoodie.datasource.write.table.type=COPY_ON_WRITE
    hoodie.index.type=GLOBAL_BLOOM
    hoodie.keep.max.commits=30
    hoodie.keep.min.commits=20
    hoodie.metadata.enable=false
    hoodie.parquet.compression.codec=gzip
    hoodie.table.name=store_customer
    hoodie.table.timeline.timezone=UTC
    ");
}

#[test]
fn options_of_hudi_1_0_have_its_names_and_keep_version_6() {
    let definition = customer()
        .with_database("lake")
        .with_retention(RetentionPolicy::commits(40))
        .with_codec(Codec::Gzip)
        .with_partition_fields(["name"])
        .with_hive_style_partitioning(false)
        .with_url_encoding(true);
    insta::assert_snapshot!(shown(&definition, Release::V1_0), @r"
    hoodie.bloom.index.update.partition.path=true
    hoodie.clean.commits.retained=40
    hoodie.clean.policy=KEEP_LATEST_COMMITS
    hoodie.database.name=lake
    hoodie.datasource.write.hive_style_partitioning=false
    hoodie.datasource.write.keygenerator.class=org.apache.hudi.keygen.SimpleKeyGenerator
    hoodie.datasource.write.operation=upsert
    hoodie.datasource.write.partitionpath.field=name
    hoodie.datasource.write.partitionpath.urlencode=true
    hoodie.datasource.write.payload.class=org.apache.hudi.common.model.DefaultHoodieRecordPayload
    hoodie.datasource.write.precombine.field=at
    hoodie.datasource.write.recordkey.field=customer_id
    hoodie.datasource.write.table.type=COPY_ON_WRITE
    hoodie.index.type=GLOBAL_BLOOM
    hoodie.keep.max.commits=52
    hoodie.keep.min.commits=42
    hoodie.metadata.enable=false
    hoodie.parquet.compression.codec=gzip
    hoodie.table.name=store_customer
    hoodie.table.timeline.timezone=UTC
    hoodie.write.auto.upgrade=false
    hoodie.write.table.version=6
    ");
}

#[test]
fn options_of_hudi_1_1_name_the_form_of_keys_where_it_refuses_to_guess() {
    let definition = customer().with_partition_fields(["name", "at"]);
    let differing = |release| spark::options(&definition, release).unwrap();
    let (before, since) = (differing(Release::V1_0), differing(Release::V1_1));
    let added: Vec<_> = since.iter().filter(|(name, _)| !before.contains_key(*name)).collect();
    insta::assert_debug_snapshot!(added, @r#"
    [
        (
            "hoodie.table.ordering.fields",
            "at",
        ),
        (
            "hoodie.write.complex.keygen.new.encoding",
            "true",
        ),
        (
            "hoodie.write.complex.keygen.validation.enable",
            "false",
        ),
    ]
    "#);
}

#[test]
fn the_pattern_of_a_timestamp_partition_is_an_option() {
    let by_month = TimestampPartition::new(TimestampType::DateString, "yyyy/MM")
        .with_input_format("yyyy-MM-dd HH:mm:ss")
        .with_time_zone("GMT+2:00");
    let definition = customer().with_timestamp_partition("name", &by_month);
    let options = spark::options(&definition, Release::V0).unwrap();
    let of_generator: Vec<_> = options.iter().filter(|(name, _)| name.contains("keygen")).collect();
    insta::assert_debug_snapshot!(of_generator, @r#"
    [
        (
            "hoodie.datasource.write.keygenerator.class",
            "org.apache.hudi.keygen.TimestampBasedKeyGenerator",
        ),
        (
            "hoodie.keygen.timebased.input.dateformat",
            "yyyy-MM-dd HH:mm:ss",
        ),
        (
            "hoodie.keygen.timebased.output.dateformat",
            "yyyy/MM",
        ),
        (
            "hoodie.keygen.timebased.timestamp.type",
            "DATE_STRING",
        ),
        (
            "hoodie.keygen.timebased.timezone",
            "GMT+2:00",
        ),
    ]
    "#);
}

#[test]
fn versions_of_hudi_belong_to_releases() {
    let known = ["0.14.1", "0.15.0", "1.0.2", "1.2.0", "1.1.0-rc1"].map(Release::parse);
    let expected = [Release::V0, Release::V0, Release::V1_0, Release::V1_1, Release::V1_1];
    assert_eq!(known, expected.map(Some));
    assert!(["0.13.1", "2.0.0", "", "1", "latest"].iter().all(|version| Release::parse(version).is_none()));
}

#[tokio::test]
async fn an_existing_table_has_the_options_of_its_definition_and_a_history_has_none() {
    let definition =
        customer().with_retention(RetentionPolicy::hours(5)).with_partition_fields(["name", "at"]);
    let table = Table::create(memory(), "t".into(), definition.clone()).await.unwrap();
    let options = spark::options_of(&table, Release::V1_1).await.unwrap();
    assert_eq!(options, spark::options(&definition, Release::V1_1).unwrap());

    let scd = Scd2::new(["customer_id"], "at");
    let columns = schema("customer_id bigint, name string, at timestamp");
    let history = Scd2Table::definition_of("h", &scd, &columns).unwrap();
    let refused = spark::options(&history, Release::V0).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
}

fn file(number: usize) -> SourceFile {
    SourceFile::new(format!("s3://raw/{number}.csv"), "v1")
}

async fn take_in(table: &Table, numbers: &[usize]) -> Vec<SourceFile> {
    let files: Vec<_> = numbers.iter().copied().map(file).collect();
    let rows = |new: Vec<SourceFile>| {
        let columns = schema("id int, at int");
        stream::iter(new.into_iter().map(move |file| {
            let number = file.name.rsplit(['/', '.']).nth(1).unwrap().to_owned();
            Ok(batch(&columns, &format!("{{\"id\":{number},\"at\":1}}")))
        }))
    };
    table.take_in(&files, rows).await.unwrap().new
}

/// Removes the ledger of the latest commit, as if Spark had died before it wrote one.
async fn forget_latest_ledger(store: &Arc<dyn ObjectStore>, table: &Table) {
    let latest = table.timeline().await.unwrap().latest_commit().unwrap();
    let path = Path::parse(format!("t/.hoodie/.aux/tombstones/{latest}.ledger")).unwrap();
    store.delete(&path).await.unwrap();
}

#[tokio::test]
async fn files_count_that_only_the_metadata_of_a_commit_name() {
    let store = memory();
    let definition = TableDefinition::new("t", schema("id int, at int"), ["id"]);
    let options = repeatable().with_archive_limits(ArchiveLimits { keep_min: 3, keep_max: 4 });
    let definition = definition.with_retention(RetentionPolicy::commits(2));
    let table = Table::create_with(store.clone(), "t".into(), definition, options).await.unwrap();
    assert_eq!(take_in(&table, &[1]).await, [file(1)]);
    forget_latest_ledger(&store, &table).await;
    assert_eq!(table.new_files(&[file(1), file(2)]).await.unwrap(), [file(2)]);

    assert_eq!(take_in(&table, &[1, 2]).await, [file(2)]);
    forget_latest_ledger(&store, &table).await;
    // Both commits are archived.
    for at in 2..20 {
        table.upsert(&[batch(&schema("id int, at int"), &format!(r#"{{"id":9,"at":{at}}}"#))]).await.unwrap();
    }
    assert!(!table.archived_entries().await.unwrap().is_empty());
    assert_eq!(table.new_files(&[file(1), file(2), file(3)]).await.unwrap(), [file(3)]);
    // The next ledger contains them.
    assert_eq!(take_in(&table, &[3, 2, 1]).await, [file(3)]);
    let other = Table::open(store, "t".into()).await.unwrap();
    assert_eq!(take_in(&other, &[1, 2, 3]).await, []);
    assert_eq!(lines(&other.read(Query::snapshot()).await.unwrap()).len(), 4);
}

#[test]
fn the_arguments_of_the_program_are_json() {
    let arguments = spark::TakeIn::new("s3://lake/t", &customer().with_codec(Codec::Zstd), Release::V0)
        .unwrap()
        .with_profile("reference")
        .with_files(&[file(1)])
        .with_options([("hoodie.upsert.shuffle.parallelism".to_owned(), "8".to_owned())].into())
        .arguments();
    let read = |name: &str| -> Value { serde_json::from_str(&arguments[name]).unwrap() };
    assert_eq!(read("--files"), json!([["s3://raw/1.csv", "v1"]]));
    assert_eq!(read("--options")["hoodie.upsert.shuffle.parallelism"], "8");
    assert_eq!(read("--own-properties"), json!({ "hoodie.parquet.compression.codec": "zstd" }));
    let fields = read("--columns")["fields"].clone();
    assert_eq!(fields[2], json!({ "name": "at", "type": "timestamp", "nullable": true, "metadata": {} }));
    assert_eq!(
        (arguments["--profile"].as_str(), arguments["--table"].as_str()),
        ("reference", "s3://lake/t")
    );
}

const MIB: u64 = 1 << 20;
const FUNCTION: Limits = Limits { time: Duration::from_secs(900), disk: 10_240 * MIB, millicores: 1_000 };

#[rstest]
#[case(0, 0, Engine::Native)]
#[case(1, 8_000, Engine::Native)]
#[case(8_000, 0, Engine::Native)]
#[case(1, 9_000, Engine::Glue)]
#[case(9_000, 1_000, Engine::Glue)]
fn time_decides(#[case] batch: u64, #[case] touched: u64, #[case] engine: Engine) {
    assert_eq!(choose(Work { batch: batch * MIB, touched: touched * MIB }, FUNCTION).engine, engine);
}

#[test]
fn a_disk_that_is_too_small_decides_as_well() {
    let limits = Limits { disk: 512 * MIB, ..FUNCTION };
    let choice = choose(Work { batch: 100 * MIB, touched: 413 * MIB }, limits);
    assert_eq!((choice.engine, choice.disk), (Engine::Glue, 513 * MIB));
    assert_eq!(choose(Work { batch: 100 * MIB, touched: 412 * MIB }, limits).engine, Engine::Native);
}

#[test]
fn more_never_fits_better() {
    let mut random = fastrand::Rng::with_seed(3);
    for _ in 0..1_000 {
        let work = Work { batch: random.u64(..1 << 36), touched: random.u64(..1 << 36) };
        let more = Work { batch: work.batch + random.u64(..1 << 30), ..work };
        let limits = Limits::lambda(random.u64(128..10_240), random.u64(512..10_240));
        if choose(work, limits).engine == Engine::Glue {
            assert_eq!(choose(more, limits).engine, Engine::Glue, "{work:?} {more:?} {limits:?}");
        }
    }
    let huge = choose(Work { batch: u64::MAX, touched: u64::MAX }, Limits::lambda(0, 0));
    assert_eq!((huge.engine, huge.disk), (Engine::Glue, u64::MAX));
}

#[test]
fn the_figures_are_in_the_answer() {
    let choice = choose(Work { batch: 50 * MIB, touched: 2_048 * MIB }, FUNCTION);
    insta::assert_snapshot!(choice, @"hudi-scd: 50 MiB of rows and 2048 MiB of touched files may take 109 s and 2098 MiB of disk here; half of the time limit is 450 s, and the disk has 10240 MiB");
}
