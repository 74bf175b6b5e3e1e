//! The lock that admits one writer at a time to a table, among processes and machines.
//!
//! | lock | storage | after a writer died |
//! |---|---|---|
//! | [`StorageLock`] | S3 and every store with conditional puts | blocks other writers until its lease expires |
//! | [`FileLock`] | a local disk, which has no conditional puts | is released at once by the operating system |
//!
//! Readers need no lock.
//!
//! A lease can expire while its holder is suspended, and a holder that is suspended right after a check does
//! not notice. A commit is therefore completed by a copy of its inflight file, which a writer that takes the
//! table over deletes first.

mod file;
mod storage;
mod wait;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::Result;

pub use file::FileLock;
pub use storage::{LeaseTimes, StorageLock};

/// A lock that only one writer of a table can hold.
///
/// For implementors: among all writers that compete for one table, on any machine, at most one may return
/// from [`acquire`](Self::acquire) until it releases the lock, dies, or its lease expires.
/// [`HeldLock::verify`] must report an expired lease. For callers: pass it to the options of a table.
#[async_trait]
pub trait TableLock: fmt::Debug + Send + Sync {
    /// Waits for the lock, at most for `wait`. If the future is dropped, the lock is not held, or is released
    /// before [`settled`](Self::settled) returns.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) if other writers held it all the time, naming the
    /// holder if known; [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if the storage cannot lock;
    /// [`ErrorKind::Storage`](crate::ErrorKind::Storage).
    async fn acquire(&self, wait: Duration) -> Result<Box<dyn HeldLock>>;

    /// Waits until no request is in flight for an acquisition or a lock that was dropped: a program that ends
    /// before that may leave a lease behind. Default: returns at once, for a lock that leaves nothing behind.
    async fn settled(&self) {}
}

/// A lock that is held until it is released or dropped. Prefer [`release`](Self::release), because a dropped
/// lock may be released later.
#[async_trait]
pub trait HeldLock: fmt::Debug + Send + Sync {
    /// Checks that the lock is still held, right before a commit completes.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) if another writer took over, or may have: the
    /// commit must not complete; [`ErrorKind::Storage`](crate::ErrorKind::Storage) if the state is unknown.
    async fn verify(&self) -> Result<()>;

    /// Returns the watch of a lock that can be lost while it is held: the write stops then, and sends no
    /// further change. Default: `None`, for a lock that is held until it is released.
    fn watch(&self) -> Option<Arc<dyn LeaseWatch>> {
        None
    }

    /// Stops renewing the lock without releasing it: changes of the holder may still take effect, and the
    /// next writer waits until the lease expires. Default: drops the lock.
    fn abandon(self: Box<Self>) {}

    /// Releases the lock.
    ///
    /// # Errors
    /// [`ErrorKind::Storage`](crate::ErrorKind::Storage) if the release could not be written; the lease then
    /// expires by itself.
    async fn release(self: Box<Self>) -> Result<()>;
}

/// The remaining time of a lease.
///
/// For implementors: `remaining` must not send a request, because each change of a write calls it.
#[async_trait]
pub trait LeaseWatch: fmt::Debug + Send + Sync {
    /// Returns the time for which no other writer can acquire the lock; zero if another one may hold it.
    fn remaining(&self) -> Duration;

    /// Waits until no time remains.
    async fn lost(&self);
}
