//! [`StatementExecutorExt`]: convenience methods for reading results.

use async_trait::async_trait;
use serde::de::DeserializeOwned;

use super::{Column, Field, PageData, de};
use crate::{Error, ErrorKind, Result, ResultPage, StatementExecutor, StatementId, service::Pages};

/// Convenience methods for callers of any [`StatementExecutor`].
#[async_trait]
pub trait StatementExecutorExt: StatementExecutor {
    /// Returns all rows of a result as values of `T`. Fetches all pages.
    ///
    /// A struct reads columns by name, and a tuple reads columns by position. Any other type requires a
    /// result with a single column. `Option` accepts NULL; an empty text is not NULL. Decimals, dates and
    /// timestamps arrive as exact text: read them as a `String`, or as a type that deserializes from text,
    /// such as `jiff::civil::Date` or a decimal type.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use redshift_data_local::{LocalExecutor, ScriptedExecution, Script};
    /// # use redshift_orchestrator::*;
    /// #[derive(serde::Deserialize, PartialEq, Debug)]
    /// struct Sale { ticket: i64, price: String, coupon: Option<String> }
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)] async fn main() -> Result<()> {
    /// # let columns = vec![Column::new("ticket", "int8"), Column::new("price", "numeric"), Column::new("coupon", "varchar")];
    /// # let row = vec![Field::Long(1), Field::String("12345678901234567.89".into()), Field::Null];
    /// # let run = ScriptedExecution::finished(Duration::ZERO).with_result(columns, vec![row]);
    /// # let executor = LocalExecutor::scripted(Script::new().otherwise(run));
    /// let id = executor.submit(&Statement::sql("SELECT ticket, price, coupon FROM sales"), None).await?.id;
    /// # executor.describe(&id, Some(WaitTime::MAX)).await?;
    /// let sales: Vec<Sale> = executor.rows(&id).await?;
    /// assert_eq!(sales, [Sale { ticket: 1, price: "12345678901234567.89".into(), coupon: None }]);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Returns the errors of the executor. Returns [`ErrorKind::Invalid`], with the row and the column, if a
    /// value does not fit `T`, and [`ErrorKind::Unsupported`] for a result in CSV format.
    async fn rows<T: DeserializeOwned + Send>(&self, id: &StatementId) -> Result<Vec<T>> {
        let mut rows = Vec::new();
        self.each_page(id, &mut |columns, records| {
            for record in records {
                let number = rows.len() + 1;
                let row = de::from_row(columns, &record).map_err(|error: de::RowError| {
                    let error = Error::new(ErrorKind::Invalid, error.to_string()).with_context("row", number);
                    error.with_context("statement_id", id)
                })?;
                rows.push(row);
            }
            Ok(())
        })
        .await?;
        Ok(rows)
    }

    /// Returns a result as a stream of Arrow record batches. The module [`arrow`](crate::arrow) describes the
    /// types and the handling of NULL. This method fetches the first page, which contains the columns. The
    /// stream fetches each further page after the rows of the previous page have been consumed.
    ///
    /// # Errors
    /// Returns the errors of the executor, and [`ErrorKind::Unsupported`] for an unsupported type in the
    /// options. The stream yields [`ErrorKind::Invalid`], with the row and the column, for a value that does
    /// not fit its type, and [`ErrorKind::Other`] for invalid CSV or an unexpected number of rows.
    #[cfg(feature = "arrow")]
    async fn record_batches(
        &self,
        id: &StatementId,
        options: crate::arrow::RecordBatchOptions,
    ) -> Result<crate::arrow::RecordBatches<'_>> {
        crate::arrow::RecordBatches::open(self, id, options).await
    }

    /// Returns the columns and all records of a result. Fetches all pages.
    ///
    /// # Errors
    /// Returns the errors of [`rows`](Self::rows).
    async fn records(&self, id: &StatementId) -> Result<(Vec<Column>, Vec<Vec<Field>>)> {
        let (mut columns, mut rows) = (Vec::new(), Vec::new());
        self.each_page(id, &mut |described, records| {
            columns = described.to_vec();
            rows.extend(records);
            Ok(())
        })
        .await?;
        Ok((columns, rows))
    }

    /// Calls `take` with each page of a result, in order.
    ///
    /// # Errors
    /// Returns the errors of the executor and of `take`, and [`ErrorKind::Unsupported`] for a result in CSV
    /// format.
    async fn each_page(
        &self,
        id: &StatementId,
        take: &mut (dyn for<'p> FnMut(&'p [Column], Vec<Vec<Field>>) -> Result<()> + Send),
    ) -> Result<()> {
        let (mut page, mut pages) = (None, Pages::default());
        loop {
            let ResultPage { columns, data, next, .. } = self.result(id, page).await?;
            let PageData::Records(records) = data else {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    "the result is CSV; submit the statement with ResultFormat::Json to read it as rows",
                )
                .with_context("statement_id", id));
            };
            take(&columns, records)?;
            page = pages.turn(next).map_err(|error| error.with_context("statement_id", id))?;
            if page.is_none() {
                return Ok(());
            }
        }
    }
}

impl<E: StatementExecutor + ?Sized> StatementExecutorExt for E {}
