//! Results as a stream of Arrow record batches.
//!
//! [`StatementExecutorExt::record_batches`](crate::StatementExecutorExt::record_batches) reads a result page
//! by page and returns it in batches. It is intended for results in CSV format, which are several times
//! smaller than the service's JSON. A result in JSON format yields the same batches.
//!
//! ```
//! # use std::time::Duration;
//! # use redshift_data_local::{LocalExecutor, ScriptedExecution, Script};
//! # use redshift_orchestrator::*;
//! use futures::TryStreamExt;
//! use redshift_orchestrator::arrow::{RecordBatchOptions, arrow_array::{Array, Int64Array, cast::AsArray}};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<()> {
//! # let columns = vec![Column::new("ticket", "int8"), Column::new("coupon", "varchar")];
//! # let rows = [("", Field::Null), ("", Field::String(String::new()))].into_iter().zip(1..).map(|((_, coupon), n)| vec![Field::Long(n), coupon]);
//! # let run = ScriptedExecution::finished(Duration::ZERO).with_result(columns, rows.collect());
//! # let executor = LocalExecutor::scripted(Script::new().otherwise(run));
//! let statement = Statement::sql("SELECT ticket, coupon FROM sales").with_result_format(ResultFormat::Csv);
//! let id = executor.submit(&statement, None).await?.id;
//! # executor.describe(&id, Some(WaitTime::MAX)).await?;
//! let mut batches = executor.record_batches(&id, RecordBatchOptions::default()).await?;
//! assert_eq!(batches.schema().field(0).name(), "ticket");
//! while let Some(batch) = batches.try_next().await? {
//!     assert_eq!(batch["ticket"].as_ref(), &Int64Array::from(vec![1, 2]));
//!     assert_eq!(batch["coupon"].as_string::<i32>().iter().collect::<Vec<_>>(), [None, Some("")]);
//! }
//! # Ok(()) }
//! ```
//!
//! # Types
//!
//! | type in the database | type in Arrow |
//! |---|---|
//! | `bool` | `Boolean` |
//! | `int2`, `int4`, `int8`, `oid` | `Int16`, `Int32`, `Int64`, `Int64` |
//! | `float4`, `float8` | `Float32`, `Float64` |
//! | `numeric` of known precision | `Decimal128`, exact; a value that does not fit is an error, and is never rounded |
//! | `numeric` of unknown precision (sums in PostgreSQL) | `Utf8`; [`RecordBatchOptions::with_column_type`] converts it to a decimal |
//! | `date`, `time` | `Date32`, `Time64` in microseconds |
//! | `timestamp`, `timestamptz` | `Timestamp` in microseconds, without a zone or in UTC |
//! | `varbyte`, `bytea` | `Binary` |
//! | `char`, `varchar`, `timetz`, `interval`, `super`, `geometry`, and all other types | `Utf8`, as printed by the database |
//!
//! All columns are nullable: a column that is declared `NOT NULL` in its table can still be NULL after an
//! outer join.
//!
//! # NULL and empty text
//!
//! In CSV, an empty field without quotes is NULL, and `""` is an empty text. PostgreSQL and the executors of
//! this project follow this rule. AWS does not document whether the service does. If the difference matters,
//! either select a marker (`NVL(note, '\\N')`) and pass it to [`RecordBatchOptions::with_null_marker`], or
//! request JSON, which distinguishes the two.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use arrow_array::RecordBatch;
use arrow_schema::{DataType, SchemaRef};
use futures::{
    Stream,
    stream::{self, BoxStream},
};

pub use arrow_array;
pub use arrow_schema;

use self::decode::Decoder;
use crate::{Column, PageToken, Result, StatementExecutor, StatementId, service::Pages};

mod column;
mod csv;
mod decode;
mod value;

/// Options for converting a result to batches.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordBatchOptions {
    rows: usize,
    null: Option<String>,
    types: Vec<(String, DataType)>,
}

impl Default for RecordBatchOptions {
    /// Creates options for batches of 8,192 rows, the default of DataFusion. Empty fields without quotes are
    /// NULL, and each column has the type listed in [the module](self).
    fn default() -> Self {
        Self { rows: 8_192, null: None, types: Vec::new() }
    }
}

