//! [`Group`]: appends that come together share one write.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use super::{Index, Line};

/// Where lines become durable.
#[async_trait]
pub(super) trait Sink: Send + 'static {
    /// Makes whole lines durable. After an error it is not known which of them are.
    async fn write(&mut self, lines: Vec<u8>) -> Result<(), String>;
}

/// Lines on their way to a sink. Those that wait while another write is under way go together in the next one.
pub(super) struct Group<S> {
    state: Arc<Mutex<State>>,
    sink: Arc<AsyncMutex<S>>,
}

struct State {
    index: Index,
    waiting: Vec<Line>,
    bytes: Vec<u8>,
    /// How many lines ever came.
    came: u64,
    /// How many of them are durable.
    durable: u64,
    /// Whether a write is under way. Found by the next one, that one was cut off.
    is_writing: bool,
    /// Set by a failed write: what is behind the last durable line is then unknown, and nothing may be put after it.
    broken: Option<String>,
}

impl<S: Sink> Group<S> {
    pub(super) fn new(sink: S, index: Index) -> Self {
        let state = State {
            index,
            waiting: Vec::new(),
            bytes: Vec::new(),
            came: 0,
            durable: 0,
            is_writing: false,
            broken: None,
        };
        Self { state: Arc::new(Mutex::new(state)), sink: Arc::new(AsyncMutex::new(sink)) }
    }

    /// Returns once the line is durable. Lines of one caller that waits for each keep their order.
    pub(super) async fn append(&self, line: Line) -> Result<(), String> {
        let number = lock(&self.state).queue(line)?;
        // Whoever comes first writes for all that came meanwhile; the others find their lines durable.
        let mut sink = self.sink.clone().lock_owned().await;
        if let Some(verdict) = lock(&self.state).verdict(number) {
            return verdict;
        }
        let state = self.state.clone();
        // On a task of its own: a caller that goes away does not cut a write that others wait for.
        let written = tokio::spawn(async move {
            let (lines, bytes) = lock(&state).take();
            let written = sink.write(bytes).await;
            lock(&state).note(lines, written.clone());
            written
        });
        match written.await {
            Ok(verdict) => verdict,
            Err(error) => Err(error.to_string()),
        }
    }

    /// The sink, while nothing is written to it.
    pub(super) async fn sink(&self) -> Result<OwnedMutexGuard<S>, String> {
        let sink = self.sink.clone().lock_owned().await;
        match &lock(&self.state).broken {
            Some(broken) => Err(broken.clone()),
            None => Ok(sink),
        }
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Index)) {
        change(&mut lock(&self.state).index);
    }

    pub(super) fn read<T>(&self, read: impl FnOnce(&Index) -> T) -> T {
        read(&lock(&self.state).index)
    }
}

const LOST: &str = "an earlier write was cut off; open the journal again";

impl State {
    fn queue(&mut self, line: Line) -> Result<u64, String> {
        if let Some(broken) = &self.broken {
            return Err(broken.clone());
        }
        let begin = self.bytes.len();
        if let Err(error) = line.write(&mut self.bytes) {
            self.bytes.truncate(begin);
            return Err(error.to_string());
        }
        self.waiting.push(line);
        self.came += 1;
        Ok(self.came)
    }

    /// Whether the line of this number is durable, or never will be; `None`: it waits. Asked by whoever has the sink.
    fn verdict(&mut self, number: u64) -> Option<Result<(), String>> {
        if self.is_writing {
            self.broken = Some(LOST.to_owned());
        }
        match &self.broken {
            _ if number <= self.durable => Some(Ok(())),
            Some(broken) => Some(Err(broken.clone())),
            None => None,
        }
    }

    fn take(&mut self) -> (Vec<Line>, Vec<u8>) {
        self.is_writing = true;
        (std::mem::take(&mut self.waiting), std::mem::take(&mut self.bytes))
    }

    fn note(&mut self, lines: Vec<Line>, written: Result<(), String>) {
        self.is_writing = false;
        match written {
            Ok(()) => {
                self.durable += lines.len() as u64;
                lines.into_iter().for_each(|line| self.index.apply(line));
            }
            Err(error) => self.broken = Some(error),
        }
    }
}

// A panic while the lock was held leaves `broken` as it was; the state itself is never half changed.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::future::join_all;
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::{
        StepKey,
        journal::{Event, Record},
    };

    /// Takes a second a write, notes how many lines each had, and fails after so many.
    struct Slow(Arc<Mutex<Vec<usize>>>, usize);

    #[async_trait]
    impl Sink for Slow {
        async fn write(&mut self, lines: Vec<u8>) -> Result<(), String> {
            sleep(Duration::from_secs(1)).await;
            let mut writes = self.0.lock().unwrap();
            if writes.len() == self.1 {
                return Err("the disk is full".to_owned());
            }
            writes.push(lines.iter().filter(|byte| **byte == b'\n').count());
            Ok(())
        }
    }

    fn line(step: usize) -> Line {
        let event = Event::Refused { error: "no".to_owned() };
        Line::Step(Record {
            at: "2026-11-23T06:30:00Z".parse().unwrap(),
            key: StepKey::new("r", format!("s{step}")),
            event,
        })
    }

    #[tokio::test(start_paused = true)]
    async fn lines_that_come_during_a_write_share_the_next_one() {
        let writes = Arc::<Mutex<Vec<usize>>>::default();
        let group = Group::new(Slow(writes.clone(), 9), Index::default());
        let start = Instant::now();
        let took = join_all((0..100).map(async |step| {
            group.append(line(step)).await.unwrap();
            start.elapsed().as_secs()
        }))
        .await;
        // All hundred were queued before the first write began to run.
        assert_eq!((*writes.lock().unwrap()).iter().sum::<usize>(), 100);
        assert!(writes.lock().unwrap().len() <= 2, "{writes:?}");
        assert!(took.iter().all(|seconds| (1..=2).contains(seconds)), "none before its own write: {took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_counts_as_written_only_after_its_own_write() {
        let writes = Arc::<Mutex<Vec<usize>>>::default();
        let group = Group::new(Slow(writes.clone(), 9), Index::default());
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

    #[tokio::test(start_paused = true)]
    async fn nothing_is_put_behind_a_write_that_failed() {
        let group = Group::new(Slow(Arc::default(), 1), Index::default());
        assert_eq!(group.append(line(0)).await, Ok(()));
        assert_eq!(group.append(line(1)).await, Err("the disk is full".to_owned()));
        assert_eq!(group.append(line(2)).await, Err("the disk is full".to_owned()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_goes_away_cuts_no_write_of_others() {
        let group = Group::new(Slow(Arc::default(), 9), Index::default());
        let gone = tokio::time::timeout(Duration::from_millis(100), group.append(line(0))).await;
        assert!(gone.is_err());
        assert_eq!(group.append(line(1)).await, Ok(()));
    }
}
