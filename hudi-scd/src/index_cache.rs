//! An optional cache of the index on the local disk. It contains the footers and the keys of base files.
//!
//! It replaces most of a lookup's reads from remote storage: the end of each file, and the whole of each file
//! that may contain a key. An entry is named after its base file, which is immutable, so an entry cannot
//! become outdated. An entry contains its table, its file and a hash of its bytes. A damaged or truncated
//! entry, or an entry of another table, counts as absent. An error of the cache never makes a lookup or a
//! write fail.
//!
//! ```text
//! {hash}.footer   the Parquet footer of a base file, with its bloom filter
//! {hash}.keys     record keys and ordering values of all of its rows, in their order, as a stream of Arrow
//! an entry        content | its table and file | length of that, u32 | XXH64 of all before, u64 | magic
//! ```

use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write},
    path::PathBuf,
    sync::Arc,
    time::SystemTime,
};

use arrow::{
    array::{ArrayRef, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema},
    ipc::{reader::StreamReader, writer::StreamWriter},
};
use bytes::Bytes;
use object_store::path::Path;
use tempfile::NamedTempFile;
use xxhash_rust::xxh64::{Xxh64, xxh64};

use crate::{schema::META_COLUMNS, timeline::Clock};

/// The column of the record key.
pub(crate) const RECORD_KEY: &str = META_COLUMNS[2];

/// The last character is the version of the format. Entries of other versions count as absent.
const MAGIC: &[u8; 8] = b"HSCDIDX2";
/// The length, the hash and the magic.
const TAIL: u64 = 4 + 8 + 8;
const KINDS: [&str; 2] = ["footer", "keys"];
/// The percentage of the size limit that is still used after an eviction.
const KEEP_PERCENT: u64 = 90;

/// The cache entries of one table.
#[derive(Clone, Debug)]
pub(crate) struct IndexCache {
    folder: PathBuf,
    max_bytes: u64,
    /// Distinguishes this table's files from the files of other tables.
    table: String,
    clock: Arc<dyn Clock>,
}

impl IndexCache {
    pub(crate) fn new(folder: PathBuf, max_bytes: u64, table: String, clock: Arc<dyn Clock>) -> Self {
        Self { folder, max_bytes, table, clock }
    }

    /// Returns the entries of a base file of `bytes` bytes.
    pub(crate) fn entry(&self, path: &Path, bytes: u64) -> Entry {
        Entry { cache: self.clone(), of: format!("{}\n{path}\n{bytes}", self.table) }
    }

    /// Starts caching the keys of a base file that is being written, with the values of an ordering column.
    pub(crate) fn keep_keys(&self, ordering: Option<(&str, &DataType)>) -> Option<KeysWriter> {
        let schema = Arc::new(keys_schema(ordering));
        let begun = Draft::new(self).and_then(|draft| {
            let rows = StreamWriter::try_new(draft, &schema).map_err(io::Error::other)?;
            Ok(KeysWriter { rows, schema: schema.clone() })
        });
        begun.inspect_err(|error| self.tell(error)).ok()
    }

    /// Evicts the least recently used entries until the cache is small enough.
    fn bound(&self) -> io::Result<()> {
        let mut entries = Vec::new();
        for file in fs::read_dir(&self.folder)? {
            let file = file?;
            let path = file.path();
            let is_entry = path.extension().is_some_and(|kind| KINDS.iter().any(|known| kind == *known));
            // Another process may have deleted it.
            if let (true, Ok(metadata)) = (is_entry, file.metadata()) {
                entries.push((metadata.modified()?, metadata.len(), path));
            }
        }
        let mut bytes: u64 = entries.iter().map(|(_, bytes, _)| bytes).sum();
        if bytes <= self.max_bytes {
            return Ok(());
        }
        entries.sort();
        for (_, length, path) in entries {
            if bytes <= self.max_bytes / 100 * KEEP_PERCENT {
                break;
            }
            fs::remove_file(path).or_else(|error| match error.kind() {
                io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            })?;
            bytes -= length;
        }
        Ok(())
    }

