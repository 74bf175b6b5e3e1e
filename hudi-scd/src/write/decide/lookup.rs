//! Finds the stored rows of incoming keys, in either [form](crate::key::KeyEncoding).

use std::sync::Arc;

use arrow::{
    array::{BooleanArray, RecordBatch},
    compute::filter,
    datatypes::DataType,
};

use crate::{
    Error, ErrorKind, Result,
    base_file::conform_stored,
    concurrent::{blocking, ordered},
    context::Context,
    index::{self, FileHits, Hit, IndexedFile, StoredTexts, Wanted, key_encoding, key_schema},
    key::{self, KeyEncoding},
    snapshot::View,
    write::input::incoming::Incoming,
};

/// Finds the stored rows of incoming keys. See [`index::find`].
pub(crate) async fn find(
    context: &Context,
    view: &View,
    incoming: &Arc<Incoming>,
    ordering: Option<(String, DataType)>,
) -> Result<(Vec<IndexedFile>, Vec<FileHits>)> {
    let Some(field) = context.properties().encoded_key_field() else {
        return index::find(context, view, &Wanted { keys: incoming.keys.clone(), ordering }).await;
    };
    let encoding = key_encoding(context, view).await?;
    let (keys, name) = (incoming.keys.clone(), field.to_owned());
    let texts = Arc::new(blocking(move || StoredTexts::of(&name, &keys, encoding)).await?);
    let (files, found) = index::find(context, view, &Wanted { keys: texts.texts.clone(), ordering }).await?;
    let schema = incoming.schema.clone();
    let (files_at_hand, texts, schema) = (&files, &texts, &schema);
    let owned = found.into_iter().map(|hits| async move {
        let doubtful = hits.hits.iter().filter(|hit| texts.certain(field, hit.key).is_none());
        let positions: Vec<u64> = doubtful.map(|hit| hit.position).collect();
        let values = match positions.is_empty() {
            true => Vec::new(),
            false => values(context, &files_at_hand[hits.file], field, schema, positions).await?,
        };
        let (texts, field) = (texts.clone(), field.to_owned());
        blocking(move || owned(hits, &texts, &field, &values)).await
    });
    let owned = ordered(context.calls_at_a_time(), owned).await?;
    Ok((files, owned.into_iter().filter(|hits| !hits.hits.is_empty()).collect()))
}

/// Reads the record key column of stored rows, as text.
async fn values(
    context: &Context,
    file: &IndexedFile,
    field: &str,
    schema: &arrow::datatypes::SchemaRef,
    positions: Vec<u64>,
) -> Result<Vec<String>> {
    let path = file.path(context.layout())?;
    let open = context.open_file(&path, file.version().bytes).await?;
    let column = |name: &str| name == field;
    let (_admitted, open) = context.fetch_admitted(&open, None, &column, Some(&positions)).await?;
    let (schema, fields) = (key_schema(schema, &[field.to_owned()])?, [field.to_owned()]);
    blocking(move || {
        let mut values = Vec::with_capacity(positions.len());
        for batch in open.read(&|name| name == fields[0], Some(&positions))? {
            let rows: RecordBatch = conform_stored(&batch?, &schema, &path)?;
            let texts = key::record_keys(&rows, &fields, KeyEncoding::ValueOnly);
            let texts = texts.map_err(|error| error.with_context("file", &path))?;
            values.extend(texts.iter().flatten().map(str::to_owned));
        }
        Ok(values)
    })
    .await
}

/// Returns the hits with the incoming rows that they belong to. `values` contains the values of hits whose
/// stored key alone is not certain.
fn owned(hits: FileHits, texts: &StoredTexts, field: &str, values: &[String]) -> Result<FileHits> {
    let mut values = values.iter();
    let owners: Vec<Option<u32>> = hits
        .hits
        .iter()
        .map(|hit| match texts.certain(field, hit.key) {
            Some(row) => Some(row),
            None => texts.owner(field, hit.key, values.next()?),
        })
        .collect();
    let is_owned: BooleanArray = owners.iter().map(|owner| Some(owner.is_some())).collect();
    let ordering = hits.ordering.map(|values| filter(&values, &is_owned)).transpose().map_err(|cause| {
        Error::new(ErrorKind::Corrupt, "the stored ordering values cannot be selected").with_source(cause)
    })?;
    let owned = hits.hits.iter().zip(owners);
    let owned = owned.filter_map(|(hit, owner)| Some(Hit { key: owner?, position: hit.position }));
    Ok(FileHits { file: hits.file, hits: owned.collect(), ordering })
}
