//! [`FileJournal`]: a journal of JSON lines on disk.

use std::{
    fmt,
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use super::{Entry, Index, Journal, Record};
use crate::{Error, ErrorKind, Result, StepKey};

/// A journal of JSON lines on disk: one record a line, readable by a person, durable when [`append`](Journal::append) returns.
///
/// The file is locked while it is open; a second process is refused. A last line that a crash left unfinished was never
/// acknowledged, and is cut off at the next open; any other line that cannot be read is an error that names it.
pub struct FileJournal {
    path: PathBuf,
    state: Arc<Mutex<State>>,
}

struct State {
    file: File,
    index: Index,
    /// Set by a failed write: the end of the file is then of unknown shape, and the next record must not be put behind it.
    damaged: bool,
}

impl FileJournal {
    /// Opens the journal at `path`, or begins one there.
    ///
    /// # Errors
    /// [`ErrorKind::Journal`] when the file cannot be opened, is in use by another process, or has a line that is no record.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let failed = |what: &str, error: io::Error| {
            Error::new(ErrorKind::Journal, format!("{what}: {error}"))
                .with_context("journal", path.display())
                .with_source(error)
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(|error| failed("the journal cannot be opened", error))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::new(
                    ErrorKind::Journal,
                    "another process uses this journal; let it end, or give this run a journal of its own",
                )
                .with_context("journal", path.display()));
            }
            Err(TryLockError::Error(error)) => return Err(failed("the journal cannot be locked", error)),
        }
        sync_directory(path)
            .map_err(|error| failed("the journal's directory cannot be made durable", error))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(|error| failed("the journal cannot be read", error))?;
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        if whole < text.len() {
            file.set_len(whole as u64)
                .and_then(|()| file.sync_all())
                .map_err(|error| failed("the journal's unfinished last line cannot be cut off", error))?;
        }
        let mut index = Index::default();
        for (number, line) in text[..whole].split(|byte| *byte == b'\n').enumerate() {
            if line.is_empty() {
                continue;
            }
            index.apply(serde_json::from_slice(line).map_err(|error| {
                Error::new(
                    ErrorKind::Journal,
                    "a line is no record of this version; restore the file, or correct the line by hand",
                )
                .with_context("journal", path.display())
                .with_context("line", number + 1)
                .with_source(error)
            })?);
        }
        file.seek(SeekFrom::End(0)).map_err(|error| failed("the journal cannot be read", error))?;
        let state = State { file, index, damaged: false };
        Ok(Self { path: path.to_owned(), state: Arc::new(Mutex::new(state)) })
    }

    /// Where the journal is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

// A panic while the lock was held leaves `damaged` as it was; the state itself is never half changed.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn append(&mut self, record: Record) -> Result<(), String> {
        if self.damaged {
            return Err("an earlier record could not be written; open the journal again".to_owned());
        }
        let mut line = serde_json::to_vec(&record).map_err(|error| error.to_string())?;
        line.push(b'\n');
        self.damaged = true;
        self.file
            .write_all(&line)
            .and_then(|()| self.file.sync_data())
            .map_err(|error| format!("the record could not be written: {error}"))?;
        self.damaged = false;
        self.index.apply(record);
        Ok(())
    }
}

#[async_trait]
impl Journal for FileJournal {
    async fn append(&self, record: Record) -> Result<()> {
        let state = Arc::clone(&self.state);
        let written = tokio::task::spawn_blocking(move || lock(&state).append(record)).await;
        let failure = match written {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(message)) => message,
            Err(error) => error.to_string(),
        };
        Err(Error::new(ErrorKind::Journal, failure).with_context("journal", self.path.display()))
    }

    async fn entry(&self, key: &StepKey) -> Result<Option<Entry>> {
        Ok(lock(&self.state).index.entry(key))
    }

    async fn run(&self, run: &str) -> Result<Vec<Entry>> {
        Ok(lock(&self.state).index.run(run))
    }
}

impl fmt::Debug for FileJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileJournal").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Makes a freshly created file's name durable.
#[cfg(unix)]
fn sync_directory(path: &Path) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(directory)?.sync_all()
}

/// Elsewhere a directory cannot be opened as a file; its own journal keeps the name.
#[cfg(not(unix))]
fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ClientToken, StatementId, Status,
        journal::{Ended, Event, Settlement, Standing},
    };

    fn record(step: &str, event: Event) -> Record {
        Record { at: "2026-11-23T06:30:00Z".parse().unwrap(), key: StepKey::new("r", step), event }
    }

    fn intent(step: &str) -> Record {
        record(step, Event::Intent { token: ClientToken::new("t").unwrap(), name: format!("r/{step}/1 t") })
    }

    fn submitted(step: &str) -> Record {
        record(step, Event::Submitted { id: StatementId::new(format!("id-{step}")) })
    }

    #[tokio::test]
    async fn is_readable_by_a_person_and_by_the_next_process() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.jsonl");
        let ended = Event::Ended(Ended {
            status: Status::Failed,
            error: Some("ERROR: no such table".into()),
            timed_out: false,
            executing: Some(std::time::Duration::from_millis(1_500)),
            rows: None,
            has_result_set: false,
        });
        {
            let journal = FileJournal::open(&path).unwrap();
            for record in [
                intent("a"),
                submitted("a"),
                record("a", ended),
                record("a", Event::Settled { found: Settlement::Finished }),
                intent("b"),
            ] {
                journal.append(record).await.unwrap();
            }
        }
        insta::assert_snapshot!(std::fs::read_to_string(&path).unwrap());
        let journal = FileJournal::open(&path).unwrap();
        let run = journal.run("r").await.unwrap();
        assert_eq!(run.len(), 2);
        assert_eq!(run[0].standing, Standing::Settled(Settlement::Finished));
        assert_eq!(run[0].id, Some(StatementId::new("id-a")));
        assert_eq!(run[1].standing, Standing::Open);
        assert!(journal.run("other").await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn cuts_off_a_last_line_torn_at_any_byte() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.jsonl");
        {
            let journal = FileJournal::open(&path).unwrap();
            journal.append(intent("a")).await.unwrap();
            journal.append(submitted("a")).await.unwrap();
        }
        let whole = std::fs::read(&path).unwrap();
        let first = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        for length in first..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let journal = FileJournal::open(&path).unwrap();
            assert_eq!(journal.entry(&StepKey::new("r", "a")).await.unwrap().unwrap().id, None);
            journal.append(submitted("a")).await.unwrap();
            drop(journal);
            assert_eq!(std::fs::read(&path).unwrap(), whole, "after a tear at byte {length}");
        }
    }

    #[tokio::test]
    async fn names_a_line_that_is_no_record() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.jsonl");
        FileJournal::open(&path).unwrap().append(intent("a")).await.unwrap();
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str("{\"event\":\"danced\"}\n");
        std::fs::write(&path, text).unwrap();
        let error = FileJournal::open(&path).unwrap_err();
        assert_eq!((error.kind(), error.context("line")), (ErrorKind::Journal, Some("2")));
    }

    #[test]
    fn a_second_owner_is_refused_and_a_later_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.jsonl");
        let first = FileJournal::open(&path).unwrap();
        let error = FileJournal::open(&path).unwrap_err();
        assert!(error.to_string().contains("another process"), "{error}");
        drop(first);
        assert!(FileJournal::open(&path).is_ok());
    }
}
