//! [`plan`]: the deletions of a clean, computed from a plain view of the table.

use std::{
    borrow::Borrow,
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};

use super::RetentionPolicy;
use crate::timeline::{
    Action, Instant, State,
    avro::{ActionInstant, CleanFileInfo, CleanPlan},
};

/// The plan's view of the timeline.
#[derive(Clone, Debug)]
pub struct TimelineView {
    /// The completed commits of the active timeline, oldest first.
    pub commits: Vec<CommitView>,
    /// The oldest commit that is not completed.
    pub earliest_pending: Option<Instant>,
    /// The commits that are protected.
    pub savepoints: Vec<SavepointView>,
    /// The earliest retained commit according to the last completed clean.
    pub last_earliest_to_retain: Option<Instant>,
    /// The current time. Only [`RetentionPolicy::Hours`] uses it.
    pub now: Timestamp,
    /// The zone of the timeline's instants.
    pub zone: TimeZone,
}

/// A completed commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitView {
    /// Its instant.
    pub instant: Instant,
    /// [`Action::Commit`] or [`Action::ReplaceCommit`].
    pub action: Action,
}

/// A savepoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SavepointView {
    /// The commit that it protects.
    pub instant: Instant,
    /// The names of the files that it protects.
    pub files: BTreeSet<String>,
}

/// The plan's view of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionView {
    /// Its path. Empty in an unpartitioned table.
    pub path: String,
    /// Its file groups, including replaced ones.
    pub groups: Vec<FileGroupView>,
    /// `true` if the partition contains files of commits that are not completed.
    pub has_pending_files: bool,
}

/// A file group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileGroupView {
    /// Its id.
    pub file_id: String,
    /// Its versions written by completed commits, in any order.
    pub slices: Vec<SliceView>,
    /// The completed replacecommit that replaced it.
    pub replaced_at: Option<Instant>,
}

/// A version of a file group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceView {
    /// The commit that wrote it.
    pub instant: Instant,
    /// The name of its file.
    pub file: String,
    /// The size of its file.
    pub bytes: u64,
}

/// The deletions of a clean. It is displayed as a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    policy: RetentionPolicy,
    earliest_to_retain: Option<CommitView>,
    last_completed: Option<Instant>,
    deletions: Vec<Deletion>,
    partitions_to_delete: Vec<String>,
    kept_files: usize,
    kept_bytes: u64,
}

/// A file that a clean would delete.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deletion {
    /// The path of its partition.
    pub partition: String,
    /// Its file group.
    pub file_id: String,
    /// The commit that wrote it.
    pub instant: Instant,
    /// Its name.
    pub file: String,
    /// Its size.
    pub bytes: u64,
}

/// The partitions where a clean can find anything to delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// No partition: the window has not moved.
    Nothing,
    /// The partitions that these completed commits wrote to, or where they replaced file groups.
    WrittenBy(Vec<Instant>),
    /// All partitions.
    Everything,
}

/// Returns the partitions to inspect before [planning](plan). Since the last clean, only partitions written
/// by commits that have left the window can contain anything to delete (Hudi's
/// `hoodie.cleaner.incremental.mode`).
///
/// After a savepoint was deleted, only a scan of all partitions finds the files that it protected. In that
/// case, pass a view without `last_earliest_to_retain`.
pub fn scope(policy: RetentionPolicy, timeline: &TimelineView) -> Scope {
    if matches!(policy, RetentionPolicy::FileVersions(_)) {
        return Scope::Everything;
    }
    let Some(earliest) = earliest_to_retain(policy, timeline) else { return Scope::Nothing };
    match timeline.last_earliest_to_retain {
        Some(last) if timeline.commits.iter().any(|commit| commit.instant == last) => {
            let left = timeline.commits.iter().map(|commit| commit.instant);
            // A version is deleted when a newer version becomes the last one before the window, that is, when
            // a commit leaves the window.
            let left: Vec<_> = left.filter(|instant| (last..earliest.instant).contains(instant)).collect();
            if left.is_empty() { Scope::Nothing } else { Scope::WrittenBy(left) }
        }
        _ => Scope::Everything,
    }
}

