//! Reads the latest rows, the rows as of an instant, the rows changed since an instant, and the history of a
//! key.

mod history;
mod matching;
mod predicate;
mod scan;

use std::{
    collections::BTreeSet,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{self, Poll},
};

use arrow::{
    array::RecordBatch,
    datatypes::{DataType, Field, FieldRef, Schema, SchemaRef},
};
use futures::{Stream, TryStreamExt, stream::BoxStream};
use object_store::path::Path;

pub use self::history::{KeyChange, KeyVersion};
pub use self::predicate::{Predicate, Value};
use self::scan::{Scan, Since};
pub(crate) use self::{
    history::{history, history_of},
    matching::{SoughtKeys, rows_where},
};
use crate::{
    Error, ErrorKind, Result,
    context::Context,
    schema::{self, META_COLUMNS},
    snapshot::{FileGroup, FileVersion, View},
    timeline::Instant,
};

/// Number of attempts of a read if a clean deletes its files in the meantime.
const ATTEMPTS: usize = 3;

/// The rows and columns to read.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    rows: Rows,
    columns: Option<Vec<String>>,
    meta_columns: bool,
    predicate: Option<Predicate>,
    /// `None` selects all partitions.
    partitions: Option<BTreeSet<String>>,
    limit: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rows {
    Snapshot,
    AsOf(Instant),
    Changes { since: Instant, until: Option<Instant> },
}

impl Query {
    /// Selects the latest rows.
    pub fn snapshot() -> Self {
        Self::of(Rows::Snapshot)
    }

    /// Selects the rows as of an instant. It need not be the instant of a commit.
    pub fn as_of(instant: Instant) -> Self {
        Self::of(Rows::AsOf(instant))
    }

    /// Selects the rows that commits after `instant` (exclusive) wrote, in their latest state. Deleted rows
    /// are not included.
    ///
    /// In tables of version 8 and later, the completion time of a commit counts, as in Hudi 1.x. Pass
    /// [`TimelineEntry::completed_at`](crate::timeline::TimelineEntry::completed_at) of the last commit that
    /// was read.
    pub fn since(instant: Instant) -> Self {
        Self::of(Rows::Changes { since: instant, until: None })
    }

    /// Limits [`Query::since`] to commits up to this one (inclusive), and returns rows as of it.
    /// [`Query::snapshot`] with a limit is the same as [`Query::as_of`].
    #[must_use]
    pub fn until(mut self, instant: Instant) -> Self {
        self.rows = match self.rows {
            Rows::Changes { since, .. } => Rows::Changes { since, until: Some(instant) },
            Rows::Snapshot | Rows::AsOf(_) => Rows::AsOf(instant),
        };
        self
    }

    fn of(rows: Rows) -> Self {
        Self { rows, columns: None, meta_columns: false, predicate: None, partitions: None, limit: None }
    }

    /// Selects these columns, in this order. Default: all data columns.
    #[must_use]
    pub fn with_columns<C: Into<String>>(mut self, columns: impl IntoIterator<Item = C>) -> Self {
        self.columns = Some(columns.into_iter().map(Into::into).collect());
        self
    }

    /// Adds Hudi's own five columns in front. They are null in a table without them.
    #[must_use]
    pub fn with_meta_columns(mut self) -> Self {
        self.meta_columns = true;
        self
    }

    /// Selects the rows for which a predicate on data columns is true. If there are several predicates, all
    /// of them must be true. Row groups that the statistics exclude are not read.
    #[must_use]
    pub fn with_predicate(mut self, predicate: Predicate) -> Self {
        self.predicate = Some(match self.predicate {
            Some(other) => other.and(predicate),
            None => predicate,
        });
        self
    }

    /// Selects the rows of these partitions, given by their paths, such as `day=2026-01-01`. A path of a
    /// parent folder, such as `year=2026`, selects all partitions below it. Other files are not opened.
    /// Default: all partitions.
    #[must_use]
    pub fn with_partitions<P: Into<String>>(mut self, partitions: impl IntoIterator<Item = P>) -> Self {
        self.partitions = Some(partitions.into_iter().map(Into::into).collect());
        self
    }

    /// Limits the number of returned rows. The first rows in the order of [`Table::read`](crate::Table::read)
    /// are returned. Default: all rows.
    #[must_use]
    pub fn with_limit(mut self, rows: u64) -> Self {
        self.limit = Some(rows);
        self
    }

    /// Returns `true` if the query reads this partition.
    fn has_partition(&self, path: &str) -> bool {
        let Some(partitions) = &self.partitions else { return true };
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        ends.map(|end| &path[..end]).any(|folder| partitions.contains(folder))
    }
}

/// A stream of the rows that a [`Query`] selects.
pub struct RowStream {
    schema: SchemaRef,
    rows: BoxStream<'static, Result<RecordBatch>>,
}

impl RowStream {
    /// Returns the columns of each batch.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }
}

impl Stream for RowStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<Option<Self::Item>> {
        self.rows.as_mut().poll_next(context)
    }
}

impl fmt::Debug for RowStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowStream").field("schema", &self.schema).finish_non_exhaustive()
    }
}

