//! Opens base files for DataFusion by the rules of [`Table::read`](crate::Table::read): a file with times of
//! the Julian calendar is rejected, and 96-bit timestamps have a precision of microseconds.

use std::{ops::Range, sync::Arc};

use ::datafusion::{
    common::{Result as DataFusionResult, config::TableParquetOptions},
    datasource::{
        listing::PartitionedFile,
        physical_plan::{ParquetFileReaderFactory, parquet::DefaultParquetFileReaderFactory},
    },
    parquet::{
        arrow::{arrow_reader::ArrowReaderOptions, async_reader::AsyncFileReader},
        errors::{ParquetError, Result as ParquetResult},
        file::metadata::ParquetMetaData,
    },
    physical_plan::metrics::ExecutionPlanMetricsSet,
};
use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use object_store::{ObjectStore, path::Path};

use crate::times;

/// Returns a session's options for Parquet files, with 96-bit timestamps as [`times`] reads them.
pub(super) fn options(session: &TableParquetOptions) -> TableParquetOptions {
    let mut options = session.clone();
    options.global.coerce_int96 = Some("us".to_owned());
    options.global.coerce_int96_tz = None;
    options
}

/// Opens files of one store. A plan contains it, so that the store need not be registered in a session, which
/// never unregisters a store.
#[derive(Debug)]
pub(super) struct Files {
    parquet: DefaultParquetFileReaderFactory,
}

impl Files {
    pub(super) fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self { parquet: DefaultParquetFileReaderFactory::new(store) }
    }
}

impl ParquetFileReaderFactory for Files {
    fn create_reader(
        &self,
        partition_index: usize,
        file: PartitionedFile,
        metadata_size_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> DataFusionResult<Box<dyn AsyncFileReader + Send>> {
        let path = file.object_meta.location.clone();
        let reader = self.parquet.create_reader(partition_index, file, metadata_size_hint, metrics)?;
        Ok(Box::new(Checked { reader, path }))
    }
}

/// A file whose calendar is checked when its footer is read.
struct Checked {
    reader: Box<dyn AsyncFileReader + Send>,
    path: Path,
}

impl AsyncFileReader for Checked {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, ParquetResult<Bytes>> {
        self.reader.get_bytes(range)
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, ParquetResult<Vec<Bytes>>> {
        self.reader.get_byte_ranges(ranges)
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, ParquetResult<Arc<ParquetMetaData>>> {
        async move {
            let metadata = self.reader.get_metadata(options).await?;
            let checked = times::check_calendar(&metadata);
            checked
                .map_err(|error| ParquetError::External(Box::new(error.with_context("file", &self.path))))?;
            Ok(metadata)
        }
        .boxed()
    }
}
