//! Takes files in: finds the new ones, checks that they fit, and reads their rows.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use hudi_scd::{
    CommitReport, Error as TableError, ErrorKind, Result as TableResult, SourceFile, Table,
    arrow::{
        array::RecordBatch,
        datatypes::{Schema, SchemaRef},
    },
    input::{Input, Purpose, produced},
    jiff::Timestamp,
    scd::Scd2Table,
    schema,
};

use super::{
    HudiConfig, Profile,
    failure::{Failure, failure},
    files::{self, Found, Local, size},
};
use crate::{
    Error, Invocation, Lake,
    contract::hudi::{Outcome, RawFile, RowCounts, Upserted},
};

/// Number of batches that are read in advance.
const BATCHES_AHEAD: usize = 2;

/// Minimum number of bytes of raw rows that a function with a fraction of a core processes per second.
const BYTES_PER_SECOND: u64 = 2 << 20;

/// Time reserved for everything except the rows.
const FIXED: Duration = Duration::from_secs(5);

/// Takes files into a table.
pub(super) struct Taker<'a> {
    pub(super) lake: &'a dyn Lake,
    pub(super) config: &'a HudiConfig,
    pub(super) invocation: &'a Invocation,
    pub(super) table: Table,
}

/// Results of the stream of rows, apart from the rows.
#[derive(Default)]
struct Notes {
    /// Uncompressed size of the new files in bytes.
    bytes: AtomicU64,
    /// The error that ended the stream, if the table did not cause it.
    error: Mutex<Option<Failure>>,
    /// URLs of the files, by the paths of their local copies.
    names: Mutex<HashMap<String, String>>,
    /// The folder of the local copies, in the order of their rows.
    located: Mutex<Option<Input>>,
}

