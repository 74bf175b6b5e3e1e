//! Reads rows selected by the values of some columns: those columns are read first, and then only the
//! selected rows of the others.

use std::sync::Arc;

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use object_store::path::Path;

use crate::{
    Result,
    base_file::{OpenFile, conform_stored},
    concurrent::{blocking, ordered},
    table::Table,
    view::View,
};

/// Selects rows by some columns.
pub(crate) type Choice = dyn Fn(&RecordBatch) -> Result<Vec<bool>> + Send + Sync;

impl Table {
    /// Returns the rows of the latest snapshot that `choose` selects by the columns of `by`, with the schema
    /// `data`, in a stable order.
    pub(crate) async fn rows_where(
        &self,
        view: &View,
        data: &SchemaRef,
        by: &SchemaRef,
        choose: Arc<Choice>,
    ) -> Result<Vec<RecordBatch>> {
        view.check_latest_whole()?;
        let paths =
            view.latest_files().map(|(group, version)| self.inner.layout.resolve(&group.path(version)));
        let paths: Vec<Path> = paths.collect::<Result<_>>()?;
        let scans = paths.into_iter().map(|path| {
            let scan = Scan { path, data: data.clone(), by: by.clone(), choose: choose.clone() };
            self.scan(scan)
        });
        let batches = ordered(self.inner.options.parallelism, scans).await?;
        Ok(batches.into_iter().flatten().collect())
    }

    async fn scan(&self, scan: Scan) -> Result<Vec<RecordBatch>> {
        let first = OpenFile::open(self.store(), &scan.path).await?;
        let (scan, positions) = blocking(move || {
            let positions = scan.positions(first)?;
            Ok((scan, positions))
        })
        .await?;
        if positions.is_empty() {
            return Ok(Vec::new());
        }
        let again = OpenFile::open(self.store(), &scan.path).await?;
        blocking(move || scan.rows(again, &positions)).await
    }
}

/// The scan of one file.
struct Scan {
    path: Path,
    data: SchemaRef,
    by: SchemaRef,
    choose: Arc<Choice>,
}

impl Scan {
    fn positions(&self, file: OpenFile) -> Result<Vec<u64>> {
        let mut positions = Vec::new();
        let mut start = 0;
        for batch in file.read(&|name| self.by.field_with_name(name).is_ok(), None)? {
            let batch = conform_stored(&batch?, &self.by, &self.path)?;
            let chosen = (self.choose)(&batch)?;
            positions.extend((start..).zip(&chosen).filter(|(_, chosen)| **chosen).map(|(row, _)| row));
            start += batch.num_rows() as u64;
        }
        Ok(positions)
    }

    fn rows(&self, file: OpenFile, positions: &[u64]) -> Result<Vec<RecordBatch>> {
        let wanted = |name: &str| self.data.field_with_name(name).is_ok();
        let batches = file.read(&wanted, Some(positions))?;
        batches.map(|batch| conform_stored(&batch?, &self.data, &self.path)).collect()
    }
}
