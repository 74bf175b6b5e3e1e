//! The lock of a table. It admits one writer at a time, across processes and machines.
//!
//! | lock | storage | after the death of a writer |
//! |---|---|---|
//! | [`StorageLock`] | S3 and every store with conditional puts | blocks other writers until its lease expires |
//! | [`FileLock`] | a local disk, which has no conditional puts | the operating system releases it at once |
//!
//! Readers need no lock.
//!
//! A lease can expire while its holder is suspended, and a holder that is suspended right after a check does
//! not notice this. A commit is therefore completed by a copy of its inflight file. A writer that takes over
//! the table deletes this file first.

mod file;
mod storage;
mod term;
mod wait;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::Result;

pub use file::FileLock;
pub use storage::{LeaseTimes, StorageLock};
pub(crate) use term::{End, Term};

/// A lock that only one writer of a table can hold at a time.
///
/// For implementors: among all writers that compete for one table, on any machine, at most one may return
/// from [`acquire`](Self::acquire) until it releases the lock, dies, or its lease expires.
/// [`HeldLock::verify`] must report an expired lease. For callers: pass the lock to the options of a table.
#[async_trait]
pub trait TableLock: fmt::Debug + Send + Sync {
    /// Waits for the lock, for up to `wait`. If the future is dropped, the lock is not acquired, or is
    /// released before [`settled`](Self::settled) returns.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) if other writers held it during the whole time,
    /// naming the holder if known; [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if the storage
    /// cannot lock; [`ErrorKind::Storage`](crate::ErrorKind::Storage).
    async fn acquire(&self, wait: Duration) -> Result<Box<dyn HeldLock>>;

    /// Waits until no request of a dropped acquisition or a dropped lock is in flight. A program that ends
    /// earlier may leave a lease behind. Default: returns at once, for a lock that leaves nothing behind.
    async fn settled(&self) {}
}

/// A lock that is held until it is released or dropped. Prefer [`release`](Self::release), because a dropped
/// lock may be released with a delay.
#[async_trait]
pub trait HeldLock: fmt::Debug + Send + Sync {
    /// Checks that the lock is still held. It is called immediately before a commit completes.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) if another writer has taken over, or may have, so
    /// that the commit must not complete; [`ErrorKind::Storage`](crate::ErrorKind::Storage) if the state is
    /// unknown.
    async fn verify(&self) -> Result<()>;

    /// Returns a watch for a lock that can be lost while it is held. When the lock is lost, the write stops
    /// and sends no further changes. Default: `None`, for a lock that is held until it is released.
    fn watch(&self) -> Option<Arc<dyn LeaseWatch>> {
        None
    }

    /// Stops renewing the lock without releasing it. Changes of the holder may still take effect, and the
    /// next writer waits until the lease expires. Default: drops the lock.
    fn abandon(self: Box<Self>) {}

    /// Releases the lock.
    ///
    /// # Errors
    /// [`ErrorKind::Storage`](crate::ErrorKind::Storage) if the release could not be written. In that case,
    /// the lease expires by itself.
    async fn release(self: Box<Self>) -> Result<()>;
}

/// The remaining time of a lease.
///
/// For implementors: `remaining` must not send a request, because each change of a write calls it.
#[async_trait]
pub trait LeaseWatch: fmt::Debug + Send + Sync {
    /// Returns the time for which no other writer can acquire the lock. Zero if another writer may hold it.
    fn remaining(&self) -> Duration;

    /// Waits until the remaining time is zero.
    async fn lost(&self);
}
