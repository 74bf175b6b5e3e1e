//! [`FileLock`]: a lock among the processes of one machine.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use tokio::time::{Instant, sleep};

use super::{HeldLock, TableLock, wait::Waits};
use crate::{Error, ErrorKind, Result};

/// The first wait between two attempts. It is short, because an attempt is a single system call.
const PAUSE: Duration = Duration::from_millis(20);
/// The maximum wait between two attempts, in multiples of [`PAUSE`].
const MAX_PAUSES: u32 = 10;

/// A lock on a table in a folder of a local disk: the operating system's lock on the file
/// `.hoodie/.locks/table_lock`.
///
/// The operating system releases the lock when its process ends for any reason. It excludes other processes
/// and other handles in the same process. On a shared network file system it is as reliable as the file
/// system's locks. Hudi itself has no lock for local disks.
#[derive(Clone, Debug)]
pub struct FileLock {
    path: PathBuf,
}

impl FileLock {
    /// Creates the lock of the table in a folder.
    pub fn new(table: impl AsRef<Path>) -> Self {
        Self { path: table.as_ref().join(".hoodie").join(".locks").join("table_lock") }
    }

    /// Tries to acquire the lock. Returns `None` if another holder has it.
    fn attempt(&self) -> Result<Option<HeldFile>> {
        let failed = |doing: &str, cause: std::io::Error| {
            Error::new(ErrorKind::Storage, format!("cannot {doing} the lock file"))
                .with_context("file", self.path.display())
                .with_source(cause)
        };
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder).map_err(|e| failed("create", e))?;
        }
        // The file is never deleted, because a lock on a deleted file excludes no other writer.
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&self.path);
        let mut file = options.map_err(|e| failed("open", e))?;
        match file.try_lock() {
            Ok(()) => {
                // The content is informational: for people, and for the message that waiting writers log.
                let _ = file.set_len(0).and_then(|()| write!(file, "process {}", std::process::id()));
                Ok(Some(HeldFile { file }))
            }
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(failed("lock", e)),
        }
    }

    fn holder(&self) -> String {
        std::fs::read_to_string(&self.path)
            .ok()
            .filter(|text| !text.is_empty())
            .unwrap_or_else(|| "unknown".to_owned())
    }
}

#[async_trait]
impl TableLock for FileLock {
    async fn acquire(&self, wait: Duration) -> Result<Box<dyn HeldLock>> {
        let begun = Instant::now();
        let mut waits = Waits::new(PAUSE, MAX_PAUSES);
        let mut random = fastrand::Rng::with_seed(std::process::id().into());
        loop {
            if let Some(held) = self.attempt()? {
                return Ok(Box::new(held));
            }
            let waited = begun.elapsed();
            if waited >= wait {
                return Err(Error::new(ErrorKind::Conflict, "another writer holds the table")
                    .with_context("holder", self.holder())
                    .with_context("file", self.path.display())
                    .with_context("waited", format!("{wait:?}")));
            }
            waits.tell(waited, || self.holder(), self.path.display());
            sleep(waits.next(random.f64()).min(wait - waited)).await;
        }
    }
}

/// The open file, which holds the lock.
#[derive(Debug)]
struct HeldFile {
    file: File,
}

#[async_trait]
impl HeldLock for HeldFile {
    async fn verify(&self) -> Result<()> {
        Ok(())
    }

    async fn release(self: Box<Self>) -> Result<()> {
        self.file
            .unlock()
            .map_err(|e| Error::new(ErrorKind::Storage, "cannot unlock the lock file").with_source(e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_writer_at_a_time_and_the_next_when_it_lets_go() {
        let folder = tempfile::tempdir().unwrap();
        let lock = FileLock::new(folder.path());
        let held = lock.acquire(Duration::ZERO).await.unwrap();
        held.verify().await.unwrap();

        let begun = Instant::now();
        let error = lock.acquire(Duration::from_secs(3)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert_eq!(error.context("holder"), Some(format!("process {}", std::process::id()).as_str()));
        assert!(begun.elapsed() >= Duration::from_secs(3));

        held.release().await.unwrap();
        let again = lock.acquire(Duration::ZERO).await.unwrap();
        drop(again);
        lock.acquire(Duration::ZERO).await.unwrap();
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(".hoodie"), "a file").unwrap();
        let error = FileLock::new(folder.path()).acquire(Duration::ZERO).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Storage);
        assert!(error.context("file").unwrap().ends_with("table_lock"));
    }
}
