//! [`Parts`]: the fetched ranges of a remote file.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use object_store::{ObjectStore, path::Path};
use parquet::errors::ParquetError;

use crate::{Result, storage};

/// Ranges are fetched in one request if the gap between them is smaller. Fetching the gap takes less time
/// than another request.
const GAP: u64 = 1024 * 1024;

/// Some parts of a file.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    /// The size of the file.
    bytes: u64,
    /// The parts, ordered by offset, without overlaps.
    parts: Arc<Vec<(u64, Bytes)>>,
}

impl Parts {
    /// Creates a file with no bytes available.
    pub(super) fn none(bytes: u64) -> Self {
        Self { bytes, parts: Arc::default() }
    }

    /// Fetches ranges. Parts that were available before are dropped.
    pub(super) async fn fetched(
        &self,
        store: &dyn ObjectStore,
        path: &Path,
        wanted: Vec<Range<u64>>,
    ) -> Result<Self> {
        let ranges = joined(wanted);
        let parts = match ranges.is_empty() {
            true => Vec::new(),
            false => {
                store.get_ranges(path, &ranges).await.map_err(|cause| storage::failed("read", path, cause))?
            }
        };
        let parts = ranges.iter().map(|range| range.start).zip(parts).collect();
        Ok(Self { bytes: self.bytes, parts: Arc::new(parts) })
    }

    pub(super) fn len(&self) -> u64 {
        self.bytes
    }

    /// Returns the number of bytes that are available from an offset on.
    pub(super) fn available(&self, start: u64) -> u64 {
        self.part(start).map_or(0, |(offset, part)| offset + part.len() as u64 - start)
    }

    pub(super) fn get(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        if length == 0 {
            return Ok(Bytes::new());
        }
        let part = self.part(start).filter(|_| self.available(start) >= length as u64);
        let (offset, part) =
            part.ok_or_else(|| ParquetError::EOF(format!("{length} bytes at {start} were not fetched")))?;
        let at = (start - offset) as usize;
        Ok(part.slice(at..at + length))
    }

    /// Returns the part that contains this offset.
    fn part(&self, start: u64) -> Option<&(u64, Bytes)> {
        let after = self.parts.partition_point(|(offset, _)| *offset <= start);
        self.parts[..after].last().filter(|(offset, part)| start - offset < part.len() as u64)
    }
}

/// Joins ranges that overlap or are close to each other, in ascending order.
pub(super) fn joined(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.retain(|range| !range.is_empty());
    ranges.sort_unstable_by_key(|range| range.start);
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start <= last.end + GAP => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use object_store::{ObjectStoreExt, memory::InMemory};

    use super::*;

    #[test]
    fn close_ranges_are_one_request_and_distant_ones_are_two() {
        let far = 2 * GAP;
        assert_eq!(joined(vec![far..far + 9, 5..7, 0..5, 3..4, 8..8]), [0..7, far..far + 9]);
        assert_eq!(joined(vec![0..1, 1 + GAP..2 + GAP, 3 + 2 * GAP..4 + 2 * GAP]).len(), 2);
        assert_eq!(joined(Vec::new()), []);
    }

    #[tokio::test]
    async fn fetched_bytes_are_those_of_the_file_and_others_are_an_error() {
        let (store, path) = (InMemory::new(), Path::from("f"));
        let bytes: Vec<u8> = (0..3 * GAP).map(|byte| byte as u8).collect();
        store.put(&path, bytes.clone().into()).await.unwrap();
        let parts = Parts::none(bytes.len() as u64);
        let parts = parts.fetched(&store, &path, vec![10..20, 2 * GAP..2 * GAP + 5]).await.unwrap();
        assert_eq!(parts.get(12, 8).unwrap(), bytes[12..20]);
        assert_eq!(parts.get(2 * GAP + 1, 4).unwrap(), bytes[2 * GAP as usize + 1..][..4]);
        assert_eq!((parts.available(12), parts.available(20), parts.len()), (8, 0, 3 * GAP));
        assert!(parts.get(12, 9).is_err() && parts.get(9, 1).is_err());
    }
}
