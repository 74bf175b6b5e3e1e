//! The timeline: the actions on a table, with their times and states.

pub(crate) mod action;
pub mod archive;
pub mod avro;
pub mod commit;
pub mod hadoop;
pub(crate) mod instant;

use std::collections::{BTreeMap, BTreeSet};

pub use self::{
    action::{Action, State},
    commit::{CommitMetadata, WriteStat},
    instant::Instant,
};
use crate::names;

/// An action on the timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimelineEntry {
    /// The time at which the action was requested.
    pub instant: Instant,
    /// Its kind.
    pub action: Action,
    /// Its latest state.
    pub state: State,
    /// Marks the states that have a file. A reader needs only the latest state.
    files: [bool; 3],
    completed_at: Option<Instant>,
}

impl TimelineEntry {
    /// Returns `true` if the action has not completed.
    pub fn is_pending(&self) -> bool {
        self.state != State::Completed
    }

    /// Returns the completion time. Only tables of version 8 and later store it.
    pub fn completed_at(&self) -> Option<Instant> {
        self.completed_at
    }

    /// Returns `true` if there is a file for a state.
    pub fn has_file(&self, state: State) -> bool {
        self.files[state as usize]
    }
}

/// The active timeline of a table when it was loaded: its actions, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    entries: Vec<TimelineEntry>,
    /// The paths of the checksums that Hadoop's local file system writes next to the files.
    checksums: Vec<String>,
    /// Archived commits that are newer than the first active one.
    archived: BTreeSet<Instant>,
    /// The names of the folders next to the timeline's files.
    folders: BTreeSet<String>,
    /// The names of other files next to the timeline's files.
    others: BTreeSet<String>,
}

impl Timeline {
    /// Returns `true` if there is a folder with this name next to the timeline's files.
    pub fn has_folder(&self, name: &str) -> bool {
        self.folders.contains(name)
    }

    /// Returns `true` if there is another file with this name next to the timeline's files.
    pub fn has_other(&self, name: &str) -> bool {
        self.others.contains(name)
    }

