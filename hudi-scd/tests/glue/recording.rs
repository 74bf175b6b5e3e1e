//! Syncs of Hudi 0.15.0, recorded: the table as each sync saw it, and the catalog that it left.

use std::{path::PathBuf, sync::Arc};

use hudi_scd::{
    Table,
    glue::{
        SyncOptions,
        aws_sdk_glue::types::{Column, Partition, SerDeInfo, StorageDescriptor, Table as CatalogTable},
    },
    object_store::{ObjectStore, local::LocalFileSystem, path::Path},
};
use serde_json::Value;

use crate::{common, memory::MemoryCatalog};

pub(crate) const SCENARIOS: [&str; 13] = [
    "a-first-unpartitioned",
    "b-first-hive-style",
    "c-plain-style",
    "e-no-change",
    "f-new-partitions",
    "g-dropped",
    "i-widening",
    "j-types",
    "m-foreign-table",
    "n-s3a",
    "o-conflict",
    "r-faults",
    "s-options",
];

/// A scenario: its steps, and the tables in a folder.
pub(crate) struct Recording {
    pub(crate) steps: Vec<Step>,
    folder: tempfile::TempDir,
}

pub(crate) struct Step {
    pub(crate) name: String,
    pub(crate) table: String,
    pub(crate) succeeded: bool,
    pub(crate) catalog: Value,
    options: Vec<(String, String)>,
}

impl Recording {
    pub(crate) fn load(scenario: &str) -> Self {
        let data = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/glue");
        let folder = tempfile::tempdir().unwrap();
        common::unpack(&data.join(format!("{scenario}.tar.gz")), folder.path());
        let steps = std::fs::read(data.join(format!("{scenario}.json"))).unwrap();
        let steps: Vec<Value> = serde_json::from_slice(&steps).unwrap();
        Self { steps: steps.iter().map(Step::new).collect(), folder }
    }

    /// Opens the table as a step's sync saw it; `None` if the step failed before there was one.
    pub(crate) async fn table(&self, step: &Step) -> Option<Table> {
        let below = self.folder.path().join(&step.name).join(&step.table);
        if !below.join(".hoodie").exists() {
            return None;
        }
        let store: Arc<dyn ObjectStore> =
            Arc::new(LocalFileSystem::new_with_prefix(below.parent().unwrap()).unwrap());
        Some(Table::open(store, Path::from(step.table.as_str())).await.unwrap())
    }
}

impl Step {
    fn new(value: &Value) -> Self {
        let options = value["options"].as_object().unwrap().iter();
        let options: Vec<_> =
            options.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect();
        let table = options.iter().find(|(name, _)| name == "hoodie.datasource.hive_sync.table");
        Self {
            name: value["step"].as_str().unwrap().to_owned(),
            table: table.unwrap().1.clone(),
            succeeded: value["outcome"] == "ok",
            catalog: value["catalog"].clone(),
            options,
        }
    }

    /// Returns the options of the step; the location is the recorded one.
    pub(crate) fn options(&self) -> hudi_scd::Result<SyncOptions> {
        // The table of one scenario is reached as s3a.
        let recorded = &self.catalog["Table"]["StorageDescriptor"]["SerdeInfo"]["Parameters"]["path"];
        let location = text(recorded).unwrap_or_else(|| format!("s3://bucket/clean/{}", self.table));
        let options = SyncOptions::new("lake", location);
        let mut known =
            self.options.iter().filter(|(name, _)| name != "hoodie.datasource.meta.sync.base.path");
        known.try_fold(options, |options, (name, value)| options.with_hudi_option(name, value))
    }

    /// Puts the recorded catalog before a sync of ours.
    pub(crate) fn restore(&self, catalog: &MemoryCatalog) {
        let mut state = catalog.state();
        state.database = true;
        let recorded = &self.catalog["Table"];
        state.table = recorded.is_object().then(|| table(recorded));
        state.partitions.clear();
        let storage = state.table.as_ref().and_then(|table| table.storage_descriptor.clone());
        for recorded in self.catalog["Partitions"].as_array().into_iter().flatten() {
            let values: Vec<String> = serde_json::from_value(recorded[0].clone()).unwrap();
            let mut storage = storage.clone().unwrap();
            storage.location = recorded[1].as_str().map(str::to_owned);
            let partition = Partition::builder().set_values(Some(values.clone())).storage_descriptor(storage);
            state.partitions.insert(values, partition.build());
        }
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn columns(value: &Value) -> Option<Vec<Column>> {
    let column = |value: &Value| {
        let column = Column::builder().set_name(text(&value["Name"])).set_type(text(&value["Type"]));
        column.set_comment(text(&value["Comment"])).build().unwrap()
    };
    Some(value.as_array()?.iter().map(column).collect())
}

fn table(value: &Value) -> CatalogTable {
    let storage = &value["StorageDescriptor"];
    let serde = SerDeInfo::builder()
        .set_serialization_library(text(&storage["SerdeInfo"]["SerializationLibrary"]))
        .set_parameters(serde_json::from_value(storage["SerdeInfo"]["Parameters"].clone()).unwrap());
    let storage = StorageDescriptor::builder()
        .set_columns(columns(&storage["Columns"]))
        .set_location(text(&storage["Location"]))
        .set_input_format(text(&storage["InputFormat"]))
        .set_output_format(text(&storage["OutputFormat"]))
        .serde_info(serde.build());
    CatalogTable::builder()
        .set_name(text(&value["Name"]).map(|name| name.to_lowercase()))
        .storage_descriptor(storage.build())
        .set_partition_keys(columns(&value["PartitionKeys"]))
        .set_table_type(text(&value["TableType"]))
        .set_parameters(serde_json::from_value(value["Parameters"].clone()).unwrap())
        .version_id("1")
        .build()
        .unwrap()
}

/// Describes a catalog in lines, for comparison.
pub(crate) fn lines(catalog: &MemoryCatalog) -> Vec<String> {
    let state = catalog.state();
    let Some(table) = &state.table else { return vec!["no table".into()] };
    let storage = table.storage_descriptor.as_ref().unwrap();
    let serde = storage.serde_info.as_ref().unwrap();
    let column = |column: &Column| {
        let (kind, comment) =
            (column.r#type.as_deref().unwrap(), column.comment.as_deref().unwrap_or_default());
        format!("{} {kind} {comment:?}", column.name)
    };
    let mut lines: Vec<String> =
        storage.columns().iter().map(|found| format!("column {}", column(found))).collect();
    lines.extend(table.partition_keys().iter().map(|found| format!("key {}", column(found))));
    let mut parameters: Vec<_> = table.parameters.as_ref().unwrap().iter().collect();
    parameters.sort();
    lines.extend(parameters.into_iter().map(|(name, value)| format!("parameter {name}={value}")));
    let mut parameters: Vec<_> = serde.parameters.as_ref().unwrap().iter().collect();
    parameters.sort();
    lines.extend(parameters.into_iter().map(|(name, value)| format!("serde {name}={value}")));
    lines.push(format!("type {:?}", table.table_type));
    lines.push(format!("at {:?}", storage.location));
    lines.push(format!("formats {:?} {:?}", storage.input_format, storage.output_format));
    lines.push(format!("library {:?}", serde.serialization_library));
    for (values, partition) in &state.partitions {
        let storage = partition.storage_descriptor.as_ref().unwrap();
        lines.push(format!("partition {values:?} at {:?}", storage.location));
    }
    lines
}
