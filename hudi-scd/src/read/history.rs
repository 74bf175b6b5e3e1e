//! The history of a key: its changes in the retained commits.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{Array, AsArray, RecordBatch, StringArray},
    datatypes::SchemaRef,
};
use object_store::path::Path;

use crate::{
    Error, ErrorKind, Result,
    base_file::{Footer, OpenFile, conform_stored, java_order},
    concurrent::blocking,
    index::{RECORD_KEY, key_column, key_schema},
    key::{self, KeyEncoding},
    schema::{self, META_COLUMNS},
    table::Table,
    timeline::Instant,
    view::View,
};

/// The change of a key in one commit.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct KeyVersion {
    /// The commit.
    pub instant: Instant,
    /// The change.
    pub change: KeyChange,
}

/// A change of a key.
#[derive(Clone, Debug, PartialEq)]
pub enum KeyChange {
    /// The row was written: one row of the data columns.
    Written(RecordBatch),
    /// The row was deleted.
    Deleted,
}

impl Table {
    /// Returns the versions of a key that the retained commits show, oldest first: the row as of the
    /// beginning of the window, and each change since.
    ///
    /// The key is given in Hudi's form: the value of a single record key column, `a:1,b:2` for several; a
    /// timestamp is its number of microseconds. [`Table::history_of`] takes values.
    ///
    /// # Errors
    /// [`ErrorKind::Storage`], [`ErrorKind::Corrupt`].
    pub async fn history(&self, key: &str) -> Result<Vec<KeyVersion>> {
        let view = self.view().await?;
        self.history_in(&view, &Sought { texts: vec![key.to_owned()], value: None }).await
    }

    async fn history_in(&self, view: &View, key: &Sought) -> Result<Vec<KeyVersion>> {
        let data = self.schema_of(view)?;
        // The key's row in each file; a file is read once, even if several commits show it.
        let mut found: BTreeMap<&str, Option<(Instant, RecordBatch)>> = BTreeMap::new();
        let mut history: Vec<KeyVersion> = Vec::new();
        let mut current: Option<Instant> = None;
        for commit in view.timeline.completed_commits().map(|entry| entry.instant) {
            if view.check_retained(commit).is_err() {
                continue;
            }
            view.check_whole(commit)?;
            let mut row = None;
            for (group, version) in view.files_at(commit) {
                let said = match found.get(version.file.as_str()) {
                    Some(said) => said.clone(),
                    None => {
                        let path = self.inner.layout.resolve(&group.path(version))?;
                        let said = self.find_row(&path, key, &data).await?;
                        found.insert(&version.file, said.clone());
                        said
                    }
                };
                row = row.or(said);
            }
            match row {
                Some((written, row)) if current != Some(written) => {
                    current = Some(written);
                    history.push(KeyVersion { instant: written, change: KeyChange::Written(row) });
                }
                None if current.is_some() => {
                    current = None;
                    history.push(KeyVersion { instant: commit, change: KeyChange::Deleted });
                }
                _ => {}
            }
        }
        Ok(history)
    }

    /// Returns the versions of a key, like [`Table::history`]: `key` is a batch of one row with the record
    /// key columns.
    ///
    /// # Errors
    /// As [`Table::history`]; [`ErrorKind::InvalidInput`] if the batch lacks a record key column, has values
    /// that are incompatible with the table's types, or does not have exactly one row.
    pub async fn history_of(&self, key: &RecordBatch) -> Result<Vec<KeyVersion>> {
        if key.num_rows() != 1 {
            return Err(Error::new(ErrorKind::InvalidInput, "a key is one row of the record key columns")
                .with_context("rows", key.num_rows()));
        }
        let view = self.view().await?;
        let fields = self.record_key_fields();
        let columns = key_schema(&*self.schema_of(&view)?, fields)?;
        let key = schema::conform(key, &columns)?;
        let text = key::record_keys(&key, fields, KeyEncoding::ValueOnly)?.value(0).to_owned();
        let sought = match self.inner.properties.encoded_key_field() {
            None => Sought { texts: vec![text], value: None },
            Some(field) => {
                let prefixed = KeyEncoding::FieldPrefixed.encode(field, &text);
                Sought { texts: vec![text.clone(), prefixed], value: Some((columns, text)) }
            }
        };
        self.history_in(&view, &sought).await
    }