impl Taker<'_> {
    /// Takes in the files that are new to the table. With `must_exist`, a missing file is an error.
    pub(super) async fn take_in(&self, files: Vec<RawFile>, must_exist: bool) -> Result<Upserted, Failure> {
        let begin = self.invocation.remaining();
        let asked = files.len();
        let files: Vec<_> = files.into_iter().filter(|file| !files::is_hidden(file)).collect();
        let hidden = asked - files.len();
        let unknown = self.not_known(files).await?;
        let known_by_event = asked - hidden - unknown.len();
        let found = files::find(self.lake, unknown.clone()).await?;
        if let (true, Some(lost)) = (must_exist, found.iter().position(Option::is_none)) {
            let url = unknown.get(lost).map(RawFile::url).unwrap_or_default();
            return Err(Failure::OfFile(Error::Hudi {
                name: "Hudi.FileNotFound",
                cause: format!("the file {url} does not exist; nothing was written, so correct the name"),
            }));
        }
        let gone = found.iter().filter(|found| found.is_none()).count();
        let mut found: Vec<Found> = found.into_iter().flatten().collect();
        let sources: Vec<SourceFile> = found.iter().map(|found| found.source.clone()).collect();
        // Two events about one object may refer to the same version of it.
        let mut seen = HashSet::new();
        found.retain(|found| seen.insert(found.source.clone()));
        let new = self.table.new_files(&sources).await.map_err(|error| failure(&error, |_| None))?;
        self.check_fits(&found, &new)?;
        let mut upserted = match new.is_empty() {
            true => Upserted::nothing(self.table.name(), sources.len()),
            false => self.write(found, &sources).await?,
        };
        upserted.files.known += known_by_event as u64;
        upserted.files.gone = gone as u64;
        upserted.seconds = begin.saturating_sub(self.invocation.remaining()).as_secs_f64();
        Ok(upserted)
    }

    /// Returns the files whose versions in the event are not recorded in the table, each once.
    async fn not_known(&self, files: Vec<RawFile>) -> Result<Vec<RawFile>, Error> {
        let sources: Vec<SourceFile> = files.iter().filter_map(RawFile::source).collect();
        let new = self.table.new_files(&sources).await.map_err(|error| failure(&error, |_| None))?;
        let new: HashSet<SourceFile> = new.into_iter().collect();
        let mut seen = HashSet::new();
        let unknown =
            files.into_iter().filter(|file| file.source().is_none_or(|source| new.contains(&source)));
        Ok(unknown.filter(|file| seen.insert(file.clone())).collect())
    }

    /// Rejects files that do not fit into the function's memory or remaining time, before anything is
    /// written.
    fn check_fits(&self, found: &[Found], new: &[SourceFile]) -> Result<(), Failure> {
        let new: HashSet<&SourceFile> = new.iter().collect();
        let bytes: u64 =
            found.iter().filter(|found| new.contains(&found.source)).map(|found| found.bytes).sum();
        let (limit, left) = (self.config.max_bytes, self.invocation.remaining());
        let needed = FIXED + Duration::from_secs(bytes / BYTES_PER_SECOND);
        let reason = if bytes > limit {
            format!("the function's memory allows {} at a time", size(limit))
        } else if bytes > 0 && needed > left {
            let (needed, left) = (needed.as_secs(), left.as_secs());
            format!("they may take {needed} seconds, but the function has only {left} left")
        } else {
            return Ok(());
        };
        Err(Failure::OfFile(Error::Hudi {
            name: "Hudi.TooLarge",
            cause: format!(
                "the {} new files of the event have {}, and {reason}; nothing was written, so run the Glue job for them, send \
                 fewer files in an event, or give the function more memory and time",
                new.len(),
                size(bytes)
            ),
        }))
    }

    async fn write(&self, found: Vec<Found>, sources: &[SourceFile]) -> Result<Upserted, Failure> {
        let folder = tempfile::Builder::new().prefix("raw-").tempdir().map_err(|cause| Error::Hudi {
            name: "Hudi.Storage",
            cause: format!("the function has no temporary folder: {cause}; give it one in TMPDIR"),
        })?;
        let notes = Arc::new(Notes::default());
        let named = |error: TableError| self.explained(error, &notes);
        let columns = self.columns().await.map_err(named)?;
        let rows = |new: Vec<SourceFile>| self.rows(found, new, folder.path(), columns, notes.clone());
        let (new, known, report) = if self.table.is_history() {
            let history = Scd2Table::of(self.table.clone()).map_err(named)?;
            let intake = history.take_in(sources, rows).await.map_err(named)?;
            let mut report = intake.report.commit;
            report.rows = intake.report.counts.changes as u64;
            (intake.new, intake.known, report)
        } else {
            let intake = self.table.take_in(sources, rows).await.map_err(named)?;
            (intake.new, intake.known, intake.report)
        };
        let mut upserted = Upserted::nothing(self.table.name(), known.len());
        upserted.files.new = new.len() as u64;
        upserted.files.bytes = notes.bytes.load(Ordering::Relaxed);
        if let Some(instant) = report.instant {
            upserted.outcome = Outcome::Committed;
            upserted.instant = Some(instant.to_string());
            tracing::info!(%instant, files = new.len(), rows = report.rows, "files taken in");
        }
        upserted.rows = counts(&report);
        upserted.upkeep_failed = report.upkeep_failed;
        Ok(upserted)
    }

    /// Returns the columns of the incoming rows: the table's columns, or for a history the columns of its
    /// changes.
    async fn columns(&self) -> TableResult<SchemaRef> {
        let schema = match self.table.schema().await {
            // Another engine created the table, and it is still empty: the rows determine the columns.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Arc::new(Schema::empty())),
            schema => schema?,
        };
        if !self.table.is_history() {
            return Ok(schema);
        }
        Scd2Table::of(self.table.clone())?.definition().changes_schema(&schema)
    }

    /// Copies the new files, and reads their rows.
    fn rows<'a>(
        &'a self,
        found: Vec<Found>,
        new: Vec<SourceFile>,
        folder: &'a Path,
        columns: SchemaRef,
        notes: Arc<Notes>,
    ) -> BoxStream<'a, TableResult<RecordBatch>> {
        let new: HashSet<SourceFile> = new.into_iter().collect();
        let found: Vec<Found> = found.into_iter().filter(|found| new.contains(&found.source)).collect();
        let (profile, now) = (self.config.profile.clone(), self.invocation.now());
        let rows = async move {
            let locals = match self.copies(&found, folder).await {
                Ok(locals) => locals,
                Err(error) => {
                    *notes.error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    return Err(TableError::new(ErrorKind::InvalidInput, "a raw file cannot be copied"));
                }
            };
            notes.bytes.store(locals.iter().map(|local| local.bytes).sum(), Ordering::Relaxed);
            let names = locals.iter().map(|local| (local.path.display().to_string(), local.url.clone()));
            notes.names.lock().unwrap_or_else(PoisonError::into_inner).extend(names);
            // The changes of a history have different columns from its table.
            let stored = (!self.table.is_history()).then(|| columns.clone());
            let with_rows: Vec<Local> = locals.into_iter().filter(|local| local.bytes > 0).collect();
            Ok(produced(BATCHES_AHEAD, move |give| {
                read(&with_rows, &columns, stored, &profile, now, &notes, give)
            }))
        };
        stream::once(rows).try_flatten().boxed()
    }

    async fn copies(&self, found: &[Found], folder: &Path) -> Result<Vec<Local>, Failure> {
        let mut left = self.config.max_bytes;
        let mut locals = Vec::with_capacity(found.len());
        for (number, found) in found.iter().enumerate() {
            let local = files::copy(self.lake, found, folder, number, left).await?;
            left -= local.bytes;
            locals.push(local);
        }
        Ok(locals)
    }

    fn explained(&self, error: TableError, notes: &Notes) -> Failure {
        if let Some(error) = notes.error.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return error;
        }
        let located = notes.located.lock().unwrap_or_else(PoisonError::into_inner);
        let error = match &*located {
            Some(input) => input.locate(error),
            None => error,
        };
        let names = notes.names.lock().unwrap_or_else(PoisonError::into_inner);
        let is_about_a_file = error.kind() == ErrorKind::InvalidInput;
        let error = failure(&error, |path| names.get(path).cloned());
        if is_about_a_file { Failure::OfFile(error) } else { Failure::Other(error) }
    }
}

