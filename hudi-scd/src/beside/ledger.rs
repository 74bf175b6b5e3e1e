//! The ledger: the files of raw rows that the commits of a table took in.
//!
//! A commit that takes in files names them in its metadata ([`SourceFile::METADATA`]), for people. Before it
//! completes, it also writes the ledger `.hoodie/.aux/tombstones/{ts}.ledger`: a Parquet file with 16 bytes
//! for each file that this commit or an earlier one took in (1.6 MB for 100,000 files). The newest ledger of
//! a completed commit is the ledger of the table. Therefore neither a clean nor an archival of commits
//! forgets a file:
//!
//! - A writer that dies before its commit completes leaves a ledger without a commit, which does not count.
//!   Its rows are invisible too, and when its files are delivered again, they are taken in.
//! - After a rollback of a commit, or a restore to a savepoint, the previous ledger is the newest one again.
//!   The rows are removed, and their files can be taken in again.
//! - The next writer deletes ledgers that no rollback can make the newest again.
//!
//! Spark's commits name their files in the same entry ([`spark::SCRIPT`](crate::spark::SCRIPT)). Spark knows
//! the instant of a commit only after the commit, so it writes the ledger after it, and may die in between.
//! For commits that are newer than the newest ledger, the metadata therefore count, in the archive too.

use std::{collections::HashSet, sync::Arc};

use arrow::{
    array::{AsArray, FixedSizeBinaryArray, RecordBatch},
    compute::cast,
    datatypes::{DataType, Field, Schema},
};
use bytes::Bytes;
use object_store::path::Path;
use parquet::{
    arrow::{ArrowWriter, arrow_reader::ParquetRecordBatchReaderBuilder},
    errors::ParquetError,
    file::properties::WriterProperties,
};

use super::{File, archive::Archive, discard, divide};
use crate::{
    Error, ErrorKind, Result, SourceFile,
    concurrent::blocking,
    context::{Context, Turn},
    layout,
    snapshot::View,
    source_file::{DIGEST, FileDigest},
    storage,
    timeline::{Action, CommitMetadata, Instant},
};

/// The files that a table took in, as sorted digests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ledger(Vec<FileDigest>);

/// The files that a commit takes in.
pub(crate) struct Taken {
    files: Vec<SourceFile>,
    /// The ledger after the commit.
    ledger: Ledger,
}

impl Ledger {
    /// Divides files into new ones and known ones. A file that is named twice counts as new once.
    pub(crate) fn divide(&self, files: &[SourceFile]) -> (Vec<SourceFile>, Vec<SourceFile>) {
        let mut seen = HashSet::new();
        files.iter().cloned().partition(|file| {
            let digest = file.digest();
            self.0.binary_search(&digest).is_err() && seen.insert(digest)
        })
    }

    /// Adds files.
    pub(crate) fn take(mut self, files: Vec<SourceFile>) -> Taken {
        self.0.extend(files.iter().map(SourceFile::digest));
        self.0.sort_unstable();
        self.0.dedup();
        Taken { files, ledger: self }
    }

    fn encode(&self) -> Result<Vec<u8>, ParquetError> {
        let digests = FixedSizeBinaryArray::try_from_iter(self.0.iter())?;
        let field = Field::new("file", DataType::FixedSizeBinary(DIGEST as i32), false);
        let schema = Arc::new(Schema::new(vec![field]));
        let batch = RecordBatch::try_new(schema.clone(), vec![Arc::new(digests)])?;
        let properties = WriterProperties::builder().set_dictionary_enabled(false).build();
        let mut writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties))?;
        writer.write(&batch)?;
        writer.into_inner()
    }

    fn decode(bytes: Bytes) -> Result<Self, ParquetError> {
        let unfit = || ParquetError::General("the column is not one of digests".to_owned());
        let mut all = Vec::new();
        for batch in ParquetRecordBatchReaderBuilder::try_new(bytes)?.build()? {
            let batch = batch?;
            // Spark writes digests as binary values of variable length.
            let column = batch.columns().first().map(|column| cast(column, &DataType::Binary)).transpose()?;
            let column =
                column.as_ref().and_then(|column| column.as_binary_opt::<i32>()).ok_or_else(unfit)?;
            for digest in column {
                all.push(digest.and_then(|digest| digest.try_into().ok()).ok_or_else(unfit)?);
            }
        }
        all.sort_unstable();
        Ok(Self(all))
    }
}

impl Taken {
    /// Adds the names of the files to the metadata of their commit.
    pub(crate) fn describe(&self, metadata: &mut CommitMetadata) {
        let pairs: Vec<_> = self.files.iter().map(|file| (&file.name, &file.version)).collect();
        let text = serde_json::json!(pairs).to_string();
        metadata.extra_metadata.insert(SourceFile::METADATA.to_owned(), Some(text));
    }

