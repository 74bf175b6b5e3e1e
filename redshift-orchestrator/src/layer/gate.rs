//! [`Gate`]: lets so many in, the first one first, and learns how many that are.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

/// How long after a refusal the gate tries whether there is room again. Each try that succeeds is followed by one that is twice as bold.
const PROBE: Duration = Duration::from_secs(10);

/// Lets so many in, the first one first, and learns how many that are.
///
/// The service takes only so many statements (or sessions) at a time, and others share that number with us. Each refusal says what
/// the number is now: as many of ours as are inside.
#[derive(Clone, Debug)]
pub(super) struct Gate(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// Never more than this.
    most: usize,
    /// What there is room for, as far as is known.
    room: usize,
    inside: usize,
    /// When to try for more, and for how many more.
    probe: Option<(Instant, usize)>,
    tickets: u64,
    waiting: BTreeMap<u64, Arc<Notify>>,
}

/// A place in the queue. It stays, whatever happens to who goes in with it, until it is dropped.
#[derive(Debug)]
pub(super) struct Ticket {
    gate: Gate,
    number: u64,
}

/// One that is inside.
#[derive(Debug)]
pub(super) struct Place(Gate);

impl Gate {
    pub(super) fn new(most: usize) -> Self {
        let most = most.max(1);
        Self(Arc::new(Mutex::new(State {
            most,
            room: most,
            inside: 0,
            probe: None,
            tickets: 0,
            waiting: BTreeMap::new(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn inside(&self) -> usize {
        self.lock().inside
    }

    pub(super) fn room(&self) -> usize {
        self.lock().room
    }

    pub(super) fn ticket(&self) -> Ticket {
        let mut state = self.lock();
        state.tickets += 1;
        Ticket { gate: self.clone(), number: state.tickets }
    }
}

impl Ticket {
    /// Goes in if nobody waits and there is room.
    pub(super) fn try_enter(&self) -> Option<Place> {
        let mut state = self.gate.lock();
        let first = state.waiting.keys().next().is_none_or(|first| self.number <= *first);
        (first && state.let_in(Instant::now())).then(|| Place(self.gate.clone()))
    }

    /// Waits until there is room and all with earlier tickets are in.
    pub(super) async fn enter(&self) -> Place {
        let bell = Arc::new(Notify::new());
        self.gate.lock().waiting.insert(self.number, bell.clone());
        let _waiting = Waiting(self);
        loop {
            let probe = {
                let mut state = self.gate.lock();
                let first = state.waiting.keys().next() == Some(&self.number);
                if first && state.let_in(Instant::now()) {
                    return Place(self.gate.clone());
                }
                // Who is not the first is called.
                state.probe.filter(|_| first).map(|(at, _)| at)
            };
            match probe {
                None => bell.notified().await,
                Some(at) => tokio::select! {
                    () = bell.notified() => {}
                    () = sleep_until(at) => {}
                },
            }
        }
    }

    /// The service had no room for the one with this place.
    pub(super) fn refused(&self, place: Place) {
        drop(place);
        let mut state = self.gate.lock();
        state.room = state.room.min(state.inside);
        state.probe = (state.room < state.most).then(|| (Instant::now() + PROBE, 1));
    }
}

impl State {
    fn let_in(&mut self, now: Instant) -> bool {
        if self.inside >= self.room {
            match self.probe {
                Some((at, step)) if at <= now && self.room < self.most => {
                    self.room = self.room.saturating_add(step).min(self.most);
                    self.probe = (self.room < self.most).then_some((now + PROBE, step * 2));
                }
                _ => return false,
            }
        }
        let is_room = self.inside < self.room;
        self.inside += usize::from(is_room);
        is_room
    }

    fn call_first(&self) {
        if let Some(first) = self.waiting.values().next() {
            first.notify_one();
        }
    }
}

/// Who waits; in whichever way that ends, the next one looks whether it is its turn.
struct Waiting<'a>(&'a Ticket);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.0.gate.lock();
        state.waiting.remove(&self.0.number);
        state.call_first();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.inside -= 1;
        state.call_first();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tokio::time::{advance, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_dropped_waiter_leaves_its_turn_to_the_next_one() {
        let gate = Gate::new(1);
        let inside = gate.ticket().try_enter().unwrap();
        let (first, second) = (gate.ticket(), gate.ticket());
        let mut first = Box::pin(first.enter());
        let mut second = Box::pin(second.enter());
        assert!(first.as_mut().now_or_never().is_none() && second.as_mut().now_or_never().is_none());
        drop(inside);
        // It was called, and is dropped before it goes in.
        drop(first);
        assert!(second.now_or_never().is_some());
        assert!(gate.ticket().try_enter().is_some(), "and left again");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_overtakes() {
        let gate = Gate::new(1);
        let inside = gate.ticket().try_enter().unwrap();
        let (early, late) = (gate.ticket(), gate.ticket());
        let mut waits = Box::pin(early.enter());
        assert!(waits.as_mut().now_or_never().is_none());
        drop(inside);
        assert!(late.try_enter().is_none(), "it is not its turn");
        let place = waits.await;
        drop(place);
        assert!(late.try_enter().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_lowers_the_room_and_tries_raise_it_again() {
        let gate = Gate::new(100);
        let mut places: Vec<_> = (0..10).map(|_| gate.ticket().try_enter().unwrap()).collect();
        let refused = gate.ticket();
        refused.refused(refused.try_enter().unwrap());
        assert_eq!((gate.inside(), gate.room()), (10, 10));
        // One ends, one may come.
        drop(places.pop());
        places.push(refused.enter().await);
        assert!(timeout(PROBE - Duration::from_millis(1), gate.ticket().enter()).await.is_err());
        for room in [11, 13, 17, 25, 41, 73, 100] {
            advance(PROBE).await;
            while let Some(place) = gate.ticket().try_enter() {
                places.push(place);
            }
            assert_eq!((gate.inside(), gate.room()), (room, room));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn where_others_take_all_room_there_is_a_try_from_time_to_time() {
        let gate = Gate::new(5);
        let ticket = gate.ticket();
        let begun = Instant::now();
        for tries in 0..4 {
            let place = ticket.enter().await;
            assert_eq!(begun.elapsed(), PROBE * tries);
            ticket.refused(place);
            assert_eq!(gate.room(), 0);
        }
    }
}
