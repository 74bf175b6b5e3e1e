//! [`Evidence`]: checks the final state of a line against the promises.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    time::Duration,
};

use jiff::Timestamp;
use redshift_data_local::Effect;
use redshift_orchestrator::{
    Report, StatementId, Status, UnknownReason,
    journal::{Entry, EntryState, Event},
    pipeline::StepStatus,
};

use super::{
    network::{Accepted, UnknownNote},
    ours::{RUN, cancels_pending},
    schedule::sql_of,
};

/// Final state of a line.
pub(super) struct Evidence {
    pub(super) entries: Vec<Entry>,
    pub(super) accepted: BTreeMap<StatementId, Accepted>,
    pub(super) effects: Vec<Effect>,
    /// Records that report an outcome as unknown.
    pub(super) unknown: Vec<UnknownNote>,
    /// Times at which listings failed or took too long.
    pub(super) bad_listings: Vec<Timestamp>,
    /// Violation that is not visible in the records.
    pub(super) violation: Option<String>,
    pub(super) report: Report,
    pub(super) faults: u64,
    /// Number of failed requests to the storage of the journal.
    pub(super) journal_failures: u64,
    pub(super) died: u64,
    /// Statements that a report listed as cancelled but not ended. If no run follows within a day, their
    /// records expire although nothing failed.
    pub(super) left_cancelling: HashSet<StatementId>,
    /// Maximum difference between the clock of a process and the service's clock.
    pub(super) skew: Duration,
}

/// Minimum time for which the service remembers a token: 8 hours, less the orchestrator's safety margin.
const TOKENS_FADE: Duration = Duration::from_secs(27_900);
/// Minimum time for which the service keeps a record: 24 hours, less the safety margin.
const RECORDS_FADE: Duration = Duration::from_secs(85_500);
/// Minimum time for which a submit is repeated: the retry timeout, less the last pause.
const PATIENCE: Duration = Duration::from_secs(14 * 60);
/// Maximum duration of a lookup: its retry timeout, one more listing, and pauses.
const LOOKUP: Duration = Duration::from_secs(30 * 60);

impl Evidence {
    /// Returns the number of unknown outcomes, or a description of the broken promise.
    pub(super) fn judge(&self) -> Result<u64, String> {
        self.no_step_took_effect_twice()?;
        self.no_statement_is_lost()?;
        self.steps_are_reported_truly()?;
        if let Some(violation) = &self.violation {
            return Err(violation.clone());
        }
        self.unknown.iter().try_for_each(|note| self.is_justified(note))?;
        let is_unknown = |entry: &&Entry| matches!(entry.state, EntryState::Unknown(_));
        Ok(self.entries.iter().filter(is_unknown).count() as u64)
    }

    fn no_step_took_effect_twice(&self) -> Result<(), String> {
        let mut steps = BTreeSet::new();
        for effect in &self.effects {
            if !steps.insert(&effect.sql) {
                let name = effect.name.as_deref().unwrap_or_default();
                return Err(format!(
                    "DOUBLED: `{}` took effect twice, the second time as `{name}`",
                    effect.sql
                ));
            }
        }
        Ok(())
    }

    fn no_statement_is_lost(&self) -> Result<(), String> {
        let known: BTreeMap<&str, &EntryState> =
            self.entries.iter().map(|entry| (entry.name.as_str(), &entry.state)).collect();
        let pending = cancels_pending(&self.report);
        let mut names = BTreeSet::new();
        for (id, Accepted { name, .. }) in &self.accepted {
            if !names.insert(name) {
                return Err(format!("DOUBLED: the service accepted `{name}` twice"));
            }
            let Some(state) = known.get(name.as_str()) else {
                return Err(format!("LOST: the journal does not know `{name}` ({id})"));
            };
            let effects = self.effects.iter().filter(|effect| effect.statement_id == *id).count();
            let truth = match state {
                EntryState::Ended(ended) if ended.status == Status::Finished => effects == 1,
                EntryState::Ended(_) => effects == 0,
                EntryState::Unknown(_) => true,
                _ => pending.contains(id),
            };
            if !truth {
                return Err(format!("LOST: `{name}` took effect {effects} times, and is {state:?}"));
            }
        }
        Ok(())
    }

