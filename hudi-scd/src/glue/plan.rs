//! [`Plan`]: the calls that bring the catalog to the table's state.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
};

use aws_sdk_glue::types::{
    Column, Partition, PartitionInput, StorageDescriptor, Table as CatalogTable, TableInput,
};

use super::{
    columns::widens,
    definition::{Definition, LAST_COMMIT, TABLE_TYPE, formats, names_and_types, same_place, unbuilt},
    options::SyncOptions,
    spark,
};
use crate::{Error, ErrorKind, Instant, Result};

/// The change of the table itself.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum TableChange {
    /// The table is kept. Its description may change.
    Keep,
    /// The table is created.
    Create(Box<TableInput>),
    /// The table of another tool is deleted with its partitions, and created again.
    Recreate(Box<TableInput>),
}

/// The calls that update the catalog to match the table. It is displayed as one line for each change.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Plan {
    /// The database.
    pub database: String,
    /// The table.
    pub table: String,
    /// The change of the table itself. It is made first.
    pub change: TableChange,
    /// The partitions to create.
    pub create: Vec<PartitionInput>,
    /// The partitions whose descriptions change.
    pub update: Vec<PartitionInput>,
    /// The values of the partitions to drop.
    pub delete: Vec<Vec<String>>,
    /// The new description of the table. It is written last.
    pub description: Option<Box<TableInput>>,
    /// The differences that the plan removes, one sentence each.
    pub differences: Vec<String>,
    /// The version of the catalog's table for which the plan was made.
    pub(super) version: Option<String>,
    pub(super) archive: bool,
    pub(super) creates_database: bool,
}

impl Plan {
    /// Returns `true` if the catalog matches the table.
    pub fn is_empty(&self) -> bool {
        self.change == TableChange::Keep && self.description.is_none() && !self.changes_partitions()
    }

    pub(super) fn name(&self) -> String {
        format!("{}.{}", self.database, self.table)
    }

    /// Adds the fields of a deleted entry that the table itself does not determine, if the plan creates an entry.
    pub(super) fn keep(&mut self, deleted: &TableInput) {
        let created = match &mut self.change {
            TableChange::Keep => return,
            TableChange::Create(input) | TableChange::Recreate(input) => input,
        };
        for input in [Some(created), self.description.as_mut()].into_iter().flatten() {
            input.description = deleted.description.clone();
            input.owner = deleted.owner.clone();
            input.retention = deleted.retention;
        }
    }

    fn changes_partitions(&self) -> bool {
        !(self.create.is_empty() && self.update.is_empty() && self.delete.is_empty())
    }

