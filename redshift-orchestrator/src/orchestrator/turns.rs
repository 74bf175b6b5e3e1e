//! [`Turns`]: serializes the calls for one attempt.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use crate::StepKey;

/// Admits one call at a time for each key to read the attempt's entry from the journal and submit the
/// statement. Otherwise, two concurrent calls could both find no entry, write two intents, and submit twice.
#[derive(Clone, Debug, Default)]
pub(crate) struct Turns(Arc<Mutex<HashMap<StepKey, Arc<AsyncMutex<()>>>>>);

/// Turn of a call for a key. Released when dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Turns,
    key: StepKey,
    held: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    pub(crate) async fn take(&self, key: &StepKey) -> Box<Turn> {
        let turn = self.lock().entry(key.clone()).or_default().clone();
        let mut taken = Box::new(Turn { turns: self.clone(), key: key.clone(), held: None });
        taken.held = Some(turn.lock_owned().await);
        taken
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<StepKey, Arc<AsyncMutex<()>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.held = None;
        let mut turns = self.turns.lock();
        // A count of 1 means that no other call holds the turn or waits for it.
        if turns.get(&self.key).is_some_and(|turn| Arc::strong_count(turn) == 1) {
            turns.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn admits_one_call_at_a_time_for_a_key_and_keeps_no_state_afterwards() {
        let (turns, key) = (Turns::default(), StepKey::new("r", "s"));
        let first = turns.take(&key).await;
        assert!(turns.take(&StepKey::new("r", "t")).now_or_never().is_some(), "another key");
        let (mut second, third) = (Box::pin(turns.take(&key)), Box::pin(turns.take(&key)));
        assert!(second.as_mut().now_or_never().is_none());
        drop(third);
        drop(first);
        drop(second.await);
        assert!(turns.lock().is_empty());
        let mut waiting = Box::pin(turns.take(&key));
        let held = waiting.as_mut().now_or_never().unwrap();
        let mut given_up = Box::pin(turns.take(&key));
        assert!(given_up.as_mut().now_or_never().is_none());
        drop(given_up);
        drop(held);
        assert!(turns.lock().is_empty());
    }
}
