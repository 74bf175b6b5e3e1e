//! The form of record keys with one field under the complex generator: `1` or `id:1`, depending on the
//! release of Hudi.
//!
//! A table has one form for new keys. It is decided once, and recorded in the table's own properties before
//! the first commit. It is the form of the newest stored row or, in a table without rows, the form of its
//! version. A row's form is determined from its key together with its column. The key alone is not enough,
//! because a value may itself begin with `id:`.
//!
//! Lookups find a stored row in either form, whichever form is recorded, because releases of both kinds may
//! have written the table, before or after the decision. A stored row keeps its form as long as it stays in
//! its file.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{Array, AsArray, StringArray},
    datatypes::{Schema, SchemaRef},
};
use object_store::path::Path;

use super::{RECORD_KEY, key_column};
use crate::{
    Error, ErrorKind, Result,
    base_file::{OpenFile, conform_stored},
    concurrent::blocking,
    context::{Context, Turn},
    key::{self, KeyEncoding},
    properties::{self, KEY_ENCODING, TableProperties},
    schema::META_COLUMNS,
    snapshot::View,
    storage,
};

/// Returns the form of new keys.
pub(crate) async fn key_encoding(context: &Context, view: &View) -> Result<KeyEncoding> {
    let properties = context.properties();
    let Some(field) = properties.encoded_key_field() else { return Ok(KeyEncoding::ValueOnly) };
    match properties.key_encoding {
        Some(recorded) => Ok(recorded),
        None => context.key_encoding().get_or_try_init(|| decide(context, view, field)).await.copied(),
    }
}

/// Records the form of new keys, unless the properties with which the table was opened already contain it. If
/// a different form was recorded in the meantime, this is a conflict.
pub(crate) async fn record_key_encoding(context: &Context, turn: &Turn<'_>, view: &View) -> Result<()> {
    let properties = context.properties();
    if properties.encoded_key_field().is_none() || properties.key_encoding.is_some() {
        return Ok(());
    }
    let encoding = key_encoding(context, view).await?;
    context.key_encoding_recorded().get_or_try_init(|| record(context, turn, encoding)).await?;
    Ok(())
}

async fn record(context: &Context, turn: &Turn<'_>, encoding: KeyEncoding) -> Result<()> {
    let path = context.layout().own_properties()?;
    let mut own = match storage::read_if_exists(context.store(), &path).await? {
        Some(bytes) => properties::parse_raw(&bytes).map_err(|error| error.with_context("file", &path))?,
        None => BTreeMap::new(),
    };
    if let Some(recorded) = turn.stored().property(KEY_ENCODING).or(own.get(KEY_ENCODING).map(String::as_str))
    {
        if KeyEncoding::parse(recorded.trim()) == Some(encoding) {
            return Ok(());
        }
        let message = "another writer has recorded another form of record keys";
        return Err(Error::new(ErrorKind::Conflict, message)
            .with_context("property", KEY_ENCODING)
            .with_context("recorded", recorded)
            .with_context("found", encoding)
            .with_context("hint", "open the table again"));
    }
    own.insert(KEY_ENCODING.to_owned(), encoding.to_string());
    turn.verify().await?;
    let bytes = TableProperties::own_bytes(&own, context.options().clock.now());
    storage::write(context.store(), &path, bytes).await
}

/// Returns the form of the newest stored row, or the form of the table's version.
async fn decide(context: &Context, view: &View, field: &str) -> Result<KeyEncoding> {
    let mut files: Vec<_> = view.latest_files().collect();
    files.sort_by_key(|(_, version)| std::cmp::Reverse(version.instant));
    if !files.is_empty() {
        let schema = key_schema(&*context.schema_of(view)?, &[field.to_owned()])?;
        for (group, version) in files {
            let path = context.layout().resolve(&group.path(version))?;
            let open = context.open_file(&path, version.bytes).await?;
            let open = open.fetched(context.store(), None, &|name| decides(name, field), None).await?;
            let (schema, field) = (schema.clone(), field.to_owned());
            if let Some(found) = blocking(move || of_newest_row(&open, &schema, &field, &path)).await? {
                return Ok(found);
            }
        }
    }
    Ok(context.version().key_encoding())
}

/// Returns `true` for the columns that determine the form of a row's key.
fn decides(name: &str, field: &str) -> bool {
    name == META_COLUMNS[0] || name == RECORD_KEY || name == field
}

