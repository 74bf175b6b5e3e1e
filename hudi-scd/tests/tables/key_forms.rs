//! Tables with one key column under the complex generator. Depending on its release, Hudi stores the key as
//! `1` or as `id:1` (HUDI-7001), and a table may contain both forms.

use std::sync::Arc;

use arrow::array::AsArray;
use hudi_scd::{ErrorKind, KeyChange, Query, Table, TableDefinition, TableVersion};
use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use rstest::rstest;

use crate::common::{self, batch, lines, memory, repeatable, schema};

const PROPERTY: &str = "hoodie.table.complex.keygenerator.encoding";
const PROPERTIES: &str = "t/.hoodie/hoodie.properties";
const OWN: &str = "t/.hoodie/.aux/hudi_scd.properties";
const COLUMNS: &str = "id string, region string, tier string, v int, ts bigint";

/// Keys that contain the separators of keys, and keys that begin with the name of their column.
const KEYS: [&str; 7] = ["7", "id:7", "id:id:7", "a,b:c", "id:a,id:b", ":", "id"];

/// The two forms.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    Value,
    Prefixed,
}

impl Form {
    fn name(self) -> &'static str {
        match self {
            Self::Value => "VALUE_ONLY",
            Self::Prefixed => "FIELD_PREFIXED",
        }
    }

    fn key(self, value: &str) -> String {
        match self {
            Self::Value => value.to_owned(),
            Self::Prefixed => format!("id:{value}"),
        }
    }
}

async fn text(store: &dyn ObjectStore, path: &str) -> Option<String> {
    let found = store.get(&Path::from(path)).await.ok()?;
    Some(String::from_utf8(found.bytes().await.unwrap().to_vec()).unwrap())
}

/// Sets or removes properties of the table. Removes the table's own copy of the form.
async fn with_properties(store: &dyn ObjectStore, lines: &[(&str, Option<&str>)]) {
    store.delete(&Path::from(OWN)).await.unwrap();
    let known = text(store, PROPERTIES).await.unwrap();
    let is_kept = |line: &&str| !lines.iter().any(|(name, _)| line.starts_with(&format!("{name}=")));
    let mut kept: Vec<String> = known.lines().filter(is_kept).map(str::to_owned).collect();
    kept.extend(lines.iter().filter_map(|(name, value)| Some(format!("{name}={}", (*value)?))));
    store.put(&Path::from(PROPERTIES), kept.join("\n").into()).await.unwrap();
}

async fn open(store: &Arc<dyn ObjectStore>) -> Table {
    Table::open_with(store.clone(), "t".into(), repeatable()).await.unwrap()
}

/// Opens the table like a Hudi release that writes this form.
async fn writer(store: &Arc<dyn ObjectStore>, form: Form) -> Table {
    with_properties(store.as_ref(), &[(PROPERTY, Some(form.name()))]).await;
    open(store).await
}

/// Opens the table without a recorded form, as Spark leaves it.
async fn unrecorded(store: &Arc<dyn ObjectStore>) -> Table {
    with_properties(store.as_ref(), &[(PROPERTY, None)]).await;
    open(store).await
}

async fn created() -> Arc<dyn ObjectStore> {
    let store = memory();
    let definition = TableDefinition::new("t", schema(COLUMNS), ["id"])
        .with_ordering_field("ts")
        .with_partition_fields(["region", "tier"]);
    Table::create_with(store.clone(), "t".into(), definition, repeatable()).await.unwrap();
    store
}