impl RecordBatchOptions {
    /// Sets the number of rows per batch, at least 1. A batch has fewer rows if it is the last one, or if its
    /// texts reach 256 MiB.
    #[must_use]
    pub fn with_batch_size(mut self, rows: usize) -> Self {
        self.rows = rows.max(1);
        self
    }

    /// Sets the text that is read as NULL in CSV unless it is quoted. An empty field without quotes is then
    /// an empty text in a text column, and NULL in any other column.
    #[must_use]
    pub fn with_null_marker(mut self, null: impl Into<String>) -> Self {
        self.null = Some(null.into());
        self
    }

    /// Sets the type of the columns with this name. The type must be one of those listed in [the
    /// module](self).
    #[must_use]
    pub fn with_column_type(mut self, column: impl Into<String>, data_type: DataType) -> Self {
        self.types.push((column.into(), data_type));
        self
    }

    fn data_type(&self, column: &Column) -> DataType {
        let chosen = self.types.iter().rev().find(|(name, _)| *name == column.name);
        chosen.map_or_else(|| column::data_type(column), |(_, data_type)| data_type.clone())
    }

    /// Returns `true` if a field of CSV is NULL.
    fn is_null(&self, cell: &csv::Cell<'_>, is_text: bool) -> bool {
        match &self.null {
            _ if cell.is_quoted => false,
            Some(null) if *cell.text == **null => true,
            Some(_) if is_text => false,
            _ => cell.text.is_empty(),
        }
    }
}

/// Stream of the batches of a result, in order. It fetches each page after the rows of the previous page have
/// been consumed.
///
/// The stream ends after an error. After the stream is dropped, the result can be read again.
pub struct RecordBatches<'a> {
    schema: SchemaRef,
    total_rows: Option<u64>,
    batches: BoxStream<'a, Result<RecordBatch>>,
}

impl<'a> RecordBatches<'a> {
    pub(super) async fn open<E: StatementExecutor + ?Sized>(
        executor: &'a E,
        id: &StatementId,
        options: RecordBatchOptions,
    ) -> Result<Self> {
        let page = executor.result(id, None).await?;
        let total_rows = page.total_rows;
        let mut decoder = Decoder::new(id, page.columns, page.total_rows, options)?;
        let schema = decoder.schema();
        decoder.push(page.data);
        let reading = Reading { executor, id: id.clone(), decoder, next: page.next, pages: Pages::default() };
        let batches = stream::try_unfold(reading, |mut reading| async move {
            Ok(reading.next().await?.map(|batch| (batch, reading)))
        });
        Ok(Self { schema, total_rows, batches: Box::pin(batches) })
    }

    /// Returns the schema of the batches. It is available even if the result has no rows, and therefore no
    /// batches.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// Returns the number of rows of the complete result, if the service returned it. If the stream ends
    /// without an error, it has yielded this number of rows.
    pub fn total_rows(&self) -> Option<u64> {
        self.total_rows
    }
}

impl Stream for RecordBatches<'_> {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.batches.as_mut().poll_next(context)
    }
}

impl fmt::Debug for RecordBatches<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordBatches")
            .field("schema", &self.schema)
            .field("total_rows", &self.total_rows)
            .finish_non_exhaustive()
    }
}

/// State of the stream: the decoder, and the next page to fetch.
struct Reading<'a, E: ?Sized> {
    executor: &'a E,
    id: StatementId,
    decoder: Decoder,
    next: Option<PageToken>,
    pages: Pages,
}

impl<E: StatementExecutor + ?Sized> Reading<'_, E> {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(batch) = self.decoder.next()? {
                return Ok(Some(batch));
            }
            let Some(token) = self.next.take() else { return self.decoder.last() };
            let page = self.executor.result(&self.id, Some(token)).await?;
            self.decoder.push(page.data);
            let next = self.pages.turn(page.next);
            self.next = next.map_err(|error| error.with_context("statement_id", &self.id))?;
        }
    }
}