/// Returns the form of the row with the newest commit in a file. Returns `None` if no row of the file has
/// either form.
fn of_newest_row(
    open: &OpenFile,
    schema: &SchemaRef,
    field: &str,
    path: &Path,
) -> Result<Option<KeyEncoding>> {
    let mut newest: Option<(String, KeyEncoding)> = None;
    for batch in open.read(&|name| decides(name, field), None)? {
        let batch = batch?;
        let keys = key_column(&batch, path)?;
        let times = batch.column_by_name(META_COLUMNS[0]).and_then(|times| times.as_string_opt::<i32>());
        let Some(times) = times else { continue };
        let rows = conform_stored(&batch, schema, path)?;
        let values = key::record_keys(&rows, &[field.to_owned()], KeyEncoding::ValueOnly)?;
        for row in (0..keys.len()).filter(|row| times.is_valid(*row)) {
            let time = times.value(row);
            if newest.as_ref().is_some_and(|(newest, _)| time <= newest.as_str()) {
                continue;
            }
            if let Some(found) = KeyEncoding::of_stored(field, values.value(row), keys.value(row)) {
                newest = Some((time.to_owned(), found));
            }
        }
    }
    Ok(newest.map(|(_, encoding)| encoding))
}

/// The stored keys that may belong to incoming keys.
pub(crate) struct StoredTexts {
    /// Distinct stored keys.
    pub(crate) texts: Arc<StringArray>,
    owners: Vec<Owners>,
}

/// The incoming rows that a stored key may belong to.
#[derive(Clone, Copy, Default)]
struct Owners {
    value_only: Option<u32>,
    prefixed: Option<u32>,
}

impl StoredTexts {
    /// Returns both forms of each key.
    pub(crate) fn of(field: &str, keys: &StringArray, encoding: KeyEncoding) -> Result<Self> {
        let values = keys.iter().enumerate().map(|(row, key)| {
            let value = key.and_then(|key| encoding.decode(field, key));
            value.ok_or_else(|| {
                Error::new(ErrorKind::InvalidInput, "a record key does not have the form of the table's keys")
                    .with_context("row", row)
            })
        });
        let values = values.collect::<Result<Vec<&str>>>()?;
        let mut owners: Vec<Owners> = Vec::with_capacity(values.len() * 2);
        owners.extend((0..values.len() as u32).map(|row| Owners { value_only: Some(row), prefixed: None }));
        // A value that begins with the field's name may look like the stored key of another value.
        let begin_so = values.iter().enumerate();
        let begin_so: BTreeMap<&str, usize> = begin_so
            .filter(|(_, value)| KeyEncoding::FieldPrefixed.decode(field, value).is_some())
            .map(|(row, value)| (*value, row))
            .collect();
        let mut texts: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
        for (row, value) in values.iter().enumerate() {
            let text = KeyEncoding::FieldPrefixed.encode(field, value);
            match begin_so.get(text.as_str()) {
                Some(same) => owners[*same].prefixed = Some(row as u32),
                None => {
                    texts.push(text);
                    owners.push(Owners { value_only: None, prefixed: Some(row as u32) });
                }
            }
        }
        Ok(Self { texts: Arc::new(StringArray::from_iter_values(texts)), owners })
    }

    /// Returns the incoming row of a stored key, if it is certain without the row's column.
    pub(crate) fn certain(&self, field: &str, text: u32) -> Option<u32> {
        let key = self.texts.value(text as usize);
        match KeyEncoding::FieldPrefixed.decode(field, key) {
            None => self.owners[text as usize].value_only,
            Some(_) => None,
        }
    }

    /// Returns the incoming row that matches a stored row with this key and this value, or `None` if no row
    /// matches.
    pub(crate) fn owner(&self, field: &str, text: u32, value: &str) -> Option<u32> {
        let owners = self.owners[text as usize];
        match KeyEncoding::of_stored(field, value, self.texts.value(text as usize)) {
            Some(KeyEncoding::ValueOnly) => owners.value_only,
            Some(KeyEncoding::FieldPrefixed) => owners.prefixed,
            None => owners.value_only.or(owners.prefixed),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_belongs_to_the_incoming_row_whose_value_is_in_the_stored_row() {
        let keys = StringArray::from(vec!["7", "id:7", "id:id:7"]);
        let texts = StoredTexts::of("id", &keys, KeyEncoding::ValueOnly).unwrap();
        let all: Vec<&str> = texts.texts.iter().flatten().collect();
        assert_eq!(all, ["7", "id:7", "id:id:7", "id:id:id:7"]);
        assert_eq!(texts.certain("id", 0), Some(0));
        assert_eq!(texts.certain("id", 1), None);
        assert_eq!((texts.owner("id", 1, "id:7"), texts.owner("id", 1, "7")), (Some(1), Some(0)));
        assert_eq!((texts.owner("id", 2, "id:id:7"), texts.owner("id", 2, "id:7")), (Some(2), Some(1)));
        assert_eq!((texts.owner("id", 3, "id:id:7"), texts.owner("id", 3, "id:id:id:7")), (Some(2), None));
        let same = StringArray::from(vec!["id:7", "id:id:7", "id:id:id:7"]);
        let prefixed = StoredTexts::of("id", &same, KeyEncoding::FieldPrefixed).unwrap();
        assert_eq!(prefixed.texts, texts.texts);
        assert!(StoredTexts::of("id", &keys, KeyEncoding::FieldPrefixed).is_err());
    }
}
