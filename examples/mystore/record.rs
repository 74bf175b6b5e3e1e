//! The record of a finished cycle. Each record is one line of `cycles.jsonl`. The summary and the report are
//! made from these records.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use hudi_scd::CommitReport;
use redshift_orchestrator::{Outcome, Report, pipeline::AttemptReport};
use serde::{Deserialize, Serialize};

use crate::model::Matches;

/// Record of a finished cycle.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CycleRecord {
    pub(crate) cycle: u32,
    /// `true` if the cycle was interrupted and resumed by another process.
    pub(crate) resumed: bool,
    pub(crate) warehouse: WarehouseRecord,
    pub(crate) tables: Vec<TableRecord>,
    /// `None` in a run without a catalog.
    #[serde(default)]
    pub(crate) catalog: Option<CatalogRecord>,
    pub(crate) lookups: LookupRecord,
}

/// Durations and counts of the statements of a cycle.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct WarehouseRecord {
    pub(crate) statements: u32,
    pub(crate) retries: u32,
    /// Number of retried errors by kind.
    pub(crate) faults: BTreeMap<String, u32>,
    /// Sum over all statements, including concurrent ones.
    pub(crate) waiting: Duration,
    pub(crate) execution_time: Duration,
    pub(crate) elapsed: Duration,
}

/// Changes of a cycle to a Hudi table, and the state of the table after the cycle.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct TableRecord {
    pub(crate) name: String,
    /// Newest commit after the cycle. A read as of this instant returns the table after the cycle.
    pub(crate) instant: String,
    /// Number of rows that the cycle inserted, updated or deleted; 0 if an earlier process had already
    /// applied it.
    pub(crate) changed: u64,
    pub(crate) file_groups: u64,
    /// Number of versions of the file group that has the most.
    pub(crate) versions: u64,
    pub(crate) bytes: u64,
    pub(crate) elapsed: Duration,
}

/// Syncs of the catalog after the commits of a cycle.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CatalogRecord {
    /// Number of syncs that succeeded.
    pub(crate) synced: u32,
    /// Errors of the syncs that failed. The commits are valid, and the next sync makes up for them.
    pub(crate) failed: Vec<String>,
    /// Total time of all syncs. It is included in the time of the tables.
    pub(crate) elapsed: Duration,
}

impl CatalogRecord {
    /// Returns the sync after a write.
    pub(crate) fn of(report: &CommitReport) -> Self {
        let synced = report.catalog_synced.is_some();
        Self {
            synced: synced.into(),
            failed: if synced { Vec::new() } else { report.upkeep_failed.clone() },
            elapsed: report.time.catalog,
        }
    }

    /// Adds other syncs.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.synced += other.synced;
        self.failed.extend(other.failed.iter().cloned());
        self.elapsed += other.elapsed;
    }
}

/// Lookups of the new sales of a cycle.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct LookupRecord {
    pub(crate) matches: Matches,
    /// Time to read the latest rows and match them.
    pub(crate) latest: Duration,
    /// Time to read the history and match the rows that were valid at the time of each sale.
    pub(crate) as_of_sale: Duration,
}

impl WarehouseRecord {
    pub(crate) fn of(report: &Report) -> Self {
        let totals = report.totals();
        let mut faults: BTreeMap<String, u32> = BTreeMap::new();
        let attempts = report.steps().iter().flat_map(|step| &step.attempts);
        for (kind, count) in attempts.flat_map(|attempt: &AttemptReport| &attempt.retried_errors) {
            *faults.entry((*kind).to_owned()).or_default() += count;
        }
        Self {
            statements: totals.statements,
            retries: totals.retries,
            faults,
            waiting: totals.waiting,
            execution_time: totals.execution_time,
            elapsed: report.elapsed,
        }
    }

    /// Adds a statement that ran outside the pipeline.
    pub(crate) fn add(&mut self, outcome: &Outcome) {
        let execution_time = outcome.execution_time().unwrap_or_default();
        self.statements += 1;
        self.execution_time += execution_time;
        self.waiting += outcome.elapsed.saturating_sub(execution_time);
        for (kind, count) in &outcome.requests.retried_errors {
            *self.faults.entry(kind.to_string()).or_default() += count;
        }
    }

    pub(crate) fn total_retried_errors(&self) -> u32 {
        self.faults.values().sum()
    }
}

/// Sums over all cycles of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) warehouse: WarehouseRecord,
    /// `None` in a run without a catalog.
    pub(crate) catalog: Option<CatalogRecord>,
    pub(crate) commits: u64,
    pub(crate) versions: u64,
    pub(crate) bytes: u64,
}

impl Totals {
    pub(crate) fn of(cycles: &[CycleRecord]) -> Self {
        let mut totals = Self::default();
        for cycle in cycles {
            let (sum, one) = (&mut totals.warehouse, &cycle.warehouse);
            sum.statements += one.statements;
            sum.retries += one.retries;
            sum.waiting += one.waiting;
            sum.execution_time += one.execution_time;
            sum.elapsed += one.elapsed;
            for (kind, count) in &one.faults {
                *sum.faults.entry(kind.clone()).or_default() += count;
            }
            if let Some(catalog) = &cycle.catalog {
                totals.catalog.get_or_insert_default().merge(catalog);
            }
        }
        let instants: BTreeSet<_> = cycles
            .iter()
            .flat_map(|cycle| &cycle.tables)
            .map(|table| (&table.name, &table.instant))
            .collect();
        totals.commits = instants.len() as u64;
        for table in cycles.last().into_iter().flat_map(|cycle| &cycle.tables) {
            totals.versions = totals.versions.max(table.versions);
            totals.bytes += table.bytes;
        }
        totals
    }
}

impl fmt::Display for CatalogRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} syncs in {}", grouped(self.synced.into()), seconds(self.elapsed))?;
        match self.failed.len() {
            0 => Ok(()),
            failed => write!(f, ", {failed} failed"),
        }
    }
}

/// Formats 1,234,567 bytes as `1.2 MB`.
pub(crate) fn bytes(count: u64) -> String {
    match count {
        0..1_000 => format!("{count} B"),
        1_000..1_000_000 => format!("{:.1} kB", count as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", count as f64 / 1e6),
        _ => format!("{:.1} GB", count as f64 / 1e9),
    }
}

/// Formats a duration in milliseconds or seconds.
pub(crate) fn seconds(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 1.0 { format!("{:.1} ms", seconds * 1e3) } else { format!("{seconds:.1} s") }
}

/// Formats 1234567 as `1,234,567`.
pub(crate) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_human_readable() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([999, 1_500, 2_500_000].map(bytes), ["999 B", "1.5 kB", "2.5 MB"]);
        assert_eq!(seconds(Duration::from_micros(12_340)), "12.3 ms");
        assert_eq!(seconds(Duration::from_millis(2_340)), "2.3 s");
    }
}
