//! Metrics of operations, through the facade of the crate `metrics`.

use metrics::{Unit, counter, describe_counter, describe_histogram, histogram};

use super::{Phases, traffic::Counts};

const OPERATIONS: &str = "hudi_scd_operations_total";
const OPERATION_SECONDS: &str = "hudi_scd_operation_seconds";
const PHASE_SECONDS: &str = "hudi_scd_phase_seconds";
const REQUESTS: &str = "hudi_scd_requests_total";
const BYTES_READ: &str = "hudi_scd_bytes_read_total";
const BYTES_SENT: &str = "hudi_scd_bytes_sent_total";
const FILES: &str = "hudi_scd_files_total";
const FILE_BYTES: &str = "hudi_scd_file_bytes_total";

/// Describes the crate's metrics to the recorder of the `metrics` facade. Call it once, after the recorder is
/// installed.
///
/// Each metric has the labels `operation` (the name of the method, such as `upsert`) and `table` (the table's
/// name).
///
/// | metric | kind | unit | content |
/// |---|---|---|---|
/// | `hudi_scd_operations_total` | counter | | operations; label `outcome`: `done`, `failed` or `dropped` |
/// | `hudi_scd_operation_seconds` | histogram | s | duration of an operation; label `outcome` |
/// | `hudi_scd_phase_seconds` | histogram | s | duration of a phase of a write; label `phase`, see [`Phases`](crate::Phases) |
/// | `hudi_scd_requests_total` | counter | | requests to the storage, as S3 bills them |
/// | `hudi_scd_bytes_read_total` | counter | bytes | content received from the storage |
/// | `hudi_scd_bytes_sent_total` | counter | bytes | content sent to the storage |
/// | `hudi_scd_files_total` | counter | | files that operations wrote or deleted |
/// | `hudi_scd_file_bytes_total` | counter | bytes | size of the files that operations wrote |
///
/// If an operation runs within another one, a request counts only for the inner one.
pub fn describe_metrics() {
    describe_counter!(OPERATIONS, Unit::Count, "operations, by their outcome");
    describe_histogram!(OPERATION_SECONDS, Unit::Seconds, "duration of an operation");
    describe_histogram!(PHASE_SECONDS, Unit::Seconds, "duration of a phase of a write");
    describe_counter!(REQUESTS, Unit::Count, "requests to the storage, as S3 bills them");
    describe_counter!(BYTES_READ, Unit::Bytes, "content received from the storage");
    describe_counter!(BYTES_SENT, Unit::Bytes, "content sent to the storage");
    describe_counter!(FILES, Unit::Count, "files that operations wrote or deleted");
    describe_counter!(FILE_BYTES, Unit::Bytes, "bytes of the files that operations wrote");
}

/// An operation that has ended.
pub(super) struct Ended<'a> {
    pub(super) operation: &'static str,
    pub(super) table: &'a str,
    pub(super) outcome: &'static str,
    pub(super) seconds: f64,
    pub(super) phases: Phases,
    pub(super) counts: Counts,
    pub(super) files: u64,
    pub(super) bytes: u64,
}

pub(super) fn report(ended: &Ended<'_>) {
    let labels = [("operation", ended.operation.to_owned()), ("table", ended.table.to_owned())];
    let with = |name, value: &str| {
        let mut labels = labels.to_vec();
        labels.push((name, value.to_owned()));
        labels
    };
    counter!(OPERATIONS, &with("outcome", ended.outcome)).increment(1);
    histogram!(OPERATION_SECONDS, &with("outcome", ended.outcome)).record(ended.seconds);
    for (phase, duration) in ended.phases.by_phase() {
        histogram!(PHASE_SECONDS, &with("phase", phase.name())).record(duration.as_secs_f64());
    }
    let Counts { requests, bytes_read, bytes_sent } = ended.counts;
    counter!(REQUESTS, &labels).increment(requests);
    counter!(BYTES_READ, &labels).increment(bytes_read);
    counter!(BYTES_SENT, &labels).increment(bytes_sent);
    counter!(FILES, &labels).increment(ended.files);
    counter!(FILE_BYTES, &labels).increment(ended.bytes);
}
