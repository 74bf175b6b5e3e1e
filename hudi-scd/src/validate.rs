//! Implements [`Table::validate`](crate::Table::validate): checks every invariant of the format that files
//! show, each under its name.

mod stored;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
};

use arrow::array::{AsArray, RecordBatch, StringArray};
use object_store::path::Path;
use parquet::basic::Type as PhysicalType;

use crate::{
    Error, ErrorKind, Result,
    base_file::{OpenFile, conform_stored, java_order},
    bloom::FOOTER_BLOOM_FILTER,
    concurrent::{blocking, ordered},
    context::Context,
    index::key_column,
    key::{self, KeyEncoding, Partitions},
    layout::{self, BaseFileName},
    properties::TableProperties,
    schema::META_COLUMNS,
    snapshot::View,
    storage,
    timeline::{Instant, Timeline},
};

/// An invariant of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Invariant {
    /// A write, a clean or a rollback is in progress or unfinished. The next write completes or undoes it.
    Pending,
    /// A base file belongs to no completed commit. The next write removes the files of dead writers.
    StrayFile,
    /// There are markers of a finished write.
    StrayMarker,
    /// A completed commit does not name one of its base files, but readers read the file.
    UnlistedFile,
    /// A file is missing that the latest snapshot, a read inside the retained window, or a savepoint needs.
    MissingFile,
    /// The size of a file differs from its commit.
    FileSize,
    /// The row count of a file differs from its commit.
    RowCount,
    /// A partition lacks its metadata file.
    PartitionMetadata,
    /// A file cannot be read.
    Unreadable,
    /// A decimal is not stored as fixed-length bytes. The next Java upsert would corrupt it.
    DecimalEncoding,
    /// The footer's key range excludes a key of the file, so index lookups miss it.
    KeyRange,
    /// The bloom filter is missing or lacks a key of the file, so index lookups miss it.
    BloomFilter,
    /// A record key differs from the key columns.
    RecordKey,
    /// According to its columns, a row is in the wrong partition.
    PartitionPath,
    /// The file name in a row differs from the name of the file that contains it.
    FileName,
    /// A row's commit is not completed, or is newer than its file.
    CommitTime,
    /// A key is stored more than once.
    DuplicateKey,
    /// The checksum that Hadoop's local file system wrote next to a file does not match, so Spark rejects the
    /// file.
    StaleChecksum,
}

impl Invariant {
    /// Returns a stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::StrayFile => "stray-file",
            Self::UnlistedFile => "unlisted-file",
            Self::StrayMarker => "stray-marker",
            Self::MissingFile => "missing-file",
            Self::FileSize => "file-size",
            Self::RowCount => "row-count",
            Self::PartitionMetadata => "partition-metadata",
            Self::Unreadable => "unreadable",
            Self::DecimalEncoding => "decimal-encoding",
            Self::KeyRange => "key-range",
            Self::BloomFilter => "bloom-filter",
            Self::RecordKey => "record-key",
            Self::PartitionPath => "partition-path",
            Self::FileName => "file-name",
            Self::CommitTime => "commit-time",
            Self::DuplicateKey => "duplicate-key",
            Self::StaleChecksum => "stale-checksum",
        }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A violated invariant, and the object that violates it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Finding {
    /// The invariant.
    pub invariant: Invariant,
    /// The file or instant.
    pub subject: String,
    /// The violation.
    pub detail: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.invariant, self.subject, self.detail)
    }
}

fn finding(invariant: Invariant, subject: impl Into<String>, detail: impl Into<String>) -> Finding {
    Finding { invariant, subject: subject.into(), detail: detail.into() }
}

/// Implements [`Table::validate`](crate::Table::validate).
pub(crate) async fn validate(context: &Context) -> Result<Vec<Finding>> {
    context.begin_read("validate").run(findings(context)).await
}

