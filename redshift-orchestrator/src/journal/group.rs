//! [`Group`]: group commit of concurrent appends.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use async_trait::async_trait;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use super::{Index, Line};

/// Storage to which a [`Group`] writes lines.
#[async_trait]
pub(super) trait Sink: Send + 'static {
    /// Writes complete lines durably. After an error, any of the lines may be durable.
    async fn write(&mut self, lines: Arc<[u8]>) -> Result<(), String>;

    /// Determines whether a write that failed or was interrupted took effect. Called before the next write.
    /// Returns `true` if all of its lines are durable, and `false` if none of them is durable or will become
    /// durable.
    async fn settle(&mut self, lines: Arc<[u8]>) -> Result<bool, String>;
}

/// Group commit of lines. Lines that are queued while a write is in flight are written together by the next
/// write.
///
/// If a write fails, the next append [settles](Sink::settle) it before its own write. The journal can
/// therefore be used again as soon as its storage works again.
pub(super) struct Group<S> {
    state: Arc<Mutex<State>>,
    pub(super) sink: Arc<AsyncMutex<S>>,
}

type Verdict = Arc<OnceLock<Result<(), String>>>;

#[derive(Default)]
struct State {
    index: Index,
    /// The lines for the next write.
    waiting: Batch,
    /// The lines of the write in flight, or of the last write if it failed or was interrupted.
    written: Option<Batch>,
}

#[derive(Default)]
struct Batch {
    lines: Vec<Line>,
    bytes: Arc<[u8]>,
    /// Result of the write, for all callers whose lines are in the batch.
    verdict: Verdict,
}

impl<S: Sink> Group<S> {
    pub(super) fn new(sink: S, index: Index) -> Self {
        let state = State { index, ..State::default() };
        Self { state: Arc::new(Mutex::new(state)), sink: Arc::new(AsyncMutex::new(sink)) }
    }

    /// Appends a line, and returns when the line is durable. If a caller awaits each append, its lines keep
    /// their order.
    pub(super) async fn append(&self, line: Line) -> Result<(), String> {
        let verdict = lock(&self.state).queue(line);
        // The first caller to acquire the sink writes all queued lines. Each of the other callers finds the
        // verdict of its line when it acquires the sink.
        let mut sink = self.sink.clone().lock_owned().await;
        if let Some(verdict) = verdict.get() {
            return verdict.clone();
        }
        let state = self.state.clone();
        // The write runs in a separate task. If this caller's future is dropped, the write must continue,
        // because other callers wait for it.
        let written = tokio::spawn(async move {
            if let Err(error) = settle(&mut *sink, &state).await {
                // The waiting lines were not passed to the sink.
                std::mem::take(&mut lock(&state).waiting).fail(error);
                return;
            }
            let bytes = lock(&state).take();
            let written = match bytes {
                Ok(bytes) => sink.write(bytes).await,
                Err(error) => Err(error),
            };
            lock(&state).note(written);
        });
        let done = written.await.map_err(|error| error.to_string());
        verdict.get().cloned().unwrap_or_else(|| done.and(Err(LOST.to_owned())))
    }

    /// Acquires the sink, and settles the last write if it failed. No write can begin until the sink is
    /// released.
    pub(super) async fn sink(&self) -> Result<OwnedMutexGuard<S>, String> {
        let mut sink = self.sink.clone().lock_owned().await;
        settle(&mut *sink, &self.state).await?;
        Ok(sink)
    }

    /// Replaces the index by one that was read from the storage while no write was in flight. A failed write
    /// need not be settled afterwards, because the new index contains its lines if it took effect.
    #[cfg(feature = "object-store")]
    pub(super) fn reset(&self, index: Index) {
        let mut state = lock(&self.state);
        (state.index, state.written) = (index, None);
    }

