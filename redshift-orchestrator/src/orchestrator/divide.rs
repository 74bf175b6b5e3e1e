//! Division of batches that exceed the service's maximum, and comparison with the division of an earlier
//! process.

use crate::{
    BatchPart, Error, ErrorKind, Result, Statement, Status, StepKey,
    identity::Namespace,
    journal::{Entry, EntryState, SettledOutcome},
};

/// Returns the statements to run for this key, in order: the statement itself, or its parts with keys of
/// their own. `entries` contains the journal entries of earlier processes, which may include other keys.
///
/// # Errors
/// Returns [`ErrorKind::Invalid`] if the batch is too long and cannot be divided, and
/// [`ErrorKind::Definition`] if an earlier process began this attempt with other statements and did not
/// finish it. Under a different division, some statements would run twice or not at all.
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

/// Returns the keys of an attempt that is already complete in the journal, whatever its definition is now.
fn finished_otherwise(before: &[&Entry], statement: &Statement) -> Option<Vec<(StepKey, Statement)>> {
    // The statements are not sent, so any SQL text will do.
    let part = || {
        let part = Statement::sql(statement.sqls().first().cloned().unwrap_or_default());
        match statement.target() {
            Some(target) => part.with_target(target.clone()),
            None => part,
        }
    };
    is_done(before).then(|| before.iter().map(|entry| (entry.key.clone(), part())).collect())
}

/// Returns `true` if an attempt succeeded. `attempt` contains all entries of the attempt: one, or one for
/// each part that was started.
pub(crate) fn is_done(attempt: &[&Entry]) -> bool {
    let of = attempt.iter().map(|entry| entry.key.part.map_or(1, |part| part.of)).max();
    of == u32::try_from(attempt.len()).ok() && attempt.iter().all(|entry| is_finished(entry))
}

/// Returns `true` if the attempt, or this part of it, succeeded.
pub(crate) fn is_finished(entry: &Entry) -> bool {
    match &entry.state {
        EntryState::Ended(ended) => ended.status == Status::Finished,
        EntryState::Settled(found) => *found == SettledOutcome::Finished,
        EntryState::Open | EntryState::NotSubmitted(_) | EntryState::Unknown(_) => false,
    }
}
