//! The lock that lets one writer at a time change a table, among processes and machines.
//!
//! | lock | for | a writer that died |
//! |---|---|---|
//! | [`StorageLock`] | S3 and every store with conditional puts | blocks the others until its lease ends |
//! | [`FileLock`] | a local disk, which has none | lets go at once: the operating system sees to it |
//!
//! Readers need no lock.
//!
//! A lease can end while its holder sleeps, and no look at the lock helps the holder who sleeps right after it. That is why
//! a commit is completed with something that whoever takes the table over takes away first: its inflight file, of which
//! the completed one is a copy.

mod file;
mod storage;
mod wait;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::Result;

pub use file::FileLock;
pub use storage::{LeaseTimes, StorageLock};

/// Something that only one writer of a table can hold.
///
/// For implementors: of all that compete for one table, on whatever machine, at most one may get through
/// [`acquire`](Self::acquire) before it lets go, dies, or its lease ends; one whose lease ended must learn it from
/// [`HeldLock::verify`]. For callers: pass it to the options of a table; the table does the rest.
#[async_trait]
pub trait TableLock: fmt::Debug + Send + Sync {
    /// Waits for the lock, at most for `wait`. If the future is dropped, the lock is not held; a lease whose
    /// request was in flight then may last until it ends by itself.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) if others held it all the time, naming the holder if it is known;
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if the storage cannot lock;
    /// [`ErrorKind::Storage`](crate::ErrorKind::Storage).
    async fn acquire(&self, wait: Duration) -> Result<Box<dyn HeldLock>>;
}

/// A lock that is held until it is released or dropped. Releasing is better: what is dropped may only be let go later.
#[async_trait]
pub trait HeldLock: fmt::Debug + Send + Sync {
    /// Makes sure that the lock is held still; to be asked right before a commit completes.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`](crate::ErrorKind::Conflict) if another writer took over, or may have: the commit must not complete;
    /// [`ErrorKind::Storage`](crate::ErrorKind::Storage) if nobody knows.
    async fn verify(&self) -> Result<()>;

    /// Returns the watch of a lock that can be lost while it is held: the write stops then, and sends no
    /// further change. Default: `None`, for a lock that is held until it is released.
    fn watch(&self) -> Option<Arc<dyn LeaseWatch>> {
        None
    }

    /// Stops keeping the lock without releasing it: changes of the holder may still take effect, and the next
    /// writer waits until the lease ends. Default: drops the lock.
    fn abandon(self: Box<Self>) {}

    /// Lets go.
    ///
    /// # Errors
    /// [`ErrorKind::Storage`](crate::ErrorKind::Storage) if that could not be written down; the lease then ends by itself.
    async fn release(self: Box<Self>) -> Result<()>;
}

/// The time that a lease lasts.
///
/// For implementors: `remaining` must not send a request, because each change of a write calls it.
#[async_trait]
pub trait LeaseWatch: fmt::Debug + Send + Sync {
    /// Returns how long nobody else can take the lock; zero if another may have it.
    fn remaining(&self) -> Duration;

    /// Waits until nothing remains.
    async fn lost(&self);
}
