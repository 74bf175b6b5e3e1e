//! The history of a key: its changes in the retained commits.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{Array, AsArray, RecordBatch, StringArray},
    datatypes::SchemaRef,
};
use object_store::path::Path;

use crate::{
    Error, ErrorKind, Result,
    base_file::{OpenFile, conform_stored},
    concurrent::{blocking, ordered},
    context::Context,
    index::{self, RECORD_KEY, key_column, key_schema},
    key::{self, KeyEncoding},
    schema::{self, META_COLUMNS},
    snapshot::View,
    timeline::Instant,
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

/// Implements [`Table::history`](crate::Table::history).
pub(crate) async fn history(context: &Context, key: &str) -> Result<Vec<KeyVersion>> {
    let history = async {
        let view = context.view().await?;
        history_in(context, &view, &Sought { texts: vec![key.to_owned()], value: None }).await
    };
    context.begin_read("history").run(history).await
}

async fn history_in(context: &Context, view: &View, key: &Sought) -> Result<Vec<KeyVersion>> {
    context.properties().check_meta_columns()?;
    let data = context.schema_of(view)?;
    let commits = view.whole_commits()?;
    // A file is read only once, even if several commits include it.
    let mut files: BTreeMap<&str, (Path, u64)> = BTreeMap::new();
    for commit in &commits {
        for (group, version) in view.files_at(*commit) {
            let path = context.layout().resolve(&group.path(version))?;
            files.insert(&version.file, (path, version.bytes));
        }
    }
    let finds = files.into_iter().map(|(file, (path, bytes))| {
        let data = &data;
        async move { Ok((file, find_row(context, &path, bytes, key, data).await?)) }
    });
    // The key's row in each file.
    let found: BTreeMap<_, _> = ordered(context.calls_at_a_time(), finds).await?.into_iter().collect();
    let mut history: Vec<KeyVersion> = Vec::new();
    let mut current: Option<Instant> = None;
    for commit in commits {
        let rows = view.files_at(commit).filter_map(|(_, version)| found.get(&*version.file));
        let row = rows.flatten().next().cloned();
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

/// Implements [`Table::history_of`](crate::Table::history_of).
pub(crate) async fn history_of(context: &Context, key: &RecordBatch) -> Result<Vec<KeyVersion>> {
    context.begin_read("history").run(history_of_values(context, key)).await
}

async fn history_of_values(context: &Context, key: &RecordBatch) -> Result<Vec<KeyVersion>> {
    if key.num_rows() != 1 {
        return Err(Error::new(ErrorKind::InvalidInput, "a key is one row of the record key columns")
            .with_context("rows", key.num_rows()));
    }
    let view = context.view().await?;
    let fields = context.record_key_fields();
    let columns = key_schema(&*context.schema_of(&view)?, fields)?;
    let key = schema::conform(key, &columns)?;
    let text = key::record_keys(&key, fields, KeyEncoding::ValueOnly)?.value(0).to_owned();
    let sought = match context.properties().encoded_key_field() {
        None => Sought { texts: vec![text], value: None },
        Some(field) => {
            let prefixed = KeyEncoding::FieldPrefixed.encode(field, &text);
            Sought { texts: vec![text.clone(), prefixed], value: Some((columns, text)) }
        }
    };
    history_in(context, &view, &sought).await
}

async fn find_row(
    context: &Context,
    path: &Path,
    bytes: u64,
    key: &Sought,
    data: &SchemaRef,
) -> Result<Option<(Instant, RecordBatch)>> {
    if !index::may_contain(context, path, bytes, &key.texts).await? {
        return Ok(None);
    }
    let file = context.open_file(path, bytes).await?;
    let (of, texts) = (file.clone(), key.texts.clone());
    let groups = blocking(move || Ok(index::groups_with(&of, texts))).await?;
    let keys = file.fetched(context.store(), Some(&groups), &|name| key.is_read(name), None).await?;
    let sought = key.clone();
    let position = blocking(move || position_of(&keys, &groups, &sought)).await?;
    let Some(position) = position else { return Ok(None) };
    let row = file.fetched(context.store(), None, &is_of_row, Some(&[position])).await?;
    let data = data.clone();
    blocking(move || row_at(&row, position, &data)).await
}

/// A key in all forms in which it may be stored.
#[derive(Clone, Debug)]
struct Sought {
    texts: Vec<String>,
    /// The column and the value of the key, if the stored keys may also belong to rows with a different
    /// value.
    value: Option<(SchemaRef, String)>,
}

impl Sought {
    /// Returns `true` for the columns that are needed to find the row.
    fn is_read(&self, name: &str) -> bool {
        name == RECORD_KEY || self.value.as_ref().is_some_and(|(columns, _)| columns.index_of(name).is_ok())
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

/// Selects the columns of a row and its commit.
fn is_of_row(name: &str) -> bool {
    name == META_COLUMNS[0] || !schema::is_meta_column(name)
}

/// Returns the position of a key in some row groups of a file.
fn position_of(file: &OpenFile, groups: &[usize], key: &Sought) -> Result<Option<u64>> {
    let all = file.groups();
    for group in groups {
        let mut start = all[*group].start;
        for batch in file.read_groups(Some(vec![*group]), &|name| key.is_read(name), None)? {
            let batch = batch?;
            if let Some(row) = key.position(&batch, file.path())? {
                return Ok(Some(start + row as u64));
            }
            start += batch.num_rows() as u64;
        }
    }
    Ok(None)
}

/// Returns the row at a position of a file, and its commit.
fn row_at(file: &OpenFile, position: u64, data: &SchemaRef) -> Result<Option<(Instant, RecordBatch)>> {
    let path = file.path();
    for batch in file.read(&is_of_row, Some(&[position]))? {
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
