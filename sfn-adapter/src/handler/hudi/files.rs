//! Raw files: what exists of them, and their local copies.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path as FilePath, PathBuf},
    sync::Arc,
};

use flate2::write::MultiGzDecoder;
use futures::{StreamExt, TryStreamExt, stream};
use hudi_scd::{
    Error as TableError, ErrorKind, SourceFile,
    object_store::{GetOptions, ObjectStore, path::Path},
};

use super::failure::failure;
use crate::{Error, Lake, contract::hudi::RawFile};

/// Maximum number of requests at once.
const AT_ONCE: usize = 16;

/// A raw file that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) file: RawFile,
    pub(super) source: SourceFile,
    pub(super) bytes: u64,
}

/// Returns `true` for an object that is not a file with rows: the key of a folder, and names that begin with a
/// dot or `_`, as in Spark.
pub(super) fn is_hidden(file: &RawFile) -> bool {
    file.key.ends_with('/') || file.key.rsplit('/').next().is_some_and(|name| name.starts_with(['.', '_']))
}

/// Looks files up, in their order. `None` for a file that does not exist.
pub(super) async fn find(lake: &dyn Lake, files: Vec<RawFile>) -> Result<Vec<Option<Found>>, Error> {
    let found = files.into_iter().map(|file| find_one(lake, file));
    stream::iter(found).buffered(AT_ONCE).try_collect().await
}

async fn find_one(lake: &dyn Lake, file: RawFile) -> Result<Option<Found>, Error> {
    let options = GetOptions { head: true, version: file.version.clone(), ..GetOptions::default() };
    let (bucket, path) = place(lake, &file)?;
    let meta = match bucket.get_opts(&path, options).await {
        Ok(found) => found.meta,
        Err(object_store::Error::NotFound { .. }) => return Ok(None),
        Err(cause) => return Err(unreadable(&file, cause)),
    };
    // A bucket without versions has the version `null`.
    let version = meta.version.filter(|version| version != "null").or(file.version.clone());
    let e_tag = meta.e_tag.map(|tag| tag.trim_start_matches("W/").trim_matches('"').to_owned());
    let version = version.or(e_tag).ok_or_else(|| {
        failure(
            &TableError::new(ErrorKind::Storage, "the storage reports no ETag")
                .with_context("file", file.url()),
            |_| None,
        )
    })?;
    let source = SourceFile::new(file.url(), version);
    Ok(Some(Found { file, source, bytes: meta.size }))
}

fn place(lake: &dyn Lake, file: &RawFile) -> Result<(Arc<dyn ObjectStore>, Path), Error> {
    let bucket = lake.bucket(&file.bucket).map_err(|error| failure(&error, |_| None))?;
    let path = Path::parse(&file.key).map_err(|cause| unreadable(file, cause.into()))?;
    Ok((bucket, path))
}

fn unreadable(file: &RawFile, cause: object_store::Error) -> Error {
    let error =
        TableError::new(ErrorKind::Storage, "the raw file cannot be read").with_context("file", file.url());
    failure(&error.with_source(cause), |_| None)
}

/// A local copy of a raw file, unpacked.
#[derive(Clone, Debug)]
pub(super) struct Local {
    pub(super) url: String,
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
}

/// Copies a file into a folder under the name of its number, unpacked if it is packed by gzip. `limit` is the
/// maximum number of its bytes.
pub(super) async fn copy(
    lake: &dyn Lake,
    found: &Found,
    folder: &FilePath,
    number: usize,
    limit: u64,
) -> Result<Local, Error> {
    let (file, url) = (&found.file, found.file.url());
    let path = folder.join(local_name(&file.key, number));
    let (bucket, key) = place(lake, file)?;
    // The object may have been replaced since it was found.
    let if_match = file.version.is_none().then(|| found.source.version.clone());
    let options = GetOptions { version: file.version.clone(), if_match, ..GetOptions::default() };
    let got = bucket.get_opts(&key, options).await.map_err(|cause| unreadable(file, cause))?;
    let mut chunks = got.into_stream();
    let mut unpacking = Unpacking::Unknown(Limited { file: create(&path).await?, left: limit });
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|cause| unreadable(file, cause))?;
        unpacking =
            blocking(move || unpacking.write(&chunk)).await.map_err(|cause| broken(&url, limit, &cause))?;
    }
    let left = blocking(move || unpacking.finish()).await.map_err(|cause| broken(&url, limit, &cause))?;
    let bytes = limit - left;
    if bytes == 0 {
        // An empty file has no first line, and no rows.
        let path = path.clone();
        let _ = blocking(move || std::fs::remove_file(path)).await;
    }
    Ok(Local { url, path, bytes })
}

