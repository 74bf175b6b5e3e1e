//! Parts of the previous version that a merge copies unchanged: row groups that are too large to be joined
//! with others.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{ArrayRef, AsArray, Decimal128Array, Int32Array, Int64Array, RecordBatch, StringArray},
    datatypes::{Int32Type, Int64Type},
};
use hudi_scd::{Query, Table, TableDefinition, TableOptions};
use parquet::{
    column::page::Page,
    file::{
        metadata::{ParquetMetaDataOptions, ParquetMetaDataReader},
        reader::{FileReader, SerializedFileReader},
    },
};

use crate::common;

/// More rows than in a group that is joined with others.
const ROWS: i64 = 40_000;

type Model = BTreeMap<i64, (String, i32, i64, Option<i64>)>;

/// Rows with key, name, ordering and balance, and optionally one more column.
fn batch(rows: &Model, with_more: bool) -> RecordBatch {
    let balances = Decimal128Array::from_iter_values(rows.values().map(|row| i128::from(row.2)));
    let mut columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from_iter_values(rows.keys().copied()))),
        ("name", Arc::new(StringArray::from_iter_values(rows.values().map(|row| &row.0)))),
        ("at", Arc::new(Int32Array::from_iter_values(rows.values().map(|row| row.1)))),
        ("balance", Arc::new(balances.with_precision_and_scale(12, 2).unwrap())),
    ];
    if with_more {
        columns.push(("more", Arc::new(Int64Array::from_iter(rows.values().map(|row| row.3)))));
    }
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))
        .unwrap()
}