    async fn find_row(
        &self,
        path: &Path,
        key: &Sought,
        data: &SchemaRef,
    ) -> Result<Option<(Instant, RecordBatch)>> {
        let footer = Footer::load(self.store(), path).await?;
        if footer.rows() == 0 {
            return Ok(None);
        }
        let range = footer.key_range.as_ref();
        let is_inside = |key: &&String| {
            range.is_none_or(|(min, max)| java_order(key, min).is_ge() && java_order(key, max).is_le())
        };
        let inside: Vec<&String> = key.texts.iter().filter(is_inside).collect();
        if inside.is_empty() {
            return Ok(None);
        }
        if let Some(filter) = footer.stored_filter()?
            && !inside.into_iter().any(|key| filter.contains(key))
        {
            return Ok(None);
        }
        let open = OpenFile::open(self.store(), path).await?;
        let again = OpenFile::open(self.store(), path).await?;
        let (key, data, path) = (key.clone(), data.clone(), path.clone());
        blocking(move || row_of(open, again, &key, &data, &path)).await
    }
}

/// A key in the forms that it may be stored in.
#[derive(Clone, Debug)]
struct Sought {
    texts: Vec<String>,
    /// The column and the value of the key, if the texts may belong to rows with another value.
    value: Option<(SchemaRef, String)>,
}

impl Sought {
    fn has_column(&self, name: &str) -> bool {
        self.value.as_ref().is_some_and(|(columns, _)| columns.index_of(name).is_ok())
    }

    /// Returns the first row of the key in a batch.
    fn position(&self, batch: &RecordBatch, path: &Path) -> Result<Option<usize>> {
        let stored: &StringArray = key_column(batch, path)?;
        let is_sought = |row: &usize| self.texts.iter().any(|text| text == stored.value(*row));
        let mut rows = (0..stored.len()).filter(|row| stored.is_valid(*row)).filter(is_sought);
        let Some((columns, value)) = &self.value else { return Ok(rows.next()) };
        let rows: Vec<usize> = rows.collect();
        if rows.is_empty() {
            return Ok(None);
        }
        let fields: Vec<String> = columns.fields().iter().map(|field| field.name().clone()).collect();
        let values = conform_stored(batch, columns, path)?;
        let values = key::record_keys(&values, &fields, KeyEncoding::ValueOnly)?;
        Ok(rows.into_iter().find(|row| values.value(*row) == value))
    }
}

/// Returns the row of a key in a file, and its commit: first its position, by the key column alone, then the
/// row.
fn row_of(
    keys: OpenFile,
    rows: OpenFile,
    key: &Sought,
    data: &SchemaRef,
    path: &Path,
) -> Result<Option<(Instant, RecordBatch)>> {
    let mut start = 0;
    let mut position = None;
    for batch in keys.read(&|name| name == RECORD_KEY || key.has_column(name), None)? {
        let batch = batch?;
        if let Some(row) = key.position(&batch, path)? {
            position = Some(start + row as u64);
            break;
        }
        start += batch.num_rows() as u64;
    }
    let Some(position) = position else { return Ok(None) };
    let columns = |name: &str| name == META_COLUMNS[0] || !schema::is_meta_column(name);
    for batch in rows.read(&columns, Some(&[position]))? {
        let batch = conform_stored(&batch?, data, path)?;
        let written = batch.column_by_name(META_COLUMNS[0]).and_then(|times| times.as_string_opt::<i32>());
        let Some(written) = written.filter(|times| !times.is_empty()).map(|times| times.value(0)) else {
            continue;
        };
        let written: Instant = written.parse()?;
        let columns = batch.columns()[batch.num_columns() - data.fields().len()..].to_vec();
        let row = RecordBatch::try_new(Arc::clone(data), columns).map_err(|cause| {
            Error::new(ErrorKind::Corrupt, "a stored row does not fit the table")
                .with_context("file", path)
                .with_source(cause)
        })?;
        return Ok(Some((written, row)));
    }
    Ok(None)
}
