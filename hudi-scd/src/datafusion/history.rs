//! Reads every version of every row, file group by file group, in a limited number of streams.

use std::{collections::HashSet, fmt, sync::Arc};

use ::datafusion::{
    catalog::Session,
    common::Result as DataFusionResult,
    execution::{SendableRecordBatchStream, TaskContext},
    logical_expr::Expr,
    physical_plan::{stream::RecordBatchStreamAdapter, streaming::PartitionStream},
};
use arrow::{
    array::{ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, StringArray},
    compute::filter_record_batch,
    datatypes::{FieldRef, Schema, SchemaRef},
};
use futures::{
    StreamExt as _, TryStreamExt as _,
    stream::{self, BoxStream},
};
use object_store::path::Path;

use super::{HudiTable, SUPERSEDED_AT, external};
use crate::{
    Error, ErrorKind, Result,
    base_file::{OpenFile, conform_stored},
    concurrent::blocking,
    context::Table,
    index::RECORD_KEY,
    schema::{self, META_COLUMNS},
    snapshot::{FileGroup, View},
    timeline::Instant,
};

/// Returns streams of the file groups that may contain rows that pass the filters. There are at most as many
/// streams as the session's target, because all of them are read at the same time.
pub(super) fn streams(
    provider: &HudiTable,
    state: &dyn Session,
    view: &View,
    projection: Option<&Vec<usize>>,
    filters: &[Expr],
) -> DataFusionResult<Vec<Arc<dyn PartitionStream>>> {
    let output = provider.projected(projection)?;
    let kept = provider.prune(state, view.groups.values().map(|group| &*group.partition), filters)?;
    let data = provider.table.context().schema_of(view).map_err(external)?;
    view.whole_commits().map_err(external)?;
    let mut groups = Vec::new();
    for (group, _) in view.groups.values().zip(kept).filter(|(_, kept)| *kept) {
        let versions = versions(&provider.table, view, group).map_err(external)?;
        if !versions.is_empty() {
            groups.push(versions);
        }
    }
    let per_stream = groups.len().div_ceil(state.config().target_partitions().max(1)).max(1);
    let streams = groups.chunks(per_stream).map(|groups| -> Arc<dyn PartitionStream> {
        let (table, groups) = (provider.table.clone(), groups.to_vec());
        Arc::new(History { table, groups, data: data.clone(), output: output.clone() })
    });
    Ok(streams.collect())
}

/// A version of a file group, and the commit that replaced or removed it.
#[derive(Clone, Debug)]
struct Version {
    path: Path,
    superseded: Option<Instant>,
}

/// Returns the versions that belong to retained commits, newest first.
fn versions(table: &Table, view: &View, group: &FileGroup) -> Result<Vec<Version>> {
    let mut versions = Vec::new();
    let mut superseded = group.replaced_at;
    for version in group.versions.iter().rev() {
        let gone = superseded.is_some_and(|instant| {
            instant <= version.instant || view.earliest.is_some_and(|earliest| instant <= earliest)
        });
        if !gone {
            let path = table.context().layout().resolve(&group.path(version))?;
            versions.push(Version { path, superseded });
        }
        superseded = Some(superseded.map_or(version.instant, |later| later.min(version.instant)));
    }
    Ok(versions)
}

/// The history of some file groups, read one after the other.
struct History {
    table: Table,
    groups: Vec<Vec<Version>>,
    data: SchemaRef,
    output: SchemaRef,
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("History").field("groups", &self.groups.len()).finish_non_exhaustive()
    }
}

impl PartitionStream for History {
    fn schema(&self) -> &SchemaRef {
        &self.output
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (table, data, output) = (self.table.clone(), self.data.clone(), self.output.clone());
        let groups = stream::iter(self.groups.clone());
        let batches = groups
            .map(move |versions| rows(table.clone(), versions, data.clone(), output.clone()))
            .flatten()
            .map_err(external);
        Box::pin(RecordBatchStreamAdapter::new(self.output.clone(), batches))
    }
}

