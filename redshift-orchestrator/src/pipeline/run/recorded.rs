//! [`RecordedStep`]: the state of a step that earlier processes recorded in the journal.

use crate::{
    journal::{Entry, EntryState, SettledOutcome},
    orchestrator::{is_done, is_finished},
};

/// State of a step in the journal: its last attempt.
pub(super) struct RecordedStep {
    /// Number of the attempt with which this run continues: the last one, or the next one if that failed.
    pub(super) attempt: u32,
    /// `true` if its statement may be active in the service.
    pub(super) is_open: bool,
    pub(super) is_finished: bool,
    /// One entry, or one for each part of a long batch that was started.
    pub(super) entries: Vec<Entry>,
}

impl RecordedStep {
    pub(super) fn of(step: &str, entries: &[Entry]) -> Self {
        let of_step = || entries.iter().filter(|entry| entry.key.step == step);
        let Some(attempt) = of_step().map(|entry| entry.key.attempt).max() else {
            return Self { attempt: 1, is_open: false, is_finished: false, entries: Vec::new() };
        };
        let last: Vec<_> = of_step().filter(|entry| entry.key.attempt == attempt).collect();
        let is_open =
            last.iter().any(|entry| matches!(entry.state, EntryState::Open | EntryState::Unknown(_)));
        let failed = last.iter().any(|entry| match &entry.state {
            EntryState::Ended(_) => !is_finished(entry),
            EntryState::Settled(found) => *found == SettledOutcome::Failed,
            EntryState::Open | EntryState::NotSubmitted(_) | EntryState::Unknown(_) => false,
        });
        Self {
            attempt: attempt + u32::from(failed && !is_open),
            is_open,
            is_finished: is_done(&last),
            entries: last.into_iter().cloned().collect(),
        }
    }
}
