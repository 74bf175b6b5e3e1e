//! Storage calls of a table. Their errors name the file.

pub(crate) mod fence;

use std::{
    collections::HashSet,
    future::ready,
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::{
    GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode,
    PutOptions, PutPayload, path::Path,
};

use tokio::sync::mpsc;

use crate::{Error, ErrorKind, Result, concurrent::blocking, storage::fence::Stop};

/// The part size of a large file. On S3, a part must have at least 5 MiB unless it is the last one, and a
/// file may have up to 10,000 parts.
const PART_BYTES: usize = 8 * 1024 * 1024;

/// Creates the error for a failed storage call on `path`.
pub(crate) fn failed(doing: &str, path: &Path, cause: object_store::Error) -> Error {
    let kind = match &cause {
        cause if let Some(stop) = Stop::of(cause) => stop.kind(),
        object_store::Error::NotFound { .. } => ErrorKind::NotFound,
        object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. } => {
            ErrorKind::Conflict
        }
        _ => ErrorKind::Storage,
    };
    Error::new(kind, format!("cannot {doing}")).with_context("file", path).with_source(cause)
}

/// Lists the files and folders directly in a folder. Empty if the folder does not exist.
pub(crate) async fn list_folder(store: &dyn ObjectStore, folder: &Path) -> Result<ListResult> {
    let prefix = (!folder.is_root()).then_some(folder);
    store.list_with_delimiter(prefix).await.map_err(|cause| failed("list", folder, cause))
}

/// Lists every file below a folder.
pub(crate) async fn list_below(store: &dyn ObjectStore, folder: &Path) -> Result<Vec<ObjectMeta>> {
    store.list(Some(folder)).try_collect().await.map_err(|cause| failed("list", folder, cause))
}

/// Reads a whole file.
pub(crate) async fn read(store: &dyn ObjectStore, path: &Path) -> Result<Bytes> {
    let read = async { store.get(path).await?.bytes().await };
    read.await.map_err(|cause| failed("read", path, cause))
}