async fn findings(context: &Context) -> Result<Vec<Finding>> {
    context.forget_view().await;
    let view = context.view().await?;
    let mut findings = check_timeline(context, &view).await?;
    let said = stored::said(context, &view).await?;
    findings.extend(stored::check_versions(context, &view, &said).await?);
    findings.extend(stored::check_savepoints(context, &view).await?);
    findings.extend(stored::check_checksums(context, &view).await?);
    let checks = view.latest_files().map(|(group, version)| {
        let path = group.path(version);
        let partition = group.partition.to_string();
        let view = view.clone();
        async move {
            let checked = check_file(context, view, &path, partition).await?;
            Ok((path, checked))
        }
    });
    let checked = ordered(context.options().parallelism, checks).await?;
    let unsure = checked.iter().flat_map(|(_, checked)| checked.unsure.keys().copied());
    let committed = context.committed(&view, unsure).await?;
    let mut places: HashMap<String, String> = HashMap::new();
    for (path, checked) in checked {
        if let Some((_, detail)) = checked.unsure.iter().find(|(instant, _)| !committed.contains(instant)) {
            findings.push(finding(Invariant::CommitTime, &path, detail));
        }
        if let Some(said) = said.get(&path)
            && checked.readable
            && said.rows != checked.keys.len() as u64
        {
            let detail =
                format!("the commit declares {} rows, the file has {}", said.rows, checked.keys.len());
            findings.push(finding(Invariant::RowCount, &path, detail));
        }
        findings.extend(checked.findings);
        for key in checked.keys {
            if let Some(other) = places.get(&key) {
                findings.push(finding(Invariant::DuplicateKey, &path, format!("{key} is also in {other}")));
            } else {
                places.insert(key, path.clone());
            }
        }
    }
    // Only files that reads inside the window need are missing. Older versions were cleaned.
    let lost = view.missing.iter().filter(|missing| {
        missing.until.is_none_or(|until| view.earliest.is_none_or(|earliest| until > earliest))
    });
    for missing in lost {
        let detail = format!("commit {} wrote it, but it is missing", missing.from);
        findings.push(finding(Invariant::MissingFile, &missing.path, detail));
    }
    findings.sort();
    // A commit and savepoints may need the same file.
    findings.dedup_by(|a, b| {
        a.invariant == Invariant::MissingFile && a.invariant == b.invariant && a.subject == b.subject
    });
    Ok(findings)
}

async fn check_timeline(context: &Context, view: &View) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let mut pending = BTreeSet::new();
    for entry in view.timeline.entries().iter().filter(|entry| entry.is_pending()) {
        pending.insert(entry.instant.to_string());
        let detail = format!("{} is {}", entry.action, entry.state);
        findings.push(finding(Invariant::Pending, entry.instant.to_string(), detail));
    }
    findings.extend(stored::check_empty(context, view).await?);
    for file in view.pending.iter() {
        let path = layout::in_partition(&file.partition, &file.name.to_string());
        findings.push(finding(Invariant::StrayFile, path, "no completed commit wrote it"));
    }
    let folder = context.layout().temp_folder()?;
    let marked: BTreeSet<String> = storage::list_below(context.store(), &folder)
        .await?
        .iter()
        .filter_map(|file| file.location.prefix_match(&folder)?.next().map(|part| part.as_ref().to_owned()))
        .collect();
    for instant in marked.difference(&pending) {
        findings.push(finding(Invariant::StrayMarker, instant, "its write has finished"));
    }
    let partitions: BTreeSet<&str> = view.latest_files().map(|(group, _)| &*group.partition).collect();
    for partition in partitions.into_iter().filter(|partition| !view.partitions.contains(*partition)) {
        let subject = if partition.is_empty() { "." } else { partition };
        findings.push(finding(
            Invariant::PartitionMetadata,
            subject,
            "there is no .hoodie_partition_metadata",
        ));
    }
    Ok(findings)
}

async fn check_file(
    context: &Context,
    view: std::sync::Arc<View>,
    relative: &str,
    partition: String,
) -> Result<Checked> {
    let path = context.layout().resolve(relative)?;
    let open = match context.open_complete(&path).await {
        Ok(open) => open,
        Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {
            return Ok(Checked::unreadable(relative, &error));
        }
        Err(error) => return Err(error),
    };
    let (relative, schema) = (relative.to_owned(), context.schema_of(&view)?);
    let properties = context.properties().clone();
    blocking(move || {
        let mut check = FileCheck {
            properties: &properties,
            timeline: &view.timeline,
            relative: &relative,
            partition: &partition,
            is_of_java: false,
            checked: Checked { readable: true, ..Checked::default() },
        };
        match check.run(open, &schema, &path) {
            Ok(()) => Ok(check.checked),
            Err(error) => Ok(Checked::unreadable(&relative, &error)),
        }
    })
    .await
}