    /// Returns `true` if no append is waiting and no write is in flight.
    #[cfg(feature = "object-store")]
    pub(super) fn is_idle(&self) -> bool {
        Arc::strong_count(&self.sink) == 1
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Index)) {
        change(&mut lock(&self.state).index);
    }

    pub(super) fn read<T>(&self, read: impl FnOnce(&Index) -> T) -> T {
        read(&lock(&self.state).index)
    }
}

const LOST: &str = "the write was interrupted";

/// Settles the last write if it failed or was interrupted.
async fn settle<S: Sink>(sink: &mut S, state: &Mutex<State>) -> Result<(), String> {
    let Some(bytes) = lock(state).written.as_ref().map(|written| written.bytes.clone()) else {
        return Ok(());
    };
    let is_durable = sink.settle(bytes).await?;
    lock(state).note(if is_durable { Ok(()) } else { Err(LOST.to_owned()) });
    lock(state).written = None;
    Ok(())
}

impl Batch {
    fn fail(self, error: String) {
        let _ = self.verdict.set(Err(error));
    }
}

impl State {
    fn queue(&mut self, line: Line) -> Verdict {
        self.waiting.lines.push(line);
        self.waiting.verdict.clone()
    }

    /// Returns the bytes of the waiting lines, and makes these lines the batch of the next write.
    fn take(&mut self) -> Result<Arc<[u8]>, String> {
        let mut batch = std::mem::take(&mut self.waiting);
        let mut bytes = Vec::new();
        let written = batch.lines.iter().try_for_each(|line| line.write(&mut bytes));
        if let Err(error) = written {
            let message = error.to_string();
            batch.fail(message.clone());
            return Err(message);
        }
        batch.bytes = bytes.into();
        Ok(self.written.insert(batch).bytes.clone())
    }

    /// Applies the result of a write. After an error, the batch is kept until the write is settled.
    fn note(&mut self, result: Result<(), String>) {
        match (result, self.written.take()) {
            (Ok(()), Some(batch)) => {
                batch.lines.into_iter().for_each(|line| self.index.apply(line));
                // If the write failed before it was settled, its callers already have the error.
                let _ = batch.verdict.set(Ok(()));
            }
            (Err(error), Some(batch)) => {
                let _ = batch.verdict.set(Err(error));
                self.written = Some(batch);
            }
            (_, None) => {}
        }
    }
}

