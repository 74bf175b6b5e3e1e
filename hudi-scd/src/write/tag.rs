//! Tagging: finds the location of each incoming key, and decides whether the incoming row changes anything
//! there.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashMap, HashSet},
};

use arrow::{
    array::{Array, RecordBatch, make_comparator},
    compute::SortOptions,
    datatypes::SchemaRef,
};
use object_store::path::Path;

use super::{
    collision,
    incoming::{Incoming, Intent},
    report::CommitReport,
    tombstones::{Deleted, Tombstones},
};
use crate::{
    Error, ErrorKind, Result,
    base_file::{OpenFile, conform_stored},
    concurrent::{blocking, ordered},
    index::{self, FileHits, IndexedFile, Wanted},
    schema,
    table::Table,
    view::View,
};

/// The change of a stored row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// The incoming row replaces it.
    Replace(u32),
    /// It is removed: deleted, or moved away.
    Drop,
}

/// A change of the row at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edit {
    pub(crate) position: u64,
    pub(crate) change: Change,
}

/// The changes of a write.
#[derive(Debug, Default)]
pub(crate) struct Tagged {
    /// The files of the latest snapshot.
    pub(crate) files: Vec<IndexedFile>,
    /// Changes of stored rows, by the index of the file, then by position.
    pub(crate) edits: BTreeMap<usize, Vec<Edit>>,
    /// Incoming rows that are new to their partition, by partition path.
    pub(crate) new_rows: BTreeMap<String, Vec<u32>>,
    /// Keys that this write deletes.
    pub(crate) deleted: Deleted,
}

/// Looks up every key and decides its change.
pub(crate) async fn tag(
    table: &Table,
    view: &View,
    incoming: &Incoming,
    tombstones: &mut Tombstones,
    report: &mut CommitReport,
) -> Result<Tagged> {
    let mut tagged = Tagged::default();
    if incoming.len() == 0 {
        return Ok(tagged);
    }
    let ordering = table.inner.properties.stored_ordering(&incoming.schema);
    let has_ordering = ordering.is_some();
    let wanted = Wanted { keys: incoming.keys.clone(), ordering };
    let (files, found) = index::find(table, view, &wanted).await?;
    tagged.files = files;
    collision::check_stored(table, incoming, &tagged.files, &found).await?;

    let stored: HashSet<u32> = found.iter().flat_map(|file| file.hits.iter().map(|hit| hit.key)).collect();
    if incoming.intent == Intent::Insert {
        report.unchanged += stored.len() as u64;
    } else {
        let judged = found.into_iter().map(|hits| {
            let file = &tagged.files[hits.file];
            async move {
                let verdicts = judge(table, file, incoming, &hits).await?;
                Ok((hits, verdicts))
            }
        });
        let verdicts: Vec<(FileHits, Vec<Verdict>)> =
            ordered(table.inner.options.parallelism, judged).await?;
        let mut copies = Copies::of(incoming, &tagged.files, &verdicts);
        for (hits, verdicts) in &verdicts {
            apply(&mut tagged, incoming, hits, verdicts, &mut copies, report);
        }
    }

    let new: Vec<u32> = (0..incoming.len() as u32).filter(|row| !stored.contains(row)).collect();
    let deletions = match &incoming.ordering {
        Some(ordering) if has_ordering => {
            tombstones.compare(table, view, &incoming.keys, ordering, &new).await?
        }
        _ => HashMap::new(),
    };
    for row in new {
        let deletion = deletions.get(&row).copied();
        if incoming.is_delete(row as usize) {
            match &incoming.ordering {
                // The row that it deletes may arrive late; the tombstone recorded here excludes it.
                Some(ordering)
                    if has_ordering
                        && !incoming.lacks_ordering(row as usize)
                        && deletion.is_none_or(Ordering::is_gt) =>
                {
                    report.remembered += 1;
                    tagged.deleted.push(incoming.keys.value(row as usize), Some((ordering, row as usize)));
                }
                _ => report.unchanged += 1,
            }
        } else if deletion == Some(Ordering::Less) {
            report.late += 1;
        } else {
            report.inserted += 1;
            let partition = incoming.partitions.path(row as usize).to_owned();
            tagged.new_rows.entry(partition).or_default().push(row);
        }
    }
    Ok(tagged)
}

/// The decision about an incoming row whose key is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Wins,
    Late,
    Unchanged,
}

pub(super) async fn judge(
    table: &Table,
    file: &IndexedFile,
    incoming: &Incoming,
    hits: &FileHits,
) -> Result<Vec<Verdict>> {
    let unordered =
        || Error::new(ErrorKind::Corrupt, "stored and incoming ordering values cannot be compared");
    let mut verdicts = Vec::with_capacity(hits.hits.len());
    // Hits whose rows must be compared completely.
    let mut doubtful: Vec<usize> = Vec::new();
    let compare = match (&incoming.ordering, &hits.ordering) {
        (Some(incoming), Some(stored)) => Some(
            make_comparator(incoming, stored, SortOptions::default())
                .map_err(|cause| unordered().with_context("file", &file.path).with_source(cause))?,
        ),
        _ => None,
    };
    for (index, hit) in hits.hits.iter().enumerate() {
        let order = match &compare {
            Some(compare) if !incoming.lacks_ordering(hit.key as usize) => compare(hit.key as usize, index),
            _ => Ordering::Equal,
        };
        let is_null = hits.ordering.as_ref().is_some_and(|stored| stored.is_null(index));
        verdicts.push(if order == Ordering::Less && !is_null { Verdict::Late } else { Verdict::Wins });
        if order == Ordering::Equal && !incoming.is_delete(hit.key as usize) {
            doubtful.push(index);
        }
    }
    if !doubtful.is_empty() {
        let open = OpenFile::open(table.store(), &file.path).await?;
        let (path, schema, rows) = (file.path.clone(), incoming.schema.clone(), incoming.rows.clone());
        let pairs: Vec<(u64, u32)> =
            doubtful.iter().map(|index| (hits.hits[*index].position, hits.hits[*index].key)).collect();
        let equal = blocking(move || equal_rows(open, &path, &schema, &rows, &pairs)).await?;
        for (index, equal) in doubtful.into_iter().zip(equal) {
            if equal {
                verdicts[index] = Verdict::Unchanged;
            }
        }
    }
    Ok(verdicts)
}

