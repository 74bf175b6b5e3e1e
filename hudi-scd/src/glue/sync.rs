//! [`sync`] and [`check`]; [`read`], and how a [`Plan`] is applied.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use aws_sdk_glue::types::{Partition, PartitionInput, Table as CatalogTable, TableInput};

use super::{
    catalog::{Catalog, CatalogError, CatalogErrorKind, PartitionFailure},
    definition::{Definition, LAST_COMMIT},
    options::SyncOptions,
    partitions::{self, Partitions},
    plan::{self, Compared, PartitionState, Plan, Reading, TableChange},
};
use crate::{Error, ErrorKind, Instant, Result, Table};

/// Number of attempts in a row without any progress, if other clients change the catalog or calls fail.
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
    /// Number of attempts. It is 1 unless another writer or a failed call made a repetition necessary. An
    /// attempt continues where the one before it stopped.
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
    let mut made = Made::default();
    let (mut attempts, mut in_vain) = (0, 0);
    loop {
        attempts += 1;
        let before = made.len();
        match try_sync(table, catalog, options, &mut made).await {
            Ok(name) => return Ok(made.report(name, attempts)),
            Err(Stop::Again(error)) => {
                // A large first sync makes progress although some of its calls are throttled.
                in_vain = if made.len() > before { 1 } else { in_vain + 1 };
                if in_vain == ATTEMPTS {
                    return Err(given_up(error));
                }
                tracing::debug!(attempts, %error, "the catalog is read again");
                tokio::time::sleep(PAUSE * 2_u32.pow(in_vain - 1)).await;
            }
            Err(Stop::Failed(error)) => return Err(error),
        }
    }
}

/// Compares the whole catalog entry, including each partition, with the table. An empty plan means that they
/// agree.
///
/// # Errors
/// As [`sync`].
pub async fn check(table: &Table, catalog: &dyn Catalog, options: &SyncOptions) -> Result<Plan> {
    read(table, catalog, &options.clone().with_incremental(false)).await?.plan()
}

/// Reads the table and its entry in the catalog. [`Reading::plan`] derives the calls that bring the entry to
/// the table's state, and [`Plan::apply`] makes them. [`sync`] does all of this, and starts again if another
/// writer changes the catalog.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for a type that the catalog lacks; [`ErrorKind::Storage`] if the catalog or the
/// table's storage failed or refused a call.
pub async fn read(table: &Table, catalog: &dyn Catalog, options: &SyncOptions) -> Result<Reading> {
    try_read(table, catalog, options, None).await.map_err(Stop::into_error)
}

impl Plan {
    /// Makes the planned calls: the table first, then its partitions, and `last_commit_time_sync` last. An
    /// interrupted plan is completed by the plan of a new [`read`].
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if another client has changed the table's entry since it was read;
    /// [`ErrorKind::Storage`] if the catalog failed or refused a call. The catalog then has some of the
    /// changes. A plan without a [description](Self::description) only changes partitions, for which the
    /// service detects no conflict.
    pub async fn apply(&self, catalog: &dyn Catalog) -> Result<SyncReport> {
        let mut made = Made::default();
        apply(catalog, self, &mut made).await.map_err(Stop::into_error)?;
        Ok(made.report(self.name(), 1))
    }
}

/// The changes that were made, and those of calls that may have been made although they failed. A call that is
/// repeated counts once.
#[derive(Default)]
struct Made {
    /// The commits that the first attempt compared. Later attempts compare them again, because another sync
    /// may have recorded its commit before the partitions of this one were changed.
    compared: Option<Compared>,
    /// The entry that was deleted in order to be created again.
    recreated: Option<Box<TableInput>>,
    created: bool,
    changes: Vec<String>,
    partitions_created: BTreeSet<Vec<String>>,
    partitions_updated: BTreeSet<Vec<String>>,
    partitions_dropped: BTreeSet<Vec<String>>,
}

impl Made {
    fn report(self, table: String, attempts: u32) -> SyncReport {
        SyncReport {
            table,
            created: self.created,
            changes: self.changes,
            partitions_created: self.partitions_created.len(),
            partitions_updated: self.partitions_updated.len(),
            partitions_dropped: self.partitions_dropped.len(),
            attempts,
        }
    }

