//! The archive: where the files of old actions are stored after they leave the active timeline.
//!
//! An action has three files on the timeline, and every reader lists all of them. The oldest are therefore
//! moved into log files `.hoodie/{archive folder}/.commits_.archive.{n}_1-0-1`, one record per file. No
//! reader needs the archive, because base files older than the active timeline count as committed.
//!
//! [`to_archive`] selects the actions; [`ArchivedEntry::read`] and [`encode`] create the log file. After
//! that, the archived files are deleted: the requested and inflight files of an action before its completed
//! file, and older actions before newer ones. A crash in between must not leave a commit that looks
//! unfinished.

mod entry;
mod log;

use std::sync::LazyLock;

pub use entry::{ArchivedCommit, ArchivedEntry, ArchivedReplaceCommit, ArchivedWriteStat};

use super::{Action, Instant, Timeline, TimelineEntry, avro::RecordSchema};
use crate::Result;

/// Hudi's `hoodie.commits.archival.batch`.
const RECORDS_PER_BLOCK: usize = 10;

/// Limits for the length of the active timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArchiveLimits {
    /// The number of completed commits that are kept (`hoodie.keep.min.commits`).
    pub keep_min: usize,
    /// The number of completed commits above which actions are archived (`hoodie.keep.max.commits`).
    pub keep_max: usize,
}

/// Hudi's defaults: 20 and 30.
impl Default for ArchiveLimits {
    fn default() -> Self {
        Self { keep_min: 20, keep_max: 30 }
    }
}

impl ArchiveLimits {
    /// Raises the limits so that the retained commits, and the two commits before them, stay on the active
    /// timeline. Hudi raises its own limits in the same way instead of failing.
    fn outside(self, retained_commits: usize) -> Self {
        let keep_min = self.keep_min.max(retained_commits.saturating_add(2));
        let room = self.keep_max.saturating_sub(self.keep_min);
        Self { keep_min, keep_max: keep_min.saturating_add(room) }
    }
}

/// Returns the actions to archive, in the order of the archive: cleans and rollbacks first, then commits,
/// each group oldest first. Changes nothing.
///
/// `retained_commits` is the number of newest commits that must stay readable. Actions are archived only if
/// they are older than the first pending write, the first savepoint, and `needed`. `needed` is the first
/// replacecommit that replaced a file group that still exists. Cleans and rollbacks are counted separately,
/// with the same limits.
pub fn to_archive(
    limits: ArchiveLimits,
    retained_commits: usize,
    needed: Option<Instant>,
    timeline: &Timeline,
) -> Vec<TimelineEntry> {
    let limits = limits.outside(retained_commits);
    let excess = |count: usize| if count > limits.keep_max { count - limits.keep_min } else { 0 };
    let mut out = Vec::new();
    for action in [Action::Clean, Action::Rollback] {
        let count = timeline.completed(action).count();
        out.extend(timeline.completed(action).take(excess(count)).cloned());
    }
    out.sort_by_key(|entry| entry.instant);
    let first_pending = timeline
        .entries()
        .iter()
        .find(|entry| entry.is_pending() && entry.action.writes_rows())
        .map(|entry| entry.instant);
    let first_savepoint =
        timeline.entries().iter().find(|entry| entry.action == Action::Savepoint).map(|entry| entry.instant);
    let barrier = [first_pending, first_savepoint, needed].into_iter().flatten().min();
    let commits = timeline.completed_commits();
    let count = timeline.completed_commits().count();
    let old =
        commits.take(excess(count)).filter(|entry| barrier.is_none_or(|barrier| entry.instant < barrier));
    out.extend(old.cloned());
    out
}

/// Encodes the content of an archive file.
pub fn encode(entries: &[ArchivedEntry]) -> Vec<u8> {
    static SCHEMA: LazyLock<RecordSchema> = LazyLock::new(|| RecordSchema::new(include_str!("entry.avsc")));
    entries.chunks(RECORDS_PER_BLOCK).flat_map(|block| log::encode_block(&SCHEMA, block)).collect()
}