/// Implements [`Table::read`](crate::Table::read).
pub(crate) async fn read(context: &Arc<Context>, query: Query) -> Result<Vec<RecordBatch>> {
    let read = Box::pin(async {
        let mut attempt = 1;
        loop {
            let read = async { rows(context, &query).await?.1.try_collect::<Vec<_>>().await };
            match read.await {
                // A clean ran in the meantime. List the files again, and then read them or return an
                // error.
                Err(error) if error.kind() == ErrorKind::NotFound && attempt < ATTEMPTS => {
                    context.forget_view().await;
                    attempt += 1;
                }
                done => return done,
            }
        }
    });
    context.begin_read("read").run(read).await
}

/// Implements [`Table::read_stream`](crate::Table::read_stream).
pub(crate) async fn read_stream(context: &Arc<Context>, query: Query) -> Result<RowStream> {
    let operation = context.begin_read("read");
    let (schema, rows) = operation.begin_with(rows(context, &query)).await?;
    Ok(RowStream { schema, rows: operation.stream(rows) })
}

/// Returns the rows of a query, and their columns.
async fn rows(
    context: &Arc<Context>,
    query: &Query,
) -> Result<(SchemaRef, BoxStream<'static, Result<RecordBatch>>)> {
    let view = context.view().await?;
    let (files, scan) = plan_read(context, &view, query).await?;
    Ok((scan.output.clone(), scan::stream(context, files, scan)))
}

/// Selects the files that a query reads, and the rows and columns to read from each.
async fn plan_read(context: &Arc<Context>, view: &View, query: &Query) -> Result<(Vec<(Path, u64)>, Scan)> {
    let data = context.schema_of(view)?;
    let output = output_schema(&data, query)?;
    let has_meta_columns = context.properties().has_meta_columns;
    let predicate = query.predicate.as_ref().map(|predicate| predicate.typed(&data)).transpose()?;
    let read = match &query.predicate {
        Some(predicate) => with_columns_of(&output, &data, predicate),
        None => output.clone(),
    };
    let scan = |since| Scan { output, read, data, since, has_meta_columns, predicate, limit: query.limit };
    let Some(latest) = view.timeline.latest_commit() else { return Ok((Vec::new(), scan(None))) };
    let is_read = |(group, _): &(&Arc<FileGroup>, &FileVersion)| query.has_partition(&group.partition);
    let path = |(group, version): (&Arc<FileGroup>, &FileVersion)| {
        Ok((context.layout().resolve(&group.path(version))?, version.bytes))
    };
    let at = match query.rows {
        Rows::Snapshot => latest,
        Rows::AsOf(instant) => instant,
        Rows::Changes { since, until } => {
            context.properties().check_meta_columns()?;
            let completions = view.completions(context.store(), context.layout(), since).await?;
            let last = completions.values().copied().max().max(Some(latest)).unwrap_or(latest);
            let until = until.unwrap_or(last);
            view.check_retained(since.min(until))?;
            view.check_whole(until)?;
            let files = view.files_between(since, until, &completions).filter(is_read).map(path);
            let files = files.collect::<Result<_>>()?;
            return Ok((files, scan(Some(Since { since, completions }))));
        }
    };
    view.check_retained(at)?;
    view.check_whole(at)?;
    let files = view.files_at(at).filter(is_read).map(path).collect::<Result<_>>()?;
    Ok((files, scan(None)))
}

/// Returns the columns of a query's result and of its predicate.
fn with_columns_of(output: &SchemaRef, data: &SchemaRef, predicate: &Predicate) -> SchemaRef {
    let more = data
        .fields()
        .iter()
        .filter(|field| predicate.has_column(field.name()) && output.field_with_name(field.name()).is_err());
    Arc::new(Schema::new(output.fields().iter().chain(more).cloned().collect::<Vec<_>>()))
}

/// Returns the columns of a query's result.
fn output_schema(data: &SchemaRef, query: &Query) -> Result<SchemaRef> {
    let field = |name: &String| -> Result<FieldRef> {
        if schema::is_meta_column(name) {
            return Ok(Arc::new(Field::new(name, DataType::Utf8, true)));
        }
        data.fields().iter().find(|field| field.name() == name).cloned().ok_or_else(|| {
            Error::new(ErrorKind::InvalidInput, "there is no such column").with_context("column", name)
        })
    };
    let chosen: Vec<FieldRef> = match &query.columns {
        Some(names) => names.iter().map(field).collect::<Result<_>>()?,
        None => data.fields().iter().cloned().collect(),
    };
    let meta = META_COLUMNS.into_iter().filter(|_| query.meta_columns).map(str::to_owned);
    let mut fields = meta.map(|name| field(&name)).collect::<Result<Vec<FieldRef>>>()?;
    fields.extend(chosen);
    let twice =
        fields.iter().enumerate().find(|(at, field)| fields[..*at].iter().any(|f| f.name() == field.name()));
    if let Some((_, field)) = twice {
        let error = Error::new(ErrorKind::InvalidInput, "a column is selected twice");
        return Err(error.with_context("column", field.name()));
    }
    Ok(Arc::new(Schema::new(fields)))
}
