//! Implements range copies over any store. Parts are kept in memory until their upload is completed. As in
//! S3, the completion rejects parts that are too small.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use hudi_scd::RangeCopy;
use object_store::{
    Error, MultipartId, ObjectStore, ObjectStoreExt, PutPayload, PutResult, Result,
    multipart::{MultipartStore, PartId},
    path::Path,
};

/// How the service handles a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    Copies,
    /// The service has no such request.
    Refuses,
    /// The service ignores the range and copies the whole object.
    IgnoresRange,
}

/// A request for a part, and the size of the part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartRequest {
    Create,
    Put(u64),
    Copy(u64),
    Complete,
    Abort,
}

/// See the module. Clones share their uploads.
#[derive(Clone, Debug)]
pub struct Copying {
    store: Arc<dyn ObjectStore>,
    min_part: u64,
    service: Service,
    uploads: Arc<Mutex<HashMap<MultipartId, BTreeMap<usize, Bytes>>>>,
    requests: Arc<Mutex<Vec<PartRequest>>>,
    completion_fails: Arc<AtomicBool>,
}

impl Copying {
    pub fn over(store: Arc<dyn ObjectStore>, min_part: u64, service: Service) -> Self {
        let (uploads, requests, completion_fails) = Default::default();
        Self { store, min_part, service, uploads, requests, completion_fails }
    }

    /// Returns the requests since the last call.
    pub fn lap(&self) -> Vec<PartRequest> {
        std::mem::take(&mut lock(&self.requests))
    }

    /// Makes the next completion of an upload fail.
    pub fn fail_next_completion(&self) {
        self.completion_fails.store(true, Ordering::Relaxed);
    }

    /// Returns the number of uploads that were neither completed nor aborted.
    pub fn unfinished(&self) -> usize {
        lock(&self.uploads).len()
    }

    /// Sends a request to the inner store, so that the service has the same faults.
    async fn note(&self, request: PartRequest) -> Result<()> {
        lock(&self.requests).push(request);
        if request != PartRequest::Abort {
            match self.store.head(&Path::from("a request to the service")).await {
                Err(Error::NotFound { .. }) | Ok(_) => {}
                Err(fault) => return Err(fault),
            }
        }
        Ok(())
    }

    fn add(&self, id: &MultipartId, part: usize, content: Bytes) -> Result<PartId> {
        let mut uploads = lock(&self.uploads);
        let upload = uploads.get_mut(id).ok_or_else(|| failed("NoSuchUpload"))?;
        upload.insert(part, content);
        Ok(PartId { content_id: part.to_string() })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed(why: &'static str) -> Error {
    Error::Generic { store: "copying", source: why.into() }
}

#[async_trait]
impl MultipartStore for Copying {
    async fn create_multipart(&self, path: &Path) -> Result<MultipartId> {
        self.note(PartRequest::Create).await?;
        let mut uploads = lock(&self.uploads);
        let id = format!("{path} {}", uploads.len());
        uploads.insert(id.clone(), BTreeMap::new());
        Ok(id)
    }

    async fn put_part(&self, _: &Path, id: &MultipartId, part: usize, data: PutPayload) -> Result<PartId> {
        self.note(PartRequest::Put(data.content_length() as u64)).await?;
        self.add(id, part, data.into())
    }

    async fn complete_multipart(
        &self,
        path: &Path,
        id: &MultipartId,
        parts: Vec<PartId>,
    ) -> Result<PutResult> {
        self.note(PartRequest::Complete).await?;
        if self.completion_fails.swap(false, Ordering::Relaxed) {
            return Err(failed("InternalError"));
        }
        let upload = lock(&self.uploads).get(id).cloned().ok_or_else(|| failed("NoSuchUpload"))?;
        let named: Vec<String> = parts.into_iter().map(|part| part.content_id).collect();
        let stored: Vec<String> = upload.keys().map(ToString::to_string).collect();
        assert_eq!(named, stored, "the parts of {path} in their order");
        let last = upload.len() - 1;
        if upload.iter().any(|(part, content)| *part < last && (content.len() as u64) < self.min_part) {
            return Err(failed("EntityTooSmall"));
        }
        let content: Vec<Bytes> = upload.into_values().collect();
        let put = self.store.put(path, content.concat().into()).await?;
        lock(&self.uploads).remove(id);
        Ok(put)
    }

    async fn abort_multipart(&self, _: &Path, id: &MultipartId) -> Result<()> {
        self.note(PartRequest::Abort).await?;
        lock(&self.uploads).remove(id).map(drop).ok_or_else(|| failed("NoSuchUpload"))
    }
}

#[async_trait]
impl RangeCopy for Copying {
    fn min_part(&self) -> u64 {
        self.min_part
    }

    async fn copy_part(
        &self,
        _: &Path,
        id: &MultipartId,
        part: usize,
        from: &Path,
        range: Range<u64>,
    ) -> Result<PartId> {
        assert!(range.end - range.start >= self.min_part, "{range:?}");
        self.note(PartRequest::Copy(range.end - range.start)).await?;
        let content = match self.service {
            Service::Copies => self.store.get_range(from, range).await?,
            Service::IgnoresRange => self.store.get(from).await?.bytes().await?,
            Service::Refuses => {
                let (operation, implementer) = ("copying a range".to_owned(), "a test".to_owned());
                return Err(Error::NotImplemented { operation, implementer });
            }
        };
        self.add(id, part, content)
    }
}
