//! [`choose`]: the engine for a write, by its size.

use std::{fmt, time::Duration};

/// Number of bytes of rows and of touched files that one core writes per second.
///
/// The benchmark `memory` (`benches/RESULTS.md`) rewrites 1,182 MB of files with 1,182 MB of rows in 27.9 s
/// on two cores, which is 42 MB per second and core. Half of that is used here, because files on object
/// storage must also be downloaded and uploaded.
const BYTES_PER_SECOND: u64 = 21_000_000;

/// Time for the lock, the timeline, the commit and the clean: at most 16 requests to the storage
/// (`docs/object-storage.md`), some of which are retried.
const FIXED: Duration = Duration::from_secs(5);

/// Divisor: an estimate may use this share of the time, because storage may temporarily be slower.
const SHARE: u32 = 2;

/// An engine that writes tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Engine {
    /// This crate, in one process.
    Native,
    /// Spark, as a job of AWS Glue with [`SCRIPT`](super::SCRIPT).
    Glue,
}

/// The size of a write, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Uncompressed size of the rows in bytes.
    pub batch: u64,
    /// Size in bytes of the files that the write replaces: at most the newest versions of the file groups in
    /// the partitions that the rows belong to ([`Table::file_groups`](crate::Table::file_groups)).
    pub touched: u64,
}

/// The limits of a process that writes with this crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Time for one write.
    pub time: Duration,
    /// Available bytes on the local disk, for rows that do not fit into memory and for the files that are
    /// being written.
    pub disk: u64,
    /// Cores, in thousandths.
    pub millicores: u64,
}

impl Limits {
    /// Returns the limits of an AWS Lambda function: 15 minutes, and one core per 1,769 MB of memory. `disk`
    /// is the function's ephemeral storage in MiB, from 512 to 10,240.
    ///
    /// The numbers are taken from the service's pages *Lambda quotas* and *Configure Lambda function memory*.
    pub fn lambda(memory_mib: u64, disk_mib: u64) -> Self {
        Self {
            time: Duration::from_secs(900),
            disk: disk_mib.saturating_mul(1 << 20),
            millicores: memory_mib.saturating_mul(1_000) / 1_769,
        }
    }
}

/// The chosen engine, and the numbers on which the choice is based.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Choice {
    /// The engine.
    pub engine: Engine,
    /// The size of the write.
    pub work: Work,
    /// The limits of the process.
    pub limits: Limits,
    /// The estimated duration of a write with this crate.
    pub time: Duration,
    /// The bytes that this crate may need on the local disk.
    pub disk: u64,
}

/// Chooses the engine for a write: this crate if the write fits into half of the time and into the disk of
/// the process, otherwise Glue.
///
/// If the write fits, Spark is never cheaper. Starting Spark alone takes longer than writing 10,000 rows here
/// (benchmark `upsert`: 17.4 s and 0.1 s), and Glue bills at least one minute for each worker.
///
/// ```
/// use hudi_scd::spark::{Engine, Limits, Work, choose};
///
/// let function = Limits::lambda(1_769, 10_240);
/// let every_half_hour = choose(Work { batch: 50 << 20, touched: 2 << 30 }, function);
/// assert_eq!(every_half_hour.engine, Engine::Native);
/// let first_load = choose(Work { batch: 40 << 30, touched: 0 }, function);
/// assert_eq!(first_load.engine, Engine::Glue);
/// println!("{first_load}");
/// ```
pub fn choose(work: Work, limits: Limits) -> Choice {
    let bytes = u128::from(work.batch) + u128::from(work.touched);
    let rate = u128::from(BYTES_PER_SECOND) * u128::from(limits.millicores.max(1));
    let millis = u64::try_from(bytes.saturating_mul(1_000_000) / rate).unwrap_or(u64::MAX);
    let time = FIXED.saturating_add(Duration::from_millis(millis));
    // Rows are spilled once, and a file with more than one part is assembled on the disk.
    let disk = work.batch.saturating_add(work.touched);
    let fits = time <= limits.time / SHARE && disk <= limits.disk;
    Choice { engine: if fits { Engine::Native } else { Engine::Glue }, work, limits, time, disk }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mebibytes = |bytes: u64| bytes.div_ceil(1 << 20);
        let engine = match self.engine {
            Engine::Native => "hudi-scd",
            Engine::Glue => "Glue",
        };
        write!(
            f,
            "{engine}: {} MiB of rows and {} MiB of touched files may take {} s and {} MiB of disk here; half of the \
             time limit is {} s, and the disk has {} MiB",
            mebibytes(self.work.batch),
            mebibytes(self.work.touched),
            self.time.as_secs(),
            mebibytes(self.disk),
            (self.limits.time / SHARE).as_secs(),
            self.limits.disk >> 20
        )
    }
}
