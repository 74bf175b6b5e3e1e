//! Request timeouts that exclude time spent in the queues of layers.
//!
//! A layer delays a request until a permit is free or the rate allows another request. A timeout around the
//! layer must exclude this delay; otherwise a submit that is only queued would count as lost. The layer
//! therefore wraps the delay in [`queued`]. A [`bounded`] in the same task starts its timeout when the
//! request leaves the last queue.
//!
//! A deadline is an `Instant`, which stops while the machine sleeps. A request that [expires](Expiry) by the
//! wall clock is also checked when it leaves a queue.

use std::{
    future::{Future, pending},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use crate::Clock;

tokio::task_local! {
    static QUEUE: Arc<Queue>;
}

/// Queue state of one request.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    /// Notified when the request enters a queue, and when it expires in one.
    changed: Notify,
}

#[derive(Debug)]
struct State {
    /// Number of nested queues that the request is in. Leaving an inner queue does not end the outer one.
    depth: usize,
    /// Time at which the request left its last queue, or was created.
    sent_at: Instant,
    /// Time after which the request does not leave a queue. The sender of the request can change it.
    expiry: Option<Expiry>,
    /// The same for a request that a layer repeats. A layer does not know the sender's time, so both apply.
    repetition_expiry: Option<Expiry>,
    /// `true` if the request expired in a queue.
    is_expired: bool,
}

/// Time after which a request must not be sent. tokio's clock wakes a request that waits in a queue, and the
/// wall clock also counts the time for which the machine sleeps.
#[derive(Clone, Debug)]
pub(crate) struct Expiry {
    deadline: Instant,
    clock: Arc<dyn Clock>,
    at: Timestamp,
}

impl Expiry {
    /// Returns the expiry of a request that may be sent for `lifetime`.
    pub(crate) fn after(clock: Arc<dyn Clock>, lifetime: Duration) -> Self {
        let at = clock.now() + lifetime;
        Self { deadline: Instant::now() + lifetime, clock, at }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.deadline <= Instant::now() || self.at <= self.clock.now()
    }
}

/// Reason why a request was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GivenUp {
    /// No response arrived in time.
    TimedOut,
    /// The request was in a queue at its deadline or expiry, or entered a queue later. It was not sent from
    /// that queue.
    NotSent,
}

/// Waits for the response to `request` for at most `limit` after it was sent. The request is given up if it
/// is in a queue at `send_deadline`, or enters one later.
pub(crate) fn bounded<F: Future>(
    limit: Duration,
    send_deadline: Option<Instant>,
    request: F,
) -> impl Future<Output = Result<F::Output, GivenUp>> {
    Queue::new().bounded(limit, send_deadline, request)
}

/// Waits for the response to `request`, which a layer may be repeating. The request is given up if it has
/// expired already, if it is in a queue at its `expiry`, or if it enters one later. An enclosing [`bounded`]
/// also excludes its time in queues, and the expiry of the enclosing request applies, too.
pub(crate) async fn unless_expired<F: Future>(
    expiry: Option<Expiry>,
    request: F,
) -> Result<F::Output, GivenUp> {
    let (queue, request) = observed(request);
    let deadline = expiry.as_ref().map(|expiry| expiry.deadline);
    if let Some(expiry) = expiry {
        queue.repetition_expires_at(expiry);
    }
    if queue.expires() {
        return Err(GivenUp::NotSent);
    }
    let queued_too_long = async {
        match deadline {
            Some(deadline) => sleep_until(deadline).await,
            None => pending().await,
        }
        queue.wait_until_queued().await;
    };
    tokio::select! {
        biased;
        response = request => Ok(response),
        () = queue.wait_until_expired() => Err(GivenUp::NotSent),
        () = queued_too_long => Err(GivenUp::NotSent),
    }
}

/// Returns the queue state of `request`, and a future that updates it while it runs `request`. Inside a
/// [`bounded`], this is the queue state that `bounded` uses.
pub(crate) fn observed<F: Future>(request: F) -> (Arc<Queue>, impl Future<Output = F::Output>) {
    let queue = QUEUE.try_with(Arc::clone).unwrap_or_else(|_| Queue::new());
    (queue.clone(), QUEUE.scope(queue, request))
}