/// Returns the rows of a file group's versions, newest first, each row version once.
fn rows(
    table: Table,
    versions: Vec<Version>,
    data: SchemaRef,
    output: SchemaRef,
) -> BoxStream<'static, Result<RecordBatch>> {
    let begin = (versions.into_iter(), Arc::new(Known::new()));
    let files = stream::try_unfold(begin, move |(mut versions, newer)| {
        let (table, data, output) = (table.clone(), data.clone(), output.clone());
        async move {
            let Some(version) = versions.next() else { return Ok(None) };
            let (batches, known) = load(&table, version, newer, data, output).await?;
            Ok(Some((stream::iter(batches.into_iter().map(Ok)), (versions, Arc::new(known)))))
        }
    });
    files.try_flatten().boxed()
}

async fn load(
    table: &Table,
    version: Version,
    newer: Arc<Known>,
    data: SchemaRef,
    output: SchemaRef,
) -> Result<(Vec<RecordBatch>, Known)> {
    let open = table.context().open_complete(&version.path).await?;
    blocking(move || read(open, &version, &newer, &data, &output)).await
}

/// The row versions in a file: their keys and the commits that wrote them.
type Known = HashSet<(Box<str>, Box<str>)>;

/// Reads those rows of a version that the next version no longer contains. Returns all row versions of this
/// version.
fn read(
    open: OpenFile,
    version: &Version,
    newer: &Known,
    data: &SchemaRef,
    output: &SchemaRef,
) -> Result<(Vec<RecordBatch>, Known)> {
    let path = &version.path;
    let data: Vec<FieldRef> =
        data.fields().iter().filter(|field| output.field_with_name(field.name()).is_ok()).cloned().collect();
    let data = Arc::new(Schema::new(data));
    let wanted = |name: &str| {
        [META_COLUMNS[0], RECORD_KEY].contains(&name)
            || (!schema::is_meta_column(name) && data.field_with_name(name).is_ok())
    };
    let (mut batches, mut known) = (Vec::new(), Known::new());
    for batch in open.read(&wanted, None)? {
        let batch = conform_stored(&batch?, &data, path)?;
        let (keys, times) = (texts(&batch, RECORD_KEY, path)?, texts(&batch, META_COLUMNS[0], path)?);
        let mut last = Vec::with_capacity(batch.num_rows());
        for (key, time) in keys.iter().zip(times) {
            let row = (key.unwrap_or_default().into(), time.unwrap_or_default().into());
            last.push(!newer.contains(&row));
            known.insert(row);
        }
        if last.contains(&true) {
            let shown =
                filter_record_batch(&batch, &BooleanArray::from(last)).map_err(|cause| unfit(path, cause))?;
            batches.push(arrange(&shown, version, output)?);
        }
    }
    Ok((batches, known))
}

/// Arranges the columns in the order of the output, and adds the commit that superseded the rows.
fn arrange(batch: &RecordBatch, version: &Version, output: &SchemaRef) -> Result<RecordBatch> {
    let superseded = || {
        let instant = version.superseded.map(|instant| instant.as_str().to_owned());
        Arc::new(StringArray::from_iter(std::iter::repeat_n(instant, batch.num_rows()))) as ArrayRef
    };
    let columns = output.fields().iter().map(|field| match field.name().as_str() {
        SUPERSEDED_AT => Some(superseded()),
        name => batch.column_by_name(name).cloned(),
    });
    let columns: Option<Vec<ArrayRef>> = columns.collect();
    let columns = columns.ok_or_else(|| {
        Error::new(ErrorKind::Corrupt, "a base file lacks a meta column").with_context("file", &version.path)
    })?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(output.clone(), columns, &options)
        .map_err(|cause| unfit(&version.path, cause))
}

fn texts<'a>(batch: &'a RecordBatch, name: &str, path: &Path) -> Result<&'a StringArray> {
    batch.column_by_name(name).and_then(|column| column.as_string_opt()).ok_or_else(|| {
        Error::new(ErrorKind::Corrupt, "a base file lacks a meta column")
            .with_context("file", path)
            .with_context("column", name)
    })
}

fn unfit(path: &Path, cause: arrow::error::ArrowError) -> Error {
    Error::new(ErrorKind::Corrupt, "a base file does not fit the table")
        .with_context("file", path)
        .with_source(cause)
}