/// Reads the rows of local copies, file by file, and cleans them. Checks them against `stored`, the columns
/// of the table that receives them. The table itself could not name the file in an error.
fn read(
    locals: &[Local],
    columns: &Schema,
    mut stored: Option<SchemaRef>,
    profile: &Profile,
    now: Timestamp,
    notes: &Notes,
    give: &mut dyn FnMut(RecordBatch) -> bool,
) -> TableResult<()> {
    let Some(folder) = locals.first().and_then(|local| local.path.parent()) else { return Ok(()) };
    *notes.located.lock().unwrap_or_else(PoisonError::into_inner) = Input::open(folder).ok();
    let mut before = 0;
    for local in locals {
        let input = Input::open(&local.path)?;
        let raw = input.guesses()?;
        let known = profile.read_with(&raw, columns);
        for batch in input.batches(&known, Purpose::Table, |_| Ok(()), &|_| {}) {
            let batch = batch?;
            let in_file = |error: TableError| error.with_context("file", local.path.display());
            let cleaned = profile.clean(&batch, &raw, before, now).map_err(in_file)?;
            if let Some(stored) = &mut stored {
                *stored = schema::reconcile(stored, cleaned.schema_ref()).map_err(in_file)?;
            }
            before += batch.num_rows();
            if !give(cleaned) {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn counts(report: &CommitReport) -> RowCounts {
    RowCounts {
        rows: report.rows,
        inserted: report.inserted,
        updated: report.updated + report.moved,
        deleted: report.deleted,
        late: report.late + report.remembered,
        unchanged: report.unchanged + report.superseded,
    }
}
