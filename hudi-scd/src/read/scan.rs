//! Scanning: the rows of some files, streamed.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{AsArray, BooleanArray, RecordBatch},
    compute::filter_record_batch,
    datatypes::{FieldRef, Schema, SchemaRef},
};
use futures::{
    StreamExt, TryStreamExt, future,
    stream::{self, BoxStream},
};
use object_store::path::Path;

use crate::{
    Error, ErrorKind, Result,
    base_file::{OpenFile, conform_stored},
    concurrent::produced,
    schema::META_COLUMNS,
    table::Table,
    timeline::Instant,
};

/// The number of batches of a file that are decoded in advance.
const AHEAD: usize = 2;
/// The number of bytes of a remote file that are read at a time.
const SPAN_BYTES: u64 = 8 * 1024 * 1024;

/// The rows and columns to read from each file.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) output: SchemaRef,
    pub(super) data: SchemaRef,
    /// Returns only rows of later commits.
    pub(super) since: Option<Since>,
}

/// The beginning of a range of commits.
#[derive(Debug)]
pub(super) struct Since {
    /// Returns only rows of commits after this one.
    pub(super) since: Instant,
    /// Completion times of commits, in tables that store them; they replace the instants.
    pub(super) completions: HashMap<Instant, Instant>,
}

impl Since {
    fn holds(&self, time: &str) -> bool {
        let completed = match self.completions.is_empty() {
            true => None,
            false => time.parse().ok().and_then(|instant: Instant| self.completions.get(&instant)),
        };
        completed.map_or(time, Instant::as_str) > self.since.as_str()
    }
}

/// Streams the rows of the files, one file after the other, as at least one batch, so that the schema is
/// known.
pub(super) fn stream(
    table: &Table,
    files: Vec<(Path, u64)>,
    scan: Scan,
) -> BoxStream<'static, Result<RecordBatch>> {
    let (table, scan) = (table.clone(), Arc::new(scan));
    let width = table.inner.options.parallelism;
    let empty = RecordBatch::new_empty(scan.output.clone());
    let mut any = false;
    let opened = stream::iter(files).map(move |(path, bytes)| {
        let (table, scan) = (table.clone(), scan.clone());
        async move {
            let open = table.open_file(&path, bytes).await?;
            Ok::<_, Error>(rows(table, scan, open))
        }
    });
    let batches = opened.buffered(width).try_flatten().map(Some).chain(stream::once(async { None }));
    let at_least_one = batches.filter_map(move |next| {
        let batch = match next {
            None if !any => Some(Ok(empty.clone())),
            next => next,
        };
        any = true;
        future::ready(batch)
    });
    at_least_one.boxed()
}

/// Streams the rows of a file, some row groups at a time.
fn rows(table: Table, scan: Arc<Scan>, open: OpenFile) -> BoxStream<'static, Result<RecordBatch>> {
    let spans = open.spans(&|name| scan.is_wanted(name), SPAN_BYTES);
    let parts = stream::iter(spans).then(move |groups| {
        let (table, scan, open) = (table.clone(), scan.clone(), open.clone());
        async move {
            let wanted = scan.clone();
            let wanted = move |name: &str| wanted.is_wanted(name);
            let part = open.fetched(table.store(), Some(&groups), &wanted, None).await?;
            Ok::<_, Error>(produced(AHEAD, move |give| scan.read(&part, groups, give)))
        }
    });
    parts.try_flatten().boxed()
}

impl Scan {
    fn is_wanted(&self, name: &str) -> bool {
        self.output.field_with_name(name).is_ok() || (self.since.is_some() && name == META_COLUMNS[0])
    }

    /// Reads row groups of a file, and passes batches on while they are accepted.
    fn read(
        &self,
        open: &OpenFile,
        groups: Vec<usize>,
        give: &mut dyn FnMut(RecordBatch) -> bool,
    ) -> Result<()> {
        let path = open.path();
        let data: Vec<FieldRef> = self
            .data
            .fields()
            .iter()
            .filter(|field| self.output.field_with_name(field.name()).is_ok())
            .cloned()
            .collect();
        let data = Arc::new(Schema::new(data));
        for batch in open.read_groups(Some(groups), &|name| self.is_wanted(name), None)? {
            let mut batch = conform_stored(&batch?, &data, path)?;
            if let Some(since) = &self.since {
                batch = written_after(&batch, since, path)?;
            }
            if batch.num_rows() > 0 && !give(self.arrange(&batch, path)?) {
                break;
            }
        }
        Ok(())
    }

    /// Arranges the columns in the requested order.
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

fn written_after(batch: &RecordBatch, since: &Since, path: &Path) -> Result<RecordBatch> {
    let times = batch.column_by_name(META_COLUMNS[0]).and_then(|column| column.as_string_opt::<i32>());
    let times = times.ok_or_else(|| {
        Error::new(ErrorKind::Corrupt, "a base file lacks the column of commit times")
            .with_context("file", path)
    })?;
    let newer: BooleanArray =
        times.iter().map(|time| Some(time.is_some_and(|time| since.holds(time)))).collect();
    filter_record_batch(batch, &newer).map_err(|cause| {
        Error::new(ErrorKind::Corrupt, "a base file cannot be filtered")
            .with_context("file", path)
            .with_source(cause)
    })
}