/// Returns `true` for each position whose stored row equals the incoming row beside it.
fn equal_rows(
    open: OpenFile,
    path: &Path,
    schema: &SchemaRef,
    rows: &RecordBatch,
    pairs: &[(u64, u32)],
) -> Result<Vec<bool>> {
    let failed = |cause| {
        Error::new(ErrorKind::Corrupt, "stored and incoming rows cannot be compared")
            .with_context("file", path)
            .with_source(cause)
    };
    let positions: Vec<u64> = pairs.iter().map(|(position, _)| *position).collect();
    let mut equal = vec![true; pairs.len()];
    let mut start = 0;
    for batch in open.read(&|name| !schema::is_meta_column(name), Some(&positions))? {
        let stored = conform_stored(&batch?, schema, path)?;
        for (field, stored) in schema.fields().iter().zip(stored.columns()) {
            // The marker is not a value of the row: a row that is marked as not deleted is unchanged.
            if field.name() == schema::IS_DELETED_COLUMN {
                continue;
            }
            let Some(column) = rows.column_by_name(field.name()) else { continue };
            let compare = make_comparator(stored, column, SortOptions::default()).map_err(failed)?;
            for row in 0..stored.len() {
                let pair = start + row;
                equal[pair] = equal[pair] && compare(row, pairs[pair].1 as usize).is_eq();
            }
        }
        start += stored.num_rows();
    }
    Ok(equal)
}

/// Keys that are stored more than once. As in Hudi each copy is updated in place, or deleted. Copies in other
/// partitions are removed, like rows that move, and a row that moves is inserted once.
#[derive(Debug, Default)]
pub(super) struct Copies {
    /// `true` for a key whose incoming row already has a location: a copy that stays in its partition, or one
    /// that moved.
    placed: HashMap<u32, bool>,
    counted: HashSet<u32>,
}

impl Copies {
    pub(super) fn of(
        incoming: &Incoming,
        files: &[IndexedFile],
        verdicts: &[(FileHits, Vec<Verdict>)],
    ) -> Self {
        let mut seen = HashSet::new();
        let mut copies = Self::default();
        for hit in verdicts.iter().flat_map(|(hits, _)| &hits.hits) {
            if !seen.insert(hit.key) {
                copies.placed.insert(hit.key, false);
            }
        }
        if !copies.placed.is_empty() {
            for (hits, _) in verdicts {
                let partition = files[hits.file].group.partition.as_str();
                for hit in &hits.hits {
                    if let Some(placed) = copies.placed.get_mut(&hit.key) {
                        let row = hit.key as usize;
                        *placed |= !incoming.is_delete(row) && incoming.partitions.path(row) == partition;
                    }
                }
            }
        }
        copies
    }

    /// Returns `true` if a row that leaves a partition must be inserted in its own; only one of several
    /// copies is.
    fn place(&mut self, key: u32) -> bool {
        self.placed.get_mut(&key).is_none_or(|placed| !std::mem::replace(placed, true))
    }

    /// Returns 1 for the first occurrence of a key, which counts in the report, and 0 for others.
    pub(super) fn count(&mut self, key: u32) -> u64 {
        u64::from(!self.placed.contains_key(&key) || self.counted.insert(key))
    }
}

fn apply(
    tagged: &mut Tagged,
    incoming: &Incoming,
    hits: &FileHits,
    verdicts: &[Verdict],
    copies: &mut Copies,
    report: &mut CommitReport,
) {
    let partition = tagged.files[hits.file].group.partition.clone();
    let mut edits = Vec::new();
    for (index, (hit, verdict)) in hits.hits.iter().zip(verdicts).enumerate() {
        let row = hit.key as usize;
        let count = copies.count(hit.key);
        let change = match verdict {
            Verdict::Late => {
                report.late += count;
                continue;
            }
            Verdict::Unchanged => {
                report.unchanged += count;
                continue;
            }
            Verdict::Wins if incoming.is_delete(row) => {
                report.deleted += count;
                // A delete without an ordering value takes the row's.
                let ordering = match &incoming.ordering {
                    Some(ordering) if ordering.is_valid(row) => Some((ordering, row)),
                    _ => hits.ordering.as_ref().map(|ordering| (ordering, index)),
                };
                tagged.deleted.push(incoming.keys.value(row), ordering);
                Change::Drop
            }
            Verdict::Wins if incoming.partitions.path(row) == partition => {
                report.updated += count;
                Change::Replace(hit.key)
            }
            Verdict::Wins => {
                report.moved += count;
                if copies.place(hit.key) {
                    let target = incoming.partitions.path(row).to_owned();
                    tagged.new_rows.entry(target).or_default().push(hit.key);
                }
                Change::Drop
            }
        };
        edits.push(Edit { position: hit.position, change });
    }
    if !edits.is_empty() {
        tagged.edits.insert(hits.file, edits);
    }
}
