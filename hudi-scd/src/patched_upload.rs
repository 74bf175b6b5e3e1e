//! Copies byte ranges within the storage, so that the unchanged bytes of a rewritten file are neither
//! downloaded nor uploaded.
//!
//! ```text
//! merge -> PlannedWriter -> Plan -> parts -> Upload -> storage
//!            |                |  decides which part is copied, and which is sent
//!            |  skips the column chunks that both versions have, which the merge does not read
//! ```
//!
//! A new version of a base file contains most column chunks of the previous version. S3 accepts a range of an
//! existing object as a part of an upload (`UploadPartCopy`), if the range has at least 5 MiB. Smaller
//! unchanged pieces are sent.

mod plan;
mod upload;
mod writer;

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

pub(crate) use self::{
    upload::{Original, Written, write_copying},
    writer::CommonChunks,
};
use crate::{
    range_copy::RangeCopy,
    storage::fence::{Fence, FencedRangeCopy},
};

/// The range copies of a table's handle.
#[derive(Debug)]
pub(crate) struct RangeCopies {
    inner: Arc<dyn RangeCopy>,
    /// One of the constants below. It only increases.
    support: AtomicU8,
}

impl RangeCopies {
    const UNKNOWN: u8 = 0;
    /// The service accepts the request. It may ignore the range.
    const ACCEPTED: u8 = 1;
    /// A file with copies has the right size.
    const WORKS: u8 = 2;
    /// The service has no such request, or ignores the range.
    const REFUSED: u8 = 3;

    pub(crate) fn new(inner: Arc<dyn RangeCopy>, fence: Arc<Fence>) -> Self {
        let inner = Arc::new(FencedRangeCopy::over(inner, fence));
        Self { inner, support: AtomicU8::new(Self::UNKNOWN) }
    }

    /// Returns `true` if parts of a file of `bytes` bytes may be copied. A smaller file has no room for one
    /// copied part, one sent part and the footer.
    pub(crate) fn pay_for(&self, bytes: u64) -> bool {
        !self.are_refused() && bytes > 2 * self.inner.min_part()
    }

    /// Returns the size of sent parts in bytes: 8 MiB for S3.
    fn sent_part(&self) -> u64 {
        self.inner.min_part() * 8 / 5
    }

    fn are_refused(&self) -> bool {
        self.support.load(Ordering::Relaxed) == Self::REFUSED
    }

    fn are_accepted(&self) -> bool {
        self.support.load(Ordering::Relaxed) >= Self::ACCEPTED
    }

    fn are_known_to_work(&self) -> bool {
        self.support.load(Ordering::Relaxed) == Self::WORKS
    }

    /// Records the check of a complete file with copies.
    fn note_check(&self, is_right: bool) {
        let support = if is_right { Self::WORKS } else { Self::REFUSED };
        self.support.fetch_max(support, Ordering::Relaxed);
    }

    /// Records the result of a copy. Returns `true` if the service has no such request.
    fn note<T>(&self, copied: &object_store::Result<T>) -> bool {
        use object_store::Error::{NotImplemented, NotSupported};
        match copied {
            Ok(_) => _ = self.support.fetch_max(Self::ACCEPTED, Ordering::Relaxed),
            Err(error @ (NotImplemented { .. } | NotSupported { .. })) => {
                if self.support.fetch_max(Self::REFUSED, Ordering::Relaxed) != Self::REFUSED {
                    tracing::warn!(%error, "the storage copies no ranges; files are sent as a whole");
                }
                return true;
            }
            Err(_) => {}
        }
        false
    }
}
