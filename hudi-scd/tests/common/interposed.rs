//! The common part of stores that intercept every call between a table and its storage.

use std::{fmt, ops::Range, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{
    StreamExt,
    future::{BoxFuture, FutureExt},
    stream::BoxStream,
};
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, path::Path,
};

/// How intercepted calls are handled.
#[async_trait]
pub trait Interposer: Clone + fmt::Debug + Send + Sync + 'static {
    async fn call<T: Send>(&self, call: BoxFuture<'_, Result<T>>) -> Result<T> {
        call.await
    }

    fn list(
        &self,
        inner: &Arc<dyn ObjectStore>,
        prefix: Option<&Path>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        inner.list(prefix)
    }

    async fn put(
        &self,
        inner: &dyn ObjectStore,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        self.call(inner.put_opts(location, payload, options)).await
    }

    async fn get(&self, inner: &dyn ObjectStore, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.call(inner.get_opts(location, options)).await
    }

    async fn copy(
        &self,
        inner: &dyn ObjectStore,
        from: &Path,
        to: &Path,
        options: CopyOptions,
    ) -> Result<()> {
        self.call(inner.copy_opts(from, to, options)).await
    }

    async fn folders(&self, inner: &dyn ObjectStore, prefix: Option<&Path>) -> Result<ListResult> {
        self.call(inner.list_with_delimiter(prefix)).await
    }
}

/// A storage with an interposer in front of it.
#[derive(Clone, Debug)]
pub struct Interposed<I> {
    inner: Arc<dyn ObjectStore>,
    interposer: I,
}

impl<I: Interposer> Interposed<I> {
    pub fn over(inner: Arc<dyn ObjectStore>, interposer: I) -> Arc<dyn ObjectStore> {
        Arc::new(Self { inner, interposer })
    }
}

impl<I: Interposer> fmt::Display for Interposed<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Interposed({})", self.inner)
    }
}

#[async_trait]
impl<I: Interposer> ObjectStore for Interposed<I> {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.interposer.put(&self.inner, location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.interposer.call(self.inner.put_multipart_opts(location, opts)).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.interposer.get(&self.inner, location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.interposer.call(self.inner.get_ranges(location, ranges)).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        let delete = move |location: Result<Path>| {
            let store = store.clone();
            async move {
                let location = location?;
                store.interposer.call(store.inner.delete(&location).boxed()).await?;
                Ok(location)
            }
        };
        locations.then(delete).boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.interposer.list(&self.inner, prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.interposer.folders(&self.inner, prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.interposer.copy(&self.inner, from, to, options).await
    }
}
