//! Recorded syncs of Hudi 0.15.0: the table as each sync found it, and the catalog as the sync left it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use hudi_scd::{
    Table,
    glue::SyncOptions,
    object_store::{ObjectStore, local::LocalFileSystem, path::Path},
};
use serde_json::{Value, json};

use crate::{common, service::Service};

pub(crate) const SCENARIOS: [&str; 20] = [
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
    "t-several-columns",
    "u-days",
    "v-nested",
    "w-names",
    "x-properties",
    "y-unpartitioned",
    "z-drops",
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
    /// The requests that created the table and created or dropped partitions.
    pub(crate) requests: Requests,
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

    /// Opens the table as a step's sync found it. Returns `None` if the step failed before the table existed.
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
            requests: Requests::new(serde_json::from_value(value["requests"].clone()).unwrap()),
            options,
        }
    }

    /// Returns the options of the step. The location is the recorded one.
    pub(crate) fn options(&self) -> hudi_scd::Result<SyncOptions> {
        // In one scenario, the table has an s3a location.
        let recorded = self.catalog["Table"]["StorageDescriptor"]["SerdeInfo"]["Parameters"]["path"].as_str();
        let location = recorded.map_or_else(|| format!("s3://bucket/clean/{}", self.table), str::to_owned);
        let options = SyncOptions::new("lake", location).with_table(&self.table);
        let ours = [
            "hoodie.datasource.meta.sync.base.path",
            "hoodie.datasource.hive_sync.database",
            "hoodie.datasource.hive_sync.table",
        ];
        let mut known = self.options.iter().filter(|(name, _)| !ours.contains(&name.as_str()));
        known.try_fold(options, |options, (name, value)| options.with_hudi_option(name, value))
    }

    /// Fills the service with the catalog that the sync of Hudi 1.0.2 left in a step. Returns `false` if that
    /// sync failed.
    ///
    /// The recording is of the sync's calls to the interface of catalogs. It lacks the members that Hudi's
    /// client of Glue adds: the comments, three parameters, and the scheme `s3` in locations.
    pub(crate) fn restore_1_0_2(&self, scenario: &str, service: &Service) -> bool {
        let data = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/glue/hudi-1.0.2.json");
        let recorded: Value = serde_json::from_slice(&std::fs::read(data).unwrap()).unwrap();
        let mut entry = recorded[scenario][&self.name].clone();
        if entry.is_null() {
            return false;
        }
        let columns = |pairs: &Value| -> Value {
            let column = |pair: &Value| json!({ "Name": pair[0], "Type": pair[1], "Comment": "" });
            pairs.as_array().unwrap().iter().map(column).collect()
        };
        let s3 = |location: &Value| location.as_str().unwrap().replacen("s3a://", "s3://", 1);
        for (parameters, name, value) in [
            ("serdeParameters", "serialization.format", "1"),
            ("parameters", "EXTERNAL", "TRUE"),
            ("parameters", "hudi.metadata-listing-enabled", "FALSE"),
        ] {
            entry[parameters][name] = value.into();
        }
        let storage = json!({
            "Columns": columns(&entry["columns"]),
            "Location": s3(&entry["location"]),
            "InputFormat": entry["inputFormat"],
            "OutputFormat": entry["outputFormat"],
            "SerdeInfo": { "SerializationLibrary": entry["serde"], "Parameters": entry["serdeParameters"] },
        });
        let partition = |recorded: &Value| {
            let values: Vec<String> = serde_json::from_value(recorded[0].clone()).unwrap();
            let mut storage = storage.clone();
            storage["Location"] = s3(&recorded[1]).into();
            (values.clone(), json!({ "Values": values, "StorageDescriptor": storage }))
        };
        let partitions = entry["partitions"].as_array().into_iter().flatten().map(partition).collect();
        let table = json!({
            "Name": self.table,
            "TableType": "EXTERNAL_TABLE",
            "Parameters": entry["parameters"],
            "PartitionKeys": columns(&entry["partitionKeys"]),
            "StorageDescriptor": storage,
        });
        let mut state = service.state();
        state.database = true;
        state.put(table, partitions);
        true
    }

    /// Fills the service with the recorded catalog, before a sync of this crate.
    pub(crate) fn restore(&self, service: &Service) {
        let mut state = service.state();
        state.database = true;
        state.tables.clear();
        let mut table = self.catalog["Table"].clone();
        let Some(fields) = table.as_object_mut() else { return };
        // The recording contains placeholders for times.
        fields.retain(|_, value| !["<now>", "<time>"].contains(&value.as_str().unwrap_or_default()));
        let partition = |recorded: &Value| {
            let values: Vec<String> = serde_json::from_value(recorded[0].clone()).unwrap();
            let mut storage = table["StorageDescriptor"].clone();
            storage["Location"] = recorded[1].clone();
            let columns = recorded[2].as_u64().unwrap() as usize;
            // A partition may lack a new column, or still have a removed one.
            let removed = json!({ "Name": "removed", "Type": "string", "Comment": "" });
            storage["Columns"].as_array_mut().unwrap().resize(columns, removed);
            (values.clone(), json!({ "Values": values, "StorageDescriptor": storage }))
        };
        let partitions = self.catalog["Partitions"].as_array().into_iter().flatten().map(partition).collect();
        state.put(table, partitions);
    }
}

