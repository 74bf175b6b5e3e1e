//! [`Archive`]: tells if an instant before the active timeline is that of a commit.

use crate::{
    Result, SourceFile,
    context::Context,
    snapshot::View,
    timeline::{Instant, archive::ArchivedEntry, archived},
};

/// The commits before the active timeline. The archive is read only if a file beside them counts that is older
/// than the active timeline. This is rare: a later ledger replaces an earlier one, and the clean deletes the
/// tombstones of commits that are archived.
pub(super) struct Archive<'a> {
    context: &'a Context,
    /// The first commit of the active timeline.
    first: Option<Instant>,
    entries: Option<Vec<ArchivedEntry>>,
}

impl<'a> Archive<'a> {
    pub(super) fn of(context: &'a Context, view: &View) -> Self {
        let first = view.timeline.completed_commits().next().map(|entry| entry.instant);
        let is_empty = !view.timeline.has_folder(context.layout().archive_name());
        Self { context, first, entries: is_empty.then(Vec::new) }
    }

    async fn completed(&mut self) -> Result<impl Iterator<Item = (&str, &ArchivedEntry)>> {
        if self.entries.is_none() {
            self.entries = Some(self.context.archived_entries().await?);
        }
        let entries = self.entries.iter().flatten();
        let completed = entries.filter(|entry| archived::is_completed(entry));
        Ok(completed.filter_map(|entry| Some((entry.commit_time.as_deref()?, entry))))
    }

    /// Returns `true` if the commit of a file has completed. The active timeline must not contradict this. An
    /// instant before it may also belong to a dead writer that another engine rolled back, so the archive is
    /// consulted, once for each handle.
    pub(super) async fn is_committed(&mut self, instant: Instant) -> Result<bool> {
        if self.first.is_none_or(|first| instant >= first) || self.context.archived().contains(&instant) {
            return Ok(true);
        }
        let text = instant.to_string();
        let is_archived = self.completed().await?.any(|(time, _)| time == text);
        if is_archived {
            self.context.archived().insert(instant);
        }
        Ok(is_archived)
    }

    /// Returns the files that archived commits after an instant took in, according to their metadata.
    pub(super) async fn taken_in(&mut self, since: Option<Instant>) -> Result<Vec<SourceFile>> {
        let Some(first) = self.first.filter(|first| since.is_none_or(|since| since < *first)) else {
            return Ok(Vec::new());
        };
        let (first, since) = (first.to_string(), since.map(|since| since.to_string()));
        let mut files = Vec::new();
        for (time, entry) in self.completed().await? {
            let metadata =
                entry.hoodie_commit_metadata.as_ref().and_then(|commit| commit.extra_metadata.as_ref());
            let text = metadata.and_then(|metadata| metadata.get(SourceFile::METADATA));
            if let (Some(text), true) = (text, time < first.as_str() && Some(time) > since.as_deref()) {
                files.extend(SourceFile::parse(text).map_err(|error| error.with_context("commit", time))?);
            }
        }
        Ok(files)
    }
}
