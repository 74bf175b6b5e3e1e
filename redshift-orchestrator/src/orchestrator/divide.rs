//! Batches that are longer than the service takes: their parts, and whether an earlier process divided them in the same way.

use super::Orchestrator;
use crate::{
    Error, ErrorKind, Part, Result, Statement, Status, StepKey,
    journal::{Entry, Settlement, Standing, client_token},
};

impl Orchestrator {
    /// What to run for this key, in order: the statement itself, or its parts with keys of their own.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if it is too long and may not be divided; [`ErrorKind::Definition`] if this attempt was begun with other
    /// statements and has not finished: whatever was divided elsewhere would run some of them twice, or not at all.
    pub(crate) async fn divide(
        &self,
        key: &StepKey,
        statement: &Statement,
    ) -> Result<Vec<(StepKey, Statement)>> {
        key.check()?;
        let parts = statement.parts().map_err(|error| error.with_context("step", key))?;
        let of = u32::try_from(parts.len()).unwrap_or(u32::MAX);
        let parts: Vec<_> = (1..)
            .zip(parts)
            .map(|(number, part)| match of {
                1 => (key.clone(), part),
                of => (key.with_part(Part { number, of }), part),
            })
            .collect();
        let mut before = self.journal.run(&key.run).await?;
        before.retain(|entry| entry.key.step == key.step && entry.key.attempt == key.attempt);
        before.retain(|entry| !certainly_did_not_run(entry));
        let was_divided = before.iter().any(|entry| entry.key.part.is_some());
        if of == 1 && !was_divided {
            return Ok(parts);
        }
        for entry in &before {
            let same = match parts.iter().find(|(key, _)| *key == entry.key) {
                Some((key, part)) => client_token(key, part)? == entry.token,
                None => false,
            };
            if !same {
                return Self::finished_otherwise(before, statement).ok_or_else(|| {
                    let text = "the run was begun with other statements in this step, and some of them have run; put them back, or give \
                                the run another name";
                    Error::new(ErrorKind::Definition, text).with_context("step", key)
                });
            }
        }
        Ok(parts)
    }

    /// What an attempt consisted of that is complete in the journal, and needs no statement any more.
    fn finished_otherwise(before: Vec<Entry>, statement: &Statement) -> Option<Vec<(StepKey, Statement)>> {
        let of = before.iter().map(|entry| entry.key.part.map_or(1, |part| part.of)).max()?;
        let is_whole = before.len() == of as usize && before.iter().all(is_finished);
        // What is in the journal is not sent: any statement will do.
        let part = || Statement::sql(statement.sqls().first().cloned().unwrap_or_default());
        is_whole.then(|| before.into_iter().map(|entry| (entry.key, part())).collect())
    }
}

fn certainly_did_not_run(entry: &Entry) -> bool {
    matches!(entry.standing, Standing::Refused(_) | Standing::Settled(Settlement::NeverRan))
}

/// Whether the attempt did its work.
pub(crate) fn is_finished(entry: &Entry) -> bool {
    match &entry.standing {
        Standing::Ended(ended) => ended.status == Status::Finished,
        Standing::Settled(found) => *found == Settlement::Finished,
        Standing::Open | Standing::Refused(_) | Standing::Unknown(_) => false,
    }
}
