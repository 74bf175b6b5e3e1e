//! The partitions of the table: those that exist, and those that commits have written or dropped.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;

use super::options::{PartitionValues, SyncOptions, rule};
use crate::{
    Error, ErrorKind, Instant, Result, Table,
    snapshot::{self, View},
    timeline::Action,
};

/// The partitions to compare with the catalog, by path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Partitions {
    /// The table is not partitioned.
    Unpartitioned,
    /// All partitions of the table. All other partitions in the catalog will be dropped.
    All(BTreeSet<String>),
    /// The partitions that commits since the last sync have changed.
    Since { present: BTreeSet<String>, dropped: BTreeSet<String> },
}

/// Finds the partitions that were changed since `synced`. Returns all partitions if commits since then may
/// have left the active timeline.
pub(super) async fn find(table: &Table, view: &View, synced: Option<Instant>) -> Result<Partitions> {
    if table.partition_fields().is_empty() {
        return Ok(Partitions::Unpartitioned);
    }
    let first = view.timeline.completed_commits().map(|entry| entry.instant).min();
    match (synced, first) {
        (Some(synced), Some(first)) if synced >= first => since(table, view, synced).await,
        _ => Ok(Partitions::All(existing(view))),
    }
}

/// Returns the partitions with a metadata file, except those whose file groups were all replaced. Their
/// folders remain until the next clean.
fn existing(view: &View) -> BTreeSet<String> {
    let mut replaced: BTreeMap<&str, bool> = BTreeMap::new();
    for group in view.groups.values() {
        let all = replaced.entry(&*group.partition).or_insert(true);
        *all &= group.replaced_at.is_some();
    }
    let gone = |path: &&String| replaced.get(path.as_str()).copied().unwrap_or(false);
    view.partitions.iter().filter(|path| !gone(path)).cloned().collect()
}

/// Reads the commits and cleans since `synced`.
async fn since(table: &Table, view: &View, synced: Instant) -> Result<Partitions> {
    let (store, layout) = (table.context().store(), table.context().layout());
    let mut written: BTreeMap<String, Instant> = BTreeMap::new();
    let mut dropped: BTreeMap<String, Instant> = BTreeMap::new();
    let mut touched = BTreeSet::new();
    for entry in view.timeline.completed_commits().filter(|entry| entry.instant > synced) {
        let commit = snapshot::read_commit(store, layout, entry).await?;
        for (path, stats) in &commit.partition_to_write_stats {
            touched.insert(path.clone());
            if stats.iter().any(|stat| stat.path.is_some()) {
                written.insert(path.clone(), entry.instant);
            }
        }
        let operation = commit.operation_type.as_deref().unwrap_or_default().to_ascii_uppercase();
        for path in commit.partition_to_replace_file_ids.keys() {
            touched.insert(path.clone());
            if matches!(
                operation.as_str(),
                "DELETE_PARTITION" | "INSERT_OVERWRITE" | "INSERT_OVERWRITE_TABLE"
            ) {
                dropped.insert(path.clone(), entry.instant);
            }
        }
    }
    if !touched.is_empty() {
        for clean in view.timeline.completed(Action::Clean) {
            let Some(result) = snapshot::read_clean(store, layout, clean).await? else { continue };
            let results = result.partition_metadata.iter();
            for (name, _) in results.filter(|(_, result)| result.is_partition_deleted == Some(true)) {
                let latest = dropped.entry(name.clone()).or_insert(clean.instant);
                *latest = (*latest).max(clean.instant);
            }
        }
    }
    let is_dropped = |path: &String| match (dropped.get(path), written.get(path)) {
        (Some(dropped), Some(written)) => dropped > written,
        (Some(_), None) => true,
        (None, _) => false,
    };
    let (dropped, present) = touched.into_iter().partition(is_dropped);
    Ok(Partitions::Since { present, dropped })
}

/// Returns the catalog's values for a partition.
///
/// # Errors
/// [`ErrorKind::InvalidDefinition`], naming the path, if it does not contain one value for each partition
/// field.
pub(super) fn values(table: &Table, options: &SyncOptions, path: &str) -> Result<Vec<String>> {
    let fields = table.partition_fields();
    // A folder is `column=value`, or only the value.
    let value = |part: &str| part.split_once('=').map_or(part, |(_, value)| value).to_owned();
    let parts = || path.split('/').map(value);
    let values: Vec<String> = match rule(table, options) {
        PartitionValues::SinglePart => vec![path.replace('/', "-")],
        PartitionValues::HiveStyle => {
            // Hudi takes the text after the first equals sign.
            path.split_once('=').map(|(_, value)| value.to_owned()).into_iter().collect()
        }
        PartitionValues::MultiPart => parts().collect(),
        PartitionValues::SlashEncodedDay => encoded(&parts().collect::<Vec<_>>(), 3).into_iter().collect(),
        PartitionValues::SlashEncodedHour => encoded(&parts().collect::<Vec<_>>(), 4).into_iter().collect(),
    };
    if values.len() == fields.len() && values.iter().all(|value| !value.is_empty()) {
        return Ok(values);
    }
    Err(Error::new(
        ErrorKind::InvalidDefinition,
        "the partition's path does not contain one value for each partition field; choose other partition values",
    )
    .with_context("partition", path)
    .with_context("partition fields", fields.join(", ")))
}

/// Formats three numbers as a day, `2026-03-01`, or four numbers as an hour, `2026-03-01-07`.
fn encoded(parts: &[String], length: usize) -> Option<String> {
    let (year, rest) = parts.split_first()?;
    let numbers: Vec<i8> = rest.iter().map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let date = |month, day| Date::new(year.parse().ok()?, month, day).ok();
    match numbers.as_slice() {
        [month, day] if length == 3 => Some(date(*month, *day)?.to_string()),
        [month, day, hour @ 0..=23] if length == 4 => Some(format!("{}-{hour:02}", date(*month, *day)?)),
        _ => None,
    }
}
