//! Streams the rows of some files.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{AsArray, BooleanArray, RecordBatch, RecordBatchOptions, new_null_array},
    compute::filter_record_batch,
    datatypes::{FieldRef, Schema, SchemaRef},
};
use futures::{
    StreamExt, TryStreamExt, future,
    stream::{self, BoxStream},
};
use object_store::path::Path;
use tokio::sync::Semaphore;

use crate::{
    Error, ErrorKind, Result,
    base_file::{OpenFile, conform_stored},
    concurrent::produced,
    context::Context,
    read::predicate::Typed,
    schema::{self, META_COLUMNS},
    timeline::Instant,
};

/// Number of batches of a file that are decoded in advance.
const AHEAD: usize = 2;
/// Divisor: files that are fetched in advance may use this share of the memory budget.
const AHEAD_SHARE: usize = 4;
/// Number of bytes of a remote file that are read at a time.
const SPAN_BYTES: u64 = 8 * 1024 * 1024;

/// The rows and columns to read from each file.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) output: SchemaRef,
    /// The columns of the output and of the predicate.
    pub(super) read: SchemaRef,
    pub(super) data: SchemaRef,
    /// If set, returns only rows of later commits.
    pub(super) since: Option<Since>,
    /// `true` if the table has meta columns. Otherwise they are null.
    pub(super) has_meta_columns: bool,
    pub(super) predicate: Option<Typed>,
    /// The maximum number of rows.
    pub(super) limit: Option<u64>,
}

/// The start of a range of commits.
#[derive(Debug)]
pub(super) struct Since {
    /// The last commit before the range.
    pub(super) since: Instant,
    /// Completion times of commits, in tables that store them. They replace the instants.
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

/// Streams the rows of the files, one file after the other. There is at least one batch, so that the schema
/// is known.
pub(super) fn stream(
    context: &Arc<Context>,
    files: Vec<(Path, u64)>,
    scan: Scan,
) -> BoxStream<'static, Result<RecordBatch>> {
    let (context, scan) = (context.clone(), Arc::new(scan));
    let width = context.calls_at_a_time();
    let empty = RecordBatch::new_empty(scan.output.clone());
    let mut any = false;
    let limit = scan.limit;
    let room = (context.options().memory_budget / AHEAD_SHARE).min(Semaphore::MAX_PERMITS);
    let ahead = Arc::new(Semaphore::new(room));
    let opened = stream::iter(files).map(move |(path, bytes)| {
        let (context, scan, ahead) = (context.clone(), scan.clone(), ahead.clone());
        async move {
            let open = context.open_file(&path, bytes).await?;
            rows(context, scan, open, &ahead).await
        }
    });
    let limited = limited(opened.buffered(width).try_flatten().boxed(), limit);
    let batches = limited.map(Some).chain(stream::once(async { None }));
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

/// Ends a stream of batches after this number of rows. The next batch is not requested.
fn limited(
    batches: BoxStream<'static, Result<RecordBatch>>,
    rows: Option<u64>,
) -> BoxStream<'static, Result<RecordBatch>> {
    let Some(rows) = rows else { return batches };
    let taken = stream::unfold((batches, rows), |(mut batches, left)| async move {
        if left == 0 {
            return None;
        }
        let batch = match batches.next().await? {
            Ok(batch) => batch,
            failed => return Some((failed, (batches, 0))),
        };
        let rows = usize::try_from(left).unwrap_or(usize::MAX).min(batch.num_rows());
        Some((Ok(batch.slice(0, rows)), (batches, left - rows as u64)))
    });
    taken.boxed()
}

/// Streams the rows of a file, some row groups at a time. The first row groups are fetched at once, while the
/// rows of earlier files are read, if `ahead` has room for their bytes.
async fn rows(
    context: Arc<Context>,
    scan: Arc<Scan>,
    open: OpenFile,
    ahead: &Arc<Semaphore>,
) -> Result<BoxStream<'static, Result<RecordBatch>>> {
    let is_wanted = |name: &str| scan.is_wanted(name);
    let spans = scan.selected(&open, open.spans(&is_wanted, SPAN_BYTES));
    let mut first = None;
    if let Some(groups) = spans.first() {
        let bytes = u32::try_from(open.bytes(Some(groups), &is_wanted, None)).unwrap_or(u32::MAX);
        if let Ok(room) = ahead.clone().try_acquire_many_owned(bytes) {
            first = Some((open.fetched(context.store(), Some(groups), &is_wanted, None).await?, room));
        }
    }
    let parts = stream::iter(spans).then(move |groups| {
        let (context, scan, open, fetched) = (context.clone(), scan.clone(), open.clone(), first.take());
        async move {
            let wanted = scan.clone();
            let wanted = move |name: &str| wanted.is_wanted(name);
            let (part, room) = match fetched {
                Some((part, room)) => (part, Some(room)),
                None => (open.fetched(context.store(), Some(&groups), &wanted, None).await?, None),
            };
            Ok::<_, Error>(produced(AHEAD, move |give| {
                let _room = room;
                scan.read(&part, groups, give)
            }))
        }
    });
    Ok(parts.try_flatten().boxed())
}

impl Scan {
    fn is_wanted(&self, name: &str) -> bool {
        self.read.field_with_name(name).is_ok() || (self.since.is_some() && name == META_COLUMNS[0])
    }

    /// Returns those row groups that may contain selected rows.
    fn selected(&self, open: &OpenFile, mut spans: Vec<Vec<usize>>) -> Vec<Vec<usize>> {
        let Some(predicate) = &self.predicate else { return spans };
        let may_select = predicate.may_select(open, &self.data);
        for span in &mut spans {
            span.retain(|group| may_select[*group]);
        }
        spans.retain(|span| !span.is_empty());
        spans
    }

    /// Reads row groups of a file, and passes on batches while the receiver accepts them.
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
            .filter(|field| self.read.field_with_name(field.name()).is_ok())
            .cloned()
            .collect();
        let data = Arc::new(Schema::new(data));
        for batch in open.read_groups(Some(groups), &|name| self.is_wanted(name), None)? {
            let mut batch = conform_stored(&batch?, &data, path)?;
            if let Some(since) = &self.since {
                batch = written_after(&batch, since, path)?;
            }
            if let Some(predicate) = &self.predicate {
                let selected = predicate.select(&batch).map_err(|error| error.with_context("file", path))?;
                batch = filter_record_batch(&batch, &selected).map_err(|cause| unfiltered(path, cause))?;
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
        let rows = batch.num_rows();
        let column = |field: &FieldRef| match schema::is_meta_column(field.name()) && !self.has_meta_columns {
            true => Ok(new_null_array(field.data_type(), rows)),
            false => batch.schema_ref().index_of(field.name()).map(|at| batch.column(at).clone()),
        };
        let columns = self.output.fields().iter().map(column).collect::<Result<Vec<_>, _>>();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        columns
            .and_then(|columns| RecordBatch::try_new_with_options(self.output.clone(), columns, &options))
            .map_err(failed)
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
    filter_record_batch(batch, &newer).map_err(|cause| unfiltered(path, cause))
}

fn unfiltered(path: &Path, cause: arrow::error::ArrowError) -> Error {
    Error::new(ErrorKind::Corrupt, "a base file cannot be filtered")
        .with_context("file", path)
        .with_source(cause)
}