/// Computes the deletions of a clean by Hudi's rules (`CleanPlanner`), without performing them.
///
/// `partitions` contains the partitions of [`scope`], or more. Each is dropped before the next one is requested.
///
/// The rules for the window of commits or hours:
/// - the window begins at the n-th newest completed commit, or at the first commit of the last h hours; a
///   pending commit moves the beginning back to the last commit that completed before it;
/// - in each file group, the newest version and the newest version before the window are kept, and all older
///   versions are deleted;
/// - file groups that were replaced before the window are deleted completely;
/// - files protected by a savepoint are kept.
pub fn plan<P: Borrow<PartitionView>>(
    policy: RetentionPolicy,
    timeline: &TimelineView,
    partitions: impl IntoIterator<Item = P>,
) -> Plan {
    let window = earliest_to_retain(policy, timeline);
    let protected: BTreeSet<&str> =
        timeline.savepoints.iter().flat_map(|savepoint| savepoint.files.iter().map(String::as_str)).collect();
    let mut plan = Plan {
        policy,
        last_completed: timeline.commits.last().map(|commit| commit.instant),
        deletions: Vec::new(),
        partitions_to_delete: Vec::new(),
        kept_files: 0,
        kept_bytes: 0,
        earliest_to_retain: window,
    };
    let window = plan.earliest_to_retain.as_ref().map(|commit| commit.instant);
    for partition in partitions {
        let partition = partition.borrow();
        let mut is_empty = !partition.has_pending_files;
        for group in &partition.groups {
            let gone = gone(policy, window, group);
            for slice in &group.slices {
                if gone.contains(&slice.instant) && !protected.contains(slice.file.as_str()) {
                    plan.deletions.push(Deletion {
                        partition: partition.path.clone(),
                        file_id: group.file_id.clone(),
                        instant: slice.instant,
                        file: slice.file.clone(),
                        bytes: slice.bytes,
                    });
                } else {
                    plan.kept_files += 1;
                    plan.kept_bytes += slice.bytes;
                    is_empty = false;
                }
            }
            is_empty &= group.replaced_at.is_some();
        }
        if is_empty && !partition.groups.is_empty() && !partition.path.is_empty() {
            plan.partitions_to_delete.push(partition.path.clone());
        }
    }
    plan.deletions.sort();
    plan
}

/// Returns the commit at which the window begins. Returns `None` if all commits are inside the window, or if
/// the policy has no window.
fn earliest_to_retain(policy: RetentionPolicy, timeline: &TimelineView) -> Option<CommitView> {
    let commits = &timeline.commits;
    let first = match policy {
        RetentionPolicy::Commits(count) => {
            commits.get(commits.len().checked_sub(count as usize).filter(|outside| *outside > 0)?)?
        }
        RetentionPolicy::Hours(hours) => {
            let begin = timeline.now.checked_sub(SignedDuration::from_hours(i64::from(hours))).ok()?;
            let begin = Instant::from_timestamp(begin, &timeline.zone);
            commits.iter().find(|commit| commit.instant >= begin)?
        }
        RetentionPolicy::FileVersions(_) => return None,
    };
    match timeline.earliest_pending {
        Some(pending) if pending < first.instant => {
            commits.iter().rev().find(|commit| commit.instant < pending).cloned()
        }
        _ => Some(first.clone()),
    }
}

/// Returns the versions of a file group to delete, ignoring savepoints.
fn gone(policy: RetentionPolicy, window: Option<Instant>, group: &FileGroupView) -> BTreeSet<Instant> {
    let mut newest_first: Vec<Instant> = group.slices.iter().map(|slice| slice.instant).collect();
    newest_first.sort_unstable_by(|a, b| b.cmp(a));
    newest_first.dedup();
    if let RetentionPolicy::FileVersions(count) = policy {
        let kept = if group.replaced_at.is_some() { 0 } else { count as usize };
        return newest_first.into_iter().skip(kept).collect();
    }
    let Some(window) = window else { return BTreeSet::new() };
    match group.replaced_at {
        Some(replaced) if replaced < window => newest_first.into_iter().collect(),
        // Reads as of an instant that is inside the window and before the replacement still need this group.
        // Hudi keeps all of the group until the replacement leaves the window.
        Some(_) => BTreeSet::new(),
        None => {
            let newest = newest_first.first().copied();
            let before_window = newest_first.iter().copied().filter(|instant| *instant < window);
            before_window.skip(1).filter(|instant| Some(*instant) != newest).collect()
        }
    }
}

