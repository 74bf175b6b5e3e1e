//! Reading: the latest rows, the rows as of an instant, the rows that changed since one, the history of a key.

mod history;
mod matching;

use std::sync::Arc;

use arrow::{
    array::{AsArray, BooleanArray, RecordBatch},
    compute::filter_record_batch,
    datatypes::{DataType, Field, FieldRef, Schema, SchemaRef},
};
use object_store::path::Path;

pub use self::history::{KeyChange, KeyVersion};
use crate::{
    Error, ErrorKind, Result,
    base_file::{OpenFile, conform_stored},
    concurrent::{blocking, ordered},
    schema::{self, META_COLUMNS},
    table::Table,
    timeline::Instant,
    view::View,
};

/// How often a read begins again because a clean took its files away meanwhile.
const ATTEMPTS: usize = 3;

/// Which rows, and which columns of them.
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
    /// The latest rows.
    pub fn snapshot() -> Self {
        Self::of(Rows::Snapshot)
    }

    /// The rows as they were at an instant, which need not be that of a commit.
    pub fn as_of(instant: Instant) -> Self {
        Self::of(Rows::AsOf(instant))
    }

    /// The rows that commits after `instant` (exclusive) wrote, as the last of them left them. Deleted rows do not
    /// show.
    pub fn since(instant: Instant) -> Self {
        Self::of(Rows::Changes { since: instant, until: None })
    }

    /// Ends [`Query::since`] at a commit (inclusive): rows are as they were then. For [`Query::snapshot`] this is
    /// [`Query::as_of`].
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

    /// Only these columns, in this order. Default: all data columns.
    #[must_use]
    pub fn with_columns<C: Into<String>>(mut self, columns: impl IntoIterator<Item = C>) -> Self {
        self.columns = Some(columns.into_iter().map(Into::into).collect());
        self
    }

    /// Hudi's own five columns in front.
    #[must_use]
    pub fn with_meta_columns(mut self) -> Self {
        self.meta_columns = true;
        self
    }
}

impl Table {
    /// Reads rows, under the latest schema: a column that a file is older than is null in its rows.
    ///
    /// The batches have a stable order: by partition, file group and place in the file. There is at least one, if only
    /// to tell the columns.
    ///
    /// # Errors
    /// [`ErrorKind::OutsideRetention`] if the files of that time were cleaned, naming the earliest instant;
    /// [`ErrorKind::InvalidInput`] for a column that is not there; [`ErrorKind::Corrupt`], [`ErrorKind::Storage`].
    pub async fn read(&self, query: Query) -> Result<Vec<RecordBatch>> {
        let mut attempt = 1;
        loop {
            let view = self.view().await?;
            match self.read_view(&view, &query).await {
                // A clean that ran meanwhile: look again, and read or refuse by what is there now.
                Err(error) if error.kind() == ErrorKind::NotFound && attempt < ATTEMPTS => {
                    self.forget_view();
                    attempt += 1;
                }
                done => return done,
            }
        }
    }

    async fn read_view(&self, view: &View, query: &Query) -> Result<Vec<RecordBatch>> {
        let data = self.schema_of(view)?;
        let output = output_schema(&data, query)?;
        let Some(latest) = view.timeline.latest_commit() else {
            return Ok(vec![RecordBatch::new_empty(output)]);
        };
        let (at, since) = match query.rows {
            Rows::Snapshot => (latest, None),
            Rows::AsOf(instant) => (instant, None),
            Rows::Changes { since, until } => (until.unwrap_or(latest), Some(since)),
        };
        view.check_retained(since.map_or(at, |since| since.min(at)))?;
        let mut files: Vec<Path> = Vec::new();
        for (group, version) in view.files_at(at) {
            // A file that is older than the range has no row in it.
            if since.is_none_or(|since| version.instant > since) {
                files.push(self.inner.layout.resolve(&group.path(version))?);
            }
        }
        let scan = Arc::new(Scan { output: output.clone(), data, since });
        let scans = files.into_iter().map(|path| {
            let scan = scan.clone();
            async move {
                let open = OpenFile::open(self.store(), &path).await?;
                blocking(move || scan.read(open, &path)).await
            }
        });
        let batches = ordered(self.inner.options.parallelism, scans).await?;
        let mut batches: Vec<RecordBatch> = batches.into_iter().flatten().collect();
        if batches.is_empty() {
            batches.push(RecordBatch::new_empty(output));
        }
        Ok(batches)
    }
}

/// The columns that a query gives.
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
    Ok(Arc::new(Schema::new(fields)))
}

/// What is read of each file.
struct Scan {
    output: SchemaRef,
    data: SchemaRef,
    since: Option<Instant>,
}

impl Scan {
    fn read(&self, open: OpenFile, path: &Path) -> Result<Vec<RecordBatch>> {
        let wanted = |name: &str| {
            self.output.field_with_name(name).is_ok() || (self.since.is_some() && name == META_COLUMNS[0])
        };
        let data: Vec<FieldRef> = self
            .data
            .fields()
            .iter()
            .filter(|field| self.output.field_with_name(field.name()).is_ok())
            .cloned()
            .collect();
        let data = Arc::new(Schema::new(data));
        let mut batches = Vec::new();
        for batch in open.read(&wanted, None)? {
            let mut batch = conform_stored(&batch?, &data, path)?;
            if let Some(since) = self.since {
                batch = written_after(&batch, since, path)?;
            }
            if batch.num_rows() > 0 {
                batches.push(self.arrange(&batch, path)?);
            }
        }
        Ok(batches)
    }

    /// Puts the columns into the order that was asked for.
    fn arrange(&self, batch: &RecordBatch, path: &Path) -> Result<RecordBatch> {
        let failed = |cause| {
            Error::new(ErrorKind::Corrupt, "a base file lacks a meta column")
                .with_context("file", path)
                .with_source(cause)
        };
        let schema = batch.schema_ref();
        let indices = self
            .output
            .fields()
            .iter()
            .map(|field| schema.index_of(field.name()))
            .collect::<Result<Vec<_>, _>>();
        let batch = batch.project(&indices.map_err(failed)?).map_err(failed)?;
        batch.with_schema(self.output.clone()).map_err(failed)
    }
}

fn written_after(batch: &RecordBatch, since: Instant, path: &Path) -> Result<RecordBatch> {
    let times = batch.column_by_name(META_COLUMNS[0]).and_then(|column| column.as_string_opt::<i32>());
    let times = times.ok_or_else(|| {
        Error::new(ErrorKind::Corrupt, "a base file lacks the column of commit times")
            .with_context("file", path)
    })?;
    let newer: BooleanArray =
        times.iter().map(|time| Some(time.is_some_and(|time| time > since.as_str()))).collect();
    filter_record_batch(batch, &newer).map_err(|cause| {
        Error::new(ErrorKind::Corrupt, "a base file cannot be filtered")
            .with_context("file", path)
            .with_source(cause)
    })
}
