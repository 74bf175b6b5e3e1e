//! [`Sparse`]: a remote file of which the local disk has the ranges that were read.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom, Write},
    ops::Range,
    path::Path as FilePath,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::{GetOptions, GetRange, ObjectStore, path::Path};
use parquet::errors::ParquetError;
use tokio::sync::mpsc;

use super::{disk_failed, parts::joined};
use crate::{Error, ErrorKind, Result, storage};

/// Number of ranges that are fetched concurrently.
const REQUESTS: usize = 8;
/// Number of received buffers of a range that may wait to be written.
const BUFFERS: usize = 4;

/// A remote file that is read on blocking threads. A read of missing bytes waits until [`Fetches::serve`] has
/// fetched the column chunks that contain them. [`Sparse::fetch`] fetches many ranges with few requests.
#[derive(Clone, Debug)]
pub(crate) struct Sparse(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: Path,
    bytes: u64,
    /// The column chunks, ordered by offset.
    chunks: Vec<Range<u64>>,
    local: Mutex<Local>,
    requests: mpsc::UnboundedSender<Fetch>,
    /// The first failure, which the Parquet reader does not report.
    failed: Mutex<Option<Error>>,
}

/// The copy on the local disk.
#[derive(Debug)]
struct Local {
    file: File,
    /// The ranges that are on the local disk, ascending and without overlaps.
    held: Vec<Range<u64>>,
}

/// A range to fetch, and the sender that passes on its bytes.
#[derive(Debug)]
struct Fetch {
    range: Range<u64>,
    give: mpsc::Sender<object_store::Result<Bytes>>,
}

/// The requests of a [`Sparse`] file.
pub(crate) struct Fetches(mpsc::UnboundedReceiver<Fetch>);

impl Fetches {
    /// Fetches ranges until all clones of the file are dropped.
    pub(crate) async fn serve(self, store: &dyn ObjectStore, path: &Path) {
        let fetches = stream::unfold(self.0, |mut take| async { Some((take.recv().await?, take)) });
        fetches.for_each_concurrent(REQUESTS, |fetch| fetch.run(store, path)).await;
    }
}

impl Fetch {
    async fn run(self, store: &dyn ObjectStore, path: &Path) {
        let options = GetOptions { range: Some(GetRange::Bounded(self.range)), ..GetOptions::default() };
        let give = &self.give;
        let fetched = async {
            let mut content = store.get_opts(path, options).await?.into_stream();
            while let Some(bytes) = content.try_next().await? {
                // An error means that the receiver was dropped.
                if give.send(Ok(bytes)).await.is_err() {
                    break;
                }
            }
            Ok(())
        };
        if let Err(error) = fetched.await {
            let _ = give.send(Err(error)).await;
        }
    }
}

impl Sparse {
    /// Creates a file with nothing on the local disk yet. This must run on a blocking thread.
    pub(crate) fn create(
        folder: &FilePath,
        path: Path,
        bytes: u64,
        mut chunks: Vec<Range<u64>>,
    ) -> std::io::Result<(Self, Fetches)> {
        chunks.sort_unstable_by_key(|chunk| chunk.start);
        let local = Local { file: tempfile::tempfile_in(folder)?, held: Vec::new() };
        // Each reader has few requests in flight, and waits for them in order.
        let (requests, take) = mpsc::unbounded_channel();
        let (local, failed) = (Mutex::new(local), Mutex::default());
        let inner = Inner { path, bytes, chunks, local, requests, failed };
        Ok((Self(Arc::new(inner)), Fetches(take)))
    }

    pub(super) fn len(&self) -> u64 {
        self.0.bytes
    }

    /// Returns the number of bytes that a sequential reader may read ahead from an offset: up to the end of
    /// the column chunk.
    pub(super) fn available(&self, start: u64) -> u64 {
        let end = self.chunk_at(start).map_or(self.0.bytes, |chunk| chunk.end);
        end.saturating_sub(start)
    }

    fn chunk_at(&self, offset: u64) -> Option<&Range<u64>> {
        let after = self.0.chunks.partition_point(|chunk| chunk.start <= offset);
        self.0.chunks[..after].last().filter(|chunk| offset < chunk.end)
    }

