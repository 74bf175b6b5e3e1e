//! [`prune`]: removes old runs from a journal.

use std::fmt;

use futures::{StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use super::{ActiveRun, Claim, Entry, Journal, RunCursor, RunEntry, RunResult, Standing};
use crate::{ErrorKind, Result};

/// The runs that [`prune`] removes.
#[derive(Clone, Debug)]
#[must_use]
pub struct Prune {
    before: Timestamp,
    failed: bool,
    dry_run: bool,
}

impl Prune {
    /// Removes finished runs that began and ended before this time.
    pub fn before(time: Timestamp) -> Self {
        Self { before: time, failed: false, dry_run: false }
    }

    /// Removes failed runs, too, if the journal has the ending of each of their statements. Default: `false`, because a failed run can
    /// be resumed.
    pub fn with_failed(mut self, failed: bool) -> Self {
        self.failed = failed;
        self
    }

    /// Removes nothing, and reports what would be removed. Default: `false`.
    pub fn with_dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }
}

/// The runs that [`prune`] removed, and the old ones that it kept. Newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pruned {
    /// The names of the removed runs.
    pub removed: Vec<String>,
    /// The old runs that were kept.
    pub kept: Vec<Kept>,
}

/// An old run that [`prune`] kept.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Kept {
    /// The name of the run.
    pub run: String,
    /// The reason.
    pub why: Keep,
}

/// A reason to keep an old run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Keep {
    /// A process is at the run.
    Active,
    /// The run was begun or ended after the time up to which runs are removed.
    Recent,
    /// The process that was at the run died, or was stopped: `resume` goes on with the run.
    Unfinished,
    /// A step failed: `resume` goes on with the run.
    Failed,
    /// The journal does not have the ending of a statement.
    Unknown,
}

impl Keep {
    /// Returns the reason as a word.
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

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The number of runs that are removed at a time: the first and the greatest, each twice the one before. A file is rewritten for each
/// batch, so that few batches are cheap; on object storage the lease of each run is renewed until its batch is done.
const BATCHES: (usize, usize) = (100, 1_600);
/// The number of runs that are read at the same time.
const CONCURRENCY: usize = 16;

/// Removes old runs from a journal. A run is removed only if it finished, and the journal has the ending of each of its statements; runs
/// that are active, unfinished or unknown are kept and reported.
///
/// Each run is claimed while it is removed, so that no process can begin it meanwhile. Runs that are not older than the limit are not
/// read.
///
/// Dropping the future, or an error, leaves some of the runs removed. A further call removes the rest.
///
/// # Errors
/// Those of the journal.
pub async fn prune(journal: &dyn Journal, prune: &Prune) -> Result<Pruned> {
    let mut pruned = Pruned::default();
    if !prune.dry_run {
        // Finishes what an earlier call left.
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
        let (mut removed, mut claims) = (Vec::new(), Vec::new());
        for look in looks {
            match look {
                Look::Keep(kept) => pruned.kept.push(kept),
                Look::Remove(entry, claim) => {
                    removed.push(entry);
                    claims.push(claim);
                }
                Look::Gone => {}
            }
        }
        if !prune.dry_run && !removed.is_empty() {
            journal.remove_runs(&removed).await?;
        }
        drop(claims);
        pruned.removed.extend(removed.into_iter().map(|entry| entry.run));
    }
    Ok(pruned)
}

enum Look {
    Keep(Kept),
    /// The run, and its claim unless nothing is to be removed.
    Remove(RunEntry, Option<ActiveRun>),
    Gone,
}

/// Claims and reads a run that may be removed.
async fn look(journal: &dyn Journal, prune: &Prune, entry: RunEntry) -> Result<Look> {
    let keep = |why| Ok(Look::Keep(Kept { run: entry.run.clone(), why }));
    if let Some(why) = prune.keeps(&entry, &[]) {
        return keep(why);
    }
    let (pipeline, run) = (entry.begun.pipeline.clone(), entry.run.clone());
    let claim = match prune.dry_run {
        true => None,
        false => match journal.claim(&Claim { pipeline, run, since: entry.begun_at }, false).await {
            Ok(active) => Some(active),
            Err(error) if error.kind() == ErrorKind::Overlap => return keep(Keep::Active),
            Err(error) => return Err(error),
        },
    };
    // Read again behind the claim: the run may have been begun anew since it was listed.
    let steps = journal.run(&entry.run).await?;
    let Some(now) = journal.run_entry(&entry.run).await? else { return Ok(Look::Gone) };
    let now = RunEntry { is_active: now.is_active && claim.is_none(), ..now };
    match prune.keeps(&now, &steps) {
        Some(why) => keep(why),
        None => Ok(Look::Remove(now, claim)),
    }
}

impl Prune {
    fn keeps(&self, run: &RunEntry, steps: &[Entry]) -> Option<Keep> {
        let is_open = |entry: &Entry| matches!(entry.standing, Standing::Open | Standing::Unknown(_));
        let last = run.ended.map_or(run.begun_at, |(at, _)| at.max(run.begun_at));
        let last = steps.iter().map(|entry| entry.intended_at).fold(last, Timestamp::max);
        // Statements that are submitted without a pipeline have no beginning and no end of a run.
        let has_pipeline = !run.begun.pipeline.is_empty();
        match run.ended {
            _ if run.is_active => Some(Keep::Active),
            _ if last >= self.before => Some(Keep::Recent),
            _ if steps.iter().any(is_open) => Some(Keep::Unknown),
            Some((_, RunResult::Finished)) => None,
            Some((_, RunResult::Unknown)) => Some(Keep::Unknown),
            Some((_, RunResult::Failed)) if self.failed => None,
            Some((_, RunResult::Failed)) => Some(Keep::Failed),
            Some((_, RunResult::Stopped)) => Some(Keep::Unfinished),
            None if has_pipeline => Some(Keep::Unfinished),
            None => None,
        }
    }
}
