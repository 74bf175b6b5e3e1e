//! Reading: the latest rows, the rows as of an instant, the rows changed since an instant, the history of a
//! key.

mod history;
mod matching;
mod scan;

use std::sync::Arc;

use arrow::{
    array::RecordBatch,
    datatypes::{DataType, Field, FieldRef, Schema, SchemaRef},
};
use futures::{TryStreamExt, stream::BoxStream};
use object_store::path::Path;

pub use self::history::{KeyChange, KeyVersion};
pub(crate) use self::matching::SoughtKeys;
use self::scan::{Scan, Since};
use crate::{
    Error, ErrorKind, Result,
    schema::{self, META_COLUMNS},
    table::Table,
    timeline::Instant,
    view::{FileGroup, FileVersion, View},
};

/// The number of attempts of a read whose files a clean deleted in the meantime.
const ATTEMPTS: usize = 3;

/// The rows and columns to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    rows: Rows,
    columns: Option<Vec<String>>,
    meta_columns: bool,
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

    /// Selects the rows as of an instant, which need not be that of a commit.
    pub fn as_of(instant: Instant) -> Self {
        Self::of(Rows::AsOf(instant))
    }

    /// Selects the rows that commits after `instant` (exclusive) wrote, in their latest state. Deleted rows
    /// are not included.
    ///
    /// In tables of version 8 and later the completion time of a commit counts, as in Hudi 1.x: pass
    /// [`TimelineEntry::completed_at`](crate::timeline::TimelineEntry::completed_at) of the last commit that
    /// was read.
    pub fn since(instant: Instant) -> Self {
        Self::of(Rows::Changes { since: instant, until: None })
    }

    /// Ends [`Query::since`] at a commit (inclusive): rows are returned as of that commit. For
    /// [`Query::snapshot`] this is [`Query::as_of`].
    #[must_use]
    pub fn until(mut self, instant: Instant) -> Self {
        self.rows = match self.rows {
            Rows::Changes { since, .. } => Rows::Changes { since, until: Some(instant) },
            Rows::Snapshot | Rows::AsOf(_) => Rows::AsOf(instant),
        };
        self
    }

    fn of(rows: Rows) -> Self {
        Self { rows, columns: None, meta_columns: false }
    }

    /// Selects these columns, in this order. Default: all data columns.
    #[must_use]
    pub fn with_columns<C: Into<String>>(mut self, columns: impl IntoIterator<Item = C>) -> Self {
        self.columns = Some(columns.into_iter().map(Into::into).collect());
        self
    }

    /// Adds Hudi's own five columns in front.
    #[must_use]
    pub fn with_meta_columns(mut self) -> Self {
        self.meta_columns = true;
        self
    }
}

impl Table {
    /// Reads rows with the latest schema: a column that was added after a file was written is null in its
    /// rows.
    ///
    /// The batches have a stable order: by partition, file group and position in the file. There is at least
    /// one batch, so that the schema is known.
    ///
    /// # Errors
    /// [`ErrorKind::OutsideRetention`] if the files of that time were cleaned, naming the earliest instant;
    /// [`ErrorKind::InvalidInput`] for an unknown column; [`ErrorKind::Corrupt`], [`ErrorKind::Storage`].
    pub async fn read(&self, query: Query) -> Result<Vec<RecordBatch>> {
        let mut attempt = 1;
        loop {
            let read = async { self.read_stream(query.clone()).await?.try_collect::<Vec<_>>().await };
            match read.await {
                // A clean ran in the meantime: list the files again, and read or refuse accordingly.
                Err(error) if error.kind() == ErrorKind::NotFound && attempt < ATTEMPTS => {
                    self.forget_view().await;
                    attempt += 1;
                }
                done => return done,
            }
        }
    }

    /// Reads rows like [`Table::read`], but as a stream of batches, so that only a few batches are in memory.
    ///
    /// The stream reads as many files ahead as the [options](crate::TableOptions::with_parallelism) allow,
    /// some batches of each, and stops reading when it is dropped.
    ///
    /// # Errors
    /// As [`Table::read`]. The stream also ends with [`ErrorKind::NotFound`] if a clean deletes a file before
    /// the stream reaches it: a stream that takes longer than the retained window must be restarted.
    pub async fn read_stream(&self, query: Query) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let view = self.view().await?;
        let (files, scan) = self.plan_read(&view, &query).await?;
        Ok(scan::stream(self, files, scan))
    }

    /// Selects the files that a query reads, and the rows and columns of each.
    async fn plan_read(&self, view: &View, query: &Query) -> Result<(Vec<(Path, u64)>, Scan)> {
        let data = self.schema_of(view)?;
        let output = output_schema(&data, query)?;
        let Some(latest) = view.timeline.latest_commit() else {
            return Ok((Vec::new(), Scan { output, data, since: None }));
        };
        let path = |(group, version): (&Arc<FileGroup>, &FileVersion)| {
            Ok((self.inner.layout.resolve(&group.path(version))?, version.bytes))
        };
        let at = match query.rows {
            Rows::Snapshot => latest,
            Rows::AsOf(instant) => instant,
            Rows::Changes { since, until } => {
                let completions = view.completions(self.store(), &self.inner.layout, since).await?;
                let last = completions.values().copied().max().max(Some(latest)).unwrap_or(latest);
                let until = until.unwrap_or(last);
                view.check_retained(since.min(until))?;
                view.check_whole(until)?;
                let files = view.files_between(since, until, &completions).map(path);
                let files = files.collect::<Result<_>>()?;
                return Ok((files, Scan { output, data, since: Some(Since { since, completions }) }));
            }
        };
        view.check_retained(at)?;
        view.check_whole(at)?;
        let files = view.files_at(at).map(path).collect::<Result<_>>()?;
        Ok((files, Scan { output, data, since: None }))
    }
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