    /// Returns the number of changes.
    fn len(&self) -> usize {
        usize::from(self.created)
            + self.changes.len()
            + self.partitions_created.len()
            + self.partitions_updated.len()
            + self.partitions_dropped.len()
    }

    fn change(&mut self, differences: &[String]) {
        for difference in differences {
            if !self.changes.contains(difference) {
                self.changes.push(difference.clone());
            }
        }
    }
}

/// Returns `true` if a call took effect, or may have done so without a response.
fn may_have_happened<T>(result: &Result<T, CatalogError>) -> bool {
    result.as_ref().err().is_none_or(|error| error.kind() == CatalogErrorKind::Transient)
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

/// Reads the catalog and the table. The commits that an `earlier` attempt compared are compared again.
async fn try_read(
    table: &Table,
    catalog: &dyn Catalog,
    options: &SyncOptions,
    earlier: Option<Compared>,
) -> Result<Reading, Stop> {
    let (database, name) = options.names(table)?;
    let found = catalog.table(&database, &name).await?;
    // The view is loaded after the catalog, so that it is at least as new.
    let mut view = table.context().view().await?;
    let mut definition = Definition::new(table, &view, options)?;
    let ours = found.as_ref().filter(|found| definition.foreign(found).is_empty());
    let synced = ours.and_then(last_commit).filter(|_| options.incremental);
    let synced = synced.filter(|synced| definition.last_commit.is_some_and(|latest| *synced <= latest));
    let synced = match earlier {
        None => synced,
        Some(Compared::All) => None,
        Some(Compared::Since(first)) => synced.map(|synced| synced.min(first)),
    };
    let mut compared = partitions::find(table, &view, synced).await?;
    let mut listed = None;
    if let (Partitions::All(_), Some(_)) = (&compared, &found) {
        listed = Some(catalog.partitions(&database, &name).await?);
        // A partition that another sync has added to the listing is in this view.
        view = table.context().view().await?;
        definition = Definition::new(table, &view, options)?;
        compared = partitions::find(table, &view, None).await?;
    }
    let scope = match (&compared, synced) {
        (Partitions::Since { .. }, Some(synced)) => Compared::Since(synced),
        _ => Compared::All,
    };
    let partitions = state(table, catalog, options, &definition, found.as_ref(), compared, listed).await?;
    Ok(Reading { definition, found, partitions, compared: scope, options: options.clone() })
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
    listed: Option<Vec<Partition>>,
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
    let known = match (found, listed) {
        (_, Some(listed)) => listed,
        (None, None) => Vec::new(),
        // The descriptions of all partitions are replaced.
        (Some(found), None) if !plan::changed_types(definition, found).is_empty() => {
            catalog.partitions(&definition.database, &definition.table).await?
        }
        (Some(_), None) => {
            let wanted: Vec<_> = by_values.keys().chain(&dropped).cloned().collect();
            known_partitions(catalog, definition, &wanted).await?
        }
    };
    Ok(PartitionState { present: by_values, dropped, all, known })
}

async fn known_partitions(
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

/// Reads, plans, applies the plan, and reads the table's entry back. The service has confirmed each
/// partition in its reply. Returns the name of the table.
async fn try_sync(
    table: &Table,
    catalog: &dyn Catalog,
    options: &SyncOptions,
    made: &mut Made,
) -> Result<String, Stop> {
    let reading = try_read(table, catalog, options, made.compared).await?;
    made.compared.get_or_insert(reading.compared);
    let mut plan = reading.plan()?;
    if let (TableChange::Create(_), Some(deleted)) = (&plan.change, &made.recreated) {
        plan.keep(deleted);
    }
    let name = plan.name();
    if plan.is_empty() {
        return Ok(name);
    }
    apply(catalog, &plan, made).await?;
    let found = catalog.table(&plan.database, &plan.table).await?;
    // The service checks the version only when it updates the table.
    let version = found.as_ref().and_then(|found| found.version_id.clone());
    let is_checked = plan.change != TableChange::Keep || plan.description.is_some();
    let changed = match is_checked || version == plan.version {
        false => format!("another writer changed {name} meanwhile"),
        true => {
            let left = Reading { found, partitions: PartitionState::default(), ..reading }.plan()?;
            if left.is_empty() {
                return Ok(name);
            }
            format!("another writer changed {name} meanwhile: {left}")
        }
    };
    Err(Stop::Again(CatalogError::new(CatalogErrorKind::Conflict, "GetTable", changed)))
}

async fn apply(catalog: &dyn Catalog, plan: &Plan, made: &mut Made) -> Result<(), Stop> {
    let (database, table) = (plan.database.as_str(), plan.table.as_str());
    let input = match &plan.change {
        TableChange::Keep => None,
        TableChange::Create(input) => {
            if plan.creates_database {
                catalog.ensure_database(database).await?;
            }
            Some(input)
        }
        TableChange::Recreate(input) => {
            made.recreated = Some(input.clone());
            catalog.delete_table(database, table).await?;
            Some(input)
        }
    };
    if let Some(input) = input {
        let result = catalog.create_table(database, (**input).clone()).await;
        made.created |= may_have_happened(&result);
        result.map_err(|error| database_missing(error, plan))?;
    }
    for batch in plan.create.chunks(CREATED_AT_ONCE) {
        let result = catalog.create_partitions(database, table, batch).await;
        let values = batch.iter().map(PartitionInput::values);
        settle("BatchCreatePartition", result, values, &mut made.partitions_created)?;
    }
    for batch in plan.update.chunks(CREATED_AT_ONCE) {
        let result = catalog.update_partitions(database, table, batch).await;
        let values = batch.iter().map(PartitionInput::values);
        settle("BatchUpdatePartition", result, values, &mut made.partitions_updated)?;
    }
    for batch in plan.delete.chunks(DELETED_AT_ONCE) {
        let mut result = catalog.delete_partitions(database, table, batch).await;
        if let Ok(failures) = &mut result {
            // A partition that does not exist counts as dropped.
            failures.retain(|failure| failure.code != "EntityNotFoundException");
        }
        let values = batch.iter().map(Vec::as_slice);
        settle("BatchDeletePartition", result, values, &mut made.partitions_dropped)?;
    }
    if let Some(description) = &plan.description {
        let version = plan.version.as_deref();
        let result = catalog.update_table(database, (**description).clone(), version, plan.archive).await;
        if may_have_happened(&result) {
            made.change(&plan.differences);
        }
        result?;
    }
    Ok(())
}

/// Adds the partitions of a batch to those that were changed, except for those that failed.
fn settle<'a>(
    call: &'static str,
    result: Result<Vec<PartitionFailure>, CatalogError>,
    batch: impl Iterator<Item = &'a [String]>,
    changed: &mut BTreeSet<Vec<String>>,
) -> Result<(), Stop> {
    if may_have_happened(&result) {
        let failed = |values: &[String]| result.iter().flatten().any(|failure| failure.values == values);
        changed.extend(batch.filter(|values| !failed(values)).map(<[String]>::to_vec));
    }
    result?.iter().try_for_each(|failure| Err(stop(call, failure)))
}

fn database_missing(error: CatalogError, plan: &Plan) -> Stop {
    if error.kind() == CatalogErrorKind::NotFound && !plan.creates_database {
        let database = &plan.database;
        let message = format!("the catalog has no database {database}; create it, or let the sync create it");
        return Stop::Failed(Error::new(ErrorKind::NotFound, message));
    }
    error.into()
}

/// Returns how the sync continues after a partition of a batch failed.
fn stop(call: &'static str, failure: &PartitionFailure) -> Stop {
    let PartitionFailure { values, code, message } = failure;
    let kind = match CatalogErrorKind::of(code) {
        CatalogErrorKind::NotFound => CatalogErrorKind::Conflict,
        kind => kind,
    };
    CatalogError::new(kind, call, format!("partition {}: {message} ({code})", values.join("/"))).into()
}
