//! Tables of other tools, and what others added to ours.

use hudi_scd::{ErrorKind, glue};

use crate::{
    memory::MemoryCatalog,
    recording::{Recording, lines},
};

#[tokio::test(start_paused = true)]
async fn a_table_of_a_crawler_is_refused_and_taken_over_whole() {
    let recording = Recording::load("m-foreign-table");
    let step = recording.steps.iter().find(|step| step.name == "second").unwrap();
    let table = recording.table(step).await.unwrap();
    let catalog = MemoryCatalog::default();
    // The recording shows the crawler's table after Hudi's half of a takeover.
    step.restore(&catalog);
    let before = lines(&catalog);
    let options = step.options().unwrap();

    let error = glue::sync(&table, &catalog, &options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(error.to_string().contains("SerDe"), "{error}");
    assert_eq!(lines(&catalog), before);

    glue::sync(&table, &catalog, &options.clone().with_takeover(true)).await.unwrap();
    let check = glue::check(&table, &catalog, &options).await.unwrap();
    assert!(check.is_empty(), "{check}");
}

#[tokio::test(start_paused = true)]
async fn what_others_wrote_into_the_entry_stays() {
    let recording = Recording::load("i-widening");
    let [first, wider] = [&recording.steps[0], &recording.steps[1]];
    let catalog = MemoryCatalog::default();
    first.restore(&catalog);
    {
        let mut state = catalog.state();
        let table = state.table.as_mut().unwrap();
        table.description = Some("Orders of the shop".into());
        table.owner = Some("data".into());
        table.retention = 7;
        table.parameters.as_mut().unwrap().insert("classification".into(), "parquet".into());
        let columns = table.storage_descriptor.as_mut().unwrap().columns.as_mut().unwrap();
        columns.iter_mut().find(|column| column.name == "qty").unwrap().comment = Some("Pieces".into());
    }
    let table = recording.table(wider).await.unwrap();
    let report = glue::sync(&table, &catalog, &wider.options().unwrap()).await.unwrap();
    assert!(report.to_string().contains("column qty changes from int to bigint"), "{report}");
    // The type changed, so the partitions changed with it.
    assert_eq!(report.partitions_updated, 2);
    let updates = catalog.calls().into_iter().filter(|call| *call == "UpdateTable").count();
    assert_eq!(updates, 1);

    let state = catalog.state();
    let table = state.table.as_ref().unwrap();
    assert_eq!(table.description.as_deref(), Some("Orders of the shop"));
    assert_eq!((table.owner.as_deref(), table.retention), (Some("data"), 7));
    assert_eq!(table.parameters.as_ref().unwrap()["classification"], "parquet");
    let columns = table.storage_descriptor.as_ref().unwrap().columns();
    let qty = columns.iter().find(|column| column.name == "qty").unwrap();
    assert_eq!((qty.r#type.as_deref(), qty.comment.as_deref()), (Some("bigint"), Some("Pieces")));
    for partition in state.partitions.values() {
        let columns = partition.storage_descriptor.as_ref().unwrap().columns();
        assert!(
            columns.iter().any(|column| column.name == "qty" && column.r#type.as_deref() == Some("bigint"))
        );
    }
}