    fn tell(&self, error: &io::Error) {
        tracing::warn!(folder = %self.folder.display(), %error, "the index is not cached");
    }
}

/// Returns the columns of cached keys.
fn keys_schema(ordering: Option<(&str, &DataType)>) -> Schema {
    let key = Field::new(RECORD_KEY, DataType::Utf8, true);
    let ordering = ordering.map(|(name, data_type)| Field::new(name, data_type.clone(), true));
    Schema::new([Some(key), ordering].into_iter().flatten().collect::<Vec<_>>())
}

/// The cache entries of one base file.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    cache: IndexCache,
    of: String,
}

impl Entry {
    /// Returns the metadata at the end of the file, if they are cached.
    pub(crate) fn footer(&self) -> Option<Bytes> {
        let (mut file, length) = self.open("footer")?;
        let mut bytes = vec![0; usize::try_from(length).ok()?];
        file.read_exact(&mut bytes).ok()?;
        Some(bytes.into())
    }

    pub(crate) fn keep_footer(&self, metadata: &[u8]) {
        let kept = Draft::new(&self.cache).and_then(|mut draft| {
            draft.write_all(metadata)?;
            draft.keep(self, "footer")
        });
        if let Err(error) = kept {
            self.cache.tell(&error);
        }
    }

    /// Returns the keys of all rows and, if requested, their ordering values, if they are cached.
    pub(crate) fn keys(
        &self,
        ordering: Option<&str>,
    ) -> Option<impl Iterator<Item = Result<RecordBatch, arrow::error::ArrowError>> + use<>> {
        let (file, length) = self.open("keys")?;
        let rows = StreamReader::try_new(BufReader::new(file.take(length)), None).ok()?;
        let columns = rows.schema();
        let has = |name: &str| columns.field_with_name(name).is_ok();
        (has(RECORD_KEY) && ordering.is_none_or(has)).then_some(rows)
    }

    /// Starts caching the keys of all rows.
    pub(crate) fn keep_keys(&self, ordering: Option<(&str, &DataType)>) -> Option<KeysWriter> {
        self.cache.keep_keys(ordering)
    }

    /// Opens a valid entry at its beginning, and returns the length of its content.
    fn open(&self, kind: &str) -> Option<(File, u64)> {
        let path = self.path(kind);
        let mut file = File::open(&path).ok()?;
        match content_length(&mut file, &self.of) {
            Ok(Some(length)) => {
                // Reading an entry updates its time of use. If a file system does not allow this, entries are
                // evicted by age.
                let _ = file.set_modified(SystemTime::from(self.cache.clock.now()));
                Some((file, length))
            }
            Ok(None) | Err(_) => {
                tracing::debug!(file = %path.display(), "a damaged entry of the index cache is ignored");
                None
            }
        }
    }

    fn path(&self, kind: &str) -> PathBuf {
        self.cache.folder.join(format!("{:016x}.{kind}", xxh64(self.of.as_bytes(), 0)))
    }
}

/// Validates an entry, and seeks to its beginning.
fn content_length(file: &mut File, of: &str) -> io::Result<Option<u64>> {
    let Some(hashed) = file.metadata()?.len().checked_sub(TAIL - 4) else { return Ok(None) };
    let mut hash = Xxh64::new(0);
    let mut reader = BufReader::with_capacity(128 * 1024, Read::by_ref(file).take(hashed));
    let mut last = Vec::new();
    loop {
        let bytes = io::BufRead::fill_buf(&mut reader)?;
        let length = bytes.len();
        if length == 0 {
            break;
        }
        hash.update(bytes);
        // The last bytes that were read name the entry's table and file.
        last.extend_from_slice(bytes);
        let surplus = last.len().saturating_sub(of.len() + 4);
        last.drain(..surplus);
        io::BufRead::consume(&mut reader, length);
    }
    let mut tail = [0; 16];
    file.seek(SeekFrom::Start(hashed))?;
    file.read_exact(&mut tail)?;
    file.seek(SeekFrom::Start(0))?;
    let mut expected = of.as_bytes().to_vec();
    expected.extend_from_slice(&(of.len() as u32).to_le_bytes());
    let is_whole = tail[..8] == hash.digest().to_le_bytes() && tail[8..] == *MAGIC && last == expected;
    Ok(is_whole.then(|| hashed - expected.len() as u64))
}