impl Plan {
    /// Returns the policy of the plan.
    pub fn policy(&self) -> RetentionPolicy {
        self.policy
    }

    /// Returns the earliest commit that is readable after the plan was carried out. Returns `None` if the
    /// policy defines none, or if no commit leaves the window.
    pub fn earliest_to_retain(&self) -> Option<Instant> {
        self.earliest_to_retain.as_ref().map(|commit| commit.instant)
    }

    /// Returns the newest completed commit in the plan's view.
    pub fn last_completed(&self) -> Option<Instant> {
        self.last_completed
    }

    /// Returns the files to delete, ordered by partition, file group and age.
    pub fn deletions(&self) -> &[Deletion] {
        &self.deletions
    }

    /// Returns the partitions that become empty.
    pub fn partitions_to_delete(&self) -> &[String] {
        &self.partitions_to_delete
    }

    /// Returns `true` if there is nothing to delete. In that case Hudi writes no clean.
    pub fn is_empty(&self) -> bool {
        self.deletions.is_empty() && self.partitions_to_delete.is_empty()
    }

    /// Returns the number of bytes that the deletions free.
    pub fn bytes(&self) -> u64 {
        self.deletions.iter().map(|deletion| deletion.bytes).sum()
    }

    /// Converts the plan to the form in which Hudi stores it on the timeline. `base` is the URL of the table
    /// without a trailing slash, such as `file:/lake/customer` or `s3://lake/customer`. It is needed because
    /// Hudi's plans contain absolute paths.
    pub fn to_avro(&self, base: &str) -> CleanPlan {
        let mut files: BTreeMap<String, Vec<CleanFileInfo>> = BTreeMap::new();
        for deletion in &self.deletions {
            let folder = if deletion.partition.is_empty() { "" } else { "/" };
            let path = format!("{base}{folder}{}/{}", deletion.partition, deletion.file);
            files
                .entry(deletion.partition.clone())
                .or_default()
                .push(CleanFileInfo { file_path: Some(path), is_bootstrap_base_file: Some(false) });
        }
        CleanPlan {
            earliest_instant_to_retain: self.earliest_to_retain.as_ref().map(|commit| ActionInstant {
                timestamp: commit.instant.to_string(),
                action: commit.action.as_str().to_owned(),
                state: State::Completed.as_str().to_owned(),
            }),
            last_completed_commit_timestamp: self.last_completed.map(|i| i.to_string()).unwrap_or_default(),
            policy: self.policy.name().to_owned(),
            files_to_be_deleted_per_partition: Some(BTreeMap::new()),
            version: Some(2),
            file_paths_to_be_deleted_per_partition: Some(files),
            partitions_to_be_deleted: Some(self.partitions_to_delete.clone()),
            extra_metadata: Some(BTreeMap::new()),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "keep       {}", self.policy)?;
        match self.earliest_to_retain() {
            Some(instant) => writeln!(f, "readable   from {instant}")?,
            None => writeln!(f, "readable   all currently readable commits")?,
        }
        writeln!(f, "kept       {} files, {}", self.kept_files, Bytes(self.kept_bytes))?;
        if self.is_empty() {
            return f.write_str("delete     nothing");
        }
        write!(f, "delete     {} files, {}", self.deletions.len(), Bytes(self.bytes()))?;
        for deletion in &self.deletions {
            let partition = if deletion.partition.is_empty() { "." } else { &deletion.partition };
            write!(
                f,
                "\n  {}  {:>9}  {partition}/{}",
                deletion.instant,
                Bytes(deletion.bytes).to_string(),
                deletion.file
            )?;
        }
        for partition in &self.partitions_to_delete {
            write!(f, "\n  partition  {partition}")?;
        }
        Ok(())
    }
}

/// A human-readable size in bytes.
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
        let mut size = self.0 as f64;
        let mut unit = 0;
        while size >= 1024.0 && unit + 1 < UNITS.len() {
            size /= 1024.0;
            unit += 1;
        }
        if unit == 0 { write!(f, "{} B", self.0) } else { write!(f, "{size:.1} {}", UNITS[unit]) }
    }
}

#[cfg(test)]
mod tests;
