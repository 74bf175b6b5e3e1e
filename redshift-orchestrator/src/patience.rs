//! How long a request may take, not counting the time that it stands in a queue of ours.
//!
//! Layers hold requests back: for their turn, for room. Who bounds a request's time from outside must not take that for a service that
//! does not answer, least of all of a submit, which would have to count as lost. So a layer says when a request stands in its queue,
//! and the bound, on the same task, waits with counting.

use std::{
    future::Future,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

tokio::task_local! {
    static QUEUE: Arc<Queue>;
}

/// Whether a request stands in a queue, or since when it is on its way.
#[derive(Debug)]
pub(crate) struct Queue {
    /// `None`: it stands in a queue.
    sent_at: Mutex<Option<Instant>>,
    entered: Notify,
}

/// Why a request was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GivenUp {
    /// It was on its way for too long.
    Late,
    /// It still stood in a queue when it was of no use any more. It was not sent.
    Unsent,
}

/// Waits for the answer of `request`, at most `limit` from when it was sent. Once `useless_from` has come, it is not sent any more.
pub(crate) fn bounded<F: Future>(
    limit: Duration,
    useless_from: Option<Instant>,
    request: F,
) -> impl Future<Output = Result<F::Output, GivenUp>> {
    Queue::new().bounded(limit, useless_from, request)
}

/// Waits in a queue.
pub(crate) async fn queued<F: Future>(wait: F) -> F::Output {
    // Somebody who does not bound the request does not care.
    let queue = QUEUE.try_with(Arc::clone).ok();
    let _place = queue.map(Place::enter);
    wait.await
}

struct Place(Arc<Queue>);

impl Place {
    fn enter(queue: Arc<Queue>) -> Self {
        queue.set(None);
        queue.entered.notify_one();
        Self(queue)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(Some(Instant::now()));
    }
}

impl Queue {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { sent_at: Mutex::new(Some(Instant::now())), entered: Notify::new() })
    }

    fn set(&self, sent_at: Option<Instant>) {
        *self.sent_at.lock().unwrap_or_else(PoisonError::into_inner) = sent_at;
    }

    fn sent_at(&self) -> Option<Instant> {
        *self.sent_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the request stands in a queue.
    pub(crate) async fn stands(&self) {
        while self.sent_at().is_some() {
            self.entered.notified().await;
        }
    }

    pub(crate) async fn bounded<F: Future>(
        self: Arc<Self>,
        limit: Duration,
        useless_from: Option<Instant>,
        request: F,
    ) -> Result<F::Output, GivenUp> {
        let mut request = pin!(QUEUE.scope(self.clone(), request));
        loop {
            let now = Instant::now();
            // While it stands in a queue, a look now and then is enough: `limit` has not even begun.
            let late = self.sent_at().unwrap_or(now) + limit;
            let look =
                useless_from.filter(|useless| *useless > now).map_or(late, |useless| useless.min(late));
            if let Ok(answer) = timeout_at(look, &mut request).await {
                return Ok(answer);
            }
            let now = Instant::now();
            match self.sent_at() {
                Some(sent) if sent + limit <= now => return Err(GivenUp::Late),
                None if useless_from.is_some_and(|useless| useless <= now) => return Err(GivenUp::Unsent),
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
    async fn a_request_on_its_way_is_given_up_exactly_at_its_limit() {
        let begun = Instant::now();
        let request = async {
            queued(sleep(7 * SECOND)).await;
            sleep(100 * SECOND).await;
        };
        assert_eq!(bounded(10 * SECOND, None, request).await, Err(GivenUp::Late));
        assert_eq!(begun.elapsed().as_secs(), 17);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_useless_is_not_sent_and_what_was_sent_is_waited_for() {
        let begun = Instant::now();
        let useless = Some(begun + 3 * SECOND);
        let unsent = bounded(10 * SECOND, useless, queued(sleep(60 * SECOND))).await;
        assert_eq!((unsent, begun.elapsed().as_secs()), (Err(GivenUp::Unsent), 3));
        let useless = Some(Instant::now() + 3 * SECOND);
        assert_eq!(bounded(10 * SECOND, useless, sleep(9 * SECOND)).await, Ok(()));
    }
}
