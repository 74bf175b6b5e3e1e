//! Compares incoming rows with stored rows whose [key text](crate::write::input::key_texts) is the same.

use std::sync::Arc;

use arrow::array::StringArray;

use crate::{
    Result,
    base_file::conform_stored,
    concurrent::{blocking, ordered},
    context::Context,
    index::{FileHits, IndexedFile, key_schema},
    schema,
    write::input::{
        incoming::Incoming,
        key_texts::{Pair, Texts},
    },
};

/// Rejects an incoming row whose key text equals that of a stored row with different columns.
pub(crate) async fn check_stored(
    context: &Context,
    incoming: &Arc<Incoming>,
    files: &[IndexedFile],
    found: Vec<FileHits>,
) -> Result<Vec<FileHits>> {
    let fields = context.record_key_fields();
    if fields.len() < 2 {
        return Ok(found);
    }
    let (texts, keys) = (Texts::of(fields), incoming.keys.clone());
    let (found, doubtful) = blocking(move || {
        let doubtful = found.iter().filter_map(|hits| ambiguous(&texts, &keys, hits)).collect::<Vec<_>>();
        Ok((found, doubtful))
    })
    .await?;
    let checks = doubtful.into_iter().map(|(file, pairs)| async move {
        let (path, bytes) = (files[file].path(context.layout())?, files[file].version().bytes);
        let positions: Vec<u64> = pairs.iter().map(|(position, _)| *position).collect();
        let columns = |name: &str| !schema::is_meta_column(name) && fields.iter().any(|field| field == name);
        let open = context.open_file(&path, bytes).await?;
        let (_admitted, open) = context.fetch_admitted(&open, None, &columns, Some(&positions)).await?;
        let (rows, keys, fields) = (incoming.rows.clone(), incoming.keys.clone(), fields.to_vec());
        let schema = key_schema(&incoming.schema, &fields)?;
        blocking(move || {
            let mut pairs = pairs.iter();
            for batch in open.read(
                &|name| !schema::is_meta_column(name) && fields.iter().any(|field| field == name),
                Some(&positions),
            )? {
                let stored = conform_stored(&batch?, &schema, &path)?;
                let columns = Pair::of(&rows, &stored, &fields)?;
                for (row, (_, key)) in (0..stored.num_rows()).zip(&mut pairs) {
                    let key = *key as usize;
                    columns
                        .check(keys.value(key), key, row)
                        .map_err(|error| error.with_context("stored in", &path))?;
                }
            }
            Ok(())
        })
        .await
    });
    ordered(context.calls_at_a_time(), checks).await?;
    Ok(found)
}

/// Returns the file of these hits. Also returns the position and the key of each hit whose text a different
/// key may have.
fn ambiguous(texts: &Texts, keys: &StringArray, hits: &FileHits) -> Option<(usize, Vec<(u64, u32)>)> {
    let doubtful = hits.hits.iter().filter(|hit| texts.is_ambiguous(keys.value(hit.key as usize)));
    let pairs: Vec<(u64, u32)> = doubtful.map(|hit| (hit.position, hit.key)).collect();
    (!pairs.is_empty()).then_some((hits.file, pairs))
}
