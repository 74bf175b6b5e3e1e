//! Reads Parquet.

use std::fs::File;

use crate::{Error, Result, times};
use arrow::datatypes::SchemaRef;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};

use super::{BATCH_ROWS, Batches, InputFile, failed, invalid};

pub(super) fn columns(file: &InputFile) -> Result<SchemaRef> {
    Ok(open(file)?.schema().clone())
}

/// Returns the number of rows in a file.
pub(super) fn rows(file: &InputFile) -> Result<u64> {
    Ok(u64::try_from(open(file)?.metadata().file_metadata().num_rows()).unwrap_or(0))
}

pub(super) fn batches<'a>(file: &'a InputFile, progress: &'a dyn Fn(u64)) -> Result<Batches<'a>> {
    let builder = open(file)?;
    let total = u64::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0).max(1);
    let reader = builder.with_batch_size(BATCH_ROWS).build().map_err(|cause| broken(file, cause))?;
    let mut told = 0;
    let mut rows = 0;
    Ok(Box::new(reader.map(move |batch| {
        let batch = batch.map_err(|cause| broken(file, cause))?;
        rows += batch.num_rows() as u64;
        let read = (u128::from(file.bytes) * u128::from(rows) / u128::from(total)) as u64;
        progress(read.saturating_sub(told));
        told = read;
        Ok(batch)
    })))
}

fn open(file: &InputFile) -> Result<ParquetRecordBatchReaderBuilder<File>> {
    let opened = File::open(&file.path).map_err(|cause| failed(&file.path, "cannot be read", cause))?;
    let options = ArrowReaderOptions::new();
    let known = ArrowReaderMetadata::load(&opened, options.clone()).map_err(|cause| broken(file, cause))?;
    let metadata = known.metadata().clone();
    times::check_calendar(&metadata).map_err(|error| error.with_context("file", file.path.display()))?;
    let metadata = times::reader_metadata(metadata, options).map_err(|cause| broken(file, cause))?;
    Ok(ParquetRecordBatchReaderBuilder::new_with_metadata(opened, metadata))
}

fn broken(file: &InputFile, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    invalid("the file is not valid Parquet").with_context("file", file.path.display()).with_source(cause)
}