/// The objects in requests that created the table and created or dropped partitions. Batches are flattened.
/// Parameters that a later update sets are omitted.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Requests {
    created: Vec<Value>,
    partitions: BTreeMap<String, Value>,
    dropped: BTreeSet<String>,
}

impl Requests {
    pub(crate) fn new(requests: Vec<(String, Value)>) -> Self {
        let mut found = Self::default();
        for (call, mut input) in requests {
            match call.as_str() {
                "CreateTable" => {
                    let mut table = input["TableInput"].take();
                    let parameters = table["Parameters"].as_object_mut().unwrap();
                    // This crate sets the parameter at once if there are no partitions. It does not know
                    // Spark's version.
                    parameters.remove("last_commit_time_sync");
                    parameters.remove("spark.sql.create.version");
                    // The service converts the name to lower case.
                    table["Name"] = table["Name"].as_str().unwrap().to_lowercase().into();
                    found.created.push(table);
                }
                "BatchCreatePartition" => {
                    let inputs = input["PartitionInputList"].as_array_mut().unwrap().iter_mut();
                    found.partitions.extend(inputs.map(|input| (input["Values"].to_string(), input.take())));
                }
                "BatchDeletePartition" => {
                    let lists = input["PartitionsToDelete"].as_array().unwrap().iter();
                    found.dropped.extend(lists.map(|list| list["Values"].to_string()));
                }
                _ => {}
            }
        }
        found
    }
}

/// Formats a catalog as lines, for comparison.
pub(crate) fn lines(service: &Service) -> Vec<String> {
    let entry = service.entry();
    let Some(storage) = entry.table["StorageDescriptor"].as_object() else { return vec!["no table".into()] };
    let columns = |kind: &str, columns: &Value| -> Vec<String> {
        let columns = columns.as_array().unwrap().iter();
        columns
            .map(|column| format!("{kind} {} {} {}", column["Name"], column["Type"], column["Comment"]))
            .collect()
    };
    let parameters = |kind: &str, parameters: &Value| -> Vec<String> {
        let parameters = parameters.as_object().unwrap().iter().collect::<BTreeMap<_, _>>().into_iter();
        parameters.map(|(name, value)| format!("{kind} {name}={}", value.as_str().unwrap())).collect()
    };
    let serde = &storage["SerdeInfo"];
    let mut lines = columns("column", &storage["Columns"]);
    lines.extend(columns("key", &entry.table["PartitionKeys"]));
    lines.extend(parameters("parameter", &entry.table["Parameters"]));
    lines.extend(parameters("serde", &serde["Parameters"]));
    lines.push(format!("type {}", entry.table["TableType"]));
    lines.push(format!("at {}", storage["Location"]));
    lines.push(format!("formats {} {}", storage["InputFormat"], storage["OutputFormat"]));
    lines.push(format!("library {}", serde["SerializationLibrary"]));
    for (values, partition) in &entry.partitions {
        let storage = &partition["StorageDescriptor"];
        let columns = storage["Columns"].as_array().map_or(0, Vec::len);
        lines.push(format!("partition {values:?} with {columns} columns at {}", storage["Location"]));
    }
    lines
}