    fn new(definition: &Definition, options: &SyncOptions) -> Self {
        Self {
            database: definition.database.clone(),
            table: definition.table.clone(),
            change: TableChange::Keep,
            create: Vec::new(),
            update: Vec::new(),
            delete: Vec::new(),
            description: None,
            differences: Vec::new(),
            version: None,
            archive: !options.skip_archive,
            creates_database: options.create_database,
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name();
        if self.is_empty() {
            return write!(f, "{name} is up to date");
        }
        match &self.change {
            TableChange::Keep => write!(f, "{name} changes:")?,
            TableChange::Create(_) => write!(f, "{name} is created:")?,
            TableChange::Recreate(_) => write!(f, "{name} is deleted and created:")?,
        }
        for difference in &self.differences {
            write!(f, "\n  {difference}")?;
        }
        let created = self.create.iter().map(PartitionInput::values);
        let updated = self.update.iter().map(PartitionInput::values);
        let deleted = self.delete.iter().map(Vec::as_slice);
        write_partitions(f, "created", created.collect())?;
        write_partitions(f, "updated", updated.collect())?;
        write_partitions(f, "dropped", deleted.collect())
    }
}

/// Writes the number of partitions and the first few of them.
fn write_partitions(f: &mut fmt::Formatter<'_>, verb: &str, partitions: Vec<&[String]>) -> fmt::Result {
    const SHOWN: usize = 5;
    if partitions.is_empty() {
        return Ok(());
    }
    let noun = if partitions.len() == 1 { "partition" } else { "partitions" };
    let names: Vec<_> = partitions.iter().take(SHOWN).map(|values| values.join("/")).collect();
    let more = if partitions.len() > SHOWN { ", …" } else { "" };
    write!(f, "\n  {} {noun} {verb}: {}{more}", partitions.len(), names.join(", "))
}

/// A table and its entry in the catalog, as [`read`](super::read) found them.
#[derive(Clone, Debug)]
pub struct Reading {
    pub(super) definition: Definition,
    pub(super) found: Option<CatalogTable>,
    pub(super) partitions: PartitionState,
    pub(super) compared: Compared,
    pub(super) options: SyncOptions,
}

/// The commits whose partitions are compared with the catalog.
#[derive(Clone, Copy, Debug)]
pub(super) enum Compared {
    All,
    /// The commits after this one.
    Since(Instant),
}

/// The partitions in the table and in the catalog, for comparison.
#[derive(Clone, Debug, Default)]
pub(super) struct PartitionState {
    /// The paths of existing partitions, by the catalog's values.
    pub(super) present: BTreeMap<Vec<String>, String>,
    /// The values of partitions that no longer exist.
    pub(super) dropped: BTreeSet<Vec<String>>,
    /// `true` to drop every partition of the catalog that is not present in the table.
    pub(super) all: bool,
    /// The partitions in the catalog.
    pub(super) known: Vec<Partition>,
}

/// Returns the columns whose types differ: name, type in the catalog, type in the table.
pub(super) fn changed_types(definition: &Definition, found: &CatalogTable) -> Vec<(String, String, String)> {
    let known: HashMap<_, _> = names_and_types(stored_columns(found)).into_iter().collect();
    let wanted = names_and_types(&definition.columns).into_iter();
    wanted
        .filter_map(|(name, new)| {
            let old = known.get(&name)?.clone();
            (old != new).then_some((name, old, new))
        })
        .collect()
}

fn stored_columns(found: &CatalogTable) -> &[Column] {
    found.storage_descriptor.as_ref().map(StorageDescriptor::columns).unwrap_or_default()
}

impl Reading {
    /// Plans the calls that bring the catalog to the table's state. Sends no request.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] for a table of another tool; [`ErrorKind::Unsupported`] for a change of a
    /// type that readers would not survive. Both name the differences, and neither is returned for a takeover.
    pub fn plan(&self) -> Result<Plan> {
        let Self { definition, found, partitions, options, .. } = self;
        let mut plan = Plan::new(definition, options);
        let Some(found) = found else {
            let input = definition.creation()?;
            plan.change = TableChange::Create(Box::new(input.clone()));
            plan.differences.push(format!("{} columns at {}", definition.columns.len(), definition.location));
            return Ok(created(plan, definition, partitions, input));
        };
        let foreign = definition.foreign(found);
        if !foreign.is_empty() {
            if !options.takeover {
                let name = plan.name();
                return Err(Error::new(
                    ErrorKind::AlreadyExists,
                    format!(
                        "{name} is in the catalog, and it is not this table: {}; choose another name, or take the \
                         table over",
                        foreign.join("; ")
                    ),
                ));
            }
            plan.differences.extend(foreign.iter().cloned());
            if definition.needs_recreation(found) {
                let input = definition.creation()?;
                plan.change = TableChange::Recreate(Box::new(input.clone()));
                let mut plan = created(plan, definition, partitions, input);
                plan.keep(&input_of(found)?);
                return Ok(plan);
            }
        }
        let changed = changed_types(definition, found);
        let refused: Vec<_> = changed.iter().filter(|(_, old, new)| !widens(old, new)).collect();
        if !refused.is_empty() && !options.takeover {
            let text: Vec<_> =
                refused.iter().map(|(name, old, new)| format!("{name} from {old} to {new}")).collect();
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "a sync only widens types, and does not change {}; use a takeover to change them anyway",
                    text.join(", ")
                ),
            ));
        }
        plan.version = found.version_id.clone();
        let is_foreign = !foreign.is_empty();
        compare_partitions(&mut plan, definition, partitions, is_foreign || !changed.is_empty());
        describe(&mut plan, definition, found, is_foreign, options)?;
        Ok(plan)
    }
}

