//! [`Evidence`]: the final state of a schedule, checked against the promises.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use redshift_data_local::Effect;
use redshift_orchestrator::{
    Report, StatementId, Status, StepKey, UnknownReason,
    journal::{Event, Record},
    pipeline::StepStatus,
};

use super::{ours::RUN, schedule::sql_of};

/// Final state of a schedule.
pub(super) struct Evidence {
    pub(super) records: Vec<Record>,
    pub(super) accepted: BTreeMap<StatementId, String>,
    pub(super) effects: Vec<Effect>,
    pub(super) report: Report,
    pub(super) faults: u64,
    pub(super) died: u64,
}

/// 8 and 24 hours less the orchestrator's safety margin, and its retry timeout less the last pause.
const TOKENS_FADE: Duration = Duration::from_secs(27_900);
const RECORDS_FADE: Duration = Duration::from_secs(85_500);
const PATIENCE: Duration = Duration::from_secs(14 * 60);

impl Evidence {
    /// Returns the number of unknown statements, or the broken promise.
    pub(super) fn judge(&self) -> Result<u64, String> {
        self.no_step_took_effect_twice()?;
        self.no_statement_is_lost()?;
        self.steps_are_reported_truly()?;
        self.every_unknown_is_justified()
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

    /// Returns the last record of every attempt and the time of its first intent.
    fn attempts(&self) -> BTreeMap<&StepKey, Attempt<'_>> {
        let mut attempts = BTreeMap::new();
        for record in &self.records {
            if let Event::Intent { name, .. } = &record.event {
                attempts.insert(&record.key, Attempt { name, intended: record, last: record });
            } else if let Some(attempt) = attempts.get_mut(&record.key) {
                attempt.last = record;
            }
        }
        attempts
    }

    fn no_statement_is_lost(&self) -> Result<(), String> {
        let attempts = self.attempts();
        let known: BTreeMap<&str, &Event> =
            attempts.values().map(|attempt| (attempt.name, &attempt.last.event)).collect();
        let mut names = BTreeSet::new();
        for (id, name) in &self.accepted {
            if !names.insert(name) {
                return Err(format!("DOUBLED: the service accepted `{name}` twice"));
            }
            let Some(last) = known.get(name.as_str()) else {
                return Err(format!("LOST: the journal does not know `{name}` ({id})"));
            };
            let effects = self.effects.iter().filter(|effect| effect.statement_id == *id).count();
            let truth = match last {
                Event::Ended(ended) if ended.status == Status::Finished => effects == 1,
                Event::Ended(_) => effects == 0,
                Event::Unknown { .. } => true,
                _ => false,
            };
            if !truth {
                return Err(format!("LOST: `{name}` took effect {effects} times, and stands as {last:?}"));
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

    /// Checks the reason of every unknown statement against the journal's table: a death or a fault, and the
    /// elapsed time.
    fn every_unknown_is_justified(&self) -> Result<u64, String> {
        let mut unknown = 0;
        for (key, attempt) in self.attempts() {
            let Event::Unknown { reason } = &attempt.last.event else { continue };
            unknown += 1;
            let age = attempt.last.at.duration_since(attempt.intended.at);
            let age = Duration::try_from(age).unwrap_or_default();
            let is = |known: UnknownReason| reason.starts_with(known.as_str());
            let least = if is(UnknownReason::NotCancelled) {
                // This reason requires a fault, but no elapsed time.
                if self.faults > 0 { Duration::ZERO } else { Duration::MAX }
            } else if is(UnknownReason::NoAnswer) {
                PATIENCE
            } else if is(UnknownReason::NotListed) {
                TOKENS_FADE
            } else if is(UnknownReason::TooLate) || is(UnknownReason::RecordExpired) {
                RECORDS_FADE
            } else {
                Duration::MAX
            };
            if age < least || self.died + self.faults == 0 {
                return Err(format!(
                    "UNJUSTIFIED: {RUN}/{}/{} is unknown after {age:?}, {} deaths and {} faults: {reason}",
                    key.step, key.attempt, self.died, self.faults
                ));
            }
        }
        Ok(unknown)
    }
}

struct Attempt<'a> {
    name: &'a str,
    intended: &'a Record,
    last: &'a Record,
}