/// Returns a name that sorts by the number, with the extension of the rows.
fn local_name(key: &str, number: usize) -> String {
    let name = key.rsplit('/').next().unwrap_or(key);
    let lower = name.to_ascii_lowercase();
    let name = lower.strip_suffix(".gz").or_else(|| lower.strip_suffix(".gzip")).unwrap_or(&lower);
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    let plain = extension.chars().all(|c| c.is_ascii_alphanumeric());
    format!("{number:06}.{}", if plain { extension } else { "" })
}

async fn create(path: &FilePath) -> Result<File, Error> {
    let path = path.to_owned();
    blocking(move || File::create(path)).await.map_err(|cause| Error::Hudi {
        name: "Hudi.Storage",
        cause: format!(
            "the function's temporary folder cannot be written: {cause}; give the function more storage"
        ),
    })
}

fn broken(url: &str, limit: u64, cause: &io::Error) -> Error {
    match cause.kind() {
        io::ErrorKind::FileTooLarge => Error::Hudi {
            name: "Hudi.TooLarge",
            cause: format!(
                "the file {url} has more than {} unpacked, which is the rest of the function's limit for one event; nothing \
                 was written, so run the Glue job for it, send fewer files in an event, or raise HUDI_MAX_BYTES",
                megabytes(limit)
            ),
        },
        io::ErrorKind::StorageFull => Error::Hudi {
            name: "Hudi.TooLarge",
            cause: format!(
                "the file {url} does not fit into the function's temporary folder; nothing was written, so give the \
                 function more storage, or run the Glue job for it"
            ),
        },
        _ => Error::Hudi {
            name: "Hudi.InvalidInput",
            cause: format!(
                "the file {url} cannot be unpacked: {cause}; nothing was written, so correct the file"
            ),
        },
    }
}

/// Returns a number of bytes in words.
pub(super) fn megabytes(bytes: u64) -> String {
    let tenths = bytes.saturating_add(52_428) / 104_858;
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

/// Runs work that may block on a thread of its own. A panic of the work is one of the caller.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(ended) => match ended.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime ends, and with it this future.
            Err(_) => std::future::pending().await,
        },
    }
}

/// A file with a maximum size.
struct Limited {
    file: File,
    left: u64,
}

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.left = self.left.checked_sub(written).ok_or(io::ErrorKind::FileTooLarge)?;
        self.file.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The bytes that begin a file packed by gzip; neither Parquet nor text begins with them.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// A local copy that is being written.
enum Unpacking {
    /// The first bytes have not arrived.
    Unknown(Limited),
    Plain(Limited),
    Packed(Box<MultiGzDecoder<Limited>>),
}

impl Unpacking {
    fn write(self, bytes: &[u8]) -> io::Result<Self> {
        let mut writer = match self {
            Self::Unknown(file) if bytes.is_empty() => return Ok(Self::Unknown(file)),
            Self::Unknown(file) if bytes.starts_with(&GZIP) => {
                Self::Packed(Box::new(MultiGzDecoder::new(file)))
            }
            Self::Unknown(file) => Self::Plain(file),
            known => known,
        };
        match &mut writer {
            Self::Unknown(_) => {}
            Self::Plain(file) => file.write_all(bytes)?,
            Self::Packed(decoder) => decoder.write_all(bytes)?,
        }
        Ok(writer)
    }

    /// Ends the file, and returns the rest of its limit.
    fn finish(self) -> io::Result<u64> {
        match self {
            Self::Unknown(file) | Self::Plain(file) => Ok(file.left),
            Self::Packed(decoder) => Ok(decoder.finish()?.left),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_copies_have_the_extension_of_their_rows() {
        for (key, name) in [
            ("a/B.CSV", "000003.csv"),
            ("a/b.jsonl.gz", "000003.jsonl"),
            ("b.parquet.GZ", "000003.parquet"),
            ("b.c/d", "000003."),
            ("b.c:d", "000003."),
        ] {
            assert_eq!(local_name(key, 3), name, "{key}");
        }
    }

    #[test]
    fn folders_and_markers_of_other_programs_are_no_files() {
        let file = |key: &str| RawFile { bucket: "b".into(), key: key.into(), version: None, e_tag: None };
        for (key, hidden) in [("a/", true), ("a/_SUCCESS", true), (".a.crc", true), ("_a/b.csv", false)] {
            assert_eq!(is_hidden(&file(key)), hidden, "{key}");
        }
    }

    #[test]
    fn sizes_are_told_in_mebibytes() {
        assert_eq!((megabytes(0), megabytes(128 << 20)), ("0.0 MiB".to_owned(), "128.0 MiB".to_owned()));
    }
}
