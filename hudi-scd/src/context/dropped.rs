//! Partition columns that base files lack (`hoodie.datasource.write.drop.partition.columns`). Their values
//! are in the names of folders.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, RecordBatch, StringArray},
    compute::{CastOptions, cast_with_options},
    datatypes::{FieldRef, Schema, SchemaRef},
};
use object_store::path::Path;

use super::Context;
use crate::{Error, ErrorKind, Result, base_file::OpenFile, key, layout};

impl Context {
    /// Returns the partition columns that base files lack. The schema that contains their types is parsed
    /// only once.
    pub(crate) fn dropped_columns(&self) -> Result<&[FieldRef]> {
        let known = &self.dropped_columns;
        if let Some(columns) = known.get() {
            return Ok(columns);
        }
        let columns = self.properties.dropped_columns()?;
        Ok(known.get_or_init(|| columns))
    }

    /// Returns a schema with the dropped columns at its end, as in Spark.
    pub(super) fn with_dropped_columns(&self, schema: SchemaRef) -> Result<SchemaRef> {
        let dropped = self.dropped_columns()?;
        if dropped.is_empty() {
            return Ok(schema);
        }
        let is_dropped = |field: &&FieldRef| dropped.iter().any(|dropped| dropped.name() == field.name());
        let mut fields: Vec<FieldRef> =
            schema.fields().iter().filter(|field| !is_dropped(field)).cloned().collect();
        fields.extend(dropped.iter().cloned());
        Ok(Arc::new(Schema::new(fields)))
    }

    /// Opens a base file that is read in place or fetched completely, and adds the columns of its folder.
    pub(crate) async fn open_complete(&self, path: &Path) -> Result<OpenFile> {
        self.in_folder(OpenFile::open(self.store(), path).await?)
    }

    /// Adds the dropped columns to a file.
    pub(super) fn in_folder(&self, open: OpenFile) -> Result<OpenFile> {
        if !self.properties.drops_partition_columns {
            return Ok(open);
        }
        let relative = self.layout.relative(open.path());
        let row = self
            .folder_row(layout::split_partition(relative).0)
            .map_err(|error| error.with_context("file", open.path()))?;
        Ok(open.with_folder_columns(&row))
    }

    /// Returns the values of the dropped columns in a partition, as one row.
    pub(crate) fn folder_row(&self, partition: &str) -> Result<RecordBatch> {
        let columns = self.dropped_columns()?;
        let values = key::folder_values(partition, &self.properties);
        let options = CastOptions { safe: false, ..CastOptions::default() };
        let typed = columns.iter().zip(values).map(|(field, value)| {
            let text: ArrayRef = Arc::new(StringArray::from(vec![value]));
            cast_with_options(&text, field.data_type(), &options)
        });
        let typed = typed.collect::<Result<Vec<_>, _>>();
        typed.and_then(|typed| RecordBatch::try_new(Arc::new(Schema::new(columns)), typed)).map_err(|cause| {
            Error::new(ErrorKind::Corrupt, "the name of a folder does not fit the partition columns")
                .with_source(cause)
        })
    }
}