/// Reads a whole file. Returns `None` if it does not exist.
pub(crate) async fn read_if_exists(store: &dyn ObjectStore, path: &Path) -> Result<Option<Bytes>> {
    match read(store, path).await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads a whole file and its modification time. Returns `None` if it does not exist.
pub(crate) async fn read_dated(
    store: &dyn ObjectStore,
    path: &Path,
) -> Result<Option<(Bytes, jiff::Timestamp)>> {
    let read = async {
        let found = store.get(path).await?;
        let written = jiff::Timestamp::from_millisecond(found.meta.last_modified.timestamp_millis());
        Ok((found.bytes().await?, written.unwrap_or(jiff::Timestamp::MIN)))
    };
    match read.await {
        Ok(found) => Ok(Some(found)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(cause) => Err(failed("read", path, cause)),
    }
}

/// Reads a whole file, and returns its local path if it is on a local disk. Returns `None` if it does not
/// exist.
pub(crate) async fn read_placed(
    store: &dyn ObjectStore,
    path: &Path,
) -> Result<Option<(Bytes, Option<std::path::PathBuf>)>> {
    let read = async {
        let found = store.get(path).await?;
        let local = match &found.payload {
            GetResultPayload::File(_, path) => Some(path.clone()),
            GetResultPayload::Stream(_) => None,
        };
        Ok((found.bytes().await?, local))
    };
    match read.await {
        Ok(found) => Ok(Some(found)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(cause) => Err(failed("read", path, cause)),
    }
}

/// Writes a file. Replaces an existing one.
pub(crate) async fn write(store: &dyn ObjectStore, path: &Path, bytes: impl Into<PutPayload>) -> Result<()> {
    store.put(path, bytes.into()).await.map(drop).map_err(|cause| failed("write", path, cause))
}

/// Writes a file while CPU-bound work creates it. Replaces an existing file. Returns its size in bytes and
/// the work's result. A file with only one part is put with a single request. For a larger file, three parts
/// are held in memory, and the file becomes visible to readers when it is complete.
pub(crate) async fn write_made<T: Send + 'static>(
    store: &dyn ObjectStore,
    path: &Path,
    make: impl FnOnce(PartWriter) -> Result<(PartWriter, T)> + Send + 'static,
) -> Result<(u64, T)> {
    let failed = |cause| failed("write", path, cause);
    let (give, take) = mpsc::channel::<Bytes>(1);
    let making = async {
        let (rest, made) =
            blocking(move || make(PartWriter { part: Vec::with_capacity(PART_BYTES), bytes: 0, give }))
                .await?;
        Ok((rest.part, rest.bytes, made))
    };
    // When this future ends, it no longer accepts parts, which ends the work.
    let storing = async move {
        let mut take = take;
        let mut upload: Option<Box<dyn MultipartUpload>> = None;
        while let Some(part) = take.recv().await {
            let upload = match &mut upload {
                Some(upload) => upload,
                None => upload.insert(store.put_multipart(path).await.map_err(failed)?),
            };
            upload.put_part(part.into()).await.map_err(failed)?;
        }
        Ok::<_, Error>(upload)
    };
    let (made, stored) = futures::join!(making, storing);
    let mut upload = stored?;
    let done = async {
        let (rest, bytes, made) = made?;
        match &mut upload {
            None => write(store, path, rest).await?,
            Some(upload) => {
                upload.put_part(rest.into()).await.map_err(failed)?;
                upload.complete().await.map_err(failed)?;
            }
        }
        Ok((bytes, made))
    }
    .await;
    if done.is_err()
        && let Some(upload) = &mut upload
        && let Err(error) = upload.abort().await
    {
        tracing::warn!(file = %path, %error, "parts of an aborted file could not be deleted");
    }
    done
}

/// Passes on written bytes in parts.
pub(crate) struct PartWriter {
    part: Vec<u8>,
    bytes: u64,
    give: mpsc::Sender<Bytes>,
}

impl Write for PartWriter {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        self.part.extend_from_slice(buffer);
        self.bytes += buffer.len() as u64;
        if self.part.len() >= PART_BYTES {
            let part = std::mem::replace(&mut self.part, Vec::with_capacity(PART_BYTES));
            self.give.blocking_send(part.into()).map_err(|_| std::io::ErrorKind::BrokenPipe)?;
        }
        Ok(buffer.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Writes a file that must not exist yet. If it exists, returns an [`ErrorKind::Conflict`].
pub(crate) async fn create(store: &dyn ObjectStore, path: &Path, bytes: impl Into<PutPayload>) -> Result<()> {
    put_new(store, path, bytes).await.map_err(|cause| failed("create", path, cause))
}

/// Writes a file if it does not exist yet. Returns `false` if it exists.
pub(crate) async fn create_if_absent(
    store: &dyn ObjectStore,
    path: &Path,
    bytes: impl Into<PutPayload>,
) -> Result<bool> {
    match put_new(store, path, bytes).await {
        Ok(()) => Ok(true),
        Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
            Ok(false)
        }
        Err(cause) => Err(failed("create", path, cause)),
    }
}

async fn put_new(
    store: &dyn ObjectStore,
    path: &Path,
    bytes: impl Into<PutPayload>,
) -> object_store::Result<()> {
    let options = PutOptions::from(PutMode::Create);
    store.put_opts(path, bytes.into(), options).await.map(drop)
}

/// Creates a marker as a copy of `like`, the commit's request file, because only the marker's name matters.
///
/// A copy fails after the request file was deleted, so a writer whose commit was rolled back leaves no
/// further files. A normal write to a local disk would start under a temporary name next to the final one.
/// Hudi reads every name among its markers as a marker, and cannot roll back an unfinished commit with an
/// unknown one. A link has its final name from the beginning.
pub(crate) async fn mark(store: &dyn ObjectStore, path: &Path, like: &Path) -> Result<()> {
    match store.copy_if_not_exists(like, path).await {
        Ok(()) | Err(object_store::Error::AlreadyExists { .. }) => Ok(()),
        // S3 also copies atomically, but only over an existing file.
        Err(object_store::Error::NotSupported { .. } | object_store::Error::NotImplemented { .. }) => {
            copy(store, like, path).await
        }
        Err(cause) => Err(failed("create", path, cause)),
    }
}

/// Copies a file within the storage. Replaces an existing one. Returns [`ErrorKind::NotFound`] if the source
/// does not exist.
pub(crate) async fn copy(store: &dyn ObjectStore, from: &Path, to: &Path) -> Result<()> {
    store.copy(from, to).await.map_err(|cause| failed("copy", from, cause))
}

/// Returns the modification time of a file. Returns `None` if it does not exist.
pub(crate) async fn written_at(store: &dyn ObjectStore, path: &Path) -> Result<Option<jiff::Timestamp>> {
    match store.head(path).await {
        Ok(meta) => {
            let written = jiff::Timestamp::from_millisecond(meta.last_modified.timestamp_millis());
            Ok(Some(written.unwrap_or(jiff::Timestamp::MIN)))
        }
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(cause) => Err(failed("look for", path, cause)),
    }
}

/// Deletes a file. Returns `true` if it existed, or if the storage does not report this.
pub(crate) async fn delete(store: &dyn ObjectStore, path: &Path) -> Result<bool> {
    Ok(!delete_all(store, vec![path.clone()]).await?.is_empty())
}

/// Deletes files in order, with up to 1,000 per request on S3. Returns those that existed, or all if the
/// storage does not report this. After an error, no further request is sent, and those in flight are awaited.
pub(crate) async fn delete_all(store: &dyn ObjectStore, paths: Vec<Path>) -> Result<HashSet<Path>> {
    let mut deleted = HashSet::with_capacity(paths.len());
    let Some(first) = paths.first().cloned() else { return Ok(deleted) };
    let has_failed = Arc::new(AtomicBool::new(false));
    let stop = has_failed.clone();
    let paths = stream::iter(paths).take_while(move |_| ready(!stop.load(Ordering::Relaxed)));
    let mut results = store.delete_stream(paths.map(Ok).boxed());
    let mut outcome = Ok(());
    while let Some(result) = results.next().await {
        match result {
            Ok(path) => _ = deleted.insert(path),
            Err(object_store::Error::NotFound { .. }) => {}
            Err(cause) => {
                has_failed.store(true, Ordering::Relaxed);
                outcome = outcome.and(Err(failed("delete", &first, cause)));
            }
        }
    }
    outcome.map(|()| deleted)
}

#[cfg(test)]
mod tests {
    use object_store::{local::LocalFileSystem, memory::InMemory};

    use super::*;

    #[tokio::test]
    async fn a_file_that_is_being_made_is_there_whole_or_not_at_all() {
        let store = InMemory::new();
        for bytes in [0, 1_000, 3 * PART_BYTES + 1] {
            let path = Path::from(format!("file-{bytes}"));
            let make = move |mut out: PartWriter| {
                for chunk in vec![7_u8; bytes].chunks(100_000) {
                    out.write_all(chunk)
                        .map_err(|cause| Error::new(ErrorKind::Storage, "gone").with_source(cause))?;
                }
                Ok((out, "made"))
            };
            assert_eq!(write_made(&store, &path, make).await.unwrap(), (bytes as u64, "made"));
            let stored = read(&store, &path).await.unwrap();
            assert!(stored.len() == bytes && stored.iter().all(|byte| *byte == 7));
        }
        let path = Path::from("broken");
        let make = |mut out: PartWriter| -> Result<(PartWriter, ())> {
            let _ = out.write_all(&vec![0; 2 * PART_BYTES]);
            Err(Error::new(ErrorKind::Corrupt, "the work failed"))
        };
        let error = write_made(&store, &path, make).await.unwrap_err();
        assert_eq!(error.message(), "the work failed");
        assert_eq!(read_if_exists(&store, &path).await.unwrap(), None);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_marker_on_a_local_disk_never_has_another_name() {
        use std::os::unix::fs::MetadataExt;

        let folder = tempfile::tempdir().unwrap();
        let store = LocalFileSystem::new_with_prefix(folder.path()).unwrap();
        let (request, marker) =
            (Path::from("1.commit.requested"), Path::from(".temp/1/a.parquet.marker.CREATE"));
        create(&store, &request, Vec::new()).await.unwrap();
        for _again in 0..2 {
            mark(&store, &marker, &request).await.unwrap();
        }
        // The marker is a link, and not a file that was written and then renamed.
        let number = |path: &Path| std::fs::metadata(folder.path().join(path.as_ref())).unwrap().ino();
        assert_eq!(number(&marker), number(&request));
        let error = mark(&store, &Path::from("b"), &Path::from("undone")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}