/// Marks the duration of `wait` as time in a queue. Does not return if the request has expired meanwhile; the
/// enclosing function then drops it.
pub(crate) async fn queued<F: Future>(wait: F) -> F::Output {
    // Without an enclosing `bounded` or `observed`, there is no state to update.
    let Ok(queue) = QUEUE.try_with(Arc::clone) else { return wait.await };
    let _in_queue = InQueue::begin(queue.clone());
    let output = wait.await;
    if queue.expires() {
        pending::<()>().await;
    }
    output
}

/// Guard for the time in one queue, from its creation until it is dropped.
struct InQueue(Arc<Queue>);

impl InQueue {
    fn begin(queue: Arc<Queue>) -> Self {
        queue.state().depth += 1;
        queue.changed.notify_waiters();
        Self(queue)
    }
}

impl Drop for InQueue {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.depth -= 1;
        state.sent_at = Instant::now();
    }
}

impl Queue {
    pub(crate) fn new() -> Arc<Self> {
        let state = State {
            depth: 0,
            sent_at: Instant::now(),
            expiry: None,
            repetition_expiry: None,
            is_expired: false,
        };
        Arc::new(Self { state: Mutex::new(state), changed: Notify::new() })
    }

    /// Sets or changes the time after which the request does not leave a queue.
    pub(crate) fn expire_at(&self, expiry: Expiry) {
        self.state().expiry = Some(expiry);
    }

    /// Sets the time after which a repetition of the request does not leave a queue, unless an earlier time
    /// is set.
    fn repetition_expires_at(&self, expiry: Expiry) {
        let mut state = self.state();
        if state.repetition_expiry.as_ref().is_none_or(|earlier| expiry.at < earlier.at) {
            state.repetition_expiry = Some(expiry);
        }
    }

