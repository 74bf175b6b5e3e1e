//! Reads the rows of some keys by other columns than the whole record key.
//!
//! A file is left out if its range of record keys has none that begins with these columns, and a row group if
//! its statistics exclude their values. Of the others those columns are read first, and then only the
//! selected rows of the rest.

use std::{collections::HashSet, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, RecordBatch, make_comparator},
    compute::{SortOptions, cast, sort},
    datatypes::SchemaRef,
};
use object_store::path::Path;
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;

use crate::{
    Result,
    base_file::{OpenFile, conform_stored, java_order},
    concurrent::{blocking, ordered},
    index::{self, IndexedFile},
    key::{self, KeyEncoding},
    table::Table,
    view::View,
};

/// Selects rows by the columns of the sought keys.
pub(crate) type Choice = dyn Fn(&RecordBatch) -> Result<Vec<bool>> + Send + Sync;

/// Keys whose rows are sought.
#[derive(Clone)]
pub(crate) struct SoughtKeys {
    /// The values of the key columns, with the table's types.
    pub(crate) keys: RecordBatch,
    /// Selects the rows of these keys.
    pub(crate) choose: Arc<Choice>,
}

impl Table {
    /// Returns the rows of the latest snapshot with the sought keys, with the schema `data`, in a stable
    /// order.
    pub(crate) async fn rows_where(
        &self,
        view: &View,
        data: &SchemaRef,
        sought: &SoughtKeys,
    ) -> Result<Vec<RecordBatch>> {
        view.check_latest_whole()?;
        let files = index::latest_files(self, view).await?;
        let (keys, fields) = (sought.keys.clone(), self.record_key_fields().to_vec());
        let select = move || {
            let Some(prefixes) = Prefixes::of(&keys, &fields) else { return Ok(files) };
            Ok(files.into_iter().filter(|file| prefixes.may_be_in(file)).collect())
        };
        let files: Vec<IndexedFile> = blocking(select).await?;
        let scans = files.into_iter().map(|file| {
            let (path, bytes) = (file.path, file.version.bytes);
            self.scan(Scan { path, bytes, data: data.clone(), sought: sought.clone() })
        });
        let batches = ordered(self.inner.options.parallelism, scans).await?;
        Ok(batches.into_iter().flatten().collect())
    }

    async fn scan(&self, scan: Scan) -> Result<Vec<RecordBatch>> {
        let open = self.open_file(&scan.path, scan.bytes).await?;
        let select = move || {
            let groups = groups_with(&open, &scan.sought.keys);
            Ok((open, scan, groups))
        };
        let (open, scan, groups) = blocking(select).await?;
        if groups.is_empty() {
            return Ok(Vec::new());
        }
        let first = open.fetched(self.store(), Some(&groups), &scan.keys(), None).await?;
        let (scan, positions) = blocking(move || {
            let positions = scan.positions(&first, &groups)?;
            Ok((scan, positions))
        })
        .await?;
        if positions.is_empty() {
            return Ok(Vec::new());
        }
        let chosen = open.fetched(self.store(), None, &scan.columns(), Some(&positions)).await?;
        blocking(move || scan.rows(&chosen, &positions)).await
    }
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

/// The beginnings of record keys of several columns: `a:1,b:2,` for the keys `a:1,b:2,c:3`.
struct Prefixes {
    /// In Java's order.
    sorted: Vec<String>,
    all: HashSet<String>,
}

impl Prefixes {
    /// Returns the beginnings of the record keys of some keys; `None` if record keys begin with other
    /// columns.
    fn of(keys: &RecordBatch, fields: &[String]) -> Option<Self> {
        let names: Vec<String> = keys.schema().fields().iter().map(|field| field.name().clone()).collect();
        if fields.len() <= names.len() || fields[..names.len()] != names {
            return None;
        }
        // The merge names an invalid key with its row.
        let Ok(texts) = key::record_keys(keys, &names, KeyEncoding::FieldPrefixed) else { return None };
        let mut sorted: Vec<String> = texts.iter().flatten().map(|text| format!("{text},")).collect();
        sorted.sort_unstable_by(|left, right| java_order(left, right));
        Some(Self { all: sorted.iter().cloned().collect(), sorted })
    }

    fn may_be_in(&self, file: &IndexedFile) -> bool {
        if file.footer.rows() == 0 {
            return false;
        }
        let Some((min, max)) = &file.footer.key_range else { return true };
        let first = self.sorted.partition_point(|prefix| java_order(prefix, min).is_lt());
        let is_within = self.sorted.get(first).is_some_and(|prefix| java_order(prefix, max).is_le());
        // The smallest key itself may begin with one.
        is_within || min.match_indices(',').any(|(at, _)| self.all.contains(&min[..=at]))
    }
}

/// Returns the row groups that may contain one of the keys, by the statistics of each of their columns.
fn groups_with(file: &OpenFile, keys: &RecordBatch) -> Vec<usize> {
    let mut groups: Vec<usize> = (0..file.footer().metadata().num_row_groups()).collect();
    for (field, values) in keys.schema().fields().iter().zip(keys.columns()) {
        let Some((sorted, bounds)) = sort(values, None).ok().zip(bounds(file, field.name(), values)) else {
            continue;
        };
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

/// Returns the bounds of a column in each row group, with the type of `values`; `None` if they are unknown.
fn bounds(file: &OpenFile, name: &str, values: &ArrayRef) -> Option<(ArrayRef, ArrayRef)> {
    let metadata = file.footer().metadata();
    let [leaf] = *file.leaves(name) else { return None };
    let groups = || metadata.row_groups().iter();
    // Old writers compared bounds as signed bytes, and a row without a key is not bounded.
    let is_certain = groups().all(|group| {
        let statistics = group.column(leaf).statistics();
        statistics.is_none_or(|statistics| {
            !statistics.is_min_max_deprecated() && statistics.null_count_opt() == Some(0)
        })
    });
    if !is_certain {
        return None;
    }
    let schema = metadata.file_metadata().schema_descr();
    let converter = StatisticsConverter::try_new(name, file.schema(), schema).ok()?;
    let typed = |bounds: ArrayRef| cast(&bounds, values.data_type()).ok();
    let (min, max) = (converter.row_group_mins(groups()).ok()?, converter.row_group_maxes(groups()).ok()?);
    typed(min).zip(typed(max))
}
