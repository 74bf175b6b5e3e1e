//! Finds the rows of some keys by columns that are not the whole record key.
//!
//! A file is skipped if its range contains no record key that begins with these columns, or if its bloom
//! filter excludes them. A row group is skipped if its statistics exclude their values. In the remaining row
//! groups, those columns are read first, and then only the selected rows of the other columns.

use std::{collections::BTreeSet, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, RecordBatch, StringArray, make_comparator},
    compute::{SortOptions, sort},
    datatypes::SchemaRef,
};
use object_store::path::Path;

use crate::{
    Result,
    base_file::{OpenFile, conform_stored},
    concurrent::{blocking, ordered},
    context::Context,
    index,
    key::{self, KeyEncoding},
    snapshot::View,
};

/// Selects rows by the key columns.
pub(crate) type Choice = dyn Fn(&RecordBatch) -> Result<Vec<bool>> + Send + Sync;

/// Keys whose rows a read looks for.
#[derive(Clone)]
pub(crate) struct SoughtKeys {
    /// The values of the key columns, with the table's types.
    pub(crate) keys: RecordBatch,
    /// Selects the rows of these keys.
    pub(crate) choose: Arc<Choice>,
}

/// Returns the rows of the latest snapshot that have these keys, with the schema `data`, in a stable
/// order.
pub(crate) async fn rows_where(
    context: &Context,
    view: &View,
    data: &SchemaRef,
    sought: &SoughtKeys,
) -> Result<Vec<RecordBatch>> {
    view.check_latest_whole()?;
    let (keys, fields) = (sought.keys.clone(), context.record_key_fields().to_vec());
    let files = match blocking(move || Ok(beginnings(&keys, &fields))).await? {
        Some(beginnings) => index::files_with_beginnings(context, view, beginnings).await?,
        None => index::latest_files(context, view).await?,
    };
    let scans = files.into_iter().map(|file| async move {
        let (path, bytes) = (file.path(context.layout())?, file.version().bytes);
        scan(context, Scan { path, bytes, data: data.clone(), sought: sought.clone() }).await
    });
    let batches = ordered(context.calls_at_a_time(), scans).await?;
    Ok(batches.into_iter().flatten().collect())
}

async fn scan(context: &Context, scan: Scan) -> Result<Vec<RecordBatch>> {
    let open = context.open_file(&scan.path, scan.bytes).await?;
    let select = move || {
        let groups = groups_with(&open, &scan.sought.keys);
        Ok((open, scan, groups))
    };
    let (open, scan, groups) = blocking(select).await?;
    if groups.is_empty() {
        return Ok(Vec::new());
    }
    let (admitted, first) = context.fetch_admitted(&open, Some(&groups), &scan.keys(), None).await?;
    let (scan, positions) = blocking(move || {
        let positions = scan.positions(&first, &groups)?;
        Ok((scan, positions))
    })
    .await?;
    drop(admitted);
    if positions.is_empty() {
        return Ok(Vec::new());
    }
    let (_admitted, chosen) = context.fetch_admitted(&open, None, &scan.columns(), Some(&positions)).await?;
    blocking(move || scan.rows(&chosen, &positions)).await
}

/// The scan of one file.
struct Scan {
    path: Path,
    bytes: u64,
    data: SchemaRef,
    sought: SoughtKeys,
}

impl Scan {
    fn keys(&self) -> impl Fn(&str) -> bool + use<> {
        let schema = self.sought.keys.schema();
        move |name| schema.field_with_name(name).is_ok()
    }

    fn columns(&self) -> impl Fn(&str) -> bool + use<> {
        let schema = self.data.clone();
        move |name| schema.field_with_name(name).is_ok()
    }

    /// Returns the positions of the selected rows in the file.
    fn positions(&self, file: &OpenFile, groups: &[usize]) -> Result<Vec<u64>> {
        let by = self.sought.keys.schema();
        let all = file.groups();
        let mut positions = Vec::new();
        for group in groups {
            let mut start = all[*group].start;
            for batch in file.read_groups(Some(vec![*group]), &self.keys(), None)? {
                let batch = conform_stored(&batch?, &by, &self.path)?;
                let chosen = (self.sought.choose)(&batch)?;
                positions.extend((start..).zip(&chosen).filter(|(_, chosen)| **chosen).map(|(row, _)| row));
                start += batch.num_rows() as u64;
            }
        }
        Ok(positions)
    }

    fn rows(&self, file: &OpenFile, positions: &[u64]) -> Result<Vec<RecordBatch>> {
        let batches = file.read(&self.columns(), Some(positions))?;
        batches.map(|batch| conform_stored(&batch?, &self.data, &self.path)).collect()
    }
}

/// Returns the distinct beginnings of the record keys for some keys, such as `a:1,b:2,` for the record key
/// `a:1,b:2,c:3`. Returns `None` if record keys begin with other columns.
fn beginnings(keys: &RecordBatch, fields: &[String]) -> Option<Arc<StringArray>> {
    let names: Vec<String> = keys.schema().fields().iter().map(|field| field.name().clone()).collect();
    if fields.len() <= names.len() || fields[..names.len()] != names {
        return None;
    }
    // An invalid key is reported by the merge, which names its row.
    let texts = key::record_keys(keys, &names, KeyEncoding::FieldPrefixed).ok()?;
    let distinct: BTreeSet<&str> = texts.iter().flatten().collect();
    Some(Arc::new(StringArray::from_iter_values(distinct.into_iter().map(|text| format!("{text},")))))
}

/// Returns the row groups that may contain one of the keys, according to the statistics of each key column.
fn groups_with(file: &OpenFile, keys: &RecordBatch) -> Vec<usize> {
    let mut groups: Vec<usize> = (0..file.footer().metadata().num_row_groups()).collect();
    for (field, values) in keys.schema().fields().iter().zip(keys.columns()) {
        // A row without a key is not bounded.
        if !file.is_without_nulls(field.name()) {
            continue;
        }
        let bounds = file.bounds(field.name(), values.data_type());
        let Some((sorted, bounds)) = sort(values, None).ok().zip(bounds) else { continue };
        let compare = |bound: &ArrayRef| make_comparator(&sorted, bound, SortOptions::default()).ok();
        let Some((with_min, with_max)) = compare(&bounds.0).zip(compare(&bounds.1)) else { continue };
        let places: Vec<usize> = (sorted.null_count()..sorted.len()).collect();
        groups.retain(|&group| {
            if bounds.0.is_null(group) || bounds.1.is_null(group) {
                return true;
            }
            let first = places.partition_point(|&place| with_min(place, group).is_lt());
            places.get(first).is_some_and(|&place| with_max(place, group).is_le())
        });
    }
    groups
}
