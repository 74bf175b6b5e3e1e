//! Bulk insert: every row is new, so keys are not looked up.

use std::collections::BTreeMap;

use super::tag::Tagged;
use crate::{
    base_file::java_order,
    write::{input::incoming::Incoming, report::CommitReport},
};

/// Sorts the rows by partition and key, so that each file receives a range of keys. If the key ranges in
/// footers overlap little, later lookups are cheap.
pub(crate) fn tag(incoming: &Incoming, report: &mut CommitReport) -> Tagged {
    let mut new_rows: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for row in 0..incoming.len() {
        if incoming.is_delete(row) {
            report.unchanged += 1;
            continue;
        }
        report.inserted += 1;
        new_rows.entry(incoming.partitions.path(row).to_owned()).or_default().push(row as u32);
    }
    let key = |row: &u32| incoming.keys.value(*row as usize);
    for rows in new_rows.values_mut() {
        rows.sort_unstable_by(|left, right| java_order(key(left), key(right)));
    }
    Tagged { new_rows, ..Tagged::default() }
}
