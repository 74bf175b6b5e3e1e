//! [`RangeCopy`]: a storage that copies byte ranges.

#[cfg(feature = "aws")]
mod s3;

use std::{fmt, ops::Range};

use async_trait::async_trait;
use object_store::{
    MultipartId,
    multipart::{MultipartStore, PartId},
    path::Path,
};

#[cfg(feature = "aws")]
pub use self::s3::S3RangeCopy;

/// Minimum size in bytes of a part of an upload to S3. The last part may be smaller.
const S3_MIN_PART: u64 = 5 * 1024 * 1024;

/// A storage that accepts a byte range of an existing object as a part of an upload.
///
/// [`S3RangeCopy`](crate::S3RangeCopy) implements this trait for S3 (feature `aws`), and [`Table::open_url`]
/// uses it unless [`TableOptions::without_range_copy`] is set. If you build the store yourself, pass an
/// implementation to [`TableOptions::with_range_copy`].
///
/// [`Table::open_url`]: crate::Table::open_url
/// [`TableOptions::without_range_copy`]: crate::TableOptions::without_range_copy
/// [`TableOptions::with_range_copy`]: crate::TableOptions::with_range_copy
#[async_trait]
pub trait RangeCopy: MultipartStore + fmt::Debug {
    /// Returns the minimum size of a part in bytes. The last part of an upload may be smaller. Default: 5
    /// MiB, as S3 requires.
    fn min_part(&self) -> u64 {
        S3_MIN_PART
    }

    /// Copies a range (in bytes) of the object `from` to the part `part_idx` of an upload that
    /// [`MultipartStore::create_multipart`] started. Parts are counted from 0. The range has at least
    /// [`RangeCopy::min_part`] bytes and at most 5 GiB.
    ///
    /// # Errors
    /// [`object_store::Error::NotImplemented`] or [`object_store::Error::NotSupported`] if the service has no
    /// such request. In that case, the table sends these bytes and does not try to copy again.
    async fn copy_part(
        &self,
        path: &Path,
        id: &MultipartId,
        part_idx: usize,
        from: &Path,
        range: Range<u64>,
    ) -> object_store::Result<PartId>;
}
