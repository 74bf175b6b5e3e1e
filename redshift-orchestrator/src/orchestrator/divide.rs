//! Division of batches that exceed the service's maximum. The division must match the parts that an earlier
//! process started.

use crate::{
    BatchPart, Error, ErrorKind, Result, Statement, Status, StepKey,
    identity::Namespace,
    journal::{Entry, EntryState, SettledOutcome},
};

/// Returns the statements to run for this key, in order: the statement itself, or its parts, each with its
/// own key. `entries` contains entries of the run from the journal; those of other steps and attempts are
/// ignored.
///
/// # Errors
/// Returns [`ErrorKind::Invalid`] if the batch is too long and cannot be divided, and
/// [`ErrorKind::Definition`] if an earlier process started this attempt with other statements and did not
/// finish it. If the attempt continued with a different division, some statements could run twice or not at
/// all.
pub(crate) fn divide(
    namespace: &Namespace,
    key: &StepKey,
    statement: &Statement,
    entries: &[Entry],
) -> Result<Vec<(StepKey, Statement)>> {
    let parts = statement.parts().map_err(|error| error.with_context("step", key))?;
    let of = u32::try_from(parts.len()).unwrap_or(u32::MAX);
    let parts: Vec<_> = (1..)
        .zip(parts)
        .map(|(number, part)| match of {
            1 => (key.clone(), part),
            of => (key.with_part(BatchPart { number, of }), part),
        })
        .collect();
    let before: Vec<_> = entries
        .iter()
        .filter(|entry| entry.key.step == key.step && entry.key.attempt == key.attempt)
        .filter(|entry| !entry.did_not_run())
        .collect();
    let was_divided = before.iter().any(|entry| entry.key.part.is_some());
    if of == 1 && !was_divided {
        return Ok(parts);
    }
    for entry in &before {
        let same = match parts.iter().find(|(key, _)| *key == entry.key) {
            Some((key, part)) => namespace.client_token(key, part)? == entry.token,
            None => false,
        };
        if !same {
            return finished_otherwise(&before, statement).ok_or_else(|| {
                let text = "the run was started with other statements in this step, and some of them have run; restore them, or give \
                            the run another name";
                Error::new(ErrorKind::Definition, text).with_context("step", key)
            });
        }
    }
    Ok(parts)
}

/// Returns the keys of an attempt whose outcome is already complete in the journal, even if the step's
/// definition has changed since.
fn finished_otherwise(before: &[&Entry], statement: &Statement) -> Option<Vec<(StepKey, Statement)>> {
    // The outcomes come from the journal and the statements are not sent, so their SQL is irrelevant. Only
    // the target is compared.
    let part = || {
        let part = Statement::sql(statement.sqls().first().cloned().unwrap_or_default());
        match statement.target() {
            Some(target) => part.with_target(target.clone()),
            None => part,
        }
    };
    is_done(before).then(|| before.iter().map(|entry| (entry.key.clone(), part())).collect())
}

/// Returns `true` if an attempt succeeded. `attempt` contains all entries of the attempt: a single entry, or
/// one for each part that was started.
pub(crate) fn is_done(attempt: &[&Entry]) -> bool {
    let of = attempt.iter().map(|entry| entry.key.part.map_or(1, |part| part.of)).max();
    of == u32::try_from(attempt.len()).ok() && attempt.iter().all(|entry| is_finished(entry))
}

/// Returns `true` if the statement of this entry succeeded.
pub(crate) fn is_finished(entry: &Entry) -> bool {
    match &entry.state {
        EntryState::Ended(ended) => ended.status == Status::Finished,
        EntryState::Settled(found) => *found == SettledOutcome::Finished,
        EntryState::Open | EntryState::NotSubmitted(_) | EntryState::Unknown(_) => false,
    }
}
