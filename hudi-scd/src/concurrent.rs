//! Bounded concurrency, and work that would block the runtime.

use std::{
    future::Future,
    sync::{Mutex, PoisonError},
};

use futures::{
    StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use tokio::sync::mpsc;

use crate::{Error, ErrorKind, Result};

/// Awaits futures, `width` of them at a time. Returns the results in the order of the futures, or the first
/// error.
///
/// The futures are collected first. A stream that holds the closure that creates them would not be `Send` for
/// the compiler.
pub(crate) async fn ordered<T, F>(width: usize, futures: impl IntoIterator<Item = F>) -> Result<Vec<T>>
where
    F: Future<Output = Result<T>>,
{
    let futures: Vec<F> = futures.into_iter().collect();
    stream::iter(futures).buffered(width.max(1)).try_collect().await
}

/// Awaits futures that change the storage, `width` of them at a time. Returns the results in the order of the
/// futures, or the first error.
///
/// After an error, no further future begins, and `stop` is called, so that those that have begun end early.
/// They are awaited: if they were dropped, their requests in flight could still take effect.
pub(crate) async fn ordered_changes<T, F>(
    width: usize,
    futures: impl IntoIterator<Item = F>,
    stop: impl Fn() + Sync,
) -> Result<Vec<T>>
where
    F: Future<Output = Result<T>>,
{
    let (failed, stop) = (&Mutex::new(None), &stop);
    let lock = || failed.lock().unwrap_or_else(PoisonError::into_inner);
    let noted = |future: F| async move {
        if lock().is_some() {
            return None;
        }
        match future.await {
            Ok(done) => Some(done),
            Err(error) => {
                lock().get_or_insert(error);
                stop();
                None
            }
        }
    };
    let futures: Vec<_> = futures.into_iter().map(noted).collect();
    let done: Vec<_> = stream::iter(futures).buffered(width.max(1)).collect().await;
    match lock().take() {
        Some(error) => Err(error),
        None => Ok(done.into_iter().flatten().collect()),
    }
}

/// Runs CPU-bound work or local disk access on a blocking thread.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(ended) => match ended.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(cancelled) => {
                Err(Error::new(ErrorKind::Storage, "the runtime is shutting down").with_source(cancelled))
            }
        },
    }
}

/// Runs several pieces of CPU-bound work on `threads` threads, including the calling one. Returns the results
/// in the order of the work, or the first error.
pub(crate) fn side_by_side<I: Send, T: Send>(
    threads: usize,
    work: Vec<I>,
    run: impl Fn(I) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let threads = threads.min(work.len());
    if threads <= 1 {
        return work.into_iter().map(run).collect();
    }
    let queue = Mutex::new(work.into_iter().enumerate());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let labour = || -> Result<Vec<(usize, T)>> {
        let mut done = Vec::new();
        while let Some((index, item)) = next() {
            done.push((index, run(item)?));
        }
        Ok(done)
    };
    let mut done = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(labour)).collect();
        let mut done = labour();
        for other in others {
            let theirs = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            done = done.and_then(|mut done| {
                done.extend(theirs?);
                Ok(done)
            });
        }
        done
    })?;
    done.sort_unstable_by_key(|(index, _)| *index);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

/// Runs blocking work that produces items, and returns the items as a stream. The work pauses while it is
/// `ahead` items ahead of the stream. The function that it calls to pass on an item reports if the stream was
/// dropped.
pub(crate) fn produced<T: Send + 'static>(
    ahead: usize,
    work: impl FnOnce(&mut dyn FnMut(T) -> bool) -> Result<()> + Send + 'static,
) -> BoxStream<'static, Result<T>> {
    let (give, take) = mpsc::channel(ahead.max(1));
    let working = tokio::spawn(async move {
        let last_words = give.clone();
        let work = move || work(&mut |item| give.blocking_send(Ok(item)).is_ok());
        if let Err(error) = blocking(work).await {
            // If the stream was dropped, nothing receives the error.
            let _ = last_words.send(Err(error)).await;
        }
    });
    drop(working);
    stream::unfold(take, |mut take| async move { Some((take.recv().await?, take)) }).boxed()
}
