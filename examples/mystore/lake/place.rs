//! The storage of the tables: a directory on disk, or a folder of an S3 bucket.

use std::{fmt, path::Path as Directory, str::FromStr, sync::Arc};

use anyhow::{Context, Result, bail, ensure};
use hudi_scd::TableOptions;
use object_store::{ObjectStore, local::LocalFileSystem, path::Path};

/// Parses the endpoint of a service, as `https://host` or `http://host:port`.
pub(crate) fn endpoint(text: &str) -> Result<String, String> {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or_default();
    // The endpoint is printed, and a URL with a password must not be.
    if host.is_empty() || host.contains('@') {
        return Err("expected https://host or http://host:port".to_owned());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// Bucket of a run that names none.
const BUCKET: &str = "mystore";

/// Folder of an S3 bucket, as the option `--s3` names it: `s3://bucket/folder`, or
/// `http://host:port/bucket/folder` on a server other than AWS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct S3Folder {
    /// `None` for the endpoint of the environment.
    pub(crate) endpoint: Option<String>,
    pub(crate) bucket: String,
    /// Empty for the whole bucket.
    pub(super) folder: String,
}

impl FromStr for S3Folder {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = "expected s3://bucket/folder, or http://host:port/bucket/folder of a local server";
        let (scheme, rest) = text.split_once("://").ok_or(expected)?;
        let (endpoint, rest) = match (scheme, rest.split_once('/').unwrap_or((rest, ""))) {
            ("s3", _) => (None, rest),
            (_, (host, rest)) => {
                let endpoint = endpoint(&format!("{scheme}://{host}")).map_err(|_| expected)?;
                (Some(endpoint), rest)
            }
        };
        let (bucket, folder) = rest.split_once('/').unwrap_or((rest, ""));
        let bucket = match (bucket, &endpoint) {
            ("", Some(_)) => BUCKET,
            ("", None) => return Err(expected.into()),
            (bucket, _) => bucket,
        };
        let folder = folder.trim_matches('/').to_owned();
        Ok(Self { endpoint, bucket: bucket.to_owned(), folder })
    }
}

impl fmt::Display for S3Folder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { endpoint, bucket, folder } = self;
        let text = format!("{}/{bucket}/{folder}", endpoint.as_deref().unwrap_or("s3:/"));
        f.write_str(text.trim_end_matches('/'))
    }
}

/// The storage of a run's tables.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(super) root: Path,
    /// URL of the bucket; `None` on disk.
    pub(super) bucket: Option<String>,
    pub(super) options: TableOptions,
}

impl Place {
    /// Returns the directory, which is created if necessary.
    pub(crate) fn on_disk(dir: &Directory) -> Result<Self> {
        std::fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
        let root = Path::from_absolute_path(dir.canonicalize()?)?;
        let store = Arc::new(LocalFileSystem::new());
        Ok(Self { store, root, bucket: None, options: TableOptions::new() })
    }

    /// Returns the path of a folder in the store.
    pub(super) fn path(&self, name: &str) -> Path {
        self.root.clone().join(name)
    }

    /// Returns the path of a table in the store. On disk its directory is created.
    pub(super) fn table(&self, name: &str) -> Result<Path> {
        let path = self.path(name);
        if self.bucket.is_none() {
            let dir = format!("/{path}");
            std::fs::create_dir_all(&dir).with_context(|| format!("creating {dir}"))?;
        }
        Ok(path)
    }

    /// Returns the URL of a table on S3, or its path on disk.
    pub(crate) fn url(&self, name: &str) -> String {
        format!("{}/{name}", self.folder())
    }

    /// Returns the URL of the folder that contains the tables.
    pub(crate) fn folder(&self) -> String {
        format!("{}/{}", self.bucket.as_deref().unwrap_or_default(), self.root)
    }

    /// Returns the path of the table that a catalog locates at a URL.
    pub(super) fn located(&self, url: &str) -> Result<Path> {
        let Some(bucket) = &self.bucket else { bail!("a catalog cannot locate tables on disk") };
        let path = url.strip_prefix(bucket.as_str()).and_then(|path| path.strip_prefix('/'));
        ensure!(path.is_some(), "the catalog locates a table at {url}, outside of the bucket {bucket}");
        Ok(Path::parse(path.unwrap_or_default())?)
    }

    /// Returns the options with which to open a table.
    pub(super) fn options(&self, name: &str) -> TableOptions {
        match &self.bucket {
            Some(_) => self.options.clone().with_base_url(self.url(name)),
            None => self.options.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(text: &str) -> Result<S3Folder, String> {
        text.parse()
    }

    #[test]
    fn a_folder_of_a_bucket_is_named_by_a_url() {
        for (text, printed) in [
            ("s3://lake", "s3://lake"),
            ("s3://lake/clean/", "s3://lake/clean"),
            ("http://127.0.0.1:5000", "http://127.0.0.1:5000/mystore"),
            ("http://127.0.0.1:5000/lake/a/b", "http://127.0.0.1:5000/lake/a/b"),
        ] {
            assert_eq!(folder(text).unwrap().to_string(), printed);
        }
        for wrong in ["lake", "s3://", "s3:///folder", "ftp://lake", "http://", "http://me:secret@host/lake"]
        {
            assert!(folder(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_table_of_the_catalog_is_in_the_bucket() {
        let place = Place {
            store: Arc::new(LocalFileSystem::new()),
            root: Path::from("clean/run"),
            bucket: Some("s3://lake".to_owned()),
            options: TableOptions::new(),
        };
        assert_eq!(place.folder(), "s3://lake/clean/run");
        assert_eq!(place.located(&place.url("customer")).unwrap(), Path::from("clean/run/customer"));
        let error = place.located("s3://lakehouse/clean/run/customer").unwrap_err().to_string();
        assert!(error.contains("outside of the bucket s3://lake"), "{error}");
    }
}
