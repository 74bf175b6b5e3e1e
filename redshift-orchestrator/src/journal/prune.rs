//! [`prune`]: removes old runs from a journal.

use std::{collections::BTreeSet, fmt};

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use super::{ActiveRun, Claim, Entry, Journal, RunCursor, RunEntry, RunOutcome};
use crate::{ErrorKind, Result};

/// Options of [`prune`]: the runs to remove.
#[derive(Clone, Debug)]
#[must_use]
pub struct Prune {
    before: Timestamp,
    failed: bool,
    dry_run: bool,
}

impl Prune {
    /// Selects finished runs that were begun, last resumed and ended before the cutoff `time`.
    pub fn before(time: Timestamp) -> Self {
        Self { before: time, failed: false, dry_run: false }
    }

    /// Also selects failed runs, if the journal contains the outcome of each of their statements. Default:
    /// `false`, because a failed run can be resumed.
    pub fn with_failed(mut self, failed: bool) -> Self {
        self.failed = failed;
        self
    }

    /// Returns the runs that would be removed without removing them. Default: `false`.
    pub fn with_dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }
}

/// Result of [`prune`]. Both lists begin with the newest run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pruned {
    /// Names of the removed runs.
    pub removed: Vec<String>,
    /// Runs that began before the cutoff and were kept.
    pub kept: Vec<KeptRun>,
}

/// An old run that [`prune`] kept.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeptRun {
    /// Name of the run.
    pub run: String,
    /// Reason why the run was kept.
    pub reason: KeepReason,
}

/// Reason why [`prune`] kept a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeepReason {
    /// A process is running the run.
    Active,
    /// The run is too recent: its beginning, last submit or end is newer than the cutoff.
    Recent,
    /// The process that was running the run died or was stopped. The command `resume` continues the run.
    Unfinished,
    /// A step failed. The command `resume` continues the run.
    Failed,
    /// The journal does not contain the outcome of a statement.
    Unknown,
}

impl KeepReason {
    /// Returns a short name for the reason.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Recent => "recent",
            Self::Unfinished => "unfinished",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for KeepReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Number of runs in the first batch, and the maximum. Each batch is twice as large as the previous one.
/// Large batches are cheaper for a file, which is rewritten for each batch. Small batches are better on
/// object storage, where the leases of all runs of a batch are renewed until the batch is finished.
const BATCHES: (usize, usize) = (100, 1_600);
/// Number of runs that are read concurrently.
const CONCURRENCY: usize = 16;

/// Removes old runs from a journal. A run is removed only if it finished and the journal contains the outcome
/// of each of its statements. Other old runs are kept and returned in [`Pruned::kept`].
///
/// Each run is claimed during its removal, so that no process can begin or resume it. A statement without a
/// pipeline needs no claim: if its intent is recorded before its run is removed, the run is kept. Runs that
/// first began after the cutoff are not read.
///
/// If the future is dropped or an error occurs, some runs may already be removed. The next call removes the
/// others.
///
/// # Errors
/// Returns the errors of the journal.
pub async fn prune(journal: &dyn Journal, prune: &Prune) -> Result<Pruned> {
    let mut pruned = Pruned::default();
    if !prune.dry_run {
        // Finishes an interrupted removal of an earlier call.
        journal.remove_runs(&[]).await?;
    }
    let mut after = Some(RunCursor::before(prune.before));
    let (mut batch, greatest) = BATCHES;
    while let Some(cursor) = after {
        let page = journal.runs(batch, Some(&cursor)).await?;
        batch = greatest.min(2 * batch);
        after = page.next;
        let looks = stream::iter(page.runs).map(|entry| look(journal, prune, entry)).buffered(CONCURRENCY);
        let looks: Vec<_> = looks.try_collect().await?;
        let selected: Vec<_> = looks.iter().filter_map(Look::selected).cloned().collect();
        let removed: BTreeSet<_> = match prune.dry_run || selected.is_empty() {
            true => selected.into_iter().map(|entry| entry.run).collect(),
            false => journal.remove_runs(&selected).await?.into_iter().collect(),
        };
        for look in looks {
            match look {
                Look::Keep(kept) => pruned.kept.push(kept),
                Look::Remove(entry, claim) => {
                    drop(claim);
                    match removed.contains(&entry.run) {
                        true => pruned.removed.push(entry.run),
                        false => pruned.kept.push(KeptRun { run: entry.run, reason: KeepReason::Recent }),
                    }
                }
                Look::Gone => {}
            }
        }
    }
    Ok(pruned)
}

enum Look {
    Keep(KeptRun),
    /// The run to remove, with its claim. A dry run claims no runs.
    Remove(Box<RunEntry>, Option<ActiveRun>),
    Gone,
}

impl Look {
    fn selected(&self) -> Option<&RunEntry> {
        match self {
            Self::Remove(entry, _) => Some(entry),
            Self::Keep(_) | Self::Gone => None,
        }
    }
}

/// Decides whether a run is removed. Claims the run if it is.
async fn look(journal: &dyn Journal, prune: &Prune, entry: RunEntry) -> Result<Look> {
    let keep = |reason| Ok(Look::Keep(KeptRun { run: entry.run.clone(), reason }));
    if let Some(reason) = prune.keeps(&entry, &[]) {
        return keep(reason);
    }
    let (pipeline, run) = (entry.begun.pipeline.clone(), entry.run.clone());
    let claim = match prune.dry_run {
        true => None,
        false => match journal.claim(&Claim::new(pipeline, run, entry.begun_at)).await {
            Ok(active) => Some(active),
            Err(error) if error.kind() == ErrorKind::Overlap => return keep(KeepReason::Active),
            Err(error) => return Err(error),
        },
    };
    // The run may have been resumed since it was listed, so it is read again after it was claimed. Its entry
    // is read before its steps: a step that is recorded in between changes the entry, which then does not
    // match when the run is removed.
    let now = journal.run_entry(&entry.run).await?;
    let steps = journal.entries(&entry.run).await?;
    let now = now.map(|now| RunEntry { is_active: now.is_active && claim.is_none(), ..now });
    let look = match now.map(|now| (prune.keeps(&now, &steps), now)) {
        None => Look::Gone,
        Some((None, now)) => return Ok(Look::Remove(Box::new(now), claim)),
        Some((Some(reason), now)) => Look::Keep(KeptRun { run: now.run, reason }),
    };
    if let Some(claim) = claim {
        claim.release().await;
    }
    Ok(look)
}

impl Prune {
    fn keeps(&self, run: &RunEntry, steps: &[Entry]) -> Option<KeepReason> {
        let last = run.ended.map_or(run.begun_at, |(at, _)| at.max(run.begun_at));
        let last = steps.iter().map(|entry| entry.intended_at).fold(last, Timestamp::max);
        // A run without a pipeline has no `run-begun` and `run-ended` records.
        let has_pipeline = !run.begun.pipeline.is_empty();
        match run.ended {
            _ if run.is_active => Some(KeepReason::Active),
            _ if last >= self.before => Some(KeepReason::Recent),
            _ if steps.iter().any(|entry| entry.state.is_unsettled()) => Some(KeepReason::Unknown),
            Some((_, RunOutcome::Finished)) => None,
            Some((_, RunOutcome::Unknown)) => Some(KeepReason::Unknown),
            Some((_, RunOutcome::Failed)) if self.failed => None,
            Some((_, RunOutcome::Failed)) => Some(KeepReason::Failed),
            Some((_, RunOutcome::Stopped)) => Some(KeepReason::Unfinished),
            None if has_pipeline => Some(KeepReason::Unfinished),
            None => None,
        }
    }
}