/// Completes the plan of a new table.
fn created(
    mut plan: Plan,
    definition: &Definition,
    partitions: &PartitionState,
    mut input: TableInput,
) -> Plan {
    let inputs = partitions.present.iter().map(|(values, path)| new_partition(definition, values, path));
    plan.create = inputs.collect();
    if !definition.keys.is_empty() && definition.last_commit.is_some() {
        input.parameters.get_or_insert_default().extend(definition.last_commit_parameter());
        plan.description = Some(Box::new(input));
    }
    plan
}

fn new_partition(definition: &Definition, values: &[String], path: &str) -> PartitionInput {
    let storage = definition.storage(&partition_location(definition, path));
    PartitionInput::builder().set_values(Some(values.to_vec())).storage_descriptor(storage).build()
}

fn partition_location(definition: &Definition, path: &str) -> String {
    format!("{}/{path}", definition.location)
}

/// Compares the partitions. With `cascade`, the descriptions of known partitions are replaced too.
fn compare_partitions(plan: &mut Plan, definition: &Definition, partitions: &PartitionState, cascade: bool) {
    let known: BTreeMap<&[String], &Partition> =
        partitions.known.iter().map(|partition| (partition.values(), partition)).collect();
    let types: HashMap<_, _> = names_and_types(&definition.columns).into_iter().collect();
    for (values, path) in &partitions.present {
        let location = partition_location(definition, path);
        match known.get(values.as_slice()) {
            None => plan.create.push(new_partition(definition, values, path)),
            Some(partition) if cascade || !describes(partition, &location, &types) => {
                plan.update.push(described(definition, partition, location));
            }
            Some(_) => {}
        }
    }
    for (values, partition) in &known {
        if partitions.present.contains_key(*values) {
            continue;
        }
        if partitions.all || partitions.dropped.contains(*values) {
            plan.delete.push(values.to_vec());
        } else if cascade {
            let location = partition.storage_descriptor.as_ref().and_then(|storage| storage.location.clone());
            plan.update.push(described(definition, partition, location.unwrap_or_default()));
        }
    }
}

/// Returns `true` if readers find the partition at the location, and read its files with the table's formats
/// and types. Hudi does not add new columns to old partitions, and readers do not need them there.
fn describes(partition: &Partition, location: &str, types: &HashMap<String, String>) -> bool {
    let Some(storage) = &partition.storage_descriptor else { return false };
    let columns = names_and_types(storage.columns());
    formats(storage).iter().all(|(_, found, wanted)| found == wanted)
        && storage.location.as_deref().is_some_and(|found| same_place(found, location))
        && columns.iter().all(|(name, kind)| types.get(name).is_none_or(|wanted| wanted == kind))
}

/// Returns a partition with the table's columns and formats. Its parameters are kept.
fn described(definition: &Definition, partition: &Partition, location: String) -> PartitionInput {
    PartitionInput::builder()
        .set_values(partition.values.clone())
        .set_parameters(partition.parameters.clone())
        .set_last_access_time(partition.last_access_time)
        .set_last_analyzed_time(partition.last_analyzed_time)
        .storage_descriptor(definition.storage(&location))
        .build()
}

