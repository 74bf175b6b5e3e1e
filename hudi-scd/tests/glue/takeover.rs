//! Tables of other tools, and additions of other tools to this crate's tables.

use hudi_scd::{
    ErrorKind, Table,
    glue::{self, SyncOptions},
};
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
        // Hudi 0.15.0 changes the types of the table's columns, and not those of its partitions.
        let old = partitions.get_mut(&vec!["ap".to_owned()]).unwrap();
        let columns = old["StorageDescriptor"]["Columns"].as_array_mut().unwrap();
        columns.iter_mut().find(|column| column["Name"] == "id").unwrap()["Type"] = "int".into();
    }
    assert!(glue::sync(&table, &service.glue, &options).await.unwrap().is_unchanged());
    let drift = glue::check(&table, &service.glue, &options).await.unwrap().to_string();
    for text in ["1 partition created: eu", "2 partitions updated: ap, us", "1 partition dropped: xx"] {
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

/// Returns a recording, whose folder holds the table; a catalog in which Hudi's first sync has registered the
/// table; the table; and the options of that sync.
async fn registered() -> (Recording, Service, Table, SyncOptions) {
    let recording = Recording::load("b-first-hive-style");
    let step = &recording.steps[0];
    let (table, options) = (recording.table(step).await.unwrap(), step.options().unwrap());
    let service = Service::default();
    step.restore(&service);
    (recording, service, table, options)
}

/// Formats, buckets and parameters of the other tool would misinform readers.
#[tokio::test(start_paused = true)]
async fn a_takeover_leaves_nothing_of_the_other_tool() {
    let (_recording, service, table, options) = registered().await;
    service.change(|table| {
        table["Description"] = "Orders of the shop".into();
        table["TableType"] = "VIRTUAL_VIEW".into();
        table["ViewOriginalText"] = "SELECT 1".into();
        let storage = &mut table["StorageDescriptor"];
        storage["OutputFormat"] = "org.x.Output".into();
        storage["Compressed"] = true.into();
        storage["NumberOfBuckets"] = 3.into();
        storage["BucketColumns"] = json!(["id"]);
        storage["Parameters"] = json!({ "classification": "csv" });
        table["Parameters"]["classification"] = "csv".into();
        table["Parameters"]["table_type"] = "ICEBERG".into();
    });
    let error = glue::sync(&table, &service.glue, &options).await.unwrap_err().to_string();
    for text in ["output format is org.x.Output", "table type is VIRTUAL_VIEW", "table_type is ICEBERG"] {
        assert!(error.contains(text), "{error}");
    }
    let planned = glue::read(&table, &service.glue, &options.clone().with_takeover(true))
        .await
        .unwrap()
        .plan()
        .unwrap();
    assert!(planned.to_string().contains("parameter classification is removed"), "{planned}");
    glue::sync(&table, &service.glue, &options.with_takeover(true)).await.unwrap();
    let entry = service.entry().table;
    assert_eq!(entry["Description"], "Orders of the shop");
    assert_eq!(entry["TableType"], "EXTERNAL_TABLE");
    let text = entry.to_string();
    for gone in ["SELECT 1", "org.x.Output", "\"id\"]", "csv", "ICEBERG"] {
        assert!(!text.contains(gone), "{gone}: {text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_takeover_with_other_keys_keeps_description_owner_and_retention() {
    let (_recording, service, table, options) = registered().await;
    service.change(|table| {
        table["Description"] = "Orders of the shop".into();
        table["Owner"] = "data".into();
        table["Retention"] = 7.into();
        table["PartitionKeys"] = json!([{ "Name": "partition_0", "Type": "string" }]);
    });
    glue::sync(&table, &service.glue, &options.clone().with_takeover(true)).await.unwrap();
    let entry = service.entry().table;
    assert_eq!((&entry["Description"], &entry["Owner"]), (&"Orders of the shop".into(), &"data".into()));
    assert_eq!(entry["Retention"], 7);
    let check = glue::check(&table, &service.glue, &options).await.unwrap();
    assert!(check.is_empty(), "{check}");
}

/// A partition whose SerDe or output format another tool changed could not be read, and the check said nothing.
#[tokio::test(start_paused = true)]
async fn a_check_finds_the_formats_of_a_partition() {
    for member in ["/StorageDescriptor/OutputFormat", "/StorageDescriptor/SerdeInfo/SerializationLibrary"] {
        let (_recording, service, table, options) = registered().await;
        {
            let mut state = service.state();
            let partitions = &mut state.tables.get_mut("orders").unwrap().partitions;
            let changed = partitions.get_mut(&vec!["us".to_owned()]).unwrap();
            *changed.pointer_mut(member).unwrap() = "org.x".into();
        }
        let drift = glue::check(&table, &service.glue, &options).await.unwrap().to_string();
        assert!(drift.contains("1 partition updated: us"), "{drift}");
    }
}

/// Readers would go by the old schema in the parameters.
#[tokio::test(start_paused = true)]
async fn a_table_that_is_no_data_source_any_more_loses_its_schema_parts() {
    let (_recording, service, table, options) = registered().await;
    assert!(service.entry().table.to_string().contains("spark.sql.sources.schema.part.0"));
    let plain = options.with_hudi_option("hoodie.datasource.hive_sync.sync_as_datasource", "false").unwrap();
    glue::sync(&table, &service.glue, &plain).await.unwrap();
    assert!(!service.entry().table.to_string().contains("spark.sql.sources."), "{}", service.entry().table);
}
