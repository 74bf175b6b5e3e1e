//! Tagging: finds the location of each incoming key, and decides whether the incoming row changes anything
//! there.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use arrow::{
    array::{Array, RecordBatch, make_comparator},
    compute::SortOptions,
    datatypes::SchemaRef,
};
use object_store::path::Path;

use super::{collision, lookup};
use crate::{
    Error, ErrorKind, Result,
    base_file::{OpenFile, conform_stored},
    beside::tombstones::{Deleted, Tombstones},
    concurrent::{blocking, ordered},
    context::Context,
    index::{FileHits, IndexedFile},
    schema,
    snapshot::View,
    write::{
        input::incoming::{Incoming, Intent},
        report::{CommitReport, counted},
    },
};

/// The change of a stored row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// The incoming row replaces the stored row.
    Replace(u32),
    /// The stored row is removed, because it is deleted or moves away.
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
    /// Changes of stored rows, by the index of the file, ordered by position.
    pub(crate) edits: BTreeMap<usize, Vec<Edit>>,
    /// Incoming rows that are new to their partition, by partition path.
    pub(crate) new_rows: BTreeMap<String, Vec<u32>>,
    /// Keys that this write deletes.
    pub(crate) deleted: Deleted,
}

/// The stored rows in a file that have incoming keys, with the decision about each.
pub(crate) type Judged = (FileHits, Vec<Verdict>);

/// Looks up every key and decides its change.
pub(crate) async fn tag(
    context: &Context,
    view: &View,
    incoming: &Arc<Incoming>,
    tombstones: &mut Tombstones<'_>,
    report: &mut CommitReport,
) -> Result<Tagged> {
    if incoming.len() == 0 {
        return Ok(Tagged::default());
    }
    let ordering = context.properties().stored_ordering(&incoming.schema);
    let has_ordering = ordering.is_some();
    let (files, found) = lookup::find(context, view, incoming, ordering).await?;
    let found = collision::check_stored(context, incoming, &files, found).await?;
    let judged = match incoming.intent {
        Intent::Insert => found.into_iter().map(|hits| (hits, Vec::new())).collect(),
        _ => judge_all(context, &files, incoming, found).await?,
    };
    let rows = incoming.clone();
    let (mut tagged, new) =
        counted(report, move |report| Ok(change_stored(&rows, files, &judged, report))).await?;
    let deletions = match &incoming.ordering {
        Some(ordering) if has_ordering => {
            tombstones.compare(context, view, &incoming.keys, ordering, &new).await?
        }
        _ => HashMap::new(),
    };
    let rows = incoming.clone();
    counted(report, move |report| {
        add_new(&mut tagged, &rows, &new, &deletions, has_ordering, report);
        Ok(tagged)
    })
    .await
}

/// Returns the changes of stored rows, and the incoming rows whose keys are not stored.
fn change_stored(
    incoming: &Incoming,
    files: Vec<IndexedFile>,
    judged: &[Judged],
    report: &mut CommitReport,
) -> (Tagged, Vec<u32>) {
    let stored: HashSet<u32> =
        judged.iter().flat_map(|(hits, _)| hits.hits.iter().map(|hit| hit.key)).collect();
    let mut tagged = Tagged { files, ..Tagged::default() };
    if incoming.intent == Intent::Insert {
        report.unchanged += stored.len() as u64;
    } else {
        let mut copies = Copies::of(incoming, &tagged.files, judged);
        for (hits, verdicts) in judged {
            apply(&mut tagged, incoming, hits, verdicts, &mut copies, report);
        }
    }
    (tagged, (0..incoming.len() as u32).filter(|row| !stored.contains(row)).collect())
}