/// Observations about a file.
#[derive(Debug, Default)]
struct Checked {
    readable: bool,
    keys: Vec<String>,
    findings: Vec<Finding>,
    /// Commit times that only the archive can confirm, each with the text of a finding.
    unsure: BTreeMap<Instant, String>,
}

impl Checked {
    fn unreadable(relative: &str, error: &Error) -> Self {
        Self {
            findings: vec![finding(Invariant::Unreadable, relative, error.to_string())],
            ..Self::default()
        }
    }
}

struct FileCheck<'a> {
    properties: &'a TableProperties,
    timeline: &'a Timeline,
    relative: &'a str,
    partition: &'a str,
    /// `true` if the footer names a JVM as the writer of the file.
    is_of_java: bool,
    checked: Checked,
}

impl FileCheck<'_> {
    /// Adds a finding, unless the file already has a finding for this invariant.
    fn tell(&mut self, invariant: Invariant, detail: impl Into<String>) {
        if !self.checked.findings.iter().any(|known| known.invariant == invariant) {
            self.checked.findings.push(finding(invariant, self.relative, detail));
        }
    }

    fn run(&mut self, open: OpenFile, schema: &arrow::datatypes::SchemaRef, path: &Path) -> Result<()> {
        let footer = open.footer().clone();
        let created_by = footer.metadata().file_metadata().created_by();
        self.is_of_java = created_by.is_some_and(|writer| writer.contains("parquet-mr"));
        for column in footer.metadata().file_metadata().schema_descr().columns() {
            let is_bytes = column.physical_type() == PhysicalType::FIXED_LEN_BYTE_ARRAY;
            if column.type_precision() > 0 && !is_bytes {
                self.tell(
                    Invariant::DecimalEncoding,
                    format!("{} is {}", column.path(), column.physical_type()),
                );
            }
        }
        if !self.properties.has_meta_columns {
            for batch in open.read(&|_| true, None)? {
                self.check_unnamed(&conform_stored(&batch?, schema, path)?)?;
            }
            return Ok(());
        }
        let filter = footer.bloom_filter()?;
        if filter.is_none() {
            self.tell(Invariant::BloomFilter, format!("the footer has no {FOOTER_BLOOM_FILTER}"));
        }
        for batch in open.read(&|_| true, None)? {
            let stored = batch?;
            let keys = key_column(&stored, path)?.clone();
            for key in keys.iter().flatten() {
                if filter.as_ref().is_some_and(|filter| !filter.contains(key)) {
                    self.tell(Invariant::BloomFilter, format!("it does not contain {key}"));
                }
                let outside = |(min, max): &(String, String)| {
                    java_order(key, min).is_lt() || java_order(key, max).is_gt()
                };
                if footer.key_range.as_ref().is_none_or(outside) {
                    self.tell(Invariant::KeyRange, format!("it does not contain {key}"));
                }
            }
            self.check_rows(&conform_stored(&stored, schema, path)?, &keys, path)?;
        }
        Ok(())
    }

    /// Returns `true` if a row in a Java file contains the name of an older version of its file group. Hudi
    /// up to 0.10 does not update the names in rows that it copies.
    fn is_older_name(&self, stored: &str, file: Option<&BaseFileName>) -> bool {
        let older = |stored: BaseFileName, file: &BaseFileName| {
            stored.file_id == file.file_id && stored.instant < file.instant
        };
        self.is_of_java
            && BaseFileName::parse(stored).zip(file).is_some_and(|(stored, file)| older(stored, file))
    }

    /// Returns `true` if this crate can compute keys or folders from these fields. It cannot for fields
    /// inside of columns, nor for an unknown key generator. Such tables can only be read.
    fn is_reproducible(&self, fields: &[String]) -> bool {
        self.properties.key_generator.is_some() && fields.iter().all(|field| !field.contains('.'))
    }

    /// Checks that the keys agree with the columns, and collects them. A key that may have two forms is
    /// collected in one form, so that a row that is stored in both is found.
    fn check_keys(&mut self, rows: &RecordBatch, keys: &StringArray) {
        let fields = &self.properties.record_key_fields;
        let field = self.properties.encoded_key_field();
        let expected = match key::record_keys(rows, fields, KeyEncoding::ValueOnly) {
            Ok(_) if self.properties.key_generator.is_none() => None,
            Ok(expected) => Some(expected),
            Err(_) if fields.is_empty() || !self.is_reproducible(fields) => None,
            Err(error) => {
                self.tell(Invariant::RecordKey, error.to_string());
                None
            }
        };
        for (row, stored) in keys.iter().enumerate() {
            let Some(stored) = stored else { continue };
            let value = expected.as_ref().map(|expected| expected.value(row));
            let is_right = value.is_none_or(|value| match field {
                Some(field) => KeyEncoding::of_stored(field, value, stored).is_some(),
                None => stored == value,
            });
            if !is_right {
                let detail = format!("{stored} should be {}", value.unwrap_or_default());
                self.tell(Invariant::RecordKey, detail);
            }
            self.checked.keys.push(value.filter(|_| is_right).unwrap_or(stored).to_owned());
        }
    }

    /// Checks rows without meta columns. Their keys are computed from their columns.
    fn check_unnamed(&mut self, rows: &RecordBatch) -> Result<()> {
        let fields = &self.properties.record_key_fields;
        let keys = match key::record_keys(rows, fields, KeyEncoding::ValueOnly) {
            Ok(keys) => keys,
            Err(error) => {
                self.tell(Invariant::RecordKey, error.to_string());
                StringArray::new_null(rows.num_rows())
            }
        };
        let partitions = self.partitions(rows)?;
        for row in 0..rows.num_rows() {
            let by_columns = partitions.as_ref().map_or(self.partition, |partitions| partitions.path(row));
            if by_columns != self.partition {
                let detail = format!("the columns of {} give {by_columns}", keys.value(row));
                self.tell(Invariant::PartitionPath, detail);
            }
            self.checked.keys.push(keys.value(row).to_owned());
        }
        Ok(())
    }

    /// Returns the partitions of rows, computed from their columns. Returns `None` if this crate cannot
    /// compute them.
    fn partitions(&self, rows: &RecordBatch) -> Result<Option<Partitions>> {
        // Columns whose values come from folder names always agree with them.
        if self.properties.drops_partition_columns {
            return Ok(None);
        }
        match Partitions::of(rows, self.properties) {
            Ok(partitions) => Ok(Some(partitions)),
            // A table without a defined type of timestamps can still be read.
            Err(error) if error.kind() == ErrorKind::Unsupported => Ok(None),
            Err(_) if !self.is_reproducible(&self.properties.partition_fields) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn check_rows(&mut self, rows: &RecordBatch, keys: &StringArray, path: &Path) -> Result<()> {
        self.check_keys(rows, keys);
        let partitions = self.partitions(rows)?;
        let name = layout::split_partition(self.relative).1;
        let file = BaseFileName::parse(name);
        let meta = |index: usize| -> Result<&StringArray> {
            let column = rows.column_by_name(META_COLUMNS[index]);
            column.and_then(|column| column.as_string_opt::<i32>()).ok_or_else(|| {
                Error::new(ErrorKind::Corrupt, "a base file lacks a meta column")
                    .with_context("file", path)
                    .with_context("column", META_COLUMNS[index])
            })
        };
        let (times, paths, names) = (meta(0)?, meta(3)?, meta(4)?);
        for row in 0..rows.num_rows() {
            let by_columns = partitions.as_ref().map_or(self.partition, |partitions| partitions.path(row));
            if paths.value(row) != self.partition || by_columns != self.partition {
                let detail =
                    format!("{} has {}, its columns give {by_columns}", keys.value(row), paths.value(row));
                self.tell(Invariant::PartitionPath, detail);
            }
            if names.value(row) != name && !self.is_older_name(names.value(row), file.as_ref()) {
                self.tell(Invariant::FileName, format!("{} has {}", keys.value(row), names.value(row)));
            }
            let written: Option<Instant> = times.value(row).parse().ok();
            let written = written.filter(|written| file.as_ref().is_none_or(|file| *written <= file.instant));
            let detail = || format!("{} has {}", keys.value(row), times.value(row));
            match written {
                Some(written) if self.timeline.is_committed(written) => {}
                Some(written) if self.timeline.lacks(written) => {
                    self.checked.unsure.entry(written).or_insert_with(detail);
                }
                _ => self.tell(Invariant::CommitTime, detail()),
            }
        }
        Ok(())
    }
}