/// An entry that is being written. It becomes visible when it is complete.
struct Draft {
    file: BufWriter<NamedTempFile>,
    hash: Xxh64,
    cache: IndexCache,
}

impl Draft {
    fn new(cache: &IndexCache) -> io::Result<Self> {
        fs::create_dir_all(&cache.folder)?;
        let file = BufWriter::new(NamedTempFile::new_in(&cache.folder)?);
        Ok(Self { file, hash: Xxh64::new(0), cache: cache.clone() })
    }

    fn keep(mut self, entry: &Entry, kind: &str) -> io::Result<()> {
        self.write_all(entry.of.as_bytes())?;
        self.write_all(&u32::try_from(entry.of.len()).map_err(io::Error::other)?.to_le_bytes())?;
        let hash = self.hash.digest();
        self.file.write_all(&hash.to_le_bytes())?;
        self.file.write_all(MAGIC)?;
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        if file.as_file().metadata()?.len() > self.cache.max_bytes {
            return Ok(());
        }
        file.as_file().set_modified(SystemTime::from(self.cache.clock.now()))?;
        file.persist(entry.path(kind))?;
        self.cache.bound()
    }
}

impl Write for Draft {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.file.write(buffer)?;
        self.hash.update(&buffer[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Caches the keys of a base file, row by row.
pub(crate) struct KeysWriter {
    rows: StreamWriter<Draft>,
    schema: Arc<Schema>,
}

impl KeysWriter {
    /// Adds rows. A failure is logged, and the keys are not cached.
    pub(crate) fn add(mut self, keys: &StringArray, ordering: Option<&ArrayRef>) -> Option<Self> {
        let keys: ArrayRef = Arc::new(keys.clone());
        let columns = [Some(&keys), ordering].into_iter().flatten().cloned().collect();
        let added =
            RecordBatch::try_new(self.schema.clone(), columns).and_then(|rows| self.rows.write(&rows));
        match added {
            Ok(()) => Some(self),
            Err(error) => {
                self.rows.get_ref().cache.tell(&io::Error::other(error));
                None
            }
        }
    }

    /// Stores the keys under the entry of a base file.
    pub(crate) fn keep(self, entry: &Entry) {
        let Self { mut rows, .. } = self;
        let kept = rows.finish().and_then(|()| rows.into_inner()).map_err(io::Error::other);
        if let Err(error) = kept.and_then(|draft| draft.keep(entry, "keys")) {
            entry.cache.tell(&error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timeline::SystemClock;

    fn entry(folder: &std::path::Path) -> Entry {
        let cache = IndexCache::new(folder.to_owned(), 1_000_000, "t".to_owned(), Arc::new(SystemClock));
        cache.entry(&"lake/f.parquet".into(), 7)
    }

    #[test]
    fn entries_keep_their_names_and_bytes_with_every_release_of_rust() {
        let folder = tempfile::tempdir().unwrap();
        let entry = entry(folder.path());
        entry.keep_footer(b"metadata");
        let file = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap();
        assert_eq!(file.file_name(), "fe0bd752b5760786.footer");
        let bytes = std::fs::read(file.path()).unwrap();
        let mut expected = b"metadatat\nlake/f.parquet\n7\x12\0\0\0".to_vec();
        expected.extend_from_slice(&0x6875_54E7_9DC9_FC6D_u64.to_le_bytes());
        expected.extend_from_slice(b"HSCDIDX2");
        assert_eq!(bytes, expected);
    }

    #[test]
    fn an_entry_of_another_version_counts_as_absent() {
        let folder = tempfile::tempdir().unwrap();
        let entry = entry(folder.path());
        entry.keep_footer(b"metadata");
        assert_eq!(entry.footer().as_deref(), Some(&b"metadata"[..]));
        let path = entry.path("footer");
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() = b'1';
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(entry.footer(), None);
    }
}
