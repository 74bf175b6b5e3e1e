//! [`sync`], [`plan`] and [`check`].

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use aws_sdk_glue::types::{Partition, Table as CatalogTable};

use super::{
    catalog::{Catalog, CatalogError, CatalogErrorKind, PartitionFailure},
    definition::{Definition, LAST_COMMIT},
    options::SyncOptions,
    partitions::{self, Partitions},
    plan::{self, PartitionState, Plan, TableChange},
};
use crate::{Error, ErrorKind, Instant, Result, Table};

/// Number of attempts if other clients change the catalog or calls fail.
const ATTEMPTS: u32 = 6;
/// The pause before the second attempt. It doubles after each attempt.
const PAUSE: Duration = Duration::from_millis(250);

/// Maximum number of partitions that the service accepts in a call.
const CREATED_AT_ONCE: usize = 100;
const DELETED_AT_ONCE: usize = 25;
const READ_AT_ONCE: usize = 1000;

/// The result of a sync.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SyncReport {
    /// The table in the catalog, `database.table`.
    pub table: String,
    /// `true` if the table was created.
    pub created: bool,
    /// The changes of the table's description, one sentence each.
    pub changes: Vec<String>,
    /// Number of created partitions.
    pub partitions_created: usize,
    /// Number of updated partitions.
    pub partitions_updated: usize,
    /// Number of dropped partitions, including those that were already gone.
    pub partitions_dropped: usize,
    /// Number of attempts. It is 1 unless another writer or a failed call made a repetition necessary.
    pub attempts: u32,
}

impl SyncReport {
    /// Returns `true` if the catalog already matched the table.
    pub fn is_unchanged(&self) -> bool {
        !self.created
            && self.changes.is_empty()
            && self.partitions_created + self.partitions_updated + self.partitions_dropped == 0
    }
}

impl fmt::Display for SyncReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_unchanged() {
            return write!(f, "{} was up to date", self.table);
        }
        write!(f, "{} was {}", self.table, if self.created { "created" } else { "updated" })?;
        let counts = [
            (self.partitions_created, "created"),
            (self.partitions_updated, "updated"),
            (self.partitions_dropped, "dropped"),
        ];
        for (count, verb) in counts.into_iter().filter(|(count, _)| *count > 0) {
            write!(f, ", {count} {} {verb}", if count == 1 { "partition" } else { "partitions" })?;
        }
        if !self.created {
            for change in &self.changes {
                write!(f, "\n  {change}")?;
            }
        }
        Ok(())
    }
}

/// Updates the catalog to match the table, and reads the table's entry back.
///
/// For an unchanged table, a sync sends one request. A failed sync does not change the table itself, and the
/// next sync completes it. The same holds if the future is dropped: the catalog then has some of the changes.
///
/// # Errors
/// [`ErrorKind::AlreadyExists`] for a table of the same name that another tool created;
/// [`ErrorKind::Unsupported`] for a type that the catalog lacks, or a change of a column's type after which
/// files would be unreadable; [`ErrorKind::Conflict`] if other clients kept changing the catalog;
/// [`ErrorKind::Storage`] if the catalog failed or refused a call. The source of the last two is the
/// [`CatalogError`] of the call.
pub async fn sync(table: &Table, catalog: &dyn Catalog, options: &SyncOptions) -> Result<SyncReport> {
    let mut report = SyncReport {
        table: String::new(),
        created: false,
        changes: Vec::new(),
        partitions_created: 0,
        partitions_updated: 0,
        partitions_dropped: 0,
        attempts: 0,
    };
    loop {
        report.attempts += 1;
        match attempt(table, catalog, options, &mut report).await {
            Ok(()) => return Ok(report),
            Err(Stop::Failed(error)) => return Err(error),
            Err(Stop::Again(error)) if report.attempts == ATTEMPTS => return Err(given_up(error)),
            Err(Stop::Again(error)) => {
                tracing::debug!(attempt = report.attempts, %error, "the catalog is read again");
                tokio::time::sleep(PAUSE * 2_u32.pow(report.attempts - 1)).await;
            }
        }
    }
}

/// Plans a sync without changing the catalog.
///
/// # Errors
/// As [`sync`].
pub async fn plan(table: &Table, catalog: &dyn Catalog, options: &SyncOptions) -> Result<Plan> {
    Ok(read_and_plan(table, catalog, options, false).await.map_err(Stop::into_error)?.1)
}

