//! [`AdaptiveSemaphore`]: FIFO admission with a limit that follows the service's rejections.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

/// Time from a rejection to the first attempt to raise the limit, and from one attempt to the next. The step
/// doubles each time.
const PROBE: Duration = Duration::from_secs(10);

/// FIFO semaphore with an adaptive limit.
///
/// The service accepts a limited number of statements (or sessions) at a time, and shares that number among
/// all its clients. Each rejection lowers the limit to the number of permits that are held.
#[derive(Clone, Debug)]
pub(super) struct AdaptiveSemaphore(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// Upper bound of the limit.
    max: usize,
    /// Current limit, learned from rejections.
    limit: usize,
    held: usize,
    /// Instant of the next attempt to raise the limit, and the step by which the limit is raised.
    probe: Option<(Instant, usize)>,
    numbers: u64,
    waiting: BTreeMap<u64, Arc<Notify>>,
}

/// Position in the queue, kept until the waiter is dropped, even if the service rejects its request.
#[derive(Debug)]
pub(super) struct Waiter {
    semaphore: AdaptiveSemaphore,
    number: u64,
}

/// Permit for one active statement or one open session, released when it is dropped.
#[derive(Debug)]
pub(super) struct Permit(AdaptiveSemaphore);

impl AdaptiveSemaphore {
    pub(super) fn new(max: usize) -> Self {
        let max = max.max(1);
        Self(Arc::new(Mutex::new(State {
            max,
            limit: max,
            held: 0,
            probe: None,
            numbers: 0,
            waiting: BTreeMap::new(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of permits that are held.
    pub(super) fn held(&self) -> usize {
        self.lock().held
    }

    /// Returns the current limit.
    pub(super) fn limit(&self) -> usize {
        self.lock().limit
    }

    /// Creates a waiter at the end of the queue.
    pub(super) fn waiter(&self) -> Waiter {
        let mut state = self.lock();
        state.numbers += 1;
        Waiter { semaphore: self.clone(), number: state.numbers }
    }
}

impl Waiter {
    /// Acquires a permit if one is free and no earlier waiter is queued.
    pub(super) fn try_acquire(&self) -> Option<Permit> {
        let mut state = self.semaphore.lock();
        let first = state.waiting.keys().next().is_none_or(|first| self.number <= *first);
        (first && state.admit(Instant::now())).then(|| Permit(self.semaphore.clone()))
    }

    /// Waits until all earlier waiters are admitted and a permit is free.
    pub(super) async fn acquire(&self) -> Permit {
        let wake = Arc::new(Notify::new());
        self.semaphore.lock().waiting.insert(self.number, wake.clone());
        let _queued = Queued(self);
        loop {
            let probe = {
                let mut state = self.semaphore.lock();
                let first = state.waiting.keys().next() == Some(&self.number);
                if first && state.admit(Instant::now()) {
                    return Permit(self.semaphore.clone());
                }
                // The other waiters are woken when they reach the head of the queue.
                state.probe.filter(|_| first).map(|(at, _)| at)
            };
            match probe {
                None => wake.notified().await,
                Some(at) => tokio::select! {
                    () = wake.notified() => {}
                    () = sleep_until(at) => {}
                },
            }
        }
    }

    /// Lowers the limit to the number of permits that are held, after the service rejected a request. The
    /// caller must first release the permit of that request, unless an earlier request still needs it.
    pub(super) fn refused(&self) {
        let mut state = self.semaphore.lock();
        state.limit = state.limit.min(state.held);
        state.probe = (state.limit < state.max).then(|| (Instant::now() + PROBE, 1));
    }
}

impl State {
    fn admit(&mut self, now: Instant) -> bool {
        if self.held >= self.limit {
            match self.probe {
                Some((at, step)) if at <= now && self.limit < self.max => {
                    self.limit = self.limit.saturating_add(step).min(self.max);
                    self.probe = (self.limit < self.max).then_some((now + PROBE, step * 2));
                }
                _ => return false,
            }
        }
        let is_free = self.held < self.limit;
        self.held += usize::from(is_free);
        is_free
    }

    fn wake_first(&self) {
        if let Some(first) = self.waiting.values().next() {
            first.notify_one();
        }
    }
}

/// Entry of a waiter in the queue. It is removed when the waiter is admitted or dropped, and the next waiter
/// is woken.
struct Queued<'a>(&'a Waiter);

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        let mut state = self.0.semaphore.lock();
        state.waiting.remove(&self.0.number);
        state.wake_first();
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.held -= 1;
        state.wake_first();
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tokio::time::{advance, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_dropped_waiter_wakes_the_next_one() {
        let semaphore = AdaptiveSemaphore::new(1);
        let permit = semaphore.waiter().try_acquire().unwrap();
        let (first, second) = (semaphore.waiter(), semaphore.waiter());
        let mut first = Box::pin(first.acquire());
        let mut second = Box::pin(second.acquire());
        assert!(first.as_mut().now_or_never().is_none() && second.as_mut().now_or_never().is_none());
        drop(permit);
        // The first waiter was woken, and is dropped before it acquires the permit.
        drop(first);
        assert!(second.now_or_never().is_some());
        assert!(semaphore.waiter().try_acquire().is_some(), "released again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_later_waiter_does_not_overtake() {
        let semaphore = AdaptiveSemaphore::new(1);
        let permit = semaphore.waiter().try_acquire().unwrap();
        let (early, late) = (semaphore.waiter(), semaphore.waiter());
        let mut waits = Box::pin(early.acquire());
        assert!(waits.as_mut().now_or_never().is_none());
        drop(permit);
        assert!(late.try_acquire().is_none(), "the earlier waiter comes first");
        let permit = waits.await;
        drop(permit);
        assert!(late.try_acquire().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_lowers_the_limit_and_probes_raise_it_again() {
        let semaphore = AdaptiveSemaphore::new(100);
        let mut permits: Vec<_> = (0..10).map(|_| semaphore.waiter().try_acquire().unwrap()).collect();
        let refused = semaphore.waiter();
        drop(refused.try_acquire().unwrap());
        refused.refused();
        assert_eq!((semaphore.held(), semaphore.limit()), (10, 10));
        drop(permits.pop());
        permits.push(refused.acquire().await);
        assert!(timeout(PROBE - Duration::from_millis(1), semaphore.waiter().acquire()).await.is_err());
        for limit in [11, 13, 17, 25, 41, 73, 100] {
            advance(PROBE).await;
            while let Some(permit) = semaphore.waiter().try_acquire() {
                permits.push(permit);
            }
            assert_eq!((semaphore.held(), semaphore.limit()), (limit, limit));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_of_zero_is_probed_every_ten_seconds() {
        let semaphore = AdaptiveSemaphore::new(5);
        let waiter = semaphore.waiter();
        let begun = Instant::now();
        for probes in 0..4 {
            let permit = waiter.acquire().await;
            assert_eq!(begun.elapsed(), PROBE * probes);
            drop(permit);
            waiter.refused();
            assert_eq!(semaphore.limit(), 0);
        }
    }
}
