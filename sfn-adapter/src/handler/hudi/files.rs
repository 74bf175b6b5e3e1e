//! Looks up raw files and copies them to the local disk.

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

use super::failure::{Failure, failure};
use crate::{Error, Lake, contract::hudi::RawFile, sentence::cut};

/// Maximum number of concurrent requests.
const AT_ONCE: usize = 16;

/// A raw file that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) file: RawFile,
    pub(super) source: SourceFile,
    pub(super) bytes: u64,
}

/// Returns `true` for an object that is not a file with rows: the key of a folder, or a name that begins with
/// a dot or `_`, as in Spark.
pub(super) fn is_hidden(file: &RawFile) -> bool {
    file.key.ends_with('/') || file.key.rsplit('/').next().is_some_and(|name| name.starts_with(['.', '_']))
}

/// Returns the files whose objects can be named, and an error that names the first other file. Hidden files
/// are in neither.
pub(super) fn nameable(mut files: Vec<RawFile>) -> (Vec<RawFile>, Option<Error>) {
    let mut refused = None;
    files.retain(|file| match object(file) {
        Err(error) if !is_hidden(file) => {
            refused.get_or_insert(error);
            false
        }
        _ => true,
    });
    (files, refused)
}

/// Returns the path of a file's object.
///
/// # Errors
/// `object_store` changes some keys of S3, such as `/a.csv` to `a.csv`. Such keys are rejected, because the
/// rows of a different file would be taken in.
fn object(file: &RawFile) -> Result<Path, Error> {
    let exact = Path::parse(&file.key).ok().filter(|path| !file.key.is_empty() && path.as_ref() == file.key);
    exact.ok_or_else(|| {
        let key: String = file.key.chars().flat_map(char::escape_debug).collect();
        let reason = match file.key.split('/').find(|part| part.is_empty() || [".", ".."].contains(part)) {
            Some("") => "begins or ends with /, or has // in it",
            Some(_) => "has a part that is . or ..",
            None => "contains control characters",
        };
        Error::Hudi {
            name: "Hudi.Unsupported",
            cause: format!(
                "the file s3://{}/{} cannot be read, because its key {reason}; it was not taken in, so copy it to another key",
                file.bucket,
                cut(&key, 300)
            ),
        }
    })
}

/// Looks up files and returns them in the same order. `None` for a file that does not exist.
pub(super) async fn find(lake: &dyn Lake, files: Vec<RawFile>) -> Result<Vec<Option<Found>>, Failure> {
    let found = files.into_iter().map(|file| find_one(lake, file));
    stream::iter(found).buffered(AT_ONCE).try_collect().await
}

async fn find_one(lake: &dyn Lake, file: RawFile) -> Result<Option<Found>, Failure> {
    let options = GetOptions { head: true, version: file.version.clone(), ..GetOptions::default() };
    let (bucket, path) = place(lake, &file)?;
    let meta = match bucket.get_opts(&path, options).await {
        Ok(found) => found.meta,
        Err(object_store::Error::NotFound { .. }) => return Ok(None),
        Err(cause) => return Err(unreadable(&file, cause)),
    };
    // In an unversioned bucket, objects have the version `null`.
    let version = meta.version.filter(|version| version != "null").or(file.version.clone());
    let e_tag = meta.e_tag.map(|tag| tag.trim_start_matches("W/").trim_matches('"').to_owned());
    let version = version.or(e_tag).ok_or_else(|| {
        let error = TableError::new(ErrorKind::Storage, "the storage reports no ETag");
        Failure::OfFile(failure(&error.with_context("file", file.url()), |_| None))
    })?;
    let source = SourceFile::new(file.url(), version);
    Ok(Some(Found { file, source, bytes: meta.size }))
}

fn place(lake: &dyn Lake, file: &RawFile) -> Result<(Arc<dyn ObjectStore>, Path), Failure> {
    let path = object(file).map_err(Failure::OfFile)?;
    let bucket = lake.bucket(&file.bucket).map_err(|error| Failure::OfFile(failure(&error, |_| None)))?;
    Ok((bucket, path))
}

