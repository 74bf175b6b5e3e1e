//! Writes to a table and reads it back.

use arrow::datatypes::SchemaRef;
use hudi_scd::{CommitReport, ErrorKind, Query, RetentionPolicy, Table, TableDefinition, TableOptions};

use crate::common::{self, batch, lines, memory, repeatable, schema};

const CUSTOMER: &str = "id bigint, name string, balance decimal(15,2), at int";

async fn customer(options: TableOptions) -> (Table, SchemaRef) {
    let schema = schema(CUSTOMER);
    let definition = TableDefinition::new("customer", schema.clone(), ["id"]).with_ordering_field("at");
    (Table::create_with(memory(), "lake/customer".into(), definition, options).await.unwrap(), schema)
}

fn row(id: i64, name: &str, at: i32) -> String {
    format!(r#"{{"id":{id},"name":"{name}","balance":"{id}.50","at":{at}}}"#)
}

async fn upsert(table: &Table, schema: &SchemaRef, rows: &[String]) -> CommitReport {
    table.upsert(&[batch(schema, &rows.join("\n"))]).await.unwrap()
}

async fn names(table: &Table) -> Vec<String> {
    let read = table.read(Query::snapshot().with_columns(["id", "name"])).await.unwrap();
    lines(&read)
}

#[tokio::test]
async fn new_keys_are_added_and_known_keys_get_the_newer_row() {
    let (table, schema) = customer(repeatable()).await;
    let first = upsert(&table, &schema, &[row(1, "Ada", 1), row(2, "Bob", 1)]).await;
    assert_eq!((first.inserted, first.updated, first.files), (2, 0, 1));
    let second = upsert(&table, &schema, &[row(2, "Bert", 2), row(3, "Cleo", 2)]).await;
    assert_eq!((second.inserted, second.updated, second.files), (1, 1, 1));
    assert_eq!(
        names(&table).await,
        [r#"{"id":1,"name":"Ada"}"#, r#"{"id":2,"name":"Bert"}"#, r#"{"id":3,"name":"Cleo"}"#]
    );
    assert_eq!(
        table.file_groups().await.unwrap().len(),
        1,
        "new rows are packed into the file that is there"
    );
}

#[tokio::test]
async fn a_late_row_never_overwrites_and_a_tie_goes_to_the_incoming_row() {
    let (table, schema) = customer(repeatable()).await;
    upsert(&table, &schema, &[row(1, "Ada", 5)]).await;
    let late = upsert(&table, &schema, &[row(1, "Old", 4)]).await;
    assert_eq!((late.instant, late.late), (None, 1));
    let tie = upsert(&table, &schema, &[row(1, "Tie", 5)]).await;
    assert_eq!(tie.updated, 1);
    assert_eq!(names(&table).await, [r#"{"id":1,"name":"Tie"}"#]);
}

#[tokio::test]
async fn a_batch_that_changes_nothing_makes_no_file_and_no_commit() {
    let (table, schema) = customer(repeatable()).await;
    let rows = [row(1, "Ada", 1), row(2, "Bob", 1)];
    upsert(&table, &schema, &rows).await;
    let before = table.timeline().await.unwrap().entries().to_vec();
    let again = upsert(&table, &schema, &rows).await;
    assert_eq!((again.instant, again.unchanged, again.files), (None, 2, 0));
    let empty = table.upsert(&[]).await.unwrap();
    assert_eq!((empty.instant, empty.rows), (None, 0));
    assert_eq!(table.timeline().await.unwrap().entries(), before);
}

#[tokio::test]
async fn within_a_batch_the_highest_ordering_wins() {
    let (table, schema) = customer(repeatable()).await;
    let report =
        upsert(&table, &schema, &[row(1, "b", 2), row(1, "c", 3), row(1, "a", 1), row(1, "d", 3)]).await;
    assert_eq!((report.inserted, report.superseded), (1, 3));
    assert_eq!(names(&table).await, [r#"{"id":1,"name":"d"}"#]);
}

#[tokio::test]
async fn a_key_whose_partition_changes_moves() {
    let schema = schema("id bigint, name string, day date, at int");
    let definition = TableDefinition::new("address", schema.clone(), ["id"])
        .with_ordering_field("at")
        .with_partition_fields(["day"]);
    let table = Table::create_with(memory(), "address".into(), definition, repeatable()).await.unwrap();
    let row =
        |id: i64, day: &str, at: i32| format!(r#"{{"id":{id},"name":"n{at}","day":"{day}","at":{at}}}"#);
    upsert(&table, &schema, &[row(1, "2025-01-01", 1), row(2, "2025-01-01", 1), row(3, "2025-01-02", 1)])
        .await;
    let report = upsert(&table, &schema, &[row(1, "2025-01-02", 2), row(2, "2025-01-03", 0)]).await;
    assert_eq!((report.moved, report.late, report.inserted, report.updated), (1, 1, 0, 0));
    let read = table.read(Query::snapshot().with_meta_columns().with_columns(["id"])).await.unwrap();
    let places: Vec<String> = lines(&read)
        .iter()
        .map(|line| {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            format!("{} {}", row["id"], row["_hoodie_partition_path"].as_str().unwrap())
        })
        .collect();
    let mut places = places;
    places.sort();
    assert_eq!(places, ["1 day=2025-01-02", "2 day=2025-01-01", "3 day=2025-01-02"]);
}

#[tokio::test]
async fn odd_partition_values_survive_a_local_disk() {
    for (url_encode, values) in
        [(true, vec!["a/b", "x y=é:%+", "100%", "..", "~#"]), (false, vec!["x y=é", "100%25", "a~b"])]
    {
        let disk = tempfile::tempdir().unwrap();
        let schema = schema("id bigint, place string, at int");
        let definition = TableDefinition::new("t", schema.clone(), ["id"])
            .with_ordering_field("at")
            .with_partition_fields(["place"])
            .with_url_encoding(url_encode);
        let table = Table::create_with(common::folder(disk.path()), "t".into(), definition, repeatable())
            .await
            .unwrap();
        for at in 0..4 {
            let rows: Vec<String> = values
                .iter()
                .enumerate()
                .map(|(id, place)| {
                    common::canonical(&serde_json::json!({"id": id, "place": place, "at": at}))
                })
                .collect();
            upsert(&table, &schema, &rows).await;
            let table = Table::open(common::folder(disk.path()), "t".into()).await.unwrap();
            assert_eq!(lines(&table.read(Query::snapshot()).await.unwrap()), {
                let mut rows = lines(&[batch(&schema, &rows.join("\n"))]);
                rows.sort();
                rows
            });
            assert_eq!(table.validate().await.unwrap(), []);
            assert_eq!(table.file_groups().await.unwrap().len(), values.len());
            let left = std::fs::read_dir(disk.path().join("t/.hoodie/.temp")).unwrap().count();
            assert_eq!(left, 0, "no folders of markers stay behind");
        }
    }
}

#[tokio::test]
async fn deleted_keys_are_gone_and_late_rows_do_not_bring_them_back() {
    let (table, schema) = customer(repeatable()).await;
    upsert(&table, &schema, &[row(1, "Ada", 5), row(2, "Bob", 5), row(3, "Cleo", 5)]).await;
    let flagged = common::schema(&format!("{CUSTOMER}, _hoodie_is_deleted boolean"));
    let delete = r#"{"id":1,"at":6,"_hoodie_is_deleted":true}
{"id":2,"at":4,"_hoodie_is_deleted":true}
{"id":9,"at":4,"_hoodie_is_deleted":true}"#;
    let report = table.upsert(&[batch(&flagged, delete)]).await.unwrap();
    assert_eq!((report.deleted, report.late, report.remembered), (1, 1, 1));
    let by_key = table.delete(&[batch(&common::schema("id bigint"), r#"{"id":3}"#)]).await.unwrap();
    assert_eq!(by_key.deleted, 1);
    assert_eq!(names(&table).await, [r#"{"id":2,"name":"Bob"}"#]);
    let late = table
        .upsert(&[batch(&schema, &[row(1, "Zombie", 5), row(3, "Zombie", 4)].join("\n"))])
        .await
        .unwrap();
    assert_eq!((late.instant, late.late), (None, 2));
    let newer = table.upsert(&[batch(&schema, &row(1, "Ada again", 7))]).await.unwrap();
    assert_eq!(newer.inserted, 1);
    assert_eq!(names(&table).await, [r#"{"id":1,"name":"Ada again"}"#, r#"{"id":2,"name":"Bob"}"#]);
}

#[tokio::test]
async fn a_row_that_comes_after_its_deletion_is_late() {
    let (table, schema) = customer(repeatable()).await;
    upsert(&table, &schema, &[row(1, "Ada", 1)]).await;
    let flagged = common::schema(&format!("{CUSTOMER}, _hoodie_is_deleted boolean"));
    let delete = |at: i32| batch(&flagged, &format!(r#"{{"id":2,"at":{at},"_hoodie_is_deleted":true}}"#));
    let first = table.upsert(&[delete(5)]).await.unwrap();
    assert_eq!((first.remembered, first.files, first.instant.is_some()), (1, 0, true));
    for at in [5, 4] {
        let again = table.upsert(&[delete(at)]).await.unwrap();
        assert_eq!((again.unchanged, again.instant), (1, None), "nothing that was not known");
    }
    let late = table.upsert(&[batch(&schema, &row(2, "Bob", 4))]).await.unwrap();
    assert_eq!((late.late, late.instant), (1, None));
    assert_eq!(names(&table).await, [r#"{"id":1,"name":"Ada"}"#]);
    let later = table.upsert(&[delete(7)]).await.unwrap();
    assert_eq!(later.remembered, 1);
    assert_eq!(upsert(&table, &schema, &[row(2, "Bob", 6)]).await.late, 1);
    assert_eq!(upsert(&table, &schema, &[row(2, "Bob", 8)]).await.inserted, 1);
    assert_eq!(table.validate().await.unwrap(), []);
}

#[tokio::test]
async fn a_lost_base_file_is_an_error_that_names_it_and_never_the_older_version() {
    let store = memory();
    let schema = schema(CUSTOMER);
    let definition = TableDefinition::new("customer", schema.clone(), ["id"]).with_ordering_field("at");
    let table = Table::create_with(store.clone(), "t".into(), definition, repeatable()).await.unwrap();
    let mut instants = Vec::new();
    for at in 0..3 {
        instants.extend(upsert(&table, &schema, &[row(1, &format!("v{at}"), at)]).await.instant);
    }
    let versions = table.file_groups().await.unwrap().remove(0).versions;
    let lose = |version: usize| format!("t/{}", versions[version].file);
    object_store::ObjectStoreExt::delete(store.as_ref(), &lose(2).into()).await.unwrap();
    let table = Table::open_with(store.clone(), "t".into(), repeatable()).await.unwrap();
    let told = |error: hudi_scd::Error| {
        assert_eq!(
            (error.kind(), error.context("file")),
            (ErrorKind::Corrupt, Some(&*versions[2].file)),
            "{error}"
        );
        assert!(error.context("hint").is_some());
    };
    told(table.read(Query::snapshot()).await.unwrap_err());
    told(table.upsert(&[batch(&schema, &row(1, "v3", 3))]).await.unwrap_err());
    told(table.history("1").await.unwrap_err());
    assert_eq!(lines(&table.read(Query::as_of(instants[1])).await.unwrap()).len(), 1, "the past is whole");
    let found = table.validate().await.unwrap();
    let found: Vec<_> = found.iter().map(|found| (found.invariant, found.subject.as_str())).collect();
    assert_eq!(found, [(hudi_scd::Invariant::MissingFile, &*versions[2].file)]);

    object_store::ObjectStoreExt::delete(store.as_ref(), &lose(1).into()).await.unwrap();
    let table = Table::open_with(store, "t".into(), repeatable()).await.unwrap();
    let error = table.read(Query::as_of(instants[1])).await.unwrap_err();
    assert_eq!(error.context("file"), Some(&*versions[1].file), "inside the window too");
    table.read(Query::as_of(instants[0])).await.unwrap();
}

#[tokio::test]
async fn insert_leaves_stored_rows_as_they_are() {
    let (table, schema) = customer(repeatable()).await;
    upsert(&table, &schema, &[row(1, "Ada", 1)]).await;
    let report =
        table.insert(&[batch(&schema, &[row(1, "x", 9), row(2, "Bob", 1)].join("\n"))]).await.unwrap();
    assert_eq!((report.inserted, report.unchanged), (1, 1));
    assert_eq!(names(&table).await, [r#"{"id":1,"name":"Ada"}"#, r#"{"id":2,"name":"Bob"}"#]);
}

#[tokio::test]
async fn ten_commits_stay_readable_and_a_file_group_has_at_most_eleven_versions() {
    let (table, schema) = customer(repeatable()).await;
    let mut instants = Vec::new();
    for at in 0..30 {
        let report = upsert(&table, &schema, &[row(1, &format!("v{at}"), at)]).await;
        instants.push(report.instant.unwrap());
        assert!(table.file_groups().await.unwrap()[0].versions.len() <= 11);
        // Hudi cleans for the first time after the twelfth commit.
        assert_eq!(report.cleaned.is_some(), at >= 11, "commit {}", at + 1);
    }
    assert_eq!(table.earliest_instant().await.unwrap(), Some(instants[20]));
    for (at, instant) in instants.iter().enumerate() {
        let read = table.read(Query::as_of(*instant).with_columns(["name"])).await;
        if at >= 20 {
            assert_eq!(lines(&read.unwrap()), [format!(r#"{{"name":"v{at}"}}"#)]);
        } else {
            let error = read.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::OutsideRetention);
            assert_eq!(error.context("earliest"), Some(instants[20].to_string().as_str()));
        }
    }
}

#[tokio::test]
async fn another_policy_keeps_as_much_as_it_says() {
    let (table, schema) = customer(repeatable().with_retention(RetentionPolicy::file_versions(2))).await;
    for at in 0..5 {
        upsert(&table, &schema, &[row(1, &format!("v{at}"), at)]).await;
    }
    assert_eq!(table.file_groups().await.unwrap()[0].versions.len(), 2);
    let commits: Vec<_> =
        table.timeline().await.unwrap().completed_commits().map(|entry| entry.instant).collect();
    let name = |read: Vec<arrow::array::RecordBatch>| lines(&read);
    let as_of = |instant| table.read(Query::as_of(instant).with_columns(["name"]));
    assert_eq!(name(as_of(commits[3]).await.unwrap()), [r#"{"name":"v3"}"#]);
    let error = as_of(commits[2]).await.unwrap_err();
    assert_eq!(
        error.context("earliest"),
        Some(commits[3].to_string().as_str()),
        "never 0 rows without a word"
    );
}

#[tokio::test]
async fn incremental_reads_show_what_commits_in_the_range_wrote() {
    let (table, schema) = customer(repeatable()).await;
    let mut at = Vec::new();
    for commit in 1..=4 {
        let rows = [row(i64::from(commit), "new", commit), row(100, &format!("v{commit}"), commit)];
        at.push(upsert(&table, &schema, &rows).await.instant.unwrap());
    }
    let changes =
        |query: Query| async { lines(&table.read(query.with_columns(["name", "id"])).await.unwrap()) };
    assert_eq!(changes(Query::since(at[2])).await, [r#"{"id":100,"name":"v4"}"#, r#"{"id":4,"name":"new"}"#]);
    assert_eq!(
        changes(Query::since(at[0]).until(at[2])).await,
        [r#"{"id":100,"name":"v3"}"#, r#"{"id":2,"name":"new"}"#, r#"{"id":3,"name":"new"}"#]
    );
    assert!(changes(Query::since(at[3])).await.is_empty());
}

#[tokio::test]
async fn the_history_of_a_key_shows_each_change_and_its_end() {
    let (table, schema) = customer(repeatable()).await;
    upsert(&table, &schema, &[row(1, "a", 1), row(2, "x", 1)]).await;
    upsert(&table, &schema, &[row(2, "y", 2)]).await;
    upsert(&table, &schema, &[row(1, "b", 3)]).await;
    table.delete(&[batch(&common::schema("id bigint"), r#"{"id":1}"#)]).await.unwrap();
    let history = table.history("1").await.unwrap();
    let told: Vec<String> = history
        .iter()
        .map(|version| match &version.change {
            hudi_scd::KeyChange::Written(row) => lines(std::slice::from_ref(row)).remove(0),
            _ => "deleted".to_owned(),
        })
        .collect();
    assert_eq!(
        told,
        [
            r#"{"at":1,"balance":"1.50","id":1,"name":"a"}"#,
            r#"{"at":3,"balance":"1.50","id":1,"name":"b"}"#,
            "deleted"
        ]
    );
    assert!(table.history("404").await.unwrap().is_empty());
}

#[tokio::test]
async fn the_schema_grows_and_stored_rows_follow() {
    let (table, schema) = customer(repeatable()).await;
    upsert(&table, &schema, &[row(1, "Ada", 1)]).await;
    let wider = common::schema("id bigint, name string, balance decimal(15,2), at bigint, email string");
    table.upsert(&[batch(&wider, r#"{"id":2,"name":"Bob","at":5000000000,"email":"b@x"}"#)]).await.unwrap();
    assert_eq!(
        lines(&table.read(Query::snapshot()).await.unwrap()),
        [
            r#"{"at":1,"balance":"1.50","email":null,"id":1,"name":"Ada"}"#,
            r#"{"at":5000000000,"balance":null,"email":"b@x","id":2,"name":"Bob"}"#
        ]
    );
}

#[tokio::test]
async fn input_that_does_not_fit_is_refused_before_anything_is_written() {
    let (table, schema) = customer(repeatable()).await;
    let null_key = table.upsert(&[batch(&schema, r#"{"name":"x","at":1}"#)]).await.unwrap_err();
    assert_eq!((null_key.kind(), null_key.context("column")), (ErrorKind::InvalidInput, Some("id")));
    let null_ordering = table.upsert(&[batch(&schema, r#"{"id":1,"name":"x"}"#)]).await.unwrap_err();
    assert_eq!(
        (null_ordering.kind(), null_ordering.context("column")),
        (ErrorKind::InvalidInput, Some("at"))
    );
    let column = table.upsert(&[batch(&common::schema("id bigint, at int"), r#"{"id":1,"at":1}"#)]).await;
    assert_eq!(column.unwrap_err().kind(), ErrorKind::InvalidInput);
    assert!(table.timeline().await.unwrap().entries().is_empty());
}

#[tokio::test]
async fn a_table_is_created_once_and_opened_as_it_was_made() {
    let store = memory();
    let schema = schema(CUSTOMER);
    let definition = || TableDefinition::new("customer", schema.clone(), ["id"]).with_ordering_field("at");
    Table::create(store.clone(), "t".into(), definition()).await.unwrap();
    let twice = Table::create(store.clone(), "t".into(), definition()).await.unwrap_err();
    assert_eq!(twice.kind(), ErrorKind::AlreadyExists);
    let table = Table::open(store.clone(), "t".into()).await.unwrap();
    assert_eq!(table.schema().await.unwrap(), hudi_scd::schema::canonical(&schema).unwrap());
    assert_eq!(table.read(Query::snapshot()).await.unwrap()[0].num_rows(), 0);
    assert_eq!(Table::open(store, "elsewhere".into()).await.unwrap_err().kind(), ErrorKind::NotFound);
}

/// Spark's `INSERT INTO` does not look up keys, so there are tables in which a key is stored more than once.
/// They are read unchanged, and written as in Hudi: every copy is replaced by the row, and copies in other
/// partitions are removed.
#[tokio::test]
async fn every_copy_of_a_key_is_updated() {
    let schema = schema("id bigint, part string, v string, at int");
    let definition = TableDefinition::new("t", schema.clone(), ["id"])
        .with_ordering_field("at")
        .with_partition_fields(["part"]);
    for options in [repeatable(), repeatable().with_memory_budget(1)] {
        let table = Table::create_with(memory(), "t".into(), definition.clone(), options).await.unwrap();
        let row = |id: i32, part: &str, v: &str, at: i32| {
            format!(r#"{{"at":{at},"id":{id},"part":"{part}","v":"{v}"}}"#)
        };
        let rows = |rows: &[String]| batch(&schema, &rows.join("\n"));
        let read = async || lines(&table.read(Query::snapshot()).await.unwrap());
        let first = [row(1, "a", "x", 1), row(2, "a", "x", 1), row(3, "a", "x", 1), row(4, "a", "x", 5)];
        let again = [row(1, "a", "y", 2), row(2, "a", "y", 2), row(3, "b", "y", 2), row(4, "b", "y", 2)];
        table.bulk_insert(&[rows(&first)]).await.unwrap();
        table.bulk_insert(&[rows(&again)]).await.unwrap();
        let mut both = [first.clone(), again.clone()].concat();
        both.sort();
        assert_eq!(read().await, both, "both are read");
        let findings = table.validate().await.unwrap();
        assert_eq!(findings.len(), 4, "a line each: {findings:?}");

        // Key 1 stays, 2 is deleted, 3 and 4 move. One copy of 4 is newer than the incoming row.
        let deletion = row(2, "a", "", 3).replace('}', r#","_hoodie_is_deleted":true}"#);
        let with_marker =
            common::schema("id bigint, part string, v string, at int, _hoodie_is_deleted boolean");
        let changes = [row(1, "a", "z", 3), deletion, row(3, "c", "z", 3), row(4, "c", "z", 3)];
        let report = table.upsert(&[batch(&with_marker, &changes.join("\n"))]).await.unwrap();
        assert_eq!((report.updated, report.deleted, report.inserted), (1, 1, 0), "{report}");
        assert_eq!(report.updated + report.deleted + report.moved + report.late, 4, "{report}");
        let seen =
            lines(&table.read(Query::snapshot().with_columns(["id", "part", "v", "at"])).await.unwrap());
        let mut expected = [
            row(1, "a", "z", 3),
            row(1, "a", "z", 3),
            row(3, "c", "z", 3),
            row(4, "a", "x", 5),
            row(4, "c", "z", 3),
        ];
        expected.sort();
        assert_eq!(seen, expected);
        let report = table.delete(&[rows(&[row(1, "a", "", 0)])]).await.unwrap();
        assert_eq!(report.deleted, 1);
        let keys = table.read(Query::snapshot().with_columns(["id"])).await.unwrap();
        assert_eq!(lines(&keys), [r#"{"id":3}"#, r#"{"id":4}"#, r#"{"id":4}"#]);
    }
}

/// Hudi's bucket index finds a key by the number at the beginning of its file group's id.
#[tokio::test]
async fn rows_are_changed_in_a_table_of_the_bucket_index_and_not_added() {
    use object_store::{ObjectStoreExt, path::Path};

    let store = memory();
    let schema = schema(CUSTOMER);
    let definition = TableDefinition::new("customer", schema.clone(), ["id"]).with_ordering_field("at");
    let table = Table::create_with(store.clone(), "t".into(), definition, repeatable()).await.unwrap();
    let instant = upsert(&table, &schema, &[row(1, "a", 1), row(2, "a", 1)]).await.instant.unwrap();
    let group = table.file_groups().await.unwrap().remove(0);
    let bucket = format!("00000003{}", &group.file_id[8..]);
    let renamed = |text: &str| text.replace(&*group.file_id, &bucket);
    let commit = Path::from(format!("t/.hoodie/{instant}.commit"));
    let text = store.get(&commit).await.unwrap().bytes().await.unwrap();
    store.put(&commit, renamed(std::str::from_utf8(&text).unwrap()).into()).await.unwrap();
    let file = format!("t/{}", group.versions[0].file);
    store.rename(&file.as_str().into(), &renamed(&file).into()).await.unwrap();

    let table = Table::open(store, "t".into()).await.unwrap();
    assert_eq!(upsert(&table, &schema, &[row(1, "b", 2)]).await.updated, 1);
    let error = table.upsert(&[batch(&schema, &row(3, "b", 2))]).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.context("property")),
        (ErrorKind::Unsupported, Some("hoodie.index.type"))
    );
    assert_eq!(names(&table).await, [r#"{"id":1,"name":"b"}"#, r#"{"id":2,"name":"a"}"#]);
}
