//! A catalog in memory with the service's rules: limits of batches, versions, folded names, pages of
//! failures. Faults come from a seed.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::{Mutex, MutexGuard},
};

use async_trait::async_trait;
use hudi_scd::glue::{
    Catalog, CatalogError, CatalogErrorKind, PartitionFailure,
    aws_sdk_glue::types::{Partition, PartitionInput, Table, TableInput},
};

#[derive(Default)]
pub(crate) struct MemoryCatalog {
    state: Mutex<State>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) database: bool,
    pub(crate) table: Option<Table>,
    pub(crate) partitions: BTreeMap<Vec<String>, Partition>,
    /// The calls in order.
    pub(crate) calls: Vec<&'static str>,
    /// The service refuses every call with this message.
    pub(crate) refusal: Option<&'static str>,
    /// The service does not answer.
    pub(crate) is_silent: bool,
    version: u64,
    faults: Option<fastrand::Rng>,
}

impl MemoryCatalog {
    /// Fails about one call in four: throttled, in conflict, or performed with its reply lost.
    pub(crate) fn with_faults(seed: u64) -> Self {
        let catalog = Self::default();
        catalog.state().faults = Some(fastrand::Rng::with_seed(seed));
        catalog
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn calls(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.state().calls)
    }

    pub(crate) fn stop_faults(&self) {
        self.state().faults = None;
    }

    /// Plays a call: a fault before it, the call, or the call with its reply lost.
    fn play<T>(
        &self,
        call: &'static str,
        run: impl FnOnce(&mut State) -> Result<T, CatalogError>,
    ) -> Result<T, CatalogError> {
        let mut state = self.state();
        state.calls.push(call);
        if let Some(message) = state.refusal {
            return Err(CatalogError::new(CatalogErrorKind::Refused, call, message));
        }
        let drawn = state.faults.as_mut().map_or(99, |random| random.u8(0..20));
        let fault = |kind, text| Err(CatalogError::new(kind, call, text));
        match drawn {
            0 | 1 => fault(CatalogErrorKind::Transient, "rate exceeded (ThrottlingException)"),
            2 => fault(CatalogErrorKind::Conflict, "changed (ConcurrentModificationException)"),
            3 | 4 => {
                run(&mut state)?;
                fault(CatalogErrorKind::Transient, "connection reset")
            }
            _ => run(&mut state),
        }
    }
}

impl State {
    fn create(&mut self, database: &str, input: &TableInput) {
        self.version += 1;
        self.table = Some(stored(database, input, self.version));
    }
}

fn stored(database: &str, input: &TableInput, version: u64) -> Table {
    Table::builder()
        .name(&input.name)
        .database_name(database)
        .set_description(input.description.clone())
        .set_owner(input.owner.clone())
        .retention(input.retention)
        .set_storage_descriptor(input.storage_descriptor.clone())
        .set_partition_keys(input.partition_keys.clone())
        .set_table_type(input.table_type.clone())
        .set_parameters(input.parameters.clone())
        .version_id(version.to_string())
        .build()
        .unwrap()
}

fn refused(call: &'static str, text: &str) -> CatalogError {
    CatalogError::new(CatalogErrorKind::Refused, call, text)
}

fn partition(input: &PartitionInput) -> Partition {
    Partition::builder()
        .set_values(input.values.clone())
        .set_storage_descriptor(input.storage_descriptor.clone())
        .set_parameters(input.parameters.clone())
        .build()
}

#[async_trait]
impl Catalog for MemoryCatalog {
    async fn table(&self, _: &str, table: &str) -> Result<Option<Table>, CatalogError> {
        if self.state().is_silent {
            return std::future::pending().await;
        }
        self.play("GetTable", |state| Ok(state.table.clone().filter(|found| found.name == table)))
    }

    async fn ensure_database(&self, _: &str) -> Result<(), CatalogError> {
        self.play("GetDatabase", |state| {
            state.database = true;
            Ok(())
        })
    }

    async fn create_table(&self, database: &str, table: TableInput) -> Result<(), CatalogError> {
        self.play("CreateTable", |state| {
            let kind = match (state.database, &state.table) {
                (false, _) => CatalogErrorKind::NotFound,
                (true, Some(_)) => CatalogErrorKind::Conflict,
                (true, None) => {
                    state.create(database, &table);
                    return Ok(());
                }
            };
            Err(CatalogError::new(kind, "CreateTable", "not possible"))
        })
    }