    /// Takes the first failure of a request.
    pub(crate) fn failure(&self) -> Option<Error> {
        self.0.failed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(crate) fn get(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let range = start..start + length as u64;
        if range.end > self.0.bytes {
            return Err(ParquetError::EOF("the file ends before the end declared in its footer".to_owned()));
        }
        if !self.local().has(&range) {
            let first = self.chunk_at(range.start).map_or(range.start, |chunk| chunk.start);
            let end = self.chunk_at(range.end.saturating_sub(1)).map_or(range.end, |chunk| chunk.end);
            self.fetch(std::iter::once(first..end).collect())?;
        }
        let mut local = self.local();
        let mut bytes = vec![0; length];
        local.file.seek(SeekFrom::Start(start))?;
        local.file.read_exact(&mut bytes)?;
        Ok(bytes.into())
    }

    /// Fetches the missing bytes of ranges. Ranges that are close to each other share a request. This must
    /// run on a blocking thread.
    pub(crate) fn fetch(&self, wanted: Vec<Range<u64>>) -> Result<(), ParquetError> {
        let missing = joined(self.local().missing(wanted));
        let mut replies = Vec::with_capacity(missing.len());
        let fetched = missing.into_iter().try_for_each(|range| {
            // There are never more requests in flight than are served at a time.
            if replies.len() == REQUESTS {
                replies.drain(..).try_for_each(|(range, take)| self.store(range, take))?;
            }
            let (give, take) = mpsc::channel(BUFFERS);
            let fetch = Fetch { range: range.clone(), give };
            self.0.requests.send(fetch).map_err(|_| self.ended())?;
            replies.push((range, take));
            Ok(())
        });
        let fetched =
            fetched.and_then(|()| replies.into_iter().try_for_each(|(range, take)| self.store(range, take)));
        fetched.map_err(|error: Error| {
            let cause = ParquetError::General(error.to_string());
            self.0.failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            cause
        })
    }

    /// Writes a range to the local disk while it is received.
    fn store(&self, range: Range<u64>, mut take: mpsc::Receiver<object_store::Result<Bytes>>) -> Result<()> {
        let mut at = range.start;
        while let Some(bytes) = take.blocking_recv() {
            let bytes = bytes.map_err(|cause| storage::failed("read", &self.0.path, cause))?;
            let mut local = self.local();
            let written = local.file.seek(SeekFrom::Start(at)).and_then(|_| local.file.write_all(&bytes));
            written.map_err(|cause| disk_failed(&self.0.path, cause))?;
            at += bytes.len() as u64;
        }
        if at != range.end {
            return Err(self.ended());
        }
        self.local().hold(range);
        Ok(())
    }

    /// Creates the error for a range that did not arrive completely.
    fn ended(&self) -> Error {
        Error::new(ErrorKind::Storage, "the storage returned fewer bytes of a base file than were requested")
            .with_context("file", &self.0.path)
    }

    fn local(&self) -> MutexGuard<'_, Local> {
        self.0.local.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Local {
    fn has(&self, range: &Range<u64>) -> bool {
        let at = self.held.partition_point(|held| held.end < range.end);
        range.is_empty() || self.held.get(at).is_some_and(|held| held.start <= range.start)
    }

    /// Returns the parts of ranges that are not on the disk.
    fn missing(&self, wanted: Vec<Range<u64>>) -> Vec<Range<u64>> {
        let mut missing = Vec::new();
        for Range { mut start, end } in wanted {
            let first = self.held.partition_point(|held| held.end <= start);
            for held in &self.held[first..] {
                if held.start >= end {
                    break;
                }
                if held.start > start {
                    missing.push(start..held.start);
                }
                start = held.end;
            }
            if start < end {
                missing.push(start..end);
            }
        }
        missing
    }

    fn hold(&mut self, range: Range<u64>) {
        let first = self.held.partition_point(|held| held.end < range.start);
        let after = self.held.partition_point(|held| held.start <= range.end);
        let joined = self.held[first..after]
            .iter()
            .fold(range, |joined, held| joined.start.min(held.start)..joined.end.max(held.end));
        self.held.splice(first..after, [joined]);
    }
}

#[cfg(test)]
mod tests {
    use object_store::{ObjectStoreExt, memory::InMemory};

    use super::*;
    use crate::concurrent::blocking;

    #[test]
    fn held_ranges_are_joined_and_others_are_missing() {
        let file = tempfile::tempfile().unwrap();
        let mut local = Local { file, held: Vec::new() };
        for range in [10..20, 40..50, 20..25, 60..70] {
            local.hold(range);
        }
        assert_eq!(local.held, [10..25, 40..50, 60..70]);
        assert_eq!(local.missing(vec![0..12, 15..45, 50..60]), [0..10, 25..40, 50..60]);
        assert!(local.has(&(12..25)) && local.has(&(7..7)) && !local.has(&(24..26)));
        local.hold(25..60);
        assert_eq!(local.held.as_slice(), std::slice::from_ref(&(10..70)));
    }

    /// Runs `read` on a blocking thread while requests are served.
    async fn reading<T: Send + 'static>(
        store: &InMemory,
        path: &Path,
        read: impl FnOnce(&Sparse) -> T + Send + 'static,
    ) -> T {
        let folder = tempfile::tempdir().unwrap();
        let chunks = vec![4_000_000..9_000_000, 4..4_000_000];
        let (sparse, fetches) = Sparse::create(folder.path(), path.clone(), 10_000_000, chunks).unwrap();
        let work = blocking(move || Ok(read(&sparse)));
        futures::join!(work, fetches.serve(store, path)).0.unwrap()
    }

    #[tokio::test]
    async fn reads_are_those_of_the_remote_file_and_fetch_whole_chunks() {
        let (store, path) = (InMemory::new(), Path::from("f"));
        let bytes: Vec<u8> = (0..10_000_000_u32).map(|byte| (byte % 251) as u8).collect();
        store.put(&path, bytes.clone().into()).await.unwrap();
        let held = reading(&store, &path, move |sparse| {
            assert_eq!(sparse.get(5_000_000, 7).unwrap(), bytes[5_000_000..5_000_007]);
            assert_eq!(sparse.available(5_000_000), 4_000_000);
            sparse.fetch(vec![10..20, 3_000_000..3_000_001]).unwrap();
            assert_eq!(sparse.get(12, 3).unwrap(), bytes[12..15]);
            assert_eq!(sparse.get(3_999_998, 4).unwrap(), bytes[3_999_998..4_000_002]);
            assert!(sparse.get(9_999_999, 2).is_err());
            sparse.local().held.clone()
        });
        assert_eq!(held.await.as_slice(), std::slice::from_ref(&(4..9_000_000)));
    }

    #[tokio::test]
    async fn the_failure_of_a_request_is_kept_with_its_kind() {
        let (store, path) = (InMemory::new(), Path::from("gone"));
        let failure = reading(&store, &path, |sparse| {
            assert!(sparse.get(5, 5).is_err());
            sparse.failure()
        });
        let failure = failure.await.unwrap();
        assert_eq!((failure.kind(), failure.context("file")), (ErrorKind::NotFound, Some("gone")));
    }
}
