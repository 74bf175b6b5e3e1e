//! SCD type 2 histories in Hudi tables.

use std::sync::Arc;

use arrow::{
    array::{
        ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    },
    datatypes::{Int64Type, Schema},
};
use hudi_scd::{
    ErrorKind, Query, RetentionPolicy, Table, TableDefinition,
    scd::{At, Scd2, Scd2Table},
};
use object_store::ObjectStore;

use crate::common::{self, mortal::Mortal};

/// A change: customer, instant, and, unless it is a delete, tier (tracked) and phone (not tracked).
type Change<'a> = (i64, i64, Option<(&'a str, &'a str)>);

fn batch(changes: &[Change<'_>]) -> RecordBatch {
    let texts = |of: for<'a> fn((&'a str, &'a str)) -> &'a str| -> ArrayRef {
        Arc::new(changes.iter().map(|(_, _, state)| state.map(of)).collect::<StringArray>())
    };
    let at: TimestampMicrosecondArray = changes.iter().map(|(_, at, _)| Some(*at)).collect();
    RecordBatch::try_from_iter_with_nullable([
        (
            "customer_id",
            Arc::new(changes.iter().map(|change| Some(change.0)).collect::<Int64Array>()) as ArrayRef,
            true,
        ),
        ("tier", texts(|state| state.0), true),
        ("phone", texts(|state| state.1), true),
        ("updated_at", Arc::new(at.with_timezone("UTC")), true),
        (
            "_hoodie_is_deleted",
            Arc::new(changes.iter().map(|change| Some(change.2.is_none())).collect::<BooleanArray>()),
            true,
        ),
    ])
    .unwrap()
}

fn definition() -> Scd2 {
    Scd2::new(["customer_id"], "updated_at").track(["tier"])
}

async fn create(store: &Arc<dyn ObjectStore>) -> Scd2Table {
    let schema = batch(&[]).schema();
    let options = common::repeatable();
    let definition = Scd2Table::definition_of("history", &definition(), &schema).unwrap();
    Scd2Table::create_with(store.clone(), "lake/history".into(), definition, options).await.unwrap()
}

fn printed(rows: &RecordBatch) -> String {
    common::lines(std::slice::from_ref(rows)).join("\n")
}

/// The expected history of all these changes.
fn expected(changes: &[Change<'_>]) -> String {
    let empty = RecordBatch::new_empty(Arc::new(Schema::empty()));
    let merged = definition().merge(&empty, &[batch(changes)]).unwrap();
    let rows = definition().visible(&merged.upserts).unwrap();
    let ids = rows.column_by_name("customer_id").unwrap().as_primitive::<Int64Type>().clone();
    let mut order: Vec<u32> = (0..rows.num_rows() as u32).collect();
    // The rows of a key are already in order.
    order.sort_by_key(|row| ids.value(*row as usize));
    printed(&arrow::compute::take_record_batch(&rows, &arrow::array::UInt32Array::from(order)).unwrap())
}

const DAY: &[Change<'_>] = &[
    (1, 100, Some(("basic", "1"))),
    (2, 100, Some(("basic", "2"))),
    (3, 110, Some(("gold", "3"))),
    (1, 200, Some(("gold", "1"))),
    (2, 210, None),
    (1, 150, Some(("silver", "11"))),
    (2, 300, Some(("basic", "22"))),
    (1, 400, Some(("gold", "111"))),
    (3, 105, None),
    (1, 300, Some(("basic", "1111"))),
    (2, 210, None),
    (3, 90, Some(("silver", "3"))),
];

#[tokio::test]
async fn batch_after_batch_makes_the_history_of_all_changes() {
    let table = create(&common::memory()).await;
    for (number, change) in DAY.chunks(2).enumerate() {
        table.apply(&[batch(change)]).await.unwrap();
        assert_eq!(printed(&table.rows().await.unwrap()), expected(&DAY[..2 * number + 2]));
    }
    insta::assert_snapshot!(printed(&table.rows().await.unwrap()), @r#"
    {"customer_id":1,"is_current":false,"phone":"111","tier":"basic","valid_from":"1970-01-01T00:00:00.000100Z","valid_to":"1970-01-01T00:00:00.000150Z"}
    {"customer_id":1,"is_current":false,"phone":"111","tier":"basic","valid_from":"1970-01-01T00:00:00.000300Z","valid_to":"1970-01-01T00:00:00.000400Z"}
    {"customer_id":1,"is_current":false,"phone":"111","tier":"gold","valid_from":"1970-01-01T00:00:00.000200Z","valid_to":"1970-01-01T00:00:00.000300Z"}
    {"customer_id":1,"is_current":false,"phone":"111","tier":"silver","valid_from":"1970-01-01T00:00:00.000150Z","valid_to":"1970-01-01T00:00:00.000200Z"}
    {"customer_id":1,"is_current":true,"phone":"111","tier":"gold","valid_from":"1970-01-01T00:00:00.000400Z","valid_to":null}
    {"customer_id":2,"is_current":false,"phone":"22","tier":"basic","valid_from":"1970-01-01T00:00:00.000100Z","valid_to":"1970-01-01T00:00:00.000210Z"}
    {"customer_id":2,"is_current":true,"phone":"22","tier":"basic","valid_from":"1970-01-01T00:00:00.000300Z","valid_to":null}
    {"customer_id":3,"is_current":false,"phone":"3","tier":"silver","valid_from":"1970-01-01T00:00:00.000090Z","valid_to":"1970-01-01T00:00:00.000105Z"}
    {"customer_id":3,"is_current":true,"phone":"3","tier":"gold","valid_from":"1970-01-01T00:00:00.000110Z","valid_to":null}
    "#);
}

#[tokio::test]
async fn what_is_known_makes_no_commit() {
    let table = create(&common::memory()).await;
    let first = table.apply(&[batch(DAY)]).await.unwrap();
    let again = table.apply(&[batch(DAY), batch(&[])]).await.unwrap();
    assert!(first.commit.instant.is_some());
    assert_eq!(again.commit.instant, None);
    assert_eq!(again.counts.changes, DAY.len());
    assert_eq!(table.table().timeline().await.unwrap().completed_commits().count(), 1);
}

#[tokio::test]
async fn one_commit_writes_the_rows_that_differ_and_no_others() {
    let table = create(&common::memory()).await;
    table.apply(&[batch(&[(1, 100, Some(("basic", "1"))), (2, 100, Some(("basic", "2")))])]).await.unwrap();
    let second = table.apply(&[batch(&[(1, 200, Some(("gold", "1")))])]).await.unwrap();
    assert_eq!((second.commit.inserted, second.commit.updated, second.commit.deleted), (1, 1, 0));
    // The state of 200 actually began at 150, so its row is replaced by another one.
    let third = table.apply(&[batch(&[(1, 150, Some(("gold", "1")))])]).await.unwrap();
    assert_eq!((third.commit.inserted, third.commit.updated, third.commit.deleted), (1, 1, 1));
    assert_eq!(third.counts.removed, 1);
    assert_eq!(table.rows().await.unwrap().num_rows(), 3);
}

#[tokio::test]
async fn the_table_says_what_history_it_is() {
    let store = common::memory();
    create(&store).await.apply(&[batch(DAY)]).await.unwrap();
    let table = Scd2Table::open(store.clone(), "lake/history".into()).await.unwrap();
    assert_eq!(*table.definition(), definition());
    assert_eq!(printed(&table.rows().await.unwrap()), expected(DAY));
    let plain = Table::open(store.clone(), "lake/history".into()).await.unwrap();
    assert_eq!(plain.record_key_fields(), ["customer_id", "valid_from"]);

    let other = TableDefinition::new("other", batch(&[]).schema(), ["customer_id"]);
    Table::create(store.clone(), "lake/other".into(), other).await.unwrap();
    let error = Scd2Table::open(store, "lake/other".into()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidDefinition);
}

/// Returns the number of rows that other engines see.
async fn rows_of_others(table: &Scd2Table) -> usize {
    table.table().read(Query::snapshot()).await.unwrap().iter().map(RecordBatch::num_rows).sum()
}

/// A delete of an unknown or already deleted key closes nothing. Other engines would count its row.
#[tokio::test]
async fn other_engines_see_the_states_and_no_deletes_that_close_nothing() {
    let table = create(&common::memory()).await;
    for (number, change) in DAY.chunks(1).enumerate() {
        table.apply(&[batch(change)]).await.unwrap();
        let rows = table.rows().await.unwrap();
        assert_eq!(rows_of_others(&table).await, rows.num_rows(), "change {number}");
    }
    let unknown = table.apply(&[batch(&[(9, 500, None)])]).await.unwrap();
    assert!(unknown.commit.instant.is_some(), "a state before it may arrive late");
    assert_eq!(table.apply(&[batch(&[(9, 500, None)])]).await.unwrap().commit.instant, None);
    table.apply(&[batch(&[(9, 450, Some(("gold", "9")))])]).await.unwrap();
    let all: Vec<Change<'_>> =
        DAY.iter().copied().chain([(9, 500, None), (9, 450, Some(("gold", "9")))]).collect();
    assert_eq!(printed(&table.rows().await.unwrap()), expected(&all));
    assert_eq!(rows_of_others(&table).await, expected(&all).lines().count());
}

/// Earlier releases stored deletes that close nothing as rows of the table.
#[tokio::test]
async fn deletes_that_are_stored_as_rows_leave_the_table_when_their_key_changes() {
    let table = create(&common::memory()).await;
    let empty = RecordBatch::new_empty(Arc::new(Schema::empty()));
    let changes = [(1, 100, None), (2, 100, None), (2, 90, None)];
    let merged = definition().merge(&empty, &[batch(&changes)]).unwrap();
    table.table().upsert(&[merged.upserts]).await.unwrap();
    assert_eq!((rows_of_others(&table).await, table.rows().await.unwrap().num_rows()), (2, 0));
    let late = (2, 80, Some(("gold", "2")));
    table.apply(&[batch(&[late])]).await.unwrap();
    assert_eq!((rows_of_others(&table).await, table.rows().await.unwrap().num_rows()), (2, 1));
    table.apply(&[batch(&[(1, 100, None)])]).await.unwrap();
    assert_eq!((rows_of_others(&table).await, table.rows().await.unwrap().num_rows()), (1, 1));
    let earlier = (1, 70, Some(("basic", "1")));
    table.apply(&[batch(&[earlier])]).await.unwrap();
    let all: Vec<Change<'_>> = changes.into_iter().chain([late, earlier]).collect();
    assert_eq!(printed(&table.rows().await.unwrap()), expected(&all));
}

#[tokio::test]
async fn a_rollback_restores_the_deletes_that_closed_nothing() {
    let table = create(&common::memory()).await;
    let (known, unknown) = ((1, 100, Some(("basic", "1"))), (2, 100, None));
    table.apply(&[batch(&[known, unknown])]).await.unwrap();
    // An earlier state makes the delete close something, so that its hidden row is removed.
    let undone = table.apply(&[batch(&[(2, 50, Some(("gold", "2")))])]).await.unwrap();
    table.table().rollback(undone.commit.instant.unwrap()).await.unwrap();
    let other = (2, 60, Some(("silver", "2")));
    table.apply(&[batch(&[other])]).await.unwrap();
    assert_eq!(printed(&table.rows().await.unwrap()), expected(&[known, unknown, other]));
    assert_eq!(table.table().validate().await.unwrap(), []);
}

#[tokio::test]
async fn cleans_remove_the_hidden_rows_of_commits_before_the_window() {
    let store = common::memory();
    let schema = batch(&[]).schema();
    let options = common::repeatable().with_retention(RetentionPolicy::commits(2));
    let definition = Scd2Table::definition_of("t", &definition(), &schema).unwrap();
    let table = Scd2Table::create_with(store.clone(), "t".into(), definition, options).await.unwrap();
    let mut changes = Vec::new();
    for key in 0..8 {
        changes.extend([(key, 100, None), (100, key, Some(("basic", "1")))]);
        table.apply(&[batch(&changes[changes.len() - 2..])]).await.unwrap();
    }
    let folder = "t/.hoodie/.aux/tombstones".into();
    let listed = store.list_with_delimiter(Some(&folder)).await.unwrap().objects;
    let hidden = listed.iter().filter(|file| file.location.extension() == Some("hidden")).count();
    assert!((2..=4).contains(&hidden), "{hidden}");
    let late: Vec<Change<'_>> = (0..8).map(|key| (key, 50, Some(("gold", "2")))).collect();
    table.apply(&[batch(&late)]).await.unwrap();
    changes.extend(late);
    assert_eq!(printed(&table.rows().await.unwrap()), expected(&changes));
}

#[tokio::test]
async fn current_rows_the_history_of_keys_and_the_lookup_agree() {
    let table = create(&common::memory()).await;
    table.apply(&[batch(DAY)]).await.unwrap();
    let current = table.current().await.unwrap();
    let tiers = current.column_by_name("tier").unwrap().as_string::<i32>();
    assert_eq!(tiers.iter().flatten().collect::<Vec<_>>(), ["gold", "basic", "gold"]);

    let keys = |ids: Vec<i32>| {
        RecordBatch::try_from_iter([(
            "customer_id",
            Arc::new(arrow::array::Int32Array::from(ids)) as ArrayRef,
        )])
        .unwrap()
    };
    assert_eq!(table.history(&keys(vec![2, 7])).await.unwrap().num_rows(), 2);
    assert_eq!(table.history(&keys(vec![])).await.unwrap().num_rows(), 0);

    let sales = RecordBatch::try_from_iter([
        ("sold_to", Arc::new(Int64Array::from(vec![1, 1, 2, 2, 3, 9])) as ArrayRef),
        (
            "sold_at",
            Arc::new(TimestampMicrosecondArray::from(vec![149, 150, 250, 300, 109, 1]).with_timezone("UTC"))
                as ArrayRef,
        ),
    ])
    .unwrap();
    let dimension = table.dimension().await.unwrap();
    let found = dimension.lookup(&sales, &["sold_to"], At::Column("sold_at")).unwrap();
    let tiers = found.rows.column_by_name("tier").unwrap().as_string::<i32>();
    let expected = [Some("basic"), Some("silver"), None, Some("basic"), None, None];
    assert_eq!(tiers.iter().collect::<Vec<_>>(), expected);
    assert_eq!(found.unmatched(), 3);
}

#[tokio::test(start_paused = true)]
async fn two_writers_lose_nothing() {
    let store = common::memory();
    create(&store).await;
    let one = Scd2Table::open(store.clone(), "lake/history".into()).await.unwrap();
    let other = Scd2Table::open(store, "lake/history".into()).await.unwrap();
    let (left, right): (Vec<_>, Vec<_>) = DAY.iter().partition(|change| change.1 % 20 == 0);
    let write = |table: Scd2Table, changes: Vec<&'static Change<'static>>| async move {
        for change in changes {
            table.apply(&[batch(&[*change])]).await.unwrap();
        }
    };
    tokio::join!(write(one.clone(), left), write(other, right));
    assert_eq!(printed(&one.rows().await.unwrap()), expected(DAY));
}

#[tokio::test]
async fn retention_bounds_the_versions_not_the_history() {
    let store = common::memory();
    let schema = batch(&[]).schema();
    let options = common::repeatable().with_retention(RetentionPolicy::commits(2));
    let definition = Scd2Table::definition_of("t", &definition(), &schema).unwrap();
    let table = Scd2Table::create_with(store, "t".into(), definition, options).await.unwrap();
    for change in DAY {
        table.apply(&[batch(std::slice::from_ref(change))]).await.unwrap();
    }
    let versions = table.table().file_groups().await.unwrap().iter().map(|group| group.versions.len()).max();
    assert!(versions <= Some(3), "{versions:?}");
    assert_eq!(printed(&table.rows().await.unwrap()), expected(DAY));
}

#[tokio::test(start_paused = true)]
async fn changes_that_died_at_any_call_are_there_as_a_whole_or_not_at_all() {
    let (known, new) = DAY.split_at(6);
    for calls in 0.. {
        let store = common::memory();
        create(&store).await.apply(&[batch(known)]).await.unwrap();
        let (mortal, left) = Mortal::after(store.clone(), calls, calls % 2 == 0);
        let options = || common::repeatable().without_lock();
        let said = match Scd2Table::open_with(mortal, "lake/history".into(), options()).await {
            Ok(table) => table.apply(&[batch(new)]).await.is_ok(),
            Err(_) => false,
        };
        let table = Scd2Table::open_with(store, "lake/history".into(), options()).await.unwrap();
        let seen = printed(&table.rows().await.unwrap());
        let is_whole = seen == expected(DAY);
        assert!(is_whole || (!said && seen == expected(known)), "call {calls}: {seen}");
        let again = table.apply(&[batch(new)]).await.unwrap();
        assert_eq!(again.commit.instant.is_none(), is_whole, "call {calls}");
        assert_eq!(printed(&table.rows().await.unwrap()), expected(DAY), "call {calls}");
        assert_eq!(table.table().validate().await.unwrap(), [], "call {calls}");
        if left.load(std::sync::atomic::Ordering::SeqCst) >= 0 {
            assert!(said && calls > 15, "{calls} calls");
            break;
        }
    }
}

/// Spark's CREATE TABLE on the folder of a table rewrites `hoodie.properties` without the properties that it
/// does not know. If a history then looked like a plain table, the next upsert would overwrite it.
#[tokio::test]
async fn a_history_stays_one_though_spark_forgot_its_properties() {
    let store: Arc<dyn ObjectStore> = Arc::new(object_store::memory::InMemory::new());
    let table = create(&store).await;
    table.apply(&[batch(DAY)]).await.unwrap();
    let path = object_store::path::Path::from("lake/history/.hoodie/hoodie.properties");
    let text = object_store::ObjectStoreExt::get(&store, &path).await.unwrap().bytes().await.unwrap();
    let text = String::from_utf8(text.to_vec()).unwrap();
    let known: Vec<&str> = text.lines().filter(|line| !line.starts_with("hudi_scd.")).collect();
    assert!(known.len() < text.lines().count());
    object_store::ObjectStoreExt::put(&store, &path, known.join("\n").into()).await.unwrap();
    let again = Scd2Table::open(store, "lake/history".into()).await.unwrap();
    assert_eq!(again.definition(), &definition());
    assert_eq!(again.rows().await.unwrap(), table.rows().await.unwrap());
}

/// The same changes, in any order and any batches, give the same rows in a table too, in whatever partitions
/// they are stored.
#[tokio::test]
async fn partitions_follow_the_rows_in_any_order_of_changes() {
    let mut random = fastrand::Rng::with_seed(20);
    for round in 0..40 {
        let partition = ["is_current", "tier", "phone"][round % 3];
        let mut changes: Vec<Change<'_>> = (0..random.usize(1..16))
            .map(|_| {
                let state = (random.choice(["basic", "gold"]), random.choice(["1", "2", "3"]));
                let state = state.0.zip(state.1).filter(|_| random.u8(0..10) < 7);
                (random.i64(0..3), random.i64(0..8), state)
            })
            .collect();
        let expected = expected(&changes);
        random.shuffle(&mut changes);
        let schema = batch(&[]).schema();
        let definition = Scd2Table::definition_of("history", &definition(), &schema).unwrap();
        let definition = definition.with_partition_fields([partition]);
        let table = Table::create_with(
            Arc::new(object_store::memory::InMemory::new()),
            "lake/history".into(),
            definition,
            common::repeatable(),
        );
        let table = Scd2Table::of(table.await.unwrap()).unwrap();
        let mut rest = changes.as_slice();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(random.usize(1..=rest.len().min(5)));
            table.apply(&[batch(now)]).await.unwrap();
            rest = later;
        }
        assert_eq!(printed(&table.rows().await.unwrap()), expected, "round {round}: {changes:?}");
        assert_eq!(rows_of_others(&table).await, expected.lines().count(), "round {round}");
        assert_eq!(table.apply(&[batch(&changes)]).await.unwrap().commit.instant, None, "round {round}");
        assert_eq!(table.table().validate().await.unwrap(), [], "round {round}");
    }
}

#[test]
fn what_takes_time_may_move_between_threads() {
    fn moves<T: Send>(_: impl Fn(&'static Scd2Table) -> T) {}
    moves(|table| table.apply(&[]));
    moves(|table| table.rows());
    moves(|table| table.dimension());
    moves(|table| table.table().archive());
}

#[tokio::test]
async fn a_definition_of_another_table_creates_no_history_and_one_with_partitions_does() {
    let schema = batch(&[]).schema();
    let store = common::memory();
    let other = hudi_scd::TableDefinition::new("t", schema.clone(), ["customer_id"]);
    let error = Scd2Table::create(store.clone(), "t".into(), other).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidDefinition);
    let history = Scd2Table::definition_of("t", &definition(), &schema).unwrap();
    let history = history.with_partition_fields(["is_current"]);
    let history = Scd2Table::create(store, "t".into(), history).await.unwrap();
    assert_eq!(history.table().partition_fields(), ["is_current"]);
    assert_eq!(history.definition(), &definition());
}

#[tokio::test]
async fn a_table_is_opened_by_its_url() {
    let folder = tempfile::tempdir().unwrap();
    let schema = batch(&[]).schema();
    let definition = Scd2Table::definition_of("t", &definition(), &schema).unwrap();
    Scd2Table::create(common::folder(folder.path()), "".into(), definition).await.unwrap();
    let path = folder.path().canonicalize().unwrap();
    let url = format!("file://{}", path.display());
    let none: [(&str, &str); 0] = [];
    let table = hudi_scd::Table::open_url(&url, none).await.unwrap();
    assert!(table.is_history());
    assert_eq!(table.options().base_url(), path.to_str());
}

/// Changes above the memory budget are sorted on the local disk and merged in parts. The rows, the counts and
/// the single commit must be the same as with changes in memory.
#[tokio::test]
async fn changes_above_the_memory_budget_make_the_same_history_in_one_commit() {
    let mut random = fastrand::Rng::with_seed(7);
    let mut changes = Vec::new();
    for _ in 0..6_000 {
        let state = (random.choice(["basic", "gold", "silver"]), random.choice(["1", "2", "3"]));
        let state = state.0.zip(state.1).filter(|_| random.u8(0..10) < 7);
        changes.push((random.i64(0..1_500), random.i64(0..40), state));
    }
    let schema = batch(&[]).schema();
    let table = |budget: usize| {
        let definition = Scd2Table::definition_of("history", &definition(), &schema).unwrap();
        let definition = definition.with_partition_fields(["is_current"]);
        let options = common::repeatable().with_memory_budget(budget).with_file_sizes(0, 20_000);
        Scd2Table::create_with(common::memory(), "lake/history".into(), definition, options)
    };
    // An eighth of the smaller budget has room for about 150 changes, so there are runs of two size classes.
    let (large, small) = (table(1 << 30).await.unwrap(), table(64 * 1024).await.unwrap());
    for (number, part) in [&changes[..4_500], &changes[4_500..]].into_iter().enumerate() {
        let batches: Vec<RecordBatch> = part.chunks(37).map(batch).collect();
        let whole = large.apply(&batches).await.unwrap();
        let parts = small.apply(&batches).await.unwrap();
        assert_eq!(parts.counts, whole.counts, "part {number}");
        let counts = |report: &hudi_scd::CommitReport| {
            (report.rows, report.inserted, report.updated, report.deleted, report.moved, report.superseded)
        };
        assert_eq!(counts(&parts.commit), counts(&whole.commit), "part {number}");
        assert_eq!(small.table().timeline().await.unwrap().completed_commits().count(), number + 1);
        assert_eq!(printed(&small.rows().await.unwrap()), printed(&large.rows().await.unwrap()));
        assert_eq!(small.table().validate().await.unwrap(), []);
    }
    assert_eq!(printed(&small.rows().await.unwrap()), expected(&changes));
    let batches: Vec<RecordBatch> = changes.chunks(100).map(batch).collect();
    assert_eq!(small.apply(&batches).await.unwrap().commit.instant, None, "all of it is known");
    // A state before a hidden delete shows that hidden deletes were kept too.
    let late: Vec<Change<'_>> = (0..1_500).map(|key| (key, -1, Some(("gold", "9")))).collect();
    let batches: Vec<RecordBatch> = late.chunks(100).map(batch).collect();
    small.apply(&batches).await.unwrap();
    changes.extend(late);
    assert_eq!(printed(&small.rows().await.unwrap()), expected(&changes));
}

/// A later batch may add a column and widen another one, and a batch of deletes has neither column. Runs give
/// the same result as memory.
#[tokio::test]
async fn a_column_that_appears_late_in_the_stream_is_null_in_the_rows_before_it() {
    let history = || Scd2::new(["id", "part"], "at");
    let deletes = |ids: Vec<i32>, at: i32| {
        let length = ids.len();
        RecordBatch::try_from_iter([
            ("id", Arc::new(arrow::array::Int32Array::from(ids)) as ArrayRef),
            ("part", Arc::new(StringArray::from(vec![""; length]))),
            ("at", Arc::new(arrow::array::Int32Array::from(vec![at; length]))),
            ("_hoodie_is_deleted", Arc::new(BooleanArray::from(vec![true; length]))),
        ])
        .unwrap()
    };
    let states = |ids: std::ops::Range<i32>, at: i32, amount: ArrayRef, note: Option<&str>| {
        let length = ids.len();
        let mut columns: Vec<(&str, ArrayRef)> = vec![
            ("id", Arc::new(arrow::array::Int32Array::from_iter_values(ids))),
            ("part", Arc::new(StringArray::from(vec![""; length]))),
            ("at", Arc::new(arrow::array::Int32Array::from(vec![at; length]))),
            ("amount", amount),
            ("_hoodie_is_deleted", Arc::new(BooleanArray::from(vec![false; length]))),
        ];
        columns
            .extend(note.map(|note| ("note", Arc::new(StringArray::from(vec![note; length])) as ArrayRef)));
        RecordBatch::try_from_iter(columns).unwrap()
    };
    let narrow: ArrayRef = Arc::new(arrow::array::Int32Array::from_iter_values(0..100));
    let wide: ArrayRef = Arc::new(Int64Array::from_iter_values((0..100).map(|row| row << 40)));
    let input = [
        states(0..100, 1, narrow, None),
        deletes((0..50).collect(), 2),
        states(50..150, 3, wide, Some("late")),
        deletes((140..160).collect(), 4),
    ];
    let mut seen = Vec::new();
    for budget in [1 << 30, 4 * 1024] {
        let options = common::repeatable().with_memory_budget(budget);
        let definition = Scd2Table::definition_of("t", &history(), &input[0].schema()).unwrap();
        let table = Scd2Table::create_with(common::memory(), "t".into(), definition, options).await.unwrap();
        let report = table.apply(&input).await.unwrap();
        assert_eq!(table.table().validate().await.unwrap(), []);
        seen.push((report.counts, printed(&table.rows().await.unwrap())));
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0].1.lines().count(), 200);
}

/// An error at the end of a long stream, or an invalid change late in the stream, leaves the table unchanged.
#[tokio::test]
async fn a_stream_of_changes_that_fails_writes_nothing_and_an_invalid_change_is_named_by_its_row() {
    let schema = batch(&[]).schema();
    let definition = Scd2Table::definition_of("t", &definition(), &schema).unwrap();
    let options = common::repeatable().with_memory_budget(8 * 1024);
    let table = Scd2Table::create_with(common::memory(), "t".into(), definition, options).await.unwrap();
    let many: Vec<Change<'_>> = (0..900).map(|key| (key, 10, Some(("gold", "1")))).collect();
    let batches = || many.chunks(50).map(|part| Ok(batch(part)));
    let broken = hudi_scd::Error::new(ErrorKind::Storage, "the source is gone");
    let error = table.apply_stream(futures::stream::iter(batches().chain([Err(broken)]))).await.unwrap_err();
    assert_eq!((error.kind(), error.to_string().contains("the source is gone")), (ErrorKind::Storage, true));

    let without_key = {
        let rows = batch(&[(7, 1, Some(("gold", "1")))]);
        let mut columns = rows.columns().to_vec();
        columns[0] = Arc::new(Int64Array::from(vec![None]));
        RecordBatch::try_new(rows.schema(), columns).unwrap()
    };
    let error =
        table.apply_stream(futures::stream::iter(batches().chain([Ok(without_key)]))).await.unwrap_err();
    assert_eq!((error.kind(), error.context("row")), (ErrorKind::InvalidInput, Some("900")));
    assert_eq!(table.table().timeline().await.unwrap().entries().len(), 0);
    assert_eq!(table.rows().await.unwrap().num_rows(), 0);
}