/// Decodes an archive file.
///
/// # Errors
/// [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt) if the content is not an archive file. The caller knows
/// the file's name.
pub fn decode(file: &[u8]) -> Result<Vec<ArchivedEntry>> {
    log::decode(file)
}

/// Returns the name of the n-th archive file, counted from 1.
pub fn file_name(number: u64) -> String {
    format!("{PREFIX}{number}{SUFFIX}")
}

/// Returns the number of the archive file with this name. Returns `None` for other names.
pub fn file_number(name: &str) -> Option<u64> {
    let (number, _) = name.strip_prefix(PREFIX)?.split_once('_')?;
    number.parse().ok()
}

const PREFIX: &str = ".commits_.archive.";
const SUFFIX: &str = "_1-0-1";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ErrorKind, timeline::State};

    fn golden(number: u64) -> Vec<u8> {
        std::fs::read(format!(
            "{}/tests/data/archive/commits_.archive.{number}_1-0-1",
            env!("CARGO_MANIFEST_DIR")
        ))
        .unwrap()
    }

    #[rstest::rstest]
    fn reads_what_spark_archived_and_writes_the_same(#[values(1, 2)] number: u64) {
        let file = golden(number);
        let entries = decode(&file).unwrap();
        assert_eq!(entries.len(), 9);
        assert!(entries.iter().all(|entry| entry.action_type.as_deref() == Some("commit")));
        let ours = encode(&entries);
        assert_eq!(decode(&ours).unwrap(), entries);
        // Only the order inside maps differs, because Java's maps have no order.
        assert_eq!(ours.len(), file.len());
        assert!(ours[..14_950] == file[..14_950], "up to the first records");
    }

    #[test]
    fn reads_what_a_newer_hudi_archived_and_leaves_out_what_it_added() {
        let file = format!("{}/tests/data/archive/commits_of_1.0.2", env!("CARGO_MANIFEST_DIR"));
        let entries = decode(&std::fs::read(file).unwrap()).unwrap();
        let commits: Vec<_> =
            entries.iter().filter_map(|entry| entry.hoodie_commit_metadata.as_ref()).collect();
        let written = commits.iter().filter_map(|commit| commit.partition_to_write_stats.as_ref());
        assert!(
            written.flat_map(|stats| stats.values().flatten()).any(|stat| stat.num_update_writes > Some(0))
        );
        assert_eq!(decode(&encode(&entries)).unwrap(), entries);
    }

    #[test]
    fn broken_archives_are_errors() {
        let file = golden(1);
        for cut in (1..file.len()).step_by(397) {
            assert_eq!(decode(&file[..cut]).unwrap_err().kind(), ErrorKind::Corrupt, "cut at {cut}");
        }
        for place in (0..file.len()).step_by(261) {
            let mut damaged = file.clone();
            damaged[place] ^= 0x55;
            let _ = decode(&damaged);
        }
    }

    #[test]
    fn file_names_count() {
        assert_eq!(file_name(3), ".commits_.archive.3_1-0-1");
        assert_eq!(file_number(&file_name(31)), Some(31));
        assert_eq!(file_number(".commits_.archive.x_1-0-1"), None);
        assert_eq!(file_number("hoodie.properties"), None);
    }

    fn instant(number: usize) -> String {
        format!("202601010000{:02}{:03}", number / 1000, number % 1000)
    }

    fn timeline(names: impl IntoIterator<Item = String>) -> Timeline {
        let names: Vec<String> = names.into_iter().collect();
        Timeline::from_file_names(names.iter().map(String::as_str))
    }

    fn commits(numbers: std::ops::Range<usize>) -> Vec<String> {
        numbers.map(|number| format!("{}.commit", instant(number))).collect()
    }

    fn archived(limits: ArchiveLimits, retained: usize, timeline: &Timeline) -> Vec<String> {
        let name = |entry: &TimelineEntry| format!("{}.{}", entry.instant, entry.action);
        to_archive(limits, retained, None, timeline).iter().map(name).collect()
    }

    const SPARK: ArchiveLimits = ArchiveLimits { keep_min: 12, keep_max: 14 };

    #[test]
    fn goes_down_to_the_minimum_once_the_maximum_is_passed() {
        assert_eq!(archived(SPARK, 10, &timeline(commits(0..14))).len(), 0);
        assert_eq!(archived(SPARK, 10, &timeline(commits(0..15))), commits(0..3));
    }

    #[test]
    fn the_retained_window_and_two_commits_before_it_stay() {
        assert_eq!(archived(SPARK, 20, &timeline(commits(0..24))).len(), 0);
        assert_eq!(archived(SPARK, 20, &timeline(commits(0..25))), commits(0..3));
    }

    #[test]
    fn cleans_come_first_and_have_a_count_of_their_own() {
        let cleans: Vec<String> = (0..15).map(|number| format!("{}.clean", instant(500 + number))).collect();
        let all = timeline(commits(0..15).into_iter().chain(cleans.clone()));
        assert_eq!(archived(SPARK, 10, &all), [&cleans[..3], &commits(0..3)].concat());
    }

    #[test]
    fn a_pending_write_and_a_savepoint_hold_the_rest() {
        let pending = format!("{}.commit.requested", instant(2));
        let names = commits(0..2).into_iter().chain(commits(3..18)).chain([pending]);
        assert_eq!(archived(SPARK, 10, &timeline(names)), commits(0..2));
        let needed = instant(1).parse().ok();
        let held = to_archive(SPARK, 10, needed, &timeline(commits(0..18)));
        assert_eq!(held.len(), 1, "a replacecommit whose replaced files still exist");
        let savepoint = format!("{}.savepoint", instant(1));
        let names = commits(0..18).into_iter().chain([savepoint]);
        assert_eq!(archived(SPARK, 10, &timeline(names)), commits(0..1));
    }

    #[test]
    fn an_entry_holds_what_the_file_said() {
        let instant = "20261123042935748".parse().unwrap();
        let at = "20261123042936946".parse().unwrap();
        let requested = ArchivedEntry::read(instant, Action::Commit, State::Requested, b"", at).unwrap();
        let inflight = br#"{"partitionToWriteStats":{"":[
            {"fileId":"","path":null,"prevCommit":"null","numWrites":0,"numDeletes":0,"numUpdateWrites":0,"numInserts":1,
             "totalWriteBytes":0,"totalWriteErrors":0,"partitionPath":null,"totalLogRecords":0,
             "totalUpdatedRecordsCompacted":0,"totalLogBlocks":0,"totalCorruptLogBlock":0,"totalRollbackBlocks":0,
             "fileSizeInBytes":0,"runtimeStats":null},
            {"fileId":"61e96982-a7a0-4a20-bc64-2c760a036157-0","path":null,"prevCommit":"20261123042933640","numWrites":0,
             "numDeletes":0,"numUpdateWrites":2,"numInserts":0,"totalWriteBytes":0,"totalWriteErrors":0,
             "partitionPath":null,"totalLogRecords":0,"totalUpdatedRecordsCompacted":0,"totalLogBlocks":0,
             "totalCorruptLogBlock":0,"totalRollbackBlocks":0,"fileSizeInBytes":0}]},
            "compacted":false,"extraMetadata":{},"operationType":"UPSERT"}"#;
        let inflight = ArchivedEntry::read(instant, Action::Commit, State::Inflight, inflight, at).unwrap();
        let spark = decode(&golden(1)).unwrap();
        assert_eq!(requested.hoodie_commit_metadata, spark[3].hoodie_commit_metadata);
        assert_eq!(inflight, spark[4]);
    }
}
