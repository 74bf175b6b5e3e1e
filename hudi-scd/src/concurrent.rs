//! Doing several things at a time, but not all at once; and work that would hold up the runtime.

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

/// Awaits futures, `width` of them at a time; results in the order of the futures, or the first error.
///
/// The futures are collected first: a stream that holds the closure which makes them is not `Send` for the compiler.
pub(crate) async fn ordered<T, F>(width: usize, futures: impl IntoIterator<Item = F>) -> Result<Vec<T>>
where
    F: Future<Output = Result<T>>,
{
    let futures: Vec<F> = futures.into_iter().collect();
    stream::iter(futures).buffered(width.max(1)).try_collect().await
}

/// Runs work that keeps a core busy or waits for a local disk on a thread for such.
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

/// Does several pieces of work that keep a core busy on `threads` threads, this one among them; results in the order of the
/// work, or the first error.
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

/// What blocking work produces, as a stream: the work waits when it is `ahead` items ahead, and learns from the function
/// it gives items to that nobody takes them any more.
pub(crate) fn produced<T: Send + 'static>(
    ahead: usize,
    work: impl FnOnce(&mut dyn FnMut(T) -> bool) -> Result<()> + Send + 'static,
) -> BoxStream<'static, Result<T>> {
    let (give, take) = mpsc::channel(ahead.max(1));
    let working = tokio::spawn(async move {
        let last_words = give.clone();
        let work = move || work(&mut |item| give.blocking_send(Ok(item)).is_ok());
        if let Err(error) = blocking(work).await {
            // Nobody is left to hear it if the stream was dropped.
            let _ = last_words.send(Err(error)).await;
        }
    });
    drop(working);
    stream::unfold(take, |mut take| async move { Some((take.recv().await?, take)) }).boxed()
}