/// Adds the rows whose keys are not stored, unless a later deletion of their key is known.
fn add_new(
    tagged: &mut Tagged,
    incoming: &Incoming,
    new: &[u32],
    deletions: &HashMap<u32, Ordering>,
    has_ordering: bool,
    report: &mut CommitReport,
) {
    for &row in new {
        let deletion = deletions.get(&row).copied();
        if incoming.is_delete(row as usize) {
            match &incoming.ordering {
                // The row that the deletion refers to may arrive late. The tombstone recorded here excludes
                // it.
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
}

/// The decision about an incoming row whose key is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Wins,
    Late,
    Unchanged,
}

/// Compares the incoming rows with the stored ones, file by file.
pub(crate) async fn judge_all(
    context: &Context,
    files: &[IndexedFile],
    incoming: &Arc<Incoming>,
    found: Vec<FileHits>,
) -> Result<Vec<Judged>> {
    let judged = found.into_iter().map(|hits| judge(context, &files[hits.file], incoming.clone(), hits));
    ordered(context.calls_at_a_time(), judged).await
}

async fn judge(
    context: &Context,
    file: &IndexedFile,
    incoming: Arc<Incoming>,
    hits: FileHits,
) -> Result<Judged> {
    let path = file.path(context.layout())?;
    let (rows, of) = (incoming.clone(), path.clone());
    let compare = move || {
        let (verdicts, doubtful) = by_ordering(&rows, &hits, &of)?;
        Ok((hits, verdicts, doubtful))
    };
    let (hits, mut verdicts, doubtful) = blocking(compare).await?;
    if doubtful.is_empty() {
        return Ok((hits, verdicts));
    }
    let pairs: Vec<(u64, u32)> =
        doubtful.iter().map(|index| (hits.hits[*index].position, hits.hits[*index].key)).collect();
    let positions: Vec<u64> = pairs.iter().map(|(position, _)| *position).collect();
    let open = context.open_file(&path, file.version().bytes).await?;
    let columns = compared_columns(&incoming.rows);
    let (_admitted, open) = context.fetch_admitted(&open, None, &columns, Some(&positions)).await?;
    blocking(move || {
        let equal = equal_rows(&open, &incoming.schema, &incoming.rows, &pairs)?;
        for (index, equal) in doubtful.into_iter().zip(equal) {
            if equal {
                verdicts[index] = Verdict::Unchanged;
            }
        }
        Ok((hits, verdicts))
    })
    .await
}

/// Compares the ordering values. Returns the decisions, and the indexes of the hits whose rows must be
/// compared completely.
fn by_ordering(incoming: &Incoming, hits: &FileHits, path: &Path) -> Result<(Vec<Verdict>, Vec<usize>)> {
    let unordered =
        || Error::new(ErrorKind::Corrupt, "stored and incoming ordering values cannot be compared");
    let mut verdicts = Vec::with_capacity(hits.hits.len());
    let mut doubtful: Vec<usize> = Vec::new();
    let compare = match (&incoming.ordering, &hits.ordering) {
        (Some(incoming), Some(stored)) => Some(
            make_comparator(incoming, stored, SortOptions::default())
                .map_err(|cause| unordered().with_context("file", path).with_source(cause))?,
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
    Ok((verdicts, doubtful))
}

/// Selects the columns that determine if a row changes.
fn compared_columns(rows: &RecordBatch) -> impl Fn(&str) -> bool + use<> {
    let schema = rows.schema();
    move |name| !schema::is_meta_column(name) && schema.field_with_name(name).is_ok()
}

/// Returns `true` for each position whose stored row equals the corresponding incoming row.
fn equal_rows(
    open: &OpenFile,
    schema: &SchemaRef,
    rows: &RecordBatch,
    pairs: &[(u64, u32)],
) -> Result<Vec<bool>> {
    let path = open.path();
    let failed = |cause| {
        Error::new(ErrorKind::Corrupt, "stored and incoming rows cannot be compared")
            .with_context("file", path)
            .with_source(cause)
    };
    let positions: Vec<u64> = pairs.iter().map(|(position, _)| *position).collect();
    let mut equal = vec![true; pairs.len()];
    let mut start = 0;
    for batch in open.read(&compared_columns(rows), Some(&positions))? {
        let stored = conform_stored(&batch?, schema, path)?;
        for (field, stored) in schema.fields().iter().zip(stored.columns()) {
            // The marker is not part of a row's values. A row that is marked as not deleted counts as
            // unchanged.
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

/// Keys that are stored more than once. As in Hudi, each copy is updated in place or deleted. Copies in other
/// partitions are removed, like rows that move, and a row that moves is inserted only once.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    /// `true` for a key whose incoming row already has a location: it either replaced a copy that stays in
    /// its partition, or was already moved.
    placed: HashMap<u32, bool>,
    counted: HashSet<u32>,
}

impl Copies {
    pub(crate) fn of(incoming: &Incoming, files: &[IndexedFile], verdicts: &[Judged]) -> Self {
        let mut seen = HashSet::new();
        let mut copies = Self::default();
        for hit in verdicts.iter().flat_map(|(hits, _)| &hits.hits) {
            if !seen.insert(hit.key) {
                copies.placed.insert(hit.key, false);
            }
        }
        if !copies.placed.is_empty() {
            for (hits, _) in verdicts {
                let partition = &*files[hits.file].group.partition;
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

    /// Returns `true` if a row that leaves a partition must be inserted into its own partition. Of several
    /// copies, only one is inserted.
    fn place(&mut self, key: u32) -> bool {
        self.placed.get_mut(&key).is_none_or(|placed| !std::mem::replace(placed, true))
    }

    /// Returns 1 for the first occurrence of a key, which counts in the report, and 0 for later ones.
    pub(crate) fn count(&mut self, key: u32) -> u64 {
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
                // A delete without an ordering value uses that of the stored row.
                let ordering = match &incoming.ordering {
                    Some(ordering) if ordering.is_valid(row) => Some((ordering, row)),
                    _ => hits.ordering.as_ref().map(|ordering| (ordering, index)),
                };
                tagged.deleted.push(incoming.keys.value(row), ordering);
                Change::Drop
            }
            Verdict::Wins if incoming.partitions.path(row) == &*partition => {
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
