//! Streams rows that blocking work reads.

use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use tokio::sync::mpsc;

use crate::Result;

/// Runs blocking work that produces items, and returns the items as a stream. The work pauses while it is
/// `ahead` items ahead of the stream. The function that it calls to pass on an item reports if the stream was
/// dropped.
pub fn produced<T: Send + 'static>(
    ahead: usize,
    work: impl FnOnce(&mut dyn FnMut(T) -> bool) -> Result<()> + Send + 'static,
) -> BoxStream<'static, Result<T>> {
    let (give, take) = mpsc::channel(ahead.max(1));
    let working = tokio::task::spawn_blocking(move || {
        if let Err(error) = work(&mut |item| give.blocking_send(Ok(item)).is_ok()) {
            // If the stream was dropped, nothing receives the error.
            let _ = give.blocking_send(Err(error));
        }
    });
    let items = stream::unfold(take, |mut take| async move { Some((take.recv().await?, take)) });
    // After the last item, a panic of the work becomes a panic of the stream.
    let end = stream::once(working).filter_map(|done| async move {
        if let Err(ended) = done
            && let Ok(panic) = ended.try_into_panic()
        {
            std::panic::resume_unwind(panic);
        }
        None
    });
    items.chain(end).boxed()
}
