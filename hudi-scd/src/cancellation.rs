//! [`Cancellation`]: ends the writes of a table in order.

use std::sync::Arc;

use tokio::sync::watch;

/// Ends writes in order: a cancelled write sends no further changes to the storage, waits for those in
/// flight, and releases the table's lock.
///
/// It is meant for programs that end on a signal. A dropped future does not release the lock of a remote
/// table if a request was in flight, because that request may take effect later; the lease then expires by
/// itself, after 5 minutes by default.
///
/// ```
/// # use hudi_scd::{Cancellation, TableOptions};
/// let cancellation = Cancellation::new();
/// let options = TableOptions::new().with_cancellation(cancellation.clone());
/// // On Ctrl-C, in another task:
/// cancellation.cancel();
/// assert!(cancellation.is_cancelled() && !cancellation.is_writing());
/// ```
#[derive(Clone, Debug)]
pub struct Cancellation {
    cancelled: Arc<watch::Sender<bool>>,
    writes: Arc<watch::Sender<usize>>,
}

impl Default for Cancellation {
    fn default() -> Self {
        Self::new()
    }
}

impl Cancellation {
    /// Creates a cancellation that is not requested yet.
    pub fn new() -> Self {
        Self { cancelled: Arc::new(watch::Sender::new(false)), writes: Arc::new(watch::Sender::new(0)) }
    }

    /// Ends the writes of all tables with this cancellation. They fail with
    /// [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled), unless their commit completed already.
    pub fn cancel(&self) {
        self.cancelled.send_replace(true);
    }

    /// Returns `true` once [`Cancellation::cancel`] was called.
    pub fn is_cancelled(&self) -> bool {
        *self.cancelled.borrow()
    }

    /// Returns `true` while a write waits for the lock of a table, or holds it.
    pub fn is_writing(&self) -> bool {
        *self.writes.borrow() > 0
    }

    /// Waits for [`Cancellation::cancel`].
    pub(crate) async fn cancelled(&self) {
        // The sender lives as long as `self`.
        let _ = self.cancelled.subscribe().wait_for(|cancelled| *cancelled).await;
    }

    /// Counts a write until the result is dropped.
    pub(crate) fn writing(&self) -> Writing {
        self.writes.send_modify(|writes| *writes += 1);
        Writing(self.clone())
    }
}

/// A write that waits for the lock of a table, or holds it.
#[derive(Debug)]
pub(crate) struct Writing(Cancellation);

impl Drop for Writing {
    fn drop(&mut self) {
        self.0.writes.send_modify(|writes| *writes -= 1);
    }
}
