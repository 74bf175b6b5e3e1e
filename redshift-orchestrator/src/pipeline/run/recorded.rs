//! [`RecordedStep`]: the state of a step according to the journal.

use crate::{
    journal::{Entry, EntryState, SettledOutcome},
    orchestrator::{is_done, is_finished},
};

/// State of a step's last attempt, as earlier processes recorded it in the journal.
pub(super) struct RecordedStep {
    /// Number of the attempt with which this process continues: the last attempt, or the next one if the last
    /// one failed.
    pub(super) attempt: u32,
    /// `true` if a statement of the last attempt may be active in the service.
    pub(super) is_open: bool,
    pub(super) is_finished: bool,
    /// Entries of the last attempt: a single entry, or one for each part of a batch that was started.
    pub(super) entries: Vec<Entry>,
}

impl RecordedStep {
    pub(super) fn of(step: &str, entries: &[Entry]) -> Self {
        let of_step = || entries.iter().filter(|entry| entry.key.step == step);
        let Some(attempt) = of_step().map(|entry| entry.key.attempt).max() else {
            return Self { attempt: 1, is_open: false, is_finished: false, entries: Vec::new() };
        };
        let last: Vec<_> = of_step().filter(|entry| entry.key.attempt == attempt).collect();
        let is_open = last.iter().any(|entry| entry.state.is_unsettled());
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
