//! Tables of other tools, and additions of other tools to this crate's tables.

use hudi_scd::{ErrorKind, glue};
use serde_json::{Value, json};

use crate::{
    recording::{Recording, lines},
    service::Service,
};

#[tokio::test(start_paused = true)]
async fn a_table_of_a_crawler_is_refused_and_taken_over_whole() {
    let recording = Recording::load("m-foreign-table");
    let step = recording.steps.iter().find(|step| step.name == "second").unwrap();
    let table = recording.table(step).await.unwrap();
    let service = Service::default();
    // The recording contains the crawler's table after Hudi has performed half of a takeover.
    step.restore(&service);
    let before = lines(&service);
    let options = step.options().unwrap();

    let error = glue::sync(&table, &service.glue, &options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(error.to_string().contains("SerDe"), "{error}");
    assert_eq!(lines(&service), before);

    glue::sync(&table, &service.glue, &options.clone().with_takeover(true)).await.unwrap();
    let check = glue::check(&table, &service.glue, &options).await.unwrap();
    assert!(check.is_empty(), "{check}");
}

/// A sync only checks partitions that commits changed, so a partition that another tool dropped stayed
/// missing.
#[tokio::test(start_paused = true)]
async fn what_others_did_to_partitions_is_repaired_on_request() {
    let recording = Recording::load("b-first-hive-style");
    let step = &recording.steps[0];
    let service = Service::default();
    step.restore(&service);
    let before = lines(&service);
    let (table, options) = (recording.table(step).await.unwrap(), step.options().unwrap());
    {
        let mut state = service.state();
        let partitions = &mut state.tables.get_mut("orders").unwrap().partitions;
        partitions.remove(&vec!["eu".to_owned()]).unwrap();
        let moved = partitions.get_mut(&vec!["us".to_owned()]).unwrap();
        moved["StorageDescriptor"]["Location"] = "s3://bucket/elsewhere".into();
        partitions.insert(vec!["xx".to_owned()], json!({ "Values": ["xx"] }));
    }
    assert!(glue::sync(&table, &service.glue, &options).await.unwrap().is_unchanged());
    let drift = glue::check(&table, &service.glue, &options).await.unwrap().to_string();
    for text in ["1 partition created: eu", "1 partition updated: us", "1 partition dropped: xx"] {
        assert!(drift.contains(text), "{drift}");
    }
    let whole = options.with_hudi_option("hoodie.meta.sync.incremental", "false").unwrap();
    glue::sync(&table, &service.glue, &whole).await.unwrap();
    assert_eq!(lines(&service), before);
    // The entry itself did not change, so no version was created.
    assert_eq!(service.entry().version, 1);
}

#[tokio::test(start_paused = true)]
async fn what_others_wrote_into_the_entry_stays() {
    let recording = Recording::load("i-widening");
    let [first, wider] = [&recording.steps[0], &recording.steps[1]];
    let service = Service::default();
    first.restore(&service);
    service.change(|table| {
        table["Description"] = "Orders of the shop".into();
        table["Owner"] = "data".into();
        table["Retention"] = 7.into();
        table["Parameters"]["classification"] = "parquet".into();
        let columns = table["StorageDescriptor"]["Columns"].as_array_mut().unwrap();
        columns.iter_mut().find(|column| column["Name"] == "qty").unwrap()["Comment"] = "Pieces".into();
    });
    let table = recording.table(wider).await.unwrap();
    let report = glue::sync(&table, &service.glue, &wider.options().unwrap()).await.unwrap();
    assert!(report.to_string().contains("column qty changes from int to bigint"), "{report}");
    // The type changed, so the partitions changed too.
    assert_eq!(report.partitions_updated, 2);
    let updates = service.calls().into_iter().filter(|call| *call == "UpdateTable").count();
    assert_eq!(updates, 1);

    let entry = service.entry();
    assert_eq!(entry.table["Description"], "Orders of the shop");
    assert_eq!((&entry.table["Owner"], &entry.table["Retention"]), (&"data".into(), &7.into()));
    assert_eq!(entry.table["Parameters"]["classification"], "parquet");
    let qty = |described: &Value| {
        let columns = described["StorageDescriptor"]["Columns"].as_array().unwrap();
        columns.iter().find(|column| column["Name"] == "qty").unwrap().clone()
    };
    assert_eq!(qty(&entry.table), json!({ "Name": "qty", "Type": "bigint", "Comment": "Pieces" }));
    assert!(entry.partitions.values().all(|partition| qty(partition)["Type"] == "bigint"));
}