// No critical section panics halfway through an update, so the state of a poisoned lock is consistent.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, Ordering},
        time::Duration,
    };

    use futures::future::join_all;
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::{
        ClientToken, StepKey,
        journal::{Event, Record},
    };

    /// Sink whose writes take one second. Records the number of lines of each write.
    #[derive(Clone, Default)]
    struct Slow {
        writes: Arc<Mutex<Vec<usize>>>,
        /// `true` while writes fail.
        is_full: Arc<AtomicBool>,
        /// The result of settling a failed write.
        settled: Arc<AtomicBool>,
    }

    #[async_trait]
    impl Sink for Slow {
        async fn write(&mut self, lines: Arc<[u8]>) -> Result<(), String> {
            sleep(Duration::from_secs(1)).await;
            self.fails_if_full()?;
            self.writes.lock().unwrap().push(lines.iter().filter(|byte| **byte == b'\n').count());
            Ok(())
        }

        async fn settle(&mut self, _: Arc<[u8]>) -> Result<bool, String> {
            self.fails_if_full()?;
            Ok(self.settled.load(Ordering::Relaxed))
        }
    }

    impl Slow {
        fn fails_if_full(&self) -> Result<(), String> {
            match self.is_full.load(Ordering::Relaxed) {
                true => Err("the disk is full".to_owned()),
                false => Ok(()),
            }
        }
    }

    fn key(step: usize) -> StepKey {
        StepKey::new("r", format!("s{step}"))
    }

    fn line(step: usize) -> Line {
        let event =
            Event::Intent { token: ClientToken::new("t").unwrap(), name: "n".to_owned(), target: None };
        Line::Step(Record { at: "2026-11-23T06:30:00Z".parse().unwrap(), key: key(step), event })
    }

    #[tokio::test(start_paused = true)]
    async fn lines_appended_during_a_write_share_the_next_write() {
        let slow = Slow::default();
        let (writes, group) = (slow.writes.clone(), Group::new(slow, Index::default()));
        let start = Instant::now();
        let took = join_all((0..100).map(async |step| {
            group.append(line(step)).await.unwrap();
            start.elapsed().as_secs()
        }))
        .await;
        // All hundred lines were queued before the first write started.
        assert_eq!((*writes.lock().unwrap()).iter().sum::<usize>(), 100);
        assert!(writes.lock().unwrap().len() <= 2, "{writes:?}");
        assert!(took.iter().all(|seconds| (1..=2).contains(seconds)), "none before its own write: {took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_counts_as_written_only_after_its_own_write() {
        let slow = Slow::default();
        let (writes, group) = (slow.writes.clone(), Group::new(slow, Index::default()));
        let start = Instant::now();
        let late = async |after: f64, step| {
            sleep(Duration::from_secs_f64(after)).await;
            group.append(line(step)).await.unwrap();
            start.elapsed().as_secs_f64()
        };
        let took = tokio::join!(late(0.0, 0), late(0.5, 1), late(0.9, 2), late(1.1, 3));
        assert_eq!(took, (1.0, 2.0, 2.0, 3.0));
        assert_eq!(*writes.lock().unwrap(), [1, 2, 1]);
    }

    /// Regression: after the disk had been full for a minute, every append failed until the process was
    /// restarted.
    #[tokio::test(start_paused = true)]
    async fn a_group_recovers_with_its_sink() {
        for settled in [false, true] {
            let slow = Slow::default();
            slow.settled.store(settled, Ordering::Relaxed);
            let group = Group::new(slow.clone(), Index::default());
            let full = || Err("the disk is full".to_owned());
            assert_eq!(group.append(line(0)).await, Ok(()));
            slow.is_full.store(true, Ordering::Relaxed);
            assert_eq!(group.append(line(1)).await, full());
            let meanwhile = join_all((2..5).map(|step| group.append(line(step)))).await;
            assert_eq!(meanwhile, [full(), full(), full()]);
            slow.is_full.store(false, Ordering::Relaxed);
            assert_eq!(group.append(line(5)).await, Ok(()));
            let known: Vec<_> =
                (0..6).map(|step| group.read(|index| index.entry(&key(step)).is_some())).collect();
            assert_eq!(known, [true, settled, false, false, false, true], "only what is durable is known");
            assert_eq!(*slow.writes.lock().unwrap(), [1, 1]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn lines_appended_during_a_failing_write_fail_until_the_sink_recovers() {
        let slow = Slow::default();
        let group = Group::new(slow.clone(), Index::default());
        slow.is_full.store(true, Ordering::Relaxed);
        let later = async {
            sleep(Duration::from_millis(500)).await;
            let append = group.append(line(1));
            let free = async {
                sleep(Duration::from_millis(600)).await;
                slow.is_full.store(false, Ordering::Relaxed);
            };
            tokio::join!(append, free).0
        };
        // The first write fails at 1 s. The second append tries to settle it at once, before the disk has
        // space again at 1.1 s.
        let results = tokio::join!(group.append(line(0)), later);
        assert_eq!(results, (Err("the disk is full".to_owned()), Err("the disk is full".to_owned())));
        assert_eq!(group.append(line(2)).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_caller_does_not_interrupt_the_writes_of_others() {
        let group = Group::new(Slow::default(), Index::default());
        let gone = tokio::time::timeout(Duration::from_millis(100), group.append(line(0))).await;
        assert!(gone.is_err());
        assert_eq!(group.append(line(1)).await, Ok(()));
    }
}
