//! Doing several things at a time, but not all at once; and work that would hold up the runtime.

use std::future::Future;

use futures::{StreamExt, TryStreamExt, stream};

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
