//! Tables that Spark wrote.

use rstest::rstest;

use crate::{
    Place, canonical,
    common::{Golden, expected},
};

#[rstest]
fn tables_of_spark_read_as_spark_reads_them(
    #[values(
        "address-0.15",
        "address-1.0-v6",
        "archived-0.15",
        "complexkey-0.15",
        "complexkey-part-0.15",
        "crashed-0.15",
        "crashed-direct-0.15",
        "customer-0.14",
        "customer-0.15",
        "deletes-0.15",
        "rolledback-0.15",
        "singlecomplex-0.15"
    )]
    name: &str,
) {
    let golden = Golden::unpack(name);
    let place = Place::new();
    let table = golden.path("table");
    let table = table.to_str().unwrap();
    let rows = |words: &str| canonical(&place.ok(&format!("read {table} {words}")));
    assert_eq!(rows("--format jsonl"), expected(&golden.path("expected.jsonl")));
    assert_eq!(rows("--meta-columns"), expected(&golden.path("expected_meta.jsonl")));
    for (instant, says) in golden.about["expected"]["as_of"].as_object().unwrap() {
        match says.get("dump") {
            Some(dump) => {
                let dump = expected(&golden.path(dump.as_str().unwrap()));
                assert_eq!(rows(&format!("--as-of {instant}")), dump);
            }
            None => {
                let run = place.run(&format!("read {table} --as-of {instant}"));
                assert_eq!((run.code, run.out.as_str()), (1, ""));
                assert!(run.err.contains("outside retention") && run.err.contains("earliest"), "{}", run.err);
            }
        }
    }
    if let Some(range) = golden.about["expected"].get("incremental") {
        let instant = |key: &str| range[key].as_str().unwrap();
        let words = format!("--since {} --until {}", instant("begin_exclusive"), instant("end_inclusive"));
        assert_eq!(rows(&words), expected(&golden.path("expected.incr.jsonl")));
    }
    let sound = !name.starts_with("crashed");
    assert_eq!(place.run(&format!("validate {table}")).code, i32::from(!sound));
}

#[rstest]
fn the_batches_of_spark_make_the_rows_of_spark(
    #[values("address-0.15", "complexkey-part-0.15", "customer-0.15")] name: &str,
) {
    let golden = Golden::unpack(name);
    let place = Place::new();
    let about = |key: &str| golden.about[key].as_str().unwrap_or("").to_owned();
    place.write("columns.txt", &about("schema"));
    let (key, ordering, partition) = (about("key"), about("ordering"), about("partition"));
    let mut words =
        format!("create lake/t --name t --record-key {key} --ordering-field {ordering} --schema columns.txt");
    if !partition.is_empty() {
        words.push_str(&format!(" --partition-by {partition}"));
    }
    place.ok(&words);
    for (operation, input) in golden.inputs() {
        assert_eq!(operation, "upsert");
        place.ok(&format!("upsert lake/t --input {}", golden.path(&input).display()));
    }
    assert_eq!(canonical(&place.ok("read lake/t")), expected(&golden.path("expected.jsonl")));
    place.ok("validate lake/t");
}

#[test]
fn a_key_of_a_table_of_spark_has_a_history() {
    let golden = Golden::unpack("complexkey-0.15");
    let place = Place::new();
    let table = golden.path("table");
    let table = table.to_str().unwrap();
    let versions = place.lines(&format!("history {table} --key tenant:a,code:1"));
    let newest = versions.last().unwrap();
    assert_eq!(newest["change"], "written");
    assert_eq!(newest["row"]["code"], 1);
}

#[test]
fn an_old_table_is_upgraded_on_request() {
    let golden = Golden::unpack("old-0.12");
    let place = Place::new();
    let table = golden.path("table");
    let table = table.to_str().unwrap();
    let version = || place.lines(&format!("show {table} --json"))[0]["version"].clone();
    let told = place.ok(&format!("upgrade {table} --dry-run"));
    assert_eq!(
        told,
        "version 5 to 6\n  hoodie.table.version=6\n\
         the metadata table (files) is dropped; Hudi's writers create it again\n\
         Hudi 0.9 to 0.13 can still read the table, but not write it: its writers fail with \"Unknown versionCode:6\"\n"
    );
    assert_eq!(version(), 5);
    let report = place.json(&format!("upgrade {table}"));
    assert_eq!(
        (&report["from"], &report["to"], &report["locked_out"]),
        (&5.into(), &6.into(), &"0.9 to 0.13".into())
    );
    assert_eq!(version(), 6);
    assert_eq!(place.ok(&format!("upgrade {table}")), "the table already has version 6\n");
    assert_eq!(
        canonical(&place.ok(&format!("read {table} --format jsonl"))),
        expected(&golden.path("expected.jsonl"))
    );
}
