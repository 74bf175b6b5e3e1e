//! The form of the record keys that a table stores.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};

use super::{RECORD_KEY, key_column, latest_files};
use crate::{
    Error, ErrorKind, Result,
    base_file::{OpenFile, conform_stored},
    concurrent::blocking,
    key::{self, KeyGenerator},
    table::Table,
    view::View,
};

/// Returns `true` if a table of one key field under the complex generator stores keys as `id:1`, as Hudi 0.14
/// wrote them, and `false` if it stores them as `1`. The key and the key column of a stored row decide
/// together, because a value may itself begin with `id:`.
pub(crate) async fn names_single_field(table: &Table, view: &View) -> Result<bool> {
    let properties = &table.inner.properties;
    let ([field], KeyGenerator::Complex) =
        (properties.record_key_fields.as_slice(), properties.key_generator)
    else {
        return Ok(false);
    };
    let prefix = format!("{field}:");
    let files = latest_files(table, view).await?;
    let mut ranges = files.iter().filter_map(|file| file.footer.key_range.as_ref());
    if !ranges.all(|(min, max)| min.starts_with(&prefix) && max.starts_with(&prefix)) {
        return Ok(false);
    }
    let Some(file) = files.iter().find(|file| file.footer.rows() > 0) else { return Ok(false) };
    let open = OpenFile::open(table.store(), &file.path).await?;
    let (schema, path) =
        (key_schema(&*table.schema_of(view)?, std::slice::from_ref(field))?, file.path.clone());
    let field = field.clone();
    blocking(move || {
        for batch in open.read(&|name| name == RECORD_KEY || name == field, Some(&[0]))? {
            let batch = batch?;
            let stored = key_column(&batch, &path)?.clone();
            let rows = conform_stored(&batch, &schema, &path)?;
            if let Some(stored) = stored.iter().flatten().next() {
                return Ok(key::record_keys(&rows, &[field], true)?.value(0) == stored);
            }
        }
        Ok(false)
    })
    .await
}

/// Returns the columns of the record key.
pub(crate) fn key_schema(schema: &Schema, fields: &[String]) -> Result<SchemaRef> {
    let fields =
        fields.iter().map(|field| schema.field_with_name(field).cloned()).collect::<Result<Vec<_>, _>>();
    let fields = fields.map_err(|cause| {
        Error::new(ErrorKind::Corrupt, "the table's schema lacks a record key column").with_source(cause)
    })?;
    Ok(Arc::new(Schema::new(fields)))
}