    /// Writes the ledger that is valid from a commit on.
    pub(crate) async fn write(&self, context: &Context, instant: Instant) -> Result<()> {
        let ledger = self.ledger.clone();
        let failed = |cause: ParquetError| {
            Error::new(ErrorKind::InvalidInput, "the ledger of files cannot be written").with_source(cause)
        };
        let bytes = blocking(move || ledger.encode().map_err(failed)).await?;
        storage::write(context.store(), &context.layout().ledger(instant)?, bytes).await
    }
}

/// Reads the ledger of the latest commit that has one, and adds the files that later commits name. In a turn,
/// it also deletes the ledgers that do not count, because a ledger from before the active timeline would
/// count as committed.
pub(crate) async fn read(context: &Context, turn: Option<&Turn<'_>>, view: &View) -> Result<Ledger> {
    let listed = match turn {
        Some(turn) => turn.tombstone_files().await?,
        None => {
            let folder = context.layout().tombstone_folder()?;
            let listed = storage::list_folder(context.store(), &folder).await?;
            listed.objects.into_iter().map(|file| file.location).collect()
        }
    };
    let (mut committed, mut past) = divide(context, view, listed, layout::ledger_of).await?;
    let mut archive = Archive::of(context, view);
    let found = loop {
        match committed.last() {
            Some((instant, _)) if !archive.is_committed(*instant).await? => past.extend(committed.pop()),
            found => break found.cloned(),
        }
    };
    if let Some(turn) = turn {
        past.extend(obsolete(committed, view));
        discard(context, turn, past).await?;
    }
    let since = found.as_ref().map(|(instant, _)| *instant);
    let mut later = archive.taken_in(since).await?;
    later.extend(view.written.taken_in(since)?);
    let ledger = match found {
        Some((_, path)) => decode(context, path).await?,
        None => Ledger::default(),
    };
    Ok(if later.is_empty() { ledger } else { ledger.take(later).ledger })
}

async fn decode(context: &Context, path: Path) -> Result<Ledger> {
    let bytes = storage::read(context.store(), &path).await?;
    let corrupt = move |cause| {
        Error::new(ErrorKind::Corrupt, "the ledger of files is broken")
            .with_context("file", &path)
            .with_source(cause)
    };
    blocking(move || Ledger::decode(bytes).map_err(corrupt)).await
}

/// Returns the ledgers before the one that was valid at the beginning of the active timeline, or at an older
/// savepoint.
fn obsolete(mut committed: Vec<File>, view: &View) -> Vec<File> {
    let first = view.timeline.completed_commits().next().map(|entry| entry.instant);
    let savepoint = view.timeline.completed(Action::Savepoint).map(|entry| entry.instant);
    let Some(horizon) = first.into_iter().chain(savepoint).min() else { return Vec::new() };
    let before = committed.partition_point(|(instant, _)| *instant <= horizon);
    committed.truncate(before.saturating_sub(1));
    committed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(number: usize) -> SourceFile {
        SourceFile::new(format!("s3://raw/{number}.csv"), "v1")
    }

    #[test]
    fn a_ledger_of_100_000_files_is_small_and_exact() {
        let files: Vec<_> = (0..100_000).map(file).collect();
        let ledger = Ledger::default().take(files.clone()).ledger;
        let bytes = ledger.encode().unwrap();
        assert!(bytes.len() < 1_700_000, "{}", bytes.len());
        let read = Ledger::decode(bytes.into()).unwrap();
        assert_eq!(read, ledger);
        let more = [file(99_999), file(100_000), SourceFile::new("s3://raw/5.csv", "v2"), file(100_000)];
        let (new, known) = read.divide(&more);
        assert_eq!((new, known), (more[1..3].to_vec(), vec![file(99_999), file(100_000)]));
    }

    #[test]
    fn name_and_version_are_apart() {
        assert_ne!(SourceFile::new("ab", "c").digest(), SourceFile::new("a", "bc").digest());
    }

    #[test]
    fn the_metadata_of_a_commit_names_its_files() {
        let mut metadata = CommitMetadata::default();
        assert_eq!(SourceFile::of_commit(&metadata).unwrap(), []);
        Ledger::default().take(vec![file(1)]).describe(&mut metadata);
        assert_eq!(SourceFile::of_commit(&metadata).unwrap(), [file(1)]);
        let entry = metadata.extra_metadata.get_mut(SourceFile::METADATA).unwrap();
        *entry = Some("{".to_owned());
        assert_eq!(SourceFile::of_commit(&metadata).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}
