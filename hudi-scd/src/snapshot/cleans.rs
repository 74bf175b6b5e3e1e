//! The cleans of the active timeline that determine the retained window.

use std::collections::BTreeMap;

use object_store::ObjectStore;

use super::read_clean;
use crate::{
    Result,
    layout::Layout,
    storage,
    timeline::{
        Action, Instant, State, Timeline,
        avro::{CleanMetadata, CleanPlan},
    },
};

/// The window of a clean: the earliest commit that it retains, if it recorded one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Window {
    earliest: Option<Instant>,
    /// `true` if the clean kept a number of versions. It then has no earliest commit.
    keeps_versions: bool,
}

impl Window {
    fn of(clean: &CleanMetadata) -> Self {
        let text = &clean.earliest_commit_to_retain;
        Self { earliest: text.parse().ok(), keeps_versions: text.is_empty() }
    }
}

/// The windows of cleans, newest last. Only as many cleans are read as are needed to determine the window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cleans {
    /// `None` for an empty clean, which deleted nothing.
    completed: BTreeMap<Instant, Option<Window>>,
    /// The latest window of the cleans in progress. They may already have deleted some files.
    pending: Option<Instant>,
}

impl Cleans {
    /// Reads the cleans in progress, and the completed cleans from the newest back to the first with a
    /// window.
    pub(super) async fn load(store: &dyn ObjectStore, table: &Layout, timeline: &Timeline) -> Result<Self> {
        let mut cleans = Self::default();
        for entry in timeline.pending(Action::Clean) {
            let path = table.entry_file(entry, State::Requested)?;
            let bytes = storage::read_if_exists(store, &path).await?.filter(|bytes| !bytes.is_empty());
            let plan = bytes.map(|bytes| CleanPlan::decode(&bytes)).transpose();
            let plan = plan.map_err(|error| error.with_context("file", &path))?;
            let retained = plan.and_then(|plan| plan.earliest_instant_to_retain?.timestamp.parse().ok());
            cleans.pending = cleans.pending.max(retained);
        }
        for entry in timeline.completed(Action::Clean).rev() {
            let clean = read_clean(store, table, entry).await?;
            cleans.add(entry.instant, clean.as_ref());
            if cleans.completed.values().any(|window| window.is_some_and(|window| window.earliest.is_some()))
            {
                break;
            }
        }
        Ok(cleans)
    }

    pub(super) fn add(&mut self, instant: Instant, clean: Option<&CleanMetadata>) {
        self.completed.insert(instant, clean.map(Window::of));
    }

    /// Removes the cleans that have left the timeline. Returns `false` if an older clean, which was not read,
    /// may now determine the window.
    pub(super) fn retain(&mut self, timeline: &Timeline) -> bool {
        let remains =
            |instant: &Instant| timeline.completed(Action::Clean).any(|entry| entry.instant == *instant);
        self.completed.retain(|instant, _| remains(instant));
        self.earliest().is_some() || self.completed.len() == timeline.completed(Action::Clean).count()
    }

    /// Returns the beginning of the retained window that the cleans recorded.
    pub(super) fn earliest(&self) -> Option<Instant> {
        self.pending.max(self.completed.values().rev().flatten().find_map(|window| window.earliest))
    }

    /// Returns `true` if the last clean kept a number of versions.
    pub(super) fn keep_versions(&self) -> bool {
        self.completed.values().rev().flatten().next().is_some_and(|window| window.keeps_versions)
    }
}
