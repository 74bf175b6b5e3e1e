//! [`Cancellation`]: ends the writes of a table in order.

use std::sync::Arc;

use tokio::sync::watch;

/// Ends writes in an orderly way. A cancelled write sends no further changes to the storage, waits for
/// changes in flight, and releases the table's lock.
///
/// Use it in programs that a signal ends. Dropping a future is not enough: it does not release the lock of a
/// remote table if a request is in flight, because that request may take effect later. The lease then expires
/// by itself, after 5 minutes by default.
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
    /// Creates a cancellation that has not been requested yet.
    pub fn new() -> Self {
        Self { cancelled: Arc::new(watch::Sender::new(false)), writes: Arc::new(watch::Sender::new(0)) }
    }

    /// Ends the writes of all tables that use this cancellation. They fail with
    /// [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled), unless their commit has already completed, or
    /// with [`ErrorKind::Unknown`](crate::ErrorKind::Unknown) if the storage does not report whether it has.
    pub fn cancel(&self) {
        self.cancelled.send_replace(true);
    }

    /// Returns `true` after [`Cancellation::cancel`] was called.
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

    /// Counts a write until the returned value is dropped.
    pub(crate) fn writing(&self) -> Writing {
        self.writes.send_modify(|writes| *writes += 1);
        Writing(self.clone())
    }
}

/// A write that is waiting for the lock of a table, or holds it.
#[derive(Debug)]
pub(crate) struct Writing(Cancellation);

impl Drop for Writing {
    fn drop(&mut self) {
        self.0.writes.send_modify(|writes| *writes -= 1);
    }
}