async fn assert_holds(table: &Table, model: &Model, with_more: bool) {
    assert_eq!(table.validate().await.unwrap(), []);
    let mut stored = Model::new();
    let mut numbers = std::collections::HashSet::new();
    for rows in table.read(Query::snapshot().with_meta_columns()).await.unwrap() {
        let column = |name: &str| rows.column_by_name(name).unwrap();
        let text = |name: &str| column(name).as_string::<i32>();
        for row in 0..rows.num_rows() {
            let id = column("id").as_primitive::<Int64Type>().value(row);
            let balance =
                column("balance").as_primitive::<arrow::datatypes::Decimal128Type>().value(row) as i64;
            let at = column("at").as_primitive::<Int32Type>().value(row);
            let more = with_more.then(|| column("more").as_primitive::<Int64Type>().iter().nth(row).unwrap());
            stored.insert(id, (text("name").value(row).to_owned(), at, balance, more.flatten()));
            assert_eq!(text("_hoodie_record_key").value(row), id.to_string());
            let number = text("_hoodie_commit_seqno").value(row);
            assert!(number.starts_with(text("_hoodie_commit_time").value(row)));
            assert!(numbers.insert(number.to_owned()), "{number} twice");
        }
    }
    assert!(stored == *model, "{} rows stored, {} expected", stored.len(), model.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_carried_over_row_group_holds_the_changed_rows_and_the_others() {
    let store = common::memory();
    let base: Model = (0..ROWS).map(|id| (id, (format!("name {id}"), 0, id * 7 % 1_000, None))).collect();
    let definition =
        TableDefinition::new("t", batch(&base, false).schema(), ["id"]).with_ordering_field("at");
    let table = Table::create(store.clone(), "t".into(), definition).await.unwrap();
    table.upsert(&[batch(&base, false)]).await.unwrap();
    let mut model = base;

    let mut with_more = false;
    let mut previous = newest(&store, &table).await;
    for turn in 1..8_i32 {
        let mut changes = Model::new();
        for id in (0..ROWS).filter(|id| id % 997 == i64::from(turn)) {
            // One column changes, and two columns in turn 2. In turn 3, existing rows get one more column.
            let known = &model[&id];
            let name = if turn == 2 { format!("new name {id}") } else { known.0.clone() };
            with_more |= turn == 3;
            changes.insert(id, (name, turn, known.2, with_more.then_some(id * 2)));
        }
        for id in 0..20 {
            // New rows are added from turn 5 on.
            if turn >= 5 {
                let id = ROWS + i64::from(turn) * 100 + id;
                changes.insert(id, ("new".into(), turn, 5, Some(1)));
            }
        }
        let report = table.upsert(&[batch(&changes, with_more)]).await.unwrap();
        assert_eq!(report.updated + report.inserted, changes.len() as u64);
        model.extend(changes);
        if turn == 4 || turn == 6 {
            let gone: Model = model.range(100..200).map(|(id, row)| (*id, row.clone())).collect();
            let keys = batch(&gone, with_more).project(&[0]).unwrap();
            assert_eq!(table.delete(&[keys]).await.unwrap().deleted, if turn == 4 { 100 } else { 0 });
            model.retain(|id, _| !gone.contains_key(id));
        }
        assert_holds(&table, &model, with_more).await;

        let file = newest(&store, &table).await;
        if turn == 1 {
            // The names were copied, so their bytes are identical.
            assert_eq!(chunk(&file, "name"), chunk(&previous, "name"));
            assert_eq!(chunk(&file, "balance"), chunk(&previous, "balance"));
            assert_ne!(chunk(&file, "at"), chunk(&previous, "at"));
        }
        previous = file;
    }
}

async fn newest(store: &Arc<dyn object_store::ObjectStore>, table: &Table) -> bytes::Bytes {
    use object_store::ObjectStoreExt;
    let groups = table.file_groups().await.unwrap();
    let [group] = groups.as_slice() else { panic!("{} file groups", groups.len()) };
    let path = table.root().clone().join(&*group.versions.last().unwrap().file);
    store.get(&path).await.unwrap().bytes().await.unwrap()
}

/// Returns the bytes of a column in the first row group.
fn chunk(file: &bytes::Bytes, column: &str) -> bytes::Bytes {
    let reader = SerializedFileReader::new(file.clone()).unwrap();
    let group = reader.metadata().row_group(0);
    let chunk = group.columns().iter().find(|chunk| chunk.column_path().string() == column).unwrap();
    let (start, length) = chunk.byte_range();
    file.slice(start as usize..(start + length) as usize)
}

/// A patched column chunk keeps its dictionary, including values that no row has any more.
#[rstest::rstest]
#[case::default(TableOptions::new(), &["common", "removed", "new"])]
#[case::switched_off(TableOptions::new().with_page_patching(false), &["common", "new"])]
#[tokio::test]
async fn a_replaced_value_leaves_the_file_if_pages_are_not_patched(
    #[case] options: TableOptions,
    #[case] expected: &[&str],
) {
    let store = common::memory();
    let name = |id: i64| if id == 7 { "removed" } else { "common" };
    let base: Model = (0..ROWS).map(|id| (id, (name(id).to_owned(), 0, 0, None))).collect();
    let definition =
        TableDefinition::new("t", batch(&base, false).schema(), ["id"]).with_ordering_field("at");
    let table = Table::create_with(store.clone(), "t".into(), definition, options).await.unwrap();
    table.upsert(&[batch(&base, false)]).await.unwrap();
    let change = Model::from([(7, ("new".to_owned(), 1, 0, None))]);
    table.upsert(&[batch(&change, false)]).await.unwrap();
    assert_eq!(dictionary(&newest(&store, &table).await, "name"), expected);
    let mut model = base;
    model.extend(change);
    assert_holds(&table, &model, false).await;
}

/// Returns the dictionary of a string column in the first row group.
fn dictionary(file: &bytes::Bytes, column: &str) -> Vec<String> {
    let reader = SerializedFileReader::new(file.clone()).unwrap();
    let group = reader.get_row_group(0).unwrap();
    let is_it = |leaf: &usize| group.metadata().column(*leaf).column_path().string() == column;
    let leaf = (0..group.num_columns()).find(is_it).unwrap();
    let Some(Ok(Page::DictionaryPage { buf, .. })) = group.get_column_page_reader(leaf).unwrap().next()
    else {
        panic!("no dictionary")
    };
    let mut rest = &buf[..];
    let mut texts = Vec::new();
    while let Some((length, tail)) = rest.split_first_chunk::<4>() {
        let (text, tail) = tail.split_at(u32::from_le_bytes(*length) as usize);
        texts.push(String::from_utf8(text.to_vec()).unwrap());
        rest = tail;
    }
    texts
}

/// Spark filters by the dictionary of a chunk only if the encodings of its pages are recorded.
#[tokio::test]
async fn copied_chunks_keep_the_encodings_of_their_pages() {
    let store = common::memory();
    let rows: Model = (0..ROWS).map(|id| (id, (format!("name {}", id % 9), 0, id % 5, None))).collect();
    let definition =
        TableDefinition::new("t", batch(&rows, false).schema(), ["id"]).with_ordering_field("at");
    let table = Table::create(store.clone(), "t".into(), definition).await.unwrap();
    table.upsert(&[batch(&rows, false)]).await.unwrap();
    table.upsert(&[batch(&[(7, ("name 7".to_owned(), 1, 3, None))].into(), false)]).await.unwrap();
    let options = ParquetMetaDataOptions::new().with_encoding_stats_as_mask(false);
    let metadata = ParquetMetaDataReader::new()
        .with_metadata_options(Some(options))
        .parse_and_finish(&newest(&store, &table).await)
        .unwrap();
    for chunk in metadata.row_group(0).columns() {
        let name = chunk.column_path().string();
        assert!(chunk.page_encoding_stats().is_some() || name == "_hoodie_file_name", "{name}");
    }
}