/// Compares the whole catalog entry, including each partition, with the table. An empty plan means that they
/// agree.
///
/// # Errors
/// As [`sync`].
pub async fn check(table: &Table, catalog: &dyn Catalog, options: &SyncOptions) -> Result<Plan> {
    Ok(read_and_plan(table, catalog, options, true).await.map_err(Stop::into_error)?.1)
}

/// The reason why an attempt did not succeed.
enum Stop {
    /// Reading the catalog again may help.
    Again(CatalogError),
    /// Another attempt does not help.
    Failed(Error),
}

impl Stop {
    fn into_error(self) -> Error {
        match self {
            Self::Again(error) => given_up(error),
            Self::Failed(error) => error,
        }
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<CatalogError> for Stop {
    fn from(error: CatalogError) -> Self {
        match error.kind() {
            CatalogErrorKind::Conflict | CatalogErrorKind::Transient | CatalogErrorKind::NotFound => {
                Self::Again(error)
            }
            CatalogErrorKind::Refused => Self::Failed(given_up(error)),
        }
    }
}

fn given_up(error: CatalogError) -> Error {
    let (kind, message) = match error.kind() {
        CatalogErrorKind::Conflict => (
            ErrorKind::Conflict,
            "other clients kept changing the table's entry in the Glue catalog; try again",
        ),
        CatalogErrorKind::NotFound => (ErrorKind::Storage, "an object of the Glue catalog is missing"),
        CatalogErrorKind::Transient => (ErrorKind::Storage, "the Glue catalog is not available; try again"),
        CatalogErrorKind::Refused => (ErrorKind::Storage, "the Glue catalog refuses a call"),
    };
    Error::new(kind, format!("{message}: {error}")).with_source(error)
}

/// Reads the catalog and the table, and plans a sync. With `whole`, each partition is compared.
async fn read_and_plan(
    table: &Table,
    catalog: &dyn Catalog,
    options: &SyncOptions,
    whole: bool,
) -> Result<(Definition, Plan), Stop> {
    let (database, name) = options.names(table);
    let found = catalog.table(&database, &name).await?;
    // The view is loaded after the catalog, so that it is at least as new.
    let view = table.view().await?;
    let definition = Definition::new(table, &view, options)?;
    let ours = found.as_ref().filter(|found| definition.foreign(found).is_empty());
    let synced = ours.and_then(last_commit).filter(|_| options.incremental && !whole);
    let synced = synced.filter(|synced| definition.last_commit.is_some_and(|latest| *synced <= latest));
    let state = match partitions::find(table, &view, synced).await? {
        Partitions::Unpartitioned => PartitionState::default(),
        partitions => state(table, catalog, options, &definition, found.as_ref(), partitions).await?,
    };
    let plan = plan::make(&definition, found.as_ref(), &state, options)?;
    Ok((definition, plan))
}

fn last_commit(found: &CatalogTable) -> Option<Instant> {
    found.parameters.as_ref()?.get(LAST_COMMIT)?.parse().ok()
}

/// Reads those partitions of the catalog that are compared with the table's partitions.
async fn state(
    table: &Table,
    catalog: &dyn Catalog,
    options: &SyncOptions,
    definition: &Definition,
    found: Option<&CatalogTable>,
    partitions: Partitions,
) -> Result<PartitionState, Stop> {
    let (present, dropped, all) = match partitions {
        Partitions::Unpartitioned => return Ok(PartitionState::default()),
        Partitions::All(present) => (present, Default::default(), true),
        Partitions::Since { present, dropped } => (present, dropped, false),
    };
    let mut by_values: BTreeMap<Vec<String>, String> = BTreeMap::new();
    for path in present {
        let values = partitions::values(table, options, &path)?;
        if let Some(other) = by_values.insert(values, path.clone()) {
            return Err(Error::new(
                ErrorKind::InvalidDefinition,
                "two partitions have the same values in the catalog; choose other partition values",
            )
            .with_context("partition", path)
            .with_context("other", other)
            .into());
        }
    }
    let dropped: BTreeSet<_> =
        dropped.iter().map(|path| partitions::values(table, options, path)).collect::<Result<_>>()?;
    let known = match found {
        None => Vec::new(),
        // The descriptions of all partitions are replaced.
        Some(found) if all || !plan::changed_types(definition, found).is_empty() => {
            catalog.partitions(&definition.database, &definition.table).await?
        }
        Some(_) => {
            let wanted: Vec<_> = by_values.keys().chain(&dropped).cloned().collect();
            read(catalog, definition, &wanted).await?
        }
    };
    Ok(PartitionState { present: by_values, dropped, all, known })
}

async fn read(
    catalog: &dyn Catalog,
    definition: &Definition,
    wanted: &[Vec<String>],
) -> Result<Vec<Partition>, Stop> {
    let mut known = Vec::new();
    for values in wanted.chunks(READ_AT_ONCE) {
        known.extend(catalog.partitions_with(&definition.database, &definition.table, values).await?);
    }
    Ok(known)
}

/// Plans a sync, applies the plan, and reads the entry back.
async fn attempt(
    table: &Table,
    catalog: &dyn Catalog,
    options: &SyncOptions,
    report: &mut SyncReport,
) -> Result<(), Stop> {
    let (definition, plan) = read_and_plan(table, catalog, options, false).await?;
    report.table = format!("{}.{}", plan.database, plan.table);
    if plan.is_empty() {
        return Ok(());
    }
    apply(catalog, options, &plan, report).await?;
    let found = catalog.table(&plan.database, &plan.table).await?;
    let left = plan::make(&definition, found.as_ref(), &PartitionState::default(), options)?;
    if left.is_empty() {
        return Ok(());
    }
    let changed = format!("another writer changed {} meanwhile: {left}", report.table);
    Err(Stop::Again(CatalogError::new(CatalogErrorKind::Conflict, "GetTable", changed)))
}

/// Carries out a plan. Each of its steps may be repeated.
async fn apply(
    catalog: &dyn Catalog,
    options: &SyncOptions,
    plan: &Plan,
    report: &mut SyncReport,
) -> Result<(), Stop> {
    let (database, table) = (plan.database.as_str(), plan.table.as_str());
    match &plan.change {
        TableChange::Keep => {}
        TableChange::Create(input) => {
            if options.create_database {
                catalog.ensure_database(database).await?;
            }
            let created = catalog.create_table(database, (**input).clone()).await;
            created.map_err(|error| database_missing(error, database, options))?;
            report.created = true;
        }
        TableChange::Recreate(input) => {
            catalog.delete_table(database, table).await?;
            catalog.create_table(database, (**input).clone()).await?;
            report.created = true;
        }
    }
    for batch in plan.create.chunks(CREATED_AT_ONCE) {
        let failures = catalog.create_partitions(database, table, batch).await?;
        report.partitions_created += batch.len() - failures.len();
        failures.iter().try_for_each(|failure| Err(stop("BatchCreatePartition", failure)))?;
    }
    for batch in plan.update.chunks(CREATED_AT_ONCE) {
        let failures = catalog.update_partitions(database, table, batch).await?;
        report.partitions_updated += batch.len() - failures.len();
        failures.iter().try_for_each(|failure| Err(stop("BatchUpdatePartition", failure)))?;
    }
    for batch in plan.delete.chunks(DELETED_AT_ONCE) {
        let failures = catalog.delete_partitions(database, table, batch).await?;
        // A partition that does not exist counts as dropped.
        let mut left = failures.iter().filter(|failure| failure.code != "EntityNotFoundException");
        left.try_for_each(|failure| Err(stop("BatchDeletePartition", failure)))?;
        report.partitions_dropped += batch.len();
    }
    if let Some(description) = &plan.description {
        let version = plan.version.as_deref();
        catalog.update_table(database, (**description).clone(), version, plan.archive).await?;
        report.changes.extend(plan.differences.iter().cloned());
    }
    Ok(())
}

fn database_missing(error: CatalogError, database: &str, options: &SyncOptions) -> Stop {
    if error.kind() == CatalogErrorKind::NotFound && !options.create_database {
        let message = format!("the catalog has no database {database}; create it, or let the sync create it");
        return Stop::Failed(Error::new(ErrorKind::NotFound, message));
    }
    error.into()
}

/// Returns how the sync continues after a partition of a batch failed.
fn stop(call: &'static str, failure: &PartitionFailure) -> Stop {
    let PartitionFailure { values, code, message } = failure;
    let kind = match code.as_str() {
        "AlreadyExistsException" | "EntityNotFoundException" | "ConcurrentModificationException" => {
            CatalogErrorKind::Conflict
        }
        "InternalServiceException" | "OperationTimeoutException" | "ThrottlingException" => {
            CatalogErrorKind::Transient
        }
        _ => CatalogErrorKind::Refused,
    };
    CatalogError::new(kind, call, format!("partition {}: {message} ({code})", values.join("/"))).into()
}