    fn steps_are_reported_truly(&self) -> Result<(), String> {
        for step in self.report.steps() {
            let effects = self.effects.iter().filter(|effect| effect.sql == sql_of(&step.name)).count();
            let truth = match step.status {
                StepStatus::Finished => effects == 1,
                StepStatus::Unknown => true,
                StepStatus::TimedOut if step.last_attempt().is_some_and(|last| last.may_still_run) => true,
                // Only the orchestrator cancels statements. It reports a step as aborted only if the journal
                // has no record of its cancel, so the append of that record must have failed.
                StepStatus::Aborted => effects == 0 && self.journal_failures > 0,
                _ => effects == 0,
            };
            if !truth {
                return Err(format!(
                    "LOST: step {} took effect {effects} times, and is {:?}",
                    step.name, step.status
                ));
            }
        }
        Ok(())
    }

    /// Checks that an outcome was reported as unknown for a valid reason. The table in the documentation of
    /// the journal lists what each reason requires: a minimum time, and a death, a fault or a pending cancel.
    fn is_justified(&self, note: &UnknownNote) -> Result<(), String> {
        let (key, Event::Unknown { reason }) = (&note.record.key, &note.record.event) else { return Ok(()) };
        let entry = self.entries.iter().find(|entry| entry.key == *key);
        let age = entry.map(|entry| note.record.at.duration_since(entry.intended_at));
        let age = age.and_then(|age| Duration::try_from(age).ok()).unwrap_or_default();
        // The two times may come from different clocks.
        let age = age + 2 * self.skew;
        let is = |known: UnknownReason| reason.starts_with(known.as_str());
        let unjustified = |why: &str| {
            Err(format!(
                "UNJUSTIFIED: {RUN}/{}/{} is unknown after {age:?}, {} deaths and {} faults, {why}: {reason}",
                key.step, key.attempt, self.died, self.faults
            ))
        };
        let least = if is(UnknownReason::NotCancelled) {
            // This reason requires a fault, but no minimum time.
            if self.faults > 0 { Duration::ZERO } else { Duration::MAX }
        } else if is(UnknownReason::NoResponse) {
            PATIENCE
        } else if is(UnknownReason::NotListed) {
            TOKENS_FADE
        } else if is(UnknownReason::SubmitTooOld) || is(UnknownReason::RecordExpired) {
            RECORDS_FADE
        } else {
            Duration::MAX
        };
        if is(UnknownReason::NotCancelled) && note.is_cancelled {
            return unjustified("and its cancel was accepted");
        }
        if age < least {
            return unjustified("too early");
        }
        let id = entry.and_then(|entry| entry.id.as_ref());
        let was_left =
            is(UnknownReason::RecordExpired) && id.is_some_and(|id| self.left_cancelling.contains(id));
        if self.died + self.faults == 0 && !was_left {
            return unjustified("and nothing went wrong");
        }
        if !is(UnknownReason::NoResponse) && !is(UnknownReason::NotListed) {
            return Ok(());
        }
        if note.is_queued {
            return unjustified("and its submit is in a queue");
        }
        if is(UnknownReason::NoResponse) && !note.is_sent && age < TOKENS_FADE {
            return unjustified("and its submit was not sent");
        }
        let name = entry.map(|entry| entry.name.as_str()).unwrap_or_default();
        let accepted = self.accepted.values().find(|accepted| accepted.name == name);
        let was_listed = accepted.is_some_and(|accepted| accepted.at + LOOKUP < note.at);
        let saw_bad_listing = self.bad_listings.iter().any(|at| note.at - LOOKUP <= *at && *at <= note.at);
        if was_listed && !saw_bad_listing {
            return unjustified("and the service lists it");
        }
        Ok(())
    }
}