    async fn update_table(
        &self,
        database: &str,
        table: TableInput,
        version: Option<&str>,
        _: bool,
    ) -> Result<(), CatalogError> {
        self.play("UpdateTable", |state| {
            let Some(found) = &state.table else {
                return Err(CatalogError::new(CatalogErrorKind::NotFound, "UpdateTable", "no table"));
            };
            if version.is_some() && version != found.version_id.as_deref() {
                return Err(CatalogError::new(CatalogErrorKind::Conflict, "UpdateTable", "stale version"));
            }
            if found.partition_keys() != table.partition_keys() {
                return Err(refused("UpdateTable", "partition keys cannot change"));
            }
            state.create(database, &table);
            Ok(())
        })
    }

    async fn delete_table(&self, _: &str, _: &str) -> Result<(), CatalogError> {
        self.play("DeleteTable", |state| {
            state.partitions.clear();
            let gone = state.table.take().map(drop);
            gone.ok_or_else(|| CatalogError::new(CatalogErrorKind::NotFound, "DeleteTable", "no table"))
        })
    }

    async fn partitions(&self, _: &str, _: &str) -> Result<Vec<Partition>, CatalogError> {
        self.play("GetPartitions", |state| Ok(state.partitions.values().cloned().collect()))
    }

    async fn partitions_with(
        &self,
        _: &str,
        _: &str,
        values: &[Vec<String>],
    ) -> Result<Vec<Partition>, CatalogError> {
        self.play("BatchGetPartition", |state| {
            assert!(values.len() <= 1000, "the service refuses more");
            Ok(values.iter().filter_map(|values| state.partitions.get(values).cloned()).collect())
        })
    }

    async fn create_partitions(
        &self,
        _: &str,
        _: &str,
        partitions: &[PartitionInput],
    ) -> Result<Vec<PartitionFailure>, CatalogError> {
        self.play("BatchCreatePartition", |state| {
            assert!(partitions.len() <= 100, "the service refuses more");
            let keys = state.table.as_ref().map_or(0, |table| table.partition_keys().len());
            let mut failures = Vec::new();
            for input in partitions {
                let values = input.values().to_vec();
                if values.len() != keys {
                    return Err(refused("BatchCreatePartition", "wrong number of values"));
                }
                // A part of a batch fails.
                let lost = state.faults.as_mut().is_some_and(|random| random.u8(0..20) == 0);
                if lost {
                    failures.push(PartitionFailure::new(values, "InternalServiceException", "try again"));
                    continue;
                }
                match state.partitions.entry(values) {
                    Entry::Vacant(place) => {
                        place.insert(partition(input));
                    }
                    Entry::Occupied(known) => failures.push(PartitionFailure::new(
                        known.key().clone(),
                        "AlreadyExistsException",
                        "is there",
                    )),
                }
            }
            Ok(failures)
        })
    }

    async fn update_partitions(
        &self,
        _: &str,
        _: &str,
        partitions: &[PartitionInput],
    ) -> Result<Vec<PartitionFailure>, CatalogError> {
        self.play("BatchUpdatePartition", |state| {
            assert!(partitions.len() <= 100, "the service refuses more");
            let mut failures = Vec::new();
            for input in partitions {
                let values = input.values().to_vec();
                match state.partitions.get_mut(&values) {
                    Some(known) => *known = partition(input),
                    None => {
                        failures.push(PartitionFailure::new(values, "EntityNotFoundException", "is gone"))
                    }
                }
            }
            Ok(failures)
        })
    }

    async fn delete_partitions(
        &self,
        _: &str,
        _: &str,
        values: &[Vec<String>],
    ) -> Result<Vec<PartitionFailure>, CatalogError> {
        self.play("BatchDeletePartition", |state| {
            assert!(values.len() <= 25, "the service refuses more");
            let mut failures = Vec::new();
            for values in values {
                if state.partitions.remove(values).is_none() {
                    failures.push(PartitionFailure::new(
                        values.clone(),
                        "EntityNotFoundException",
                        "is gone",
                    ));
                }
            }
            Ok(failures)
        })
    }
}
