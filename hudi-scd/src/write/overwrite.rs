//! Overwriting: whole partitions get other rows. The old file groups stay for reads of the past, and the commit, a
//! replacecommit, says that new ones took their place.
//!
//! Which partitions differ from what they are to be is known when all rows were looked up. Until then every partition
//! that the input has rows of counts as one that gets them ([`tag`]); [`Tally::settle`] takes the others out again.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::RecordBatch;
use futures::Stream;

use super::{
    at_hand,
    changeset::Changeset,
    commit::{Operation, Replaced},
    incoming::{Incoming, Intent},
    report::CommitReport,
    tag::{self, Change, Copies, Edit, Tagged, Verdict},
};
use crate::{
    Result,
    index::{self, IndexedFile, Wanted},
    table::Table,
    view::View,
};

/// What of the table gets other rows.
#[derive(Debug)]
pub(super) struct Overwrite {
    pub(super) operation: Operation,
    pub(super) target: Target,
}

/// Which partitions get other rows, besides those that the input has rows of.
#[derive(Debug)]
pub(super) enum Target {
    OfRows,
    All,
    Named(Vec<String>),
}

impl Table {
    /// Gives the partitions that the input has rows of these rows and no others; an unpartitioned table is one
    /// partition. What they held goes, whatever its ordering values, and the input is not late against deletions: it
    /// is a restatement. A key that is stored in another partition moves from there. (Hudi's own insert overwrite does
    /// not look there, and leaves the key in two places.)
    ///
    /// Of several rows of a key in the input one counts, as for [`Table::upsert`]. (Hudi's own insert overwrite keeps them
    /// all, unless `hoodie.combine.before.insert` is set.) A key that was stored more than once counts once. A partition that holds just these
    /// rows already is left as it is; if all do, there is no commit.
    ///
    /// The commit is a replacecommit: reads of the past see the old rows as long as they are retained.
    ///
    /// # Errors
    /// As [`Table::upsert`].
    pub async fn insert_overwrite(&self, batches: &[RecordBatch]) -> Result<CommitReport> {
        self.insert_overwrite_stream(at_hand(batches)).await
    }

    /// [`Table::insert_overwrite`] of a stream of batches; see [`Table::upsert_stream`].
    ///
    /// # Errors
    /// As [`Table::upsert`], and what the stream says.
    pub async fn insert_overwrite_stream(
        &self,
        rows: impl Stream<Item = Result<RecordBatch>> + Send,
    ) -> Result<CommitReport> {
        let overwrite = Overwrite { operation: Operation::InsertOverwrite, target: Target::OfRows };
        self.write_as(rows, Intent::Overwrite, Some(overwrite)).await
    }

    /// Gives the table these rows and no others, as [`Table::insert_overwrite`] of every partition there is.
    ///
    /// # Errors
    /// As [`Table::upsert`].
    pub async fn insert_overwrite_table(&self, batches: &[RecordBatch]) -> Result<CommitReport> {
        self.insert_overwrite_table_stream(at_hand(batches)).await
    }

    /// [`Table::insert_overwrite_table`] of a stream of batches; see [`Table::upsert_stream`].
    ///
    /// # Errors
    /// As [`Table::upsert`], and what the stream says.
    pub async fn insert_overwrite_table_stream(
        &self,
        rows: impl Stream<Item = Result<RecordBatch>> + Send,
    ) -> Result<CommitReport> {
        let overwrite = Overwrite { operation: Operation::InsertOverwriteTable, target: Target::All };
        self.write_as(rows, Intent::Overwrite, Some(overwrite)).await
    }

    /// Deletes every row of partitions, given by their paths below the table, as in `day=2025-01-01`. A path without
    /// rows is left as it is.
    ///
    /// # Errors
    /// As [`Table::upsert`].
    pub async fn delete_partitions<P: Into<String>>(
        &self,
        partitions: impl IntoIterator<Item = P>,
    ) -> Result<CommitReport> {
        let target = Target::Named(partitions.into_iter().map(Into::into).collect());
        let overwrite = Overwrite { operation: Operation::DeletePartition, target };
        self.write_as(at_hand(&[]), Intent::Overwrite, Some(overwrite)).await
    }
}

/// What was counted of each partition.
#[derive(Debug, Default)]
pub(super) struct Tally {
    partitions: BTreeMap<String, Counts>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    /// Whether the input has rows of it, if only deletions.
    is_target: bool,
    /// Rows that it is to have.
    rows: u64,
    /// Those of them that it has already.
    same: u64,
    /// Its stored rows whose keys are in the input.
    known: u64,
}

/// Looks every key up: each row is new to its partition, and leaves the one where its key is stored.
pub(super) async fn tag(
    table: &Table,
    view: &View,
    incoming: &Incoming,
    tally: &mut Tally,
    report: &mut CommitReport,
) -> Result<Tagged> {
    let wanted = Wanted { keys: incoming.keys.clone(), ordering: None };
    let (files, found) = match incoming.len() {
        0 => (index::latest_files(table, view).await?, Vec::new()),
        _ => index::find(table, view, &wanted).await?,
    };
    let mut tagged = Tagged::default();
    let mut stored = vec![false; incoming.len()];
    let mut judged = Vec::with_capacity(found.len());
    for hits in found {
        let verdicts = tag::judge(table, &files[hits.file], incoming, &hits).await?;
        judged.push((hits, verdicts));
    }
    let mut copies = Copies::of(incoming, &files, &judged);
    for (hits, verdicts) in &judged {
        let partition = files[hits.file].group.partition.as_str();
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
    Ok(tagged)
}

impl Tally {
    fn of(&mut self, partition: &str) -> &mut Counts {
        self.partitions.entry(partition.to_owned()).or_default()
    }

    /// Leaves alone what is as it is to be, and names the file groups that are replaced.
    pub(super) fn settle(
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
            if targets.contains(&file.group.partition) {
                replaced.entry(file.group.partition).or_default().push(file.group.file_id);
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
