//! Resolves the location of a table: a URL gives an object store and the path of the table in it.

use std::sync::Arc;

use object_store::{ObjectStore, local::LocalFileSystem, path::Path};

use crate::{
    Error, ErrorKind, Result,
    context::{RangeCopyOption, TableOptions},
    range_copy::RangeCopy,
};

/// The location of a table.
#[derive(Debug)]
pub(crate) struct Location {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) root: Path,
    /// The URL by which other engines know the table.
    pub(crate) base_url: String,
    pub(crate) range_copy: Option<Arc<dyn RangeCopy>>,
}

impl Location {
    /// Resolves a URL, or the path of a folder on the local disk.
    pub(crate) fn of<K: AsRef<str>, V: Into<String>>(
        url: &str,
        storage: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self> {
        let text = url.trim_end_matches('/');
        let storage: Vec<(String, String)> =
            storage.into_iter().map(|(name, value)| (name.as_ref().to_owned(), value.into())).collect();
        match text.split_once("://") {
            None => folder(text, &storage),
            Some(("file", path)) if path.starts_with('/') => {
                let path = Path::from_url_path(path).map_err(|cause| {
                    unusable("the URL is not valid").with_context("url", url).with_source(cause)
                })?;
                folder(&format!("/{path}"), &storage)
            }
            Some(("s3" | "s3a", rest)) => s3(rest, storage).map_err(|error| error.with_context("url", url)),
            Some(_) => Err(unusable("a URL of this form is not supported")
                .with_context("url", url)
                .with_context("hint", "s3://bucket/folder, file:///folder, or the path of a folder")),
        }
    }

    /// Adds the URL and the store's range copies to the options, unless they are set.
    pub(crate) fn with_options(self, options: TableOptions) -> (Arc<dyn ObjectStore>, Path, TableOptions) {
        let options = match options.base_url() {
            Some(_) => options,
            None => options.with_base_url(self.base_url),
        };
        let options = match (&options.range_copy, self.range_copy) {
            (RangeCopyOption::Automatic, Some(range_copy)) => options.with_range_copy(range_copy),
            _ => options,
        };
        (self.store, self.root, options)
    }
}

fn folder(path: &str, storage: &[(String, String)]) -> Result<Location> {
    if let Some((name, _)) = storage.first() {
        return Err(unusable("a local folder has no options").with_context("option", name));
    }
    let absent = |cause| {
        Error::new(ErrorKind::NotFound, "there is no such folder")
            .with_context("path", path)
            .with_source(cause)
    };
    let folder = std::path::Path::new(path).canonicalize().map_err(absent)?;
    let store = LocalFileSystem::new_with_prefix(&folder).map_err(unavailable)?;
    let base_url = folder.to_string_lossy().into_owned();
    Ok(Location { store: Arc::new(store), root: Path::default(), base_url, range_copy: None })
}

#[cfg(feature = "aws")]
fn s3(rest: &str, storage: Vec<(String, String)>) -> Result<Location> {
    use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};

    use crate::range_copy::S3RangeCopy;

    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() || key.is_empty() {
        return Err(unusable("the URL does not name a bucket and a folder"));
    }
    let root = Path::parse(key).map_err(|cause| unusable("the folder is not valid").with_source(cause))?;
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
    for (name, value) in storage {
        let key: AmazonS3ConfigKey = name.parse().map_err(|cause: object_store::Error| {
            unusable("there is no such storage option").with_context("option", &name).with_source(cause)
        })?;
        builder = builder.with_config(key, value);
    }
    let range_copy = Arc::new(S3RangeCopy::build(builder).map_err(unavailable)?);
    let (store, base_url) = (range_copy.store(), format!("s3://{bucket}/{key}"));
    Ok(Location { store, root, base_url, range_copy: Some(range_copy) })
}

#[cfg(not(feature = "aws"))]
fn s3(_: &str, _: Vec<(String, String)>) -> Result<Location> {
    Err(unusable("S3 is not supported by this build").with_context("hint", "enable the feature aws"))
}

fn unusable(message: &str) -> Error {
    Error::new(ErrorKind::InvalidDefinition, message)
}

fn unavailable(cause: object_store::Error) -> Error {
    Error::new(ErrorKind::Storage, "the storage is unavailable").with_source(cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [(&str, &str); 0] = [];

    #[test]
    fn a_folder_is_named_by_its_path_or_its_url() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap().join("a b");
        std::fs::create_dir(&path).unwrap();
        let path = path.to_str().unwrap();
        for text in [path.to_owned(), format!("file://{}/", path.replace(' ', "%20"))] {
            let location = Location::of(&text, NONE).unwrap();
            assert_eq!((location.root, location.base_url.as_str()), (Path::default(), path), "{text}");
        }
        let error = Location::of(path, [("aws_region", "x")]).unwrap_err();
        assert_eq!(
            (error.kind(), error.context("option")),
            (ErrorKind::InvalidDefinition, Some("aws_region"))
        );
        assert_eq!(Location::of("/no/such/folder", NONE).unwrap_err().kind(), ErrorKind::NotFound);
        for refused in ["gs://b/x", "file://lake/x", "s3://b", "s3:///x"] {
            let error = Location::of(refused, NONE).unwrap_err();
            assert_eq!((error.kind(), error.context("url")), (ErrorKind::InvalidDefinition, Some(refused)));
        }
    }

    #[cfg(feature = "aws")]
    #[test]
    fn a_folder_of_s3_takes_the_options_of_the_storage() {
        let storage = [("aws_region", "eu-west-1"), ("aws_endpoint", "http://127.0.0.1:1")];
        let location = Location::of("s3a://lake/dim/customer/", storage).unwrap();
        assert_eq!(location.store.to_string(), "AmazonS3(lake)");
        assert_eq!(location.root.as_ref(), "dim/customer");
        assert_eq!(location.base_url, "s3://lake/dim/customer");
        let error = Location::of("s3://lake/t", [("aws_regoin", "x")]).unwrap_err();
        assert_eq!(
            (error.kind(), error.context("option")),
            (ErrorKind::InvalidDefinition, Some("aws_regoin"))
        );
    }
}