    /// Returns `true` if the request has expired, and notifies the function that waits for its response.
    fn expires(&self) -> bool {
        let mut state = self.state();
        let is_over = |expiry: &Option<Expiry>| expiry.as_ref().is_some_and(Expiry::is_over);
        state.is_expired = is_over(&state.expiry) || is_over(&state.repetition_expiry);
        if state.is_expired {
            self.changed.notify_waiters();
        }
        state.is_expired
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the time at which the request was sent; `None` while it is in a queue.
    fn sent_at(&self) -> Option<Instant> {
        let state = self.state();
        (state.depth == 0).then_some(state.sent_at)
    }

    /// Returns `true` while the request is in a queue.
    pub(crate) fn is_waiting(&self) -> bool {
        self.sent_at().is_none()
    }

    /// Waits until the request is in a queue.
    pub(crate) async fn wait_until_queued(&self) {
        while self.sent_at().is_some() {
            self.changed.notified().await;
        }
    }

    /// Waits until the request has expired in a queue.
    async fn wait_until_expired(&self) {
        while !self.state().is_expired {
            self.changed.notified().await;
        }
    }

    pub(crate) async fn bounded<F: Future>(
        self: Arc<Self>,
        limit: Duration,
        send_deadline: Option<Instant>,
        request: F,
    ) -> Result<F::Output, GivenUp> {
        let mut request = pin!(QUEUE.scope(self.clone(), request));
        loop {
            let now = Instant::now();
            // A request in a queue has its whole `limit` left, so it cannot be late before `now + limit`.
            let late = self.sent_at().unwrap_or(now) + limit;
            let is_past_deadline = send_deadline.is_some_and(|deadline| deadline <= now);
            let next_check =
                send_deadline.filter(|_| !is_past_deadline).map_or(late, |deadline| deadline.min(late));
            tokio::select! {
                biased;
                response = &mut request => return Ok(response),
                () = self.wait_until_queued(), if is_past_deadline => return Err(GivenUp::NotSent),
                () = self.wait_until_expired() => return Err(GivenUp::NotSent),
                () = sleep_until(next_check) => {}
            }
            let now = Instant::now();
            match self.sent_at() {
                Some(sent) if sent + limit <= now => return Err(GivenUp::TimedOut),
                None if send_deadline.is_some_and(|deadline| deadline <= now) => {
                    return Err(GivenUp::NotSent);
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Clock of a machine that sleeps: it can be set forward while tokio's clock stands still.
    #[derive(Debug, Default)]
    struct WallClock(Mutex<Timestamp>);

    impl Clock for WallClock {
        fn now(&self) -> Timestamp {
            *self.0.lock().unwrap()
        }
    }

    /// Regression: the deadline in a queue is an `Instant`, which stops while the machine sleeps.
    #[tokio::test(start_paused = true)]
    async fn a_request_does_not_leave_a_queue_after_the_machine_slept_past_its_expiry() {
        for (slept, response) in [(7, Ok(())), (9, Err(GivenUp::NotSent))] {
            let clock = Arc::new(WallClock::default());
            let expiry = Expiry::after(clock.clone(), 8 * 3_600 * SECOND);
            let queue = Queue::new();
            queue.expire_at(expiry.clone());
            let sleeping = || async {
                sleep(SECOND).await;
                *clock.0.lock().unwrap() = expiry.at - 8 * 3_600 * SECOND + slept * 3_600 * SECOND;
            };
            assert_eq!(queue.bounded(60 * SECOND, None, queued(sleeping())).await, response);
            assert_eq!(unless_expired(Some(expiry.clone()), queued(sleeping())).await, response);
        }
    }

    /// Regression: a layer that repeated the request replaced the expiry of its sender by a later one.
    #[tokio::test(start_paused = true)]
    async fn a_repeated_request_keeps_the_earlier_expiry() {
        let hour = 3_600 * SECOND;
        for (sender, layer, is_sent) in [(1, 8, false), (8, 1, false), (3, 8, true)] {
            for is_queued in [true, false] {
                let clock = Arc::new(WallClock::default());
                let expiry = |hours| Expiry::after(clock.clone(), hours * hour);
                let queue = Queue::new();
                queue.expire_at(expiry(sender));
                // The machine sleeps for two hours, either in a queue or before the request is repeated.
                let sleeps = async { *clock.0.lock().unwrap() += 2 * hour };
                let repeated = async {
                    match is_queued {
                        true => unless_expired(Some(expiry(layer)), queued(sleeps)).await,
                        false => {
                            let at = expiry(layer);
                            sleeps.await;
                            unless_expired(Some(at), async {}).await
                        }
                    }
                };
                let sent = queue.bounded(60 * SECOND, None, repeated).await;
                let expected = if is_sent { Ok(()) } else { Err(GivenUp::NotSent) };
                assert_eq!(sent, Ok(expected), "{sender} {layer} {is_queued}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_a_queue_does_not_count() {
        let request = async {
            queued(sleep(100 * SECOND)).await;
            sleep(5 * SECOND).await;
            queued(sleep(100 * SECOND)).await;
            sleep(9 * SECOND).await;
        };
        assert_eq!(bounded(10 * SECOND, None, request).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_inside_a_queue_does_not_end_the_outer_one() {
        let request = queued(async {
            queued(sleep(5 * SECOND)).await;
            sleep(100 * SECOND).await;
        });
        assert_eq!(bounded(10 * SECOND, None, request).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_in_flight_is_given_up_exactly_at_its_limit() {
        let begun = Instant::now();
        let request = async {
            queued(sleep(7 * SECOND)).await;
            sleep(100 * SECOND).await;
        };
        assert_eq!(bounded(10 * SECOND, None, request).await, Err(GivenUp::TimedOut));
        assert_eq!(begun.elapsed().as_secs(), 17);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_is_not_sent_after_its_deadline_but_is_awaited_once_sent() {
        let begun = Instant::now();
        let deadline = Some(begun + 3 * SECOND);
        let unsent = bounded(10 * SECOND, deadline, queued(sleep(60 * SECOND))).await;
        assert_eq!((unsent, begun.elapsed().as_secs()), (Err(GivenUp::NotSent), 3));
        let deadline = Some(Instant::now() + 3 * SECOND);
        assert_eq!(bounded(10 * SECOND, deadline, sleep(9 * SECOND)).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_in_flight_at_its_deadline_is_not_sent_again() {
        let begun = Instant::now();
        let request = async {
            sleep(2 * SECOND).await;
            // The request was rejected, and waits for its next turn.
            queued(sleep(10 * SECOND)).await;
            sleep(SECOND).await;
        };
        let unsent = bounded(60 * SECOND, Some(begun + SECOND), request).await;
        assert_eq!((unsent, begun.elapsed().as_secs()), (Err(GivenUp::NotSent), 2));
    }
}