    /// Builds the timeline of layout 1.
    pub fn from_file_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let parsed = names.into_iter().filter_map(names::parse_instant_file_name);
        Self::of_files(parsed.map(|(instant, action, state)| (instant, action, state, None)))
    }

    /// Builds the timeline of layout 2.
    pub fn from_timed_file_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self::of_files(names.into_iter().filter_map(names::parse_timed_file_name))
    }

    fn of_files(files: impl Iterator<Item = (Instant, Action, State, Option<Instant>)>) -> Self {
        let mut entries: BTreeMap<(Instant, Action), ([bool; 3], Option<Instant>)> = BTreeMap::new();
        for (instant, action, state, completed_at) in files {
            let (states, at) = entries.entry((instant, action)).or_default();
            states[state as usize] = true;
            *at = (*at).max(completed_at);
        }
        let furthest = |files: [bool; 3]| State::ALL.into_iter().rev().find(|state| files[*state as usize]);
        let entries = entries
            .into_iter()
            .filter_map(|((instant, action), (files, completed_at))| {
                Some(TimelineEntry { instant, action, state: furthest(files)?, files, completed_at })
            })
            .collect();
        Self { entries, ..Self::default() }
    }

    /// Adds a completed action with a file for each state, as a later listing of layout 1 would show it.
    pub fn complete(&mut self, instant: Instant, action: Action) {
        let entry =
            TimelineEntry { instant, action, state: State::Completed, files: [true; 3], completed_at: None };
        let order = |other: &TimelineEntry| (other.instant, other.action).cmp(&(instant, action));
        match self.entries.binary_search_by(order) {
            Ok(known) => self.entries[known] = entry,
            Err(at) => self.entries.insert(at, entry),
        }
    }

    /// Removes actions that were archived.
    pub fn remove(&mut self, gone: &[TimelineEntry]) {
        self.entries.retain(|entry| !gone.contains(entry));
    }

    /// Returns the completion times of completed commits, by instant. Empty in tables that do not store them.
    pub fn completions(&self) -> impl Iterator<Item = (Instant, Instant)> {
        self.completed_commits().filter_map(|entry| Some((entry.instant, entry.completed_at?)))
    }

    /// Returns `true` if the active timeline begins before an instant and ends after it, but does not contain
    /// it. In that case only the archive says whether the commit completed.
    pub fn lacks(&self, instant: Instant) -> bool {
        let first = self.completed_commits().next();
        first.is_some_and(|first| instant > first.instant)
            && self.newest().is_some_and(|newest| instant < newest)
            && !self.entries.iter().any(|entry| entry.instant == instant && entry.action.writes_rows())
    }

    /// Adds archived commits that are newer than active ones. They exist for two reasons: Hudi's archiver can
    /// leave out commits with a savepoint (`hoodie.archive.beyond.savepoint`), and in layout 2 a slow commit
    /// completes after faster ones.
    pub fn add_archived(&mut self, archived: impl IntoIterator<Item = Instant>) {
        let lacking: BTreeSet<Instant> =
            archived.into_iter().filter(|instant| self.lacks(*instant)).collect();
        self.archived.extend(lacking);
    }

    /// Adds the archived commits of an earlier state of this timeline.
    #[must_use]
    pub fn with_archived_of(mut self, earlier: &Self) -> Self {
        self.add_archived(earlier.archived.iter().copied());
        self
    }

    /// Adds the paths of the checksums that Hadoop's local file system writes next to the files.
    #[must_use]
    pub fn with_checksums(self, checksums: Vec<String>) -> Self {
        Self { checksums, ..self }
    }

    /// Adds the names of the folders and of the other files next to the timeline's files.
    #[must_use]
    pub fn with_neighbours(self, folders: BTreeSet<String>, others: BTreeSet<String>) -> Self {
        Self { folders, others, ..self }
    }

    /// Returns the paths of the checksums that Hadoop's local file system writes next to the files.
    pub fn checksums(&self) -> &[String] {
        &self.checksums
    }

    /// Returns every action, oldest first.
    pub fn entries(&self) -> &[TimelineEntry] {
        &self.entries
    }

    /// Returns the newest instant of any action in any state.
    pub fn newest(&self) -> Option<Instant> {
        self.entries.last().map(|entry| entry.instant)
    }

    /// Returns the completed actions that changed rows, oldest first.
    pub fn completed_commits(&self) -> impl DoubleEndedIterator<Item = &TimelineEntry> {
        self.entries.iter().filter(|entry| entry.action.writes_rows() && !entry.is_pending())
    }

    /// Returns the instant of the newest completed commit. A snapshot contains its rows and all earlier ones.
    pub fn latest_commit(&self) -> Option<Instant> {
        self.completed_commits().next_back().map(|entry| entry.instant)
    }

    /// Returns the pending actions of one kind, oldest first.
    pub fn pending(&self, action: Action) -> impl DoubleEndedIterator<Item = &TimelineEntry> {
        self.entries.iter().filter(move |entry| entry.action == action && entry.is_pending())
    }

    /// Returns the completed actions of one kind, oldest first.
    pub fn completed(&self, action: Action) -> impl DoubleEndedIterator<Item = &TimelineEntry> {
        self.entries.iter().filter(move |entry| entry.action == action && !entry.is_pending())
    }

    /// Returns `true` if a file written at `instant` is visible, because its commit has completed, or is
    /// older than the active timeline and therefore archived.
    pub fn is_committed(&self, instant: Instant) -> bool {
        let mut commits = self.completed_commits();
        match commits.next() {
            None => false,
            Some(first) if instant <= first.instant => {
                instant == first.instant || !self.has_pending_write(instant)
            }
            Some(_) => commits.any(|entry| entry.instant == instant) || self.archived.contains(&instant),
        }
    }

    fn has_pending_write(&self, instant: Instant) -> bool {
        self.entries
            .iter()
            .any(|entry| entry.instant == instant && entry.is_pending() && entry.action.writes_rows())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeline(names: &[&str]) -> Timeline {
        Timeline::from_file_names(names.iter().copied())
    }

    #[test]
    fn the_furthest_state_of_an_action_counts() {
        let timeline = timeline(&[
            "20260101000000002.commit.requested",
            "20260101000000002.inflight",
            "20260101000000001.commit",
            "20260101000000001.commit.requested",
            "20260101000000001.savepoint",
            "hoodie.properties",
        ]);
        let seen: Vec<_> = timeline.entries().iter().map(|entry| (entry.action, entry.state)).collect();
        assert_eq!(
            seen,
            [
                (Action::Commit, State::Completed),
                (Action::Savepoint, State::Completed),
                (Action::Commit, State::Inflight)
            ]
        );
        assert_eq!(timeline.latest_commit(), Some("20260101000000001".parse().unwrap()));
        assert_eq!(timeline.newest(), Some("20260101000000002".parse().unwrap()));
    }

    #[test]
    fn layout_2_tells_when_an_action_completed() {
        let mut timeline = Timeline::from_timed_file_names([
            "20260101000000002.commit.requested",
            "20260101000000002.inflight",
            "20260101000000002_20260101000000009.commit",
            "20260101000000004.clustering.requested",
            "20260101000000004.clustering.inflight",
            "20260101000000004_20260101000000006.replacecommit",
            "20260101000000007.inflight",
            "history",
        ]);
        let instant = |digit: u8| format!("2026010100000000{digit}").parse::<Instant>().unwrap();
        let seen: Vec<_> = timeline.completions().collect();
        assert_eq!(seen, [(instant(2), instant(9)), (instant(4), instant(6))]);
        assert_eq!(timeline.pending(Action::Commit).count(), 1);
        assert_eq!(
            timeline.pending(Action::ReplaceCommit).count(),
            0,
            "a clustering completes under another name"
        );
        assert!(timeline.is_committed(instant(1)), "older than the active timeline");
        assert!(timeline.lacks(instant(3)) && !timeline.lacks(instant(7)) && !timeline.lacks(instant(1)));
        assert!(!timeline.is_committed(instant(3)));
        timeline.add_archived([instant(1), instant(3), instant(7)]);
        assert!(timeline.is_committed(instant(3)), "archived before a slower commit completed");
        assert!(!timeline.is_committed(instant(7)), "pending");
    }

    #[test]
    fn the_archive_says_which_commits_completed_in_a_hole_behind_a_savepoint() {
        let names = [
            "20260101000000001.commit",
            "20260101000000001.savepoint",
            "20260101000000006.commit",
            "20260101000000008.commit",
        ];
        let instant = |digit: u8| format!("2026010100000000{digit}").parse::<Instant>().unwrap();
        let mut timeline = timeline(&names);
        assert!(timeline.lacks(instant(3)) && timeline.lacks(instant(4)) && timeline.lacks(instant(7)));
        assert!(!timeline.lacks(instant(6)) && !timeline.lacks(instant(9)), "active, or too new");
        timeline.add_archived([instant(3), instant(9)]);
        let committed = [3, 4, 7, 9].map(|digit| timeline.is_committed(instant(digit)));
        assert_eq!(committed, [true, false, false, false]);
        let later = self::timeline(&names[2..]).with_archived_of(&timeline);
        assert!(later.is_committed(instant(3)), "older than the timeline");
    }

    #[test]
    fn a_file_counts_when_its_commit_completed_or_was_archived() {
        let timeline = timeline(&[
            "20260101000000001.inflight",
            "20260101000000005.commit",
            "20260101000000007.commit.requested",
            "20260101000000009.commit",
        ]);
        let counts = |text: &str| timeline.is_committed(text.parse().unwrap());
        assert!(!counts("20260101000000001"), "pending, though older than the first commit");
        assert!(counts("20260101000000003"), "archived");
        assert!(counts("20260101000000005"));
        assert!(!counts("20260101000000007"), "pending");
        assert!(!counts("20260101000000008"), "unknown: rolled back");
        assert!(counts("20260101000000009"));
        assert!(!counts("20260101000000010"), "unknown: newer than everything");
        assert!(!self::timeline(&[]).is_committed("20260101000000001".parse().unwrap()));
    }
}