fn unreadable(file: &RawFile, cause: object_store::Error) -> Failure {
    use object_store::Error::{PermissionDenied, Unauthenticated};
    if matches!(cause, PermissionDenied { .. } | Unauthenticated { .. }) {
        return Failure::OfFile(Error::Hudi {
            name: "Hudi.Denied",
            cause: format!(
                "S3 denies the function the file {}; nothing was written, so allow its role s3:GetObject for it, and \
                 kms:Decrypt if it is encrypted with a key of its own",
                cut(&file.url(), 300)
            ),
        });
    }
    let error =
        TableError::new(ErrorKind::Storage, "the raw file cannot be read").with_context("file", file.url());
    Failure::OfFile(failure(&error.with_source(cause), |_| None))
}

/// A local, uncompressed copy of a raw file.
#[derive(Clone, Debug)]
pub(super) struct Local {
    pub(super) url: String,
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
}

/// Copies a file into a folder. The copy is named after the file's number, and uncompressed if the file is a
/// gzip file. `limit` is the maximum size in bytes.
pub(super) async fn copy(
    lake: &dyn Lake,
    found: &Found,
    folder: &FilePath,
    number: usize,
    limit: u64,
) -> Result<Local, Failure> {
    let (file, url) = (&found.file, found.file.url());
    let path = folder.join(local_name(&file.key, number));
    let (bucket, key) = place(lake, file)?;
    // The object may have been replaced since it was looked up.
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

/// Returns a name that sorts by number and has the extension of the row format.
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

fn broken(url: &str, limit: u64, cause: &io::Error) -> Failure {
    Failure::OfFile(match cause.kind() {
        io::ErrorKind::FileTooLarge => Error::Hudi {
            name: "Hudi.TooLarge",
            cause: format!(
                "the file {url} has more than {} unpacked, which is the rest of the function's limit for one event; nothing \
                 was written, so run the Glue job for it, send fewer files in an event, or raise HUDI_MAX_BYTES",
                size(limit)
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
    })
}

/// Formats a number of bytes for people.
pub(super) fn size(bytes: u64) -> String {
    let in_units = |unit: u64, name: &str| {
        let tenths = (u128::from(bytes) * 10 + u128::from(unit / 2)) / u128::from(unit);
        format!("{}.{} {name}", tenths / 10, tenths % 10)
    };
    match bytes {
        0..1_024 => format!("{bytes} bytes"),
        1_024..1_048_576 => in_units(1 << 10, "KiB"),
        _ => in_units(1 << 20, "MiB"),
    }
}

/// Runs work on a thread that may block. A panic of the work is propagated to the caller.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(ended) => match ended.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down, and this future with it.
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

/// The first bytes of a gzip file. Neither Parquet nor text begins with them.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// A local copy that is being written.
enum Unpacking {
    /// The first bytes have not arrived yet.
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

    /// Completes the file and returns the unused part of its limit.
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
    fn keys_that_would_name_another_object_are_refused() {
        let file = |key: &str| RawFile { bucket: "b".into(), key: key.into(), version: None, e_tag: None };
        let keys = ["/a.csv", "x//a.csv", "x/./a.csv", "x/../a.csv", "a\n.csv", "x/a\u{7f}.csv", ""];
        for key in keys {
            let (files, refused) = nameable(vec![file("first.csv"), file(key), file("last.csv")]);
            assert_eq!(files.len(), 2, "{key:?}");
            let message = refused.unwrap().to_string();
            assert!(
                message.starts_with("the file s3://b/") && !message.contains(char::is_control),
                "{message}"
            );
        }
        let exact = ["a.csv", "x/ä b+c%20.csv", "x/a\\b.csv", "x/{a}~[1]#?.csv", "x/", "x//", "..a/..b"];
        let (files, refused) = nameable(exact.map(file).to_vec());
        assert_eq!((files.len(), refused.map(|error| error.to_string())), (exact.len(), None));
    }

    #[test]
    fn no_size_is_rounded_to_nothing() {
        let sizes = [7, 1_500, 128 << 20, u64::MAX].map(size);
        assert_eq!(sizes, ["7 bytes", "1.5 KiB", "128.0 MiB", "17592186044416.0 MiB"]);
    }
}
