//! [`Location`]: a TABLE on the command line, a path or a URL, resolved to an object store.

use std::{fmt, path::PathBuf, sync::Arc};

use hudi_scd::{Error, ErrorKind, Result, Table, TableDefinition, TableOptions};
use object_store::{ObjectStore, aws::AmazonS3Builder, local::LocalFileSystem, path::Path};

use super::{failure::Failure, profile::Profile};

/// The location of an existing or a new table.
#[derive(Clone, Debug)]
pub(super) enum Location {
    Folder(PathBuf),
    S3 { url: String, key: String },
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => path.display().fmt(f),
            Self::S3 { url, .. } => f.write_str(url),
        }
    }
}

impl Location {
    /// Parses a path, absolute or relative, or a URL: `file:///lake/customer`, `s3://bucket/customer`.
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        let text = text.trim_end_matches('/');
        let Some((scheme, rest)) = text.split_once("://") else {
            return if text.is_empty() {
                Err(Failure::usage("TABLE is empty: name the folder of a table, or its URL"))
            } else {
                Ok(Self::Folder(text.strip_prefix("file:").unwrap_or(text).into()))
            };
        };
        match scheme.to_ascii_lowercase().as_str() {
            "file" => match rest.strip_prefix("localhost").unwrap_or(rest) {
                path if path.starts_with('/') => Ok(Self::Folder(percent_decoded(path).into())),
                _ => Err(Failure::usage(format!(
                    "{text}: a file URL has three slashes, as in file:///lake/customer"
                ))),
            },
            "s3" | "s3a" => {
                let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
                if bucket.is_empty() || key.is_empty() {
                    let message = format!("{text}: name bucket and folder, as in s3://bucket/lake/customer");
                    return Err(Failure::usage(message));
                }
                Ok(Self::S3 { url: format!("s3://{bucket}/{key}"), key: key.to_owned() })
            }
            other => Err(Failure::usage(format!(
                "{text}: {other}:// is not supported: use a path, file:///… or s3://…"
            ))),
        }
    }

    /// Opens the table.
    pub(super) async fn open(&self, options: TableOptions) -> Result<Table> {
        let (store, root, base_url) = self.store()?;
        Table::open_with(store, root, options.with_base_url(base_url)).await
    }

    /// Creates the table, and its folder if necessary.
    pub(super) async fn create(&self, definition: TableDefinition) -> Result<Table> {
        if let Self::Folder(path) = self {
            std::fs::create_dir_all(path).map_err(|cause| {
                Error::new(ErrorKind::Storage, "the folder cannot be created").with_source(cause)
            })?;
        }
        let (store, root, base_url) = self.store()?;
        let created =
            Table::create_with(store, root, definition, TableOptions::new().with_base_url(base_url)).await;
        if let (Self::Folder(path), Err(_)) = (self, &created) {
            // Only an empty folder is removed, and a failure to do so has no effect.
            let _ = std::fs::remove_dir(path);
        }
        created
    }

    fn store(&self) -> Result<(Arc<dyn ObjectStore>, Path, String)> {
        let failed = |cause: object_store::Error| {
            Error::new(ErrorKind::Storage, "the storage is unavailable").with_source(cause)
        };
        match self {
            Self::Folder(path) => {
                let absent =
                    |cause| Error::new(ErrorKind::NotFound, "there is no such folder").with_source(cause);
                let folder = path.canonicalize().map_err(absent)?;
                let store = LocalFileSystem::new_with_prefix(&folder).map_err(failed)?;
                Ok((Arc::new(store), Path::default(), folder.to_string_lossy().into_owned()))
            }
            Self::S3 { url, key } => {
                let root = Path::parse(key).map_err(|cause| {
                    Error::new(ErrorKind::InvalidDefinition, "not a path that can be stored")
                        .with_source(cause)
                })?;
                // Credentials, region and endpoint come from AWS_* variables, from a profile, or from the
                // machine's role. The URL of an endpoint selects plain HTTP explicitly.
                let profile = Profile::of(|name| std::env::var(name).ok())?;
                let plain = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"]
                    .iter()
                    .find_map(|name| std::env::var(name).ok())
                    .or_else(|| profile.endpoint().map(str::to_owned))
                    .is_some_and(|endpoint| endpoint.starts_with("http://"));
                let mut builder = profile.apply(AmazonS3Builder::from_env()).with_url(url);
                if plain {
                    builder = builder.with_allow_http(true);
                }
                Ok((Arc::new(builder.build().map_err(failed)?), root, url.clone()))
            }
        }
    }
}

/// Decodes `%20` and other escapes; invalid ones are kept unchanged.
fn percent_decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
        match (first, tail.get(..2).and_then(hex)) {
            (b'%', Some(byte)) => {
                out.push(byte);
                rest = &tail[2..];
            }
            _ => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_urls() {
        let folder = |text: &str| match Location::parse(text) {
            Ok(Location::Folder(path)) => path.to_string_lossy().into_owned(),
            other => panic!("{other:?}"),
        };
        assert_eq!(folder("lake/customer/"), "lake/customer");
        assert_eq!(folder("file:///lake/a%20b"), "/lake/a b");
        assert_eq!(folder("file:/lake/a"), "/lake/a");
        assert_eq!(folder("file:///lake/100%"), "/lake/100%");
        assert!(matches!(Location::parse("s3a://b/lake/c").unwrap(), Location::S3 { key, url }
            if key == "lake/c" && url == "s3://b/lake/c"));
        for refused in ["", "s3://b", "s3:///x", "gs://b/x", "file://lake/x"] {
            assert!(Location::parse(refused).is_err(), "{refused}");
        }
    }
}
