//! The few things that a table asks of its object store, with errors that name the file.

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::{
    GetResultPayload, ListResult, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
    path::Path,
};

use crate::{Error, ErrorKind, Result};

/// The error of a storage call on `path`.
pub(crate) fn failed(doing: &str, path: &Path, cause: object_store::Error) -> Error {
    let kind = match &cause {
        object_store::Error::NotFound { .. } => ErrorKind::NotFound,
        object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. } => {
            ErrorKind::Conflict
        }
        _ => ErrorKind::Storage,
    };
    Error::new(kind, format!("cannot {doing}")).with_context("file", path).with_source(cause)
}

/// The files and folders directly in a folder; none if there is no such folder.
pub(crate) async fn list_folder(store: &dyn ObjectStore, folder: &Path) -> Result<ListResult> {
    let prefix = (!folder.is_root()).then_some(folder);
    store.list_with_delimiter(prefix).await.map_err(|cause| failed("list", folder, cause))
}

/// Every file below a folder.
pub(crate) async fn list_below(store: &dyn ObjectStore, folder: &Path) -> Result<Vec<ObjectMeta>> {
    store.list(Some(folder)).try_collect().await.map_err(|cause| failed("list", folder, cause))
}

/// A whole file.
pub(crate) async fn read(store: &dyn ObjectStore, path: &Path) -> Result<Bytes> {
    let read = async { store.get(path).await?.bytes().await };
    read.await.map_err(|cause| failed("read", path, cause))
}

/// A whole file, or `None` if there is none.
pub(crate) async fn read_if_exists(store: &dyn ObjectStore, path: &Path) -> Result<Option<Bytes>> {
    match read(store, path).await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where a file is on a local disk, if it is on one.
pub(crate) async fn local_path(store: &dyn ObjectStore, path: &Path) -> Result<Option<std::path::PathBuf>> {
    let found = store.get(path).await.map_err(|cause| failed("read", path, cause))?;
    Ok(match found.payload {
        GetResultPayload::File(_, path) => Some(path),
        GetResultPayload::Stream(_) => None,
    })
}

/// Writes a file, over an older one.
pub(crate) async fn write(store: &dyn ObjectStore, path: &Path, bytes: impl Into<PutPayload>) -> Result<()> {
    store.put(path, bytes.into()).await.map(drop).map_err(|cause| failed("write", path, cause))
}

/// Writes a file that must not exist yet: an existing one is a [`ErrorKind::Conflict`].
pub(crate) async fn create(store: &dyn ObjectStore, path: &Path, bytes: impl Into<PutPayload>) -> Result<()> {
    let options = PutOptions::from(PutMode::Create);
    store.put_opts(path, bytes.into(), options).await.map(drop).map_err(|cause| failed("create", path, cause))
}

/// Deletes a file; whether it was there. Object stores may not tell, and then it was.
pub(crate) async fn delete(store: &dyn ObjectStore, path: &Path) -> Result<bool> {
    match store.delete(path).await {
        Ok(()) => Ok(true),
        Err(object_store::Error::NotFound { .. }) => Ok(false),
        Err(cause) => Err(failed("delete", path, cause)),
    }
}

/// Deletes every file below a folder.
pub(crate) async fn delete_below(store: &dyn ObjectStore, folder: &Path) -> Result<()> {
    for object in list_below(store, folder).await? {
        delete(store, &object.location).await?;
    }
    Ok(())
}
