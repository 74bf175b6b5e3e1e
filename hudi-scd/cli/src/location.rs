//! [`Location`]: a TABLE on the command line, a path or a URL.

use std::{fmt, path::PathBuf};

use hudi_scd::{Error, ErrorKind, Result, Table, TableDefinition, TableOptions};

use super::{failure::Failure, s3};

/// Storage options of a folder: there are none.
const NO_STORAGE: [(&str, &str); 0] = [];

/// The location of an existing or a new table.
#[derive(Clone, Debug)]
pub(super) enum Location {
    Folder(PathBuf),
    S3 { url: String },
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => path.display().fmt(f),
            Self::S3 { url } => f.write_str(url),
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
                    let message =
                        format!("{text}: name the bucket and the folder, as in s3://bucket/lake/customer");
                    return Err(Failure::usage(message));
                }
                Ok(Self::S3 { url: format!("s3://{bucket}/{key}") })
            }
            other => Err(Failure::usage(format!(
                "{text}: {other}:// is not supported: use a path, file:///… or s3://…"
            ))),
        }
    }

    /// Opens the table.
    pub(super) async fn open(&self, options: TableOptions) -> Result<Table> {
        match self {
            Self::Folder(_) => Table::open_url_with(&self.to_string(), NO_STORAGE, options).await,
            Self::S3 { url } => {
                let (store, root, options) = s3::connect(url, options).await?;
                Table::open_with(store, root, options).await
            }
        }
    }

    /// Creates the table, and its folder if necessary.
    pub(super) async fn create(&self, definition: TableDefinition) -> Result<Table> {
        let options = TableOptions::new();
        let path = match self {
            Self::Folder(path) => path,
            Self::S3 { url } => {
                let (store, root, options) = s3::connect(url, options).await?;
                return Table::create_with(store, root, definition, options).await;
            }
        };
        std::fs::create_dir_all(path).map_err(|cause| {
            Error::new(ErrorKind::Storage, "the folder cannot be created").with_source(cause)
        })?;
        let created = Table::create_url_with(&self.to_string(), NO_STORAGE, definition, options).await;
        if created.is_err() {
            // Only an empty folder is removed. A failure to remove it does not matter.
            let _ = std::fs::remove_dir(path);
        }
        created
    }
}

/// Decodes `%20` and other escapes. Invalid escapes are kept unchanged.
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
        assert!(matches!(Location::parse("s3a://b/lake/c").unwrap(), Location::S3 { url }
            if url == "s3://b/lake/c"));
        for refused in ["", "s3://b", "s3:///x", "gs://b/x", "file://lake/x"] {
            assert!(Location::parse(refused).is_err(), "{refused}");
        }
    }
}
