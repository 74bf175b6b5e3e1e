//! Opens base files for reading: a local file in place, and of a remote file only the ranges that are read.

use std::{fs::File, io::Write, path::PathBuf};

use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use object_store::{GetResultPayload, ObjectStoreExt, path::Path};
use tokio::sync::{SemaphorePermit, mpsc};

use super::Context;
use crate::{
    Error, Result,
    base_file::{OpenFile, Source, disk_failed, end_of_rows},
    concurrent::blocking,
    patched_upload::Original,
    storage,
};

/// A remote file up to this size is read with one request, because transferring it takes less time than
/// another request.
const ONE_REQUEST: u64 = 1024 * 1024;
/// Maximum total size of such files that a table keeps in memory, in bytes.
pub(super) const CONTENT_BYTES: usize = 32 * 1024 * 1024;
/// A larger remote file that is read completely is first copied to the local disk.
const IN_MEMORY: u64 = 8 * 1024 * 1024;

impl Context {
    /// Opens a file of `bytes` bytes. Of a large remote file, only the metadata are read, unless a write of
    /// this handle already has them. [`OpenFile::fetched`] reads rows.
    pub(crate) async fn open_file(&self, path: &Path, bytes: u64) -> Result<OpenFile> {
        self.in_folder(self.open_stored(path, bytes).await?)
    }

    /// Opens a file with the columns that it contains.
    async fn open_stored(&self, path: &Path, bytes: u64) -> Result<OpenFile> {
        if self.is_local() {
            return OpenFile::open(self.store(), path).await;
        }
        if bytes <= ONE_REQUEST {
            let content = self.content(path).await?;
            self.contents.insert(path, content.clone(), content.len());
            return OpenFile::of_source(path, Source::Memory(content));
        }
        let footers = &self.footers;
        if let Some(metadata) = footers.metadata(path) {
            return OpenFile::of_metadata(path, metadata, Source::missing(bytes));
        }
        let open = OpenFile::open_end(self.store(), path, bytes, None).await?;
        footers.keep_metadata(open.footer());
        Ok(open)
    }

    /// Fetches bytes of an open file, like [`OpenFile::fetched`], after they were [admitted](Context::admit).
    /// The permit is held as long as the bytes.
    pub(crate) fn fetch_admitted<'a>(
        &'a self,
        open: &OpenFile,
        groups: Option<&[usize]>,
        columns: &dyn Fn(&str) -> bool,
        positions: Option<&[u64]>,
    ) -> impl Future<Output = Result<(SemaphorePermit<'a>, OpenFile)>> + Send + use<'a> {
        let admitted = self.admit(open.bytes(groups, columns, positions));
        let fetched = open.fetched(self.store(), groups, columns, positions);
        async move {
            let admitted = admitted.await?;
            Ok((admitted, fetched.await?))
        }
    }

    /// Opens a file for reading all of its rows. A large remote file is copied with one request to the local
    /// disk, so that any number of such files needs little memory.
    pub(crate) async fn open_whole(&self, path: &Path, bytes: u64) -> Result<OpenFile> {
        if self.is_local() {
            return OpenFile::open(self.store(), path).await;
        }
        if bytes <= IN_MEMORY {
            let content = self.content(path).await?;
            // The next version replaces the file, so its content is not needed again.
            self.contents.take(path);
            return OpenFile::of_source(path, Source::Memory(content));
        }
        let failed = |cause| storage::failed("read", path, cause);
        let found = self.store().get(path).await.map_err(failed)?;
        let file = match found.payload {
            GetResultPayload::File(file, _) => file,
            GetResultPayload::Stream(stream) => self.spooled(path, stream).await?,
        };
        let path = path.clone();
        blocking(move || {
            let source = Source::of_file(file).map_err(|cause| disk_failed(&path, cause))?;
            OpenFile::of_source(&path, source)
        })
        .await
    }

    /// Opens a remote file of `bytes` bytes for a rewrite that reads only some ranges. The ranges are fetched
    /// to a file on the local disk.
    pub(crate) async fn open_sparse(&self, path: &Path, bytes: u64) -> Result<(OpenFile, Original)> {
        // The metadata in memory lack the bloom filter, but they tell at which offset the end begins.
        let known = self.footers.metadata(path);
        let start = known.and_then(|metadata| end_of_rows(&metadata));
        let open = OpenFile::open_end(self.store(), path, bytes, start).await?;
        // The next version replaces the file, so its content is not needed again.
        self.contents.take(path);
        let (path, folder) = (path.clone(), self.spill_folder());
        blocking(move || {
            let (open, sparse, fetches) = open.into_sparse(&folder)?;
            Ok((open, Original { path, sparse, fetches }))
        })
        .await
    }

    fn spill_folder(&self) -> PathBuf {
        self.options.spill_folder.clone().unwrap_or_else(std::env::temp_dir)
    }

    /// Returns the content of a file. Reads it only if this handle does not have it.
    async fn content(&self, path: &Path) -> Result<Bytes> {
        match self.contents.get(path) {
            Some(content) => Ok(content),
            None => storage::read(self.store(), path).await,
        }
    }

    async fn spooled(
        &self,
        path: &Path,
        mut stream: BoxStream<'static, object_store::Result<Bytes>>,
    ) -> Result<File> {
        let folder = self.spill_folder();
        let (give, mut take) = mpsc::channel::<Bytes>(2);
        let of = path.clone();
        let writing = blocking(move || {
            let failed = |cause| disk_failed(&of, cause);
            let mut file = tempfile::tempfile_in(&folder).map_err(failed)?;
            while let Some(part) = take.blocking_recv() {
                file.write_all(&part).map_err(failed)?;
            }
            Ok(file)
        });
        let reading = async move {
            while let Some(part) = stream.next().await {
                let part = part.map_err(|cause| storage::failed("read", path, cause))?;
                if give.send(part).await.is_err() {
                    break;
                }
            }
            Ok::<_, Error>(())
        };
        let (file, read) = futures::join!(writing, reading);
        read.and(file)
    }
}