/// Plans a new description of a table, if it differs from the old one. Fields that this crate does not set
/// are kept.
fn describe(
    plan: &mut Plan,
    definition: &Definition,
    found: &CatalogTable,
    is_foreign: bool,
    options: &SyncOptions,
) -> Result<()> {
    let before = plan.differences.len();
    let mut input = input_of(found)?;
    let wanted = definition.storage(&definition.location);
    let storage = input.storage_descriptor.get_or_insert_with(|| wanted.clone());
    compare_columns(&mut plan.differences, definition, found);
    if plan.differences.len() > before {
        storage.columns = Some(commented(&definition.columns, stored_columns(found)));
    }
    if is_foreign {
        // Formats, buckets, sort columns and parameters of the other tool would misinform readers.
        let columns = storage.columns.take();
        *storage = wanted.clone();
        storage.columns = columns;
        input.table_type = Some(TABLE_TYPE.to_owned());
        input.view_original_text = None;
        input.view_expanded_text = None;
        input.target_table = None;
    }
    if let (Some(serde), Some(wanted)) = (&mut storage.serde_info, wanted.serde_info) {
        let known = serde.parameters.get_or_insert_default();
        let wanted = wanted.parameters.unwrap_or_default().into_iter().collect::<BTreeMap<_, _>>();
        set(&mut plan.differences, "SerDe parameter", known, wanted);
    }
    let parameters = input.parameters.get_or_insert_default();
    let mut wanted = definition.parameters.clone();
    let kept = spark::equal_but_for_nulls_in_lists(parameters, &wanted);
    if kept.is_some() {
        wanted.retain(|name, _| !spark::describes_schema(name));
    }
    let kept = kept.unwrap_or_default();
    let stale = |name: &String| {
        let is_ours = name.starts_with(spark::PREFIX) || name == spark::PROVIDER;
        (is_ours || is_foreign) && !wanted.contains_key(name) && !kept.contains(name)
    };
    let stale: BTreeSet<_> = parameters.keys().filter(|name| stale(name)).cloned().collect();
    for name in stale {
        parameters.remove(&name);
        plan.differences.push(format!("parameter {name} is removed"));
    }
    set(&mut plan.differences, "parameter", parameters, wanted);
    let changes = !plan.differences.is_empty() || plan.changes_partitions();
    if (changes || !options.only_changes)
        && let Some((name, instant)) = definition.last_commit_parameter()
        && parameters.get(&name) != Some(&instant)
    {
        let old = parameters.insert(name, instant.clone()).unwrap_or_else(|| "nothing".into());
        plan.differences.push(format!("{LAST_COMMIT} moves from {old} to {instant}"));
    }
    if !plan.differences.is_empty() {
        plan.description = Some(Box::new(input));
    }
    Ok(())
}

/// Sets parameters, and names those that differed. Two locations of the same folder count as equal.
fn set(
    differences: &mut Vec<String>,
    noun: &str,
    known: &mut HashMap<String, String>,
    wanted: BTreeMap<String, String>,
) {
    for (name, value) in wanted {
        let equal = |old: &String| *old == value || (name == "path" && same_place(old, &value));
        if !known.get(&name).is_some_and(equal) {
            let verb = if known.contains_key(&name) { "changes" } else { "is added" };
            differences.push(format!("{noun} {name} {verb}"));
            known.insert(name, value);
        }
    }
}

fn compare_columns(differences: &mut Vec<String>, definition: &Definition, found: &CatalogTable) {
    let known: BTreeMap<_, _> = names_and_types(stored_columns(found)).into_iter().collect();
    let wanted: BTreeMap<_, _> = names_and_types(&definition.columns).into_iter().collect();
    for (name, kind) in &wanted {
        match known.get(name) {
            None => differences.push(format!("column {name} {kind} is added")),
            Some(old) if old != kind => {
                differences.push(format!("column {name} changes from {old} to {kind}"))
            }
            Some(_) => {}
        }
    }
    let removed = known.keys().filter(|name| !wanted.contains_key(*name));
    differences.extend(removed.map(|name| format!("column {name} is removed")));
}

/// Returns the columns with the catalog's comments.
fn commented(wanted: &[Column], known: &[Column]) -> Vec<Column> {
    let comment = |name: &str| {
        let same = known.iter().find(|column| column.name.eq_ignore_ascii_case(name))?;
        same.comment.clone().filter(|comment| !comment.is_empty())
    };
    let with_comment = |column: &Column| {
        let mut column = column.clone();
        column.comment = comment(&column.name).or(column.comment);
        column
    };
    wanted.iter().map(with_comment).collect()
}

/// Returns the input that would leave a table as it is.
fn input_of(found: &CatalogTable) -> Result<TableInput> {
    TableInput::builder()
        .name(&found.name)
        .set_description(found.description.clone())
        .set_owner(found.owner.clone())
        .set_last_access_time(found.last_access_time)
        .set_last_analyzed_time(found.last_analyzed_time)
        .retention(found.retention)
        .set_storage_descriptor(found.storage_descriptor.clone())
        .set_partition_keys(Some(found.partition_keys().to_vec()))
        .set_view_original_text(found.view_original_text.clone())
        .set_view_expanded_text(found.view_expanded_text.clone())
        .set_table_type(found.table_type.clone())
        .set_parameters(found.parameters.clone())
        .set_target_table(found.target_table.clone())
        .build()
        .map_err(unbuilt)
}
