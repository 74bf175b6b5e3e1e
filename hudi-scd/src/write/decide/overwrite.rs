//! Replaces the rows of whole partitions. The old file groups are kept for reads of the past. The commit, a
//! replacecommit, records that the new file groups replaced them.
//!
//! It is only known which partitions change after all keys were looked up. Until then, every partition in the
//! input counts as replaced ([`tag`]). [`Tally::settle`] removes the unchanged ones.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    changeset::Changeset,
    lookup,
    tag::{self, Change, Copies, Edit, Judged, Tagged, Verdict},
};
use crate::{
    Result,
    context::Context,
    index::{self, IndexedFile},
    snapshot::View,
    write::{
        input::incoming::Incoming,
        operation_type::{OperationType, Replaced},
        report::{CommitReport, counted},
    },
};

/// The part of the table to overwrite.
#[derive(Debug)]
pub(crate) struct Overwrite {
    pub(crate) operation_type: OperationType,
    pub(crate) target: Target,
}

impl Overwrite {
    /// Overwrites the partitions in the input.
    pub(crate) fn of_rows() -> Self {
        Self { operation_type: OperationType::InsertOverwrite, target: Target::OfRows }
    }

    /// Overwrites all partitions.
    pub(crate) fn of_all() -> Self {
        Self { operation_type: OperationType::InsertOverwriteTable, target: Target::All }
    }

    /// Deletes the rows of these partitions.
    pub(crate) fn of_named(partitions: Vec<String>) -> Self {
        Self { operation_type: OperationType::DeletePartition, target: Target::Named(partitions) }
    }
}

/// The partitions to overwrite, in addition to those in the input.
#[derive(Debug)]
pub(crate) enum Target {
    OfRows,
    All,
    Named(Vec<String>),
}

/// The counts of one partition.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    partitions: BTreeMap<String, Counts>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    /// `true` if the input has rows of the partition, even if they are only deletions.
    is_target: bool,
    /// Number of the partition's rows after the write.
    rows: u64,
    /// Number of these rows that are already stored.
    same: u64,
    /// Number of the partition's stored rows whose keys are in the input.
    known: u64,
}

/// Looks up every key. Each row is treated as new in its partition, and removed from the partition where its
/// key is stored.
pub(crate) async fn tag(
    context: &Context,
    view: &View,
    incoming: &Arc<Incoming>,
    tally: &mut Tally,
    report: &mut CommitReport,
) -> Result<Tagged> {
    let (files, found) = match incoming.len() {
        0 => (index::latest_files(context, view).await?, Vec::new()),
        _ => lookup::find(context, view, incoming, None).await?,
    };
    let judged = tag::judge_all(context, &files, incoming, found).await?;
    let (rows, mut counts) = (incoming.clone(), std::mem::take(tally));
    let (tagged, counts) = counted(report, move |report| {
        let tagged = replace(&rows, files, &judged, &mut counts, report);
        Ok((tagged, counts))
    })
    .await?;
    *tally = counts;
    Ok(tagged)
}

fn replace(
    incoming: &Incoming,
    files: Vec<IndexedFile>,
    judged: &[Judged],
    tally: &mut Tally,
    report: &mut CommitReport,
) -> Tagged {
    let mut tagged = Tagged::default();
    let mut stored = vec![false; incoming.len()];
    let mut copies = Copies::of(incoming, &files, judged);
    for (hits, verdicts) in judged {
        let partition = &*files[hits.file].group.partition;
        let mut edits = Vec::new();
        for (hit, verdict) in hits.hits.iter().zip(verdicts) {
            let row = hit.key as usize;
            stored[row] = true;
            let stays = incoming.partitions.path(row) == partition;
            let count = copies.count(hit.key);
            let counts = tally.of(partition);
            counts.known += 1;
            if incoming.is_delete(row) {
                report.deleted += count;
            } else if !stays {
                report.moved += count;
            } else if *verdict == Verdict::Unchanged {
                counts.same += 1;
                report.unchanged += count;
            } else {
                report.updated += count;
            }
            if !stays || incoming.is_delete(row) {
                edits.push(Edit { position: hit.position, change: Change::Drop });
            }
        }
        if !edits.is_empty() {
            tagged.edits.insert(hits.file, edits);
        }
    }
    for (row, stored) in stored.into_iter().enumerate() {
        let partition = incoming.partitions.path(row);
        let counts = tally.of(partition);
        counts.is_target = true;
        match (incoming.is_delete(row), stored) {
            (true, true) => continue,
            (true, false) => {
                report.unchanged += 1;
                continue;
            }
            (false, true) => {}
            (false, false) => report.inserted += 1,
        }
        counts.rows += 1;
        tagged.new_rows.entry(partition.to_owned()).or_default().push(row as u32);
    }
    tagged.files = files;
    tagged
}

impl Tally {
    fn of(&mut self, partition: &str) -> &mut Counts {
        self.partitions.entry(partition.to_owned()).or_default()
    }

    /// Excludes unchanged partitions, and names the replaced file groups.
    pub(crate) fn settle(
        mut self,
        target: Target,
        changes: &mut Changeset,
        report: &mut CommitReport,
    ) -> Replaced {
        match target {
            Target::OfRows => {}
            Target::All => {
                for file in &changes.files {
                    self.of(&file.group.partition).is_target = true;
                }
            }
            Target::Named(partitions) => {
                for partition in partitions {
                    self.of(&partition).is_target = true;
                }
            }
        }
        let mut rows_in: BTreeMap<&str, u64> = BTreeMap::new();
        for file in &changes.files {
            *rows_in.entry(&file.group.partition).or_default() += file.footer.rows();
        }
        let mut targets: BTreeSet<String> = BTreeSet::new();
        for (partition, counts) in self.partitions {
            let stored = rows_in.get(partition.as_str()).copied().unwrap_or(0);
            let is_as_it_is_to_be = counts.rows == stored && counts.same == stored;
            if counts.is_target && !is_as_it_is_to_be {
                report.overwritten += stored.saturating_sub(counts.known);
                targets.insert(partition);
            }
        }
        changes.new_rows.retain(|partition, _| targets.contains(partition));

        let mut replaced = Replaced::new();
        let mut edits = std::mem::take(&mut changes.edits);
        let mut kept: Vec<IndexedFile> = Vec::new();
        for (index, file) in std::mem::take(&mut changes.files).into_iter().enumerate() {
            if targets.contains(&*file.group.partition) {
                let replaced = replaced.entry(file.group.partition.to_string()).or_default();
                replaced.push(file.group.file_id.to_string());
                continue;
            }
            if let Some(edits) = edits.remove(&index) {
                changes.edits.insert(kept.len(), edits);
            }
            kept.push(file);
        }
        changes.files = kept;
        replaced
    }
}