fn row(id: &str, region: &str, v: i32, ts: i32) -> String {
    format!(r#"{{"id":"{id}","region":"{region}","tier":"x","ts":{ts},"v":{v}}}"#)
}

fn rows(rows: &[String]) -> arrow::array::RecordBatch {
    batch(&schema(COLUMNS), &rows.join("\n"))
}

/// Returns the rows, and the stored key of each.
async fn stored(table: &Table) -> Vec<(String, String, i32)> {
    let mut found = Vec::new();
    for batch in table.read(Query::snapshot().with_meta_columns()).await.unwrap() {
        let text = |name: &str| batch.column_by_name(name).unwrap().as_string::<i32>().clone();
        let (ids, keys) = (text("id"), text("_hoodie_record_key"));
        let v = batch.column_by_name("v").unwrap().as_primitive::<arrow::datatypes::Int32Type>().clone();
        for row in 0..batch.num_rows() {
            found.push((ids.value(row).to_owned(), keys.value(row).to_owned(), v.value(row)));
        }
    }
    found.sort();
    found
}

fn expected(keys: &[(&str, Form, i32)]) -> Vec<(String, String, i32)> {
    let mut rows: Vec<_> = keys.iter().map(|(id, form, v)| ((*id).to_owned(), form.key(id), *v)).collect();
    rows.sort();
    rows
}

#[rstest]
#[tokio::test]
async fn every_write_finds_the_rows_of_either_form(
    #[values(Form::Value, Form::Prefixed)] form: Form,
    #[values(true, false)] is_recorded: bool,
) {
    let store = created().await;
    let mut table = writer(&store, form).await;
    table.upsert(&[rows(&KEYS.map(|id| row(id, "eu", 1, 1)))]).await.unwrap();
    if !is_recorded {
        table = unrecorded(&store).await;
    }
    let report = table.upsert(&[rows(&KEYS.map(|id| row(id, "eu", 2, 2)))]).await.unwrap();
    assert_eq!((report.inserted, report.updated), (0, 7), "{report}");
    let report = table.insert(&[rows(&KEYS.map(|id| row(id, "eu", 9, 9)))]).await.unwrap();
    assert_eq!((report.inserted, report.unchanged), (0, 7), "{report}");
    let report = table.upsert(&[rows(&[row("id:7", "us", 3, 3), row(":", "us", 3, 3)])]).await.unwrap();
    assert_eq!((report.inserted, report.moved), (0, 2), "{report}");
    let report = table.delete(&[rows(&[row("7", "", 0, 0), row("id", "", 0, 0)])]).await.unwrap();
    assert_eq!((report.deleted, report.unchanged), (2, 0), "{report}");
    let report = table.insert_overwrite(&[rows(&[row("a,b:c", "us", 4, 4), row("new", "us", 4, 4)])]).await;
    let report = report.unwrap();
    assert_eq!((report.inserted, report.moved, report.overwritten), (1, 1, 2), "{report}");
    let left = [("id:id:7", form, 2), ("id:a,id:b", form, 2), ("a,b:c", form, 4), ("new", form, 4)];
    assert_eq!(stored(&table).await, expected(&left));
    assert_eq!(table.validate().await.unwrap(), []);

    let key = batch(&schema("id string"), r#"{"id":"a,b:c"}"#);
    let history = table.history_of(&key).await.unwrap();
    let written: Vec<String> = history
        .iter()
        .flat_map(|version| match &version.change {
            KeyChange::Written(row) => lines(std::slice::from_ref(row)),
            KeyChange::Deleted => vec!["deleted".to_owned()],
        })
        .collect();
    assert_eq!(
        written,
        [row("a,b:c", "eu", 1, 1), row("a,b:c", "eu", 2, 2), row("a,b:c", "us", 4, 4)]
            .map(|line| common::canonical(&serde_json::from_str(&line).unwrap()))
    );
}

#[rstest]
#[tokio::test]
async fn a_table_with_both_forms_is_updated_and_deleted_without_doubling(
    #[values(Form::Value, Form::Prefixed)] last: Form,
    #[values(true, false)] is_recorded: bool,
) {
    let first = if last == Form::Value { Form::Prefixed } else { Form::Value };
    let store = created().await;
    let table = writer(&store, first).await;
    table.upsert(&[rows(&["1", "2", "x:y"].map(|id| row(id, "eu", 1, 1)))]).await.unwrap();
    // Small files receive the new rows, so one file contains both forms.
    let table = writer(&store, last).await;
    table.upsert(&[rows(&["3", "4"].map(|id| row(id, "eu", 1, 2)))]).await.unwrap();
    let table = if is_recorded { table } else { unrecorded(&store).await };

    let all = ["1", "2", "3", "4", "5", "x:y"].map(|id| row(id, "eu", 2, 3));
    let report = table.upsert(&[rows(&all)]).await.unwrap();
    assert_eq!((report.inserted, report.updated), (1, 5), "{report}");
    let both =
        [("1", first, 2), ("2", first, 2), ("3", last, 2), ("4", last, 2), ("5", last, 2), ("x:y", first, 2)];
    assert_eq!(stored(&table).await, expected(&both));
    let report = table.delete(&[rows(&["1", "4", "5"].map(|id| row(id, "", 0, 0)))]).await.unwrap();
    assert_eq!((report.deleted, report.unchanged), (3, 0), "{report}");
    // A row that moves is written with a new key.
    let report = table.upsert(&[rows(&[row("2", "us", 3, 4)])]).await.unwrap();
    assert_eq!((report.moved, report.inserted), (1, 0), "{report}");
    assert_eq!(stored(&table).await, expected(&[("2", last, 3), ("3", last, 2), ("x:y", first, 2)]));
    assert_eq!(table.validate().await.unwrap(), []);
}

/// The row `id:7` in the form of one release has the same key text as the row `7` in the form of the other.
#[tokio::test]
async fn two_rows_with_one_text_are_told_apart_by_their_columns() {
    let store = created().await;
    let prefixed = writer(&store, Form::Prefixed).await;
    prefixed.upsert(&[rows(&[row("7", "eu", 1, 1)])]).await.unwrap();
    let table = writer(&store, Form::Value).await;
    let report = table.upsert(&[rows(&[row("id:7", "eu", 1, 1)])]).await.unwrap();
    assert_eq!((report.inserted, report.updated), (1, 0), "{report}");
    let both = |seven, other| expected(&[("7", Form::Prefixed, seven), ("id:7", Form::Value, other)]);
    assert_eq!(stored(&table).await, both(1, 1));
    for (id, v, expected) in [("7", 2, both(2, 1)), ("id:7", 3, both(2, 3))] {
        let report = table.upsert(&[rows(&[row(id, "eu", v, v)])]).await.unwrap();
        assert_eq!((report.inserted, report.updated), (0, 1), "{report}");
        assert_eq!(stored(&table).await, expected);
    }
    let again = table.upsert(&[rows(&[row("7", "eu", 2, 2), row("id:7", "eu", 3, 3)])]).await.unwrap();
    assert_eq!((again.unchanged, again.instant), (2, None));
    assert_eq!(table.validate().await.unwrap(), []);
    table.delete(&[rows(&[row("7", "", 0, 0)])]).await.unwrap();
    assert_eq!(stored(&table).await, expected(&[("id:7", Form::Value, 3)]));
}

/// A release of the other kind stores a key a second time. Both copies count as one row.
#[tokio::test]
async fn a_row_that_is_stored_in_both_forms_is_reported_and_written_as_one() {
    let store = created().await;
    writer(&store, Form::Prefixed).await.upsert(&[rows(&[row("1", "eu", 1, 1)])]).await.unwrap();
    writer(&store, Form::Value).await.bulk_insert(&[rows(&[row("1", "eu", 1, 2)])]).await.unwrap();
    let table = unrecorded(&store).await;
    let findings = table.validate().await.unwrap();
    let names: Vec<&str> = findings.iter().map(|finding| finding.invariant.as_str()).collect();
    assert_eq!(names, ["duplicate-key"]);
    let report = table.upsert(&[rows(&[row("1", "us", 3, 3)])]).await.unwrap();
    assert_eq!((report.moved, report.inserted), (1, 0), "{report}");
    assert_eq!(stored(&table).await, expected(&[("1", Form::Value, 3)]));
    assert_eq!(table.validate().await.unwrap(), []);
}

#[rstest]
#[case::version_2("2", Form::Prefixed)]
#[case::version_5("5", Form::Prefixed)]
#[case::version_6("6", Form::Value)]
#[tokio::test]
async fn a_table_without_rows_has_the_form_of_its_version(#[case] version: &str, #[case] form: Form) {
    let store = created().await;
    let lines = [(PROPERTY, None), ("hoodie.table.version", Some(version))];
    with_properties(store.as_ref(), &lines).await;
    let table = open(&store).await;
    assert_eq!(table.version(), TableVersion::parse(version).unwrap());
    table.upsert(&[rows(&[row("id:1", "eu", 1, 1)])]).await.unwrap();
    assert_eq!(stored(&table).await, expected(&[("id:1", form, 1)]));
    let own = text(store.as_ref(), OWN).await.unwrap();
    assert!(own.lines().any(|line| line == format!("{PROPERTY}={}", form.name())), "{own}");
}

#[rstest]
#[tokio::test]
async fn the_form_is_decided_once(#[values(Form::Value, Form::Prefixed)] form: Form) {
    let other = if form == Form::Value { Form::Prefixed } else { Form::Value };
    let store = created().await;
    writer(&store, form).await.upsert(&[rows(&[row("id:1", "eu", 1, 1)])]).await.unwrap();
    let table = unrecorded(&store).await;
    let properties = text(store.as_ref(), PROPERTIES).await;
    table.upsert(&[rows(&[row("id:2", "eu", 1, 1)])]).await.unwrap();
    assert_eq!(text(store.as_ref(), PROPERTIES).await, properties, "only its own file records the form");
    let recorded = text(store.as_ref(), OWN).await.unwrap();
    assert!(recorded.lines().any(|line| line == format!("{PROPERTY}={}", form.name())), "{recorded}");

    // A release of the other kind, which does not know the property, writes the newest row.
    writer(&store, other).await.upsert(&[rows(&[row("id:3", "eu", 1, 1)])]).await.unwrap();
    with_properties(store.as_ref(), &[(PROPERTY, None)]).await;
    store.put(&Path::from(OWN), recorded.clone().into()).await.unwrap();
    let table = open(&store).await;
    table.upsert(&[rows(&[row("id:4", "eu", 1, 1)])]).await.unwrap();
    assert_eq!(text(store.as_ref(), OWN).await.unwrap(), recorded);
    let all = [("id:1", form, 1), ("id:2", form, 1), ("id:3", other, 1), ("id:4", form, 1)];
    assert_eq!(stored(&table).await, expected(&all));
}

#[tokio::test]
async fn another_form_that_was_recorded_in_the_meantime_is_a_conflict() {
    let store = created().await;
    writer(&store, Form::Value).await.upsert(&[rows(&[row("1", "eu", 1, 1)])]).await.unwrap();
    let table = unrecorded(&store).await;
    with_properties(store.as_ref(), &[(PROPERTY, Some("field_prefixed"))]).await;
    let error = table.upsert(&[rows(&[row("2", "eu", 1, 1)])]).await.unwrap_err();
    assert_eq!((error.kind(), error.context("property")), (ErrorKind::Conflict, Some(PROPERTY)));
    assert_eq!(error.context("hint"), Some("open the table again"));
    let table = open(&store).await;
    table.upsert(&[rows(&[row("2", "eu", 1, 1)])]).await.unwrap();
    assert_eq!(stored(&table).await, expected(&[("1", Form::Value, 1), ("2", Form::Prefixed, 1)]));
}

/// Both forms are also looked up for chunks of spilled rows.
#[rstest]
#[tokio::test]
async fn input_larger_than_the_memory_budget_finds_either_form(
    #[values(Form::Value, Form::Prefixed)] form: Form,
) {
    let other = if form == Form::Value { Form::Prefixed } else { Form::Value };
    let store = created().await;
    let many = |range: std::ops::Range<i32>, v| {
        rows(&range.map(|id| row(&format!("id:{id}"), "eu", v, v)).collect::<Vec<_>>())
    };
    writer(&store, other).await.upsert(&[many(0..400, 1)]).await.unwrap();
    writer(&store, form).await.upsert(&[many(400..800, 1)]).await.unwrap();
    let options = repeatable().with_memory_budget(16 * 1024);
    let table = Table::open_with(store.clone(), "t".into(), options).await.unwrap();
    let parts: Vec<_> = (0..10).map(|part| many(part * 100..part * 100 + 100, 2)).collect();
    let report = table.upsert(&parts).await.unwrap();
    assert_eq!((report.inserted, report.updated), (200, 800), "{report}");
    assert_eq!(table.validate().await.unwrap(), []);
}
