//! Checks that do not read rows: the metadata of commits and savepoints, and Hadoop's checksums.

use std::collections::{BTreeSet, HashMap};

use super::{Finding, Invariant, finding};
use crate::{
    ErrorKind, Result,
    base_file::Footer,
    concurrent::ordered,
    context::Context,
    layout,
    snapshot::{View, read_commit},
    storage,
    timeline::{Action, State, avro::SavepointMetadata, hadoop},
};

/// The size and row count of a file, according to its commit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Said {
    pub(super) bytes: u64,
    pub(super) rows: u64,
}

/// Returns the metadata of each file, from the commits of the active timeline.
pub(super) async fn said(context: &Context, view: &View) -> Result<HashMap<String, Said>> {
    let mut said = HashMap::new();
    for entry in view.timeline.completed_commits() {
        let commit = read_commit(context.store(), context.layout(), entry).await?;
        for stat in commit.partition_to_write_stats.into_values().flatten() {
            let Some(path) = stat.path else { continue };
            let (bytes, rows) = (stat.file_size_in_bytes.unsigned_abs(), stat.num_writes.unsigned_abs());
            said.insert(path, Said { bytes, rows });
        }
    }
    Ok(said)
}

/// Checks every version of every file group: its commit must name it with its size. For older versions,
/// the row count must match the commit too.
pub(super) async fn check_versions(
    context: &Context,
    view: &View,
    said: &HashMap<String, Said>,
) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let active: BTreeSet<_> = view.timeline.completed_commits().map(|entry| entry.instant).collect();
    let latest: BTreeSet<String> = view.latest_files().map(|(group, version)| group.path(version)).collect();
    let mut older = Vec::new();
    for group in view.groups.values() {
        for version in &group.versions {
            let path = group.path(version);
            match said.get(&path) {
                Some(said) if said.bytes != version.bytes => {
                    let detail =
                        format!("the commit declares {} bytes, the file has {}", said.bytes, version.bytes);
                    findings.push(finding(Invariant::FileSize, &path, detail));
                }
                None if active.contains(&version.instant) => {
                    let detail = format!("commit {} does not name it, but readers read it", version.instant);
                    findings.push(finding(Invariant::UnlistedFile, &path, detail));
                }
                _ => {}
            }
            if !latest.contains(&path) {
                let rows = said.get(&path).map(|said| said.rows);
                older.push((path, rows));
            }
        }
    }
    let footers = older.into_iter().map(|(path, rows)| check_footer(context, path, rows));
    findings.extend(ordered(context.options().parallelism, footers).await?.into_iter().flatten());
    Ok(findings)
}

async fn check_footer(context: &Context, path: String, said: Option<u64>) -> Result<Option<Finding>> {
    match Footer::load(context.store(), &context.layout().resolve(&path)?).await {
        Ok(footer) => Ok(said.filter(|said| *said != footer.rows()).map(|said| {
            let detail = format!("the commit declares {said} rows, the file has {}", footer.rows());
            finding(Invariant::RowCount, path, detail)
        })),
        // A clean has deleted the file since the listing.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == ErrorKind::Corrupt => {
            Ok(Some(finding(Invariant::Unreadable, path, error.to_string())))
        }
        Err(error) => Err(error),
    }
}

/// Checks for completed actions whose file is empty and therefore does not record the result.
pub(super) async fn check_empty(context: &Context, view: &View) -> Result<Vec<Finding>> {
    let listed = storage::list_folder(context.store(), &context.layout().timeline_folder()?).await?;
    let empty: BTreeSet<_> =
        listed.objects.iter().filter(|file| file.size == 0).map(|file| &file.location).collect();
    let mut findings = Vec::new();
    // Java leaves the completed file of an indexing empty. An empty savepoint is reported with the other
    // savepoints.
    let completed =
        view.timeline.entries().iter().filter(|entry| {
            !entry.is_pending() && !matches!(entry.action, Action::Savepoint | Action::Indexing)
        });
    for entry in completed {
        let file = context.layout().entry_file(entry, State::Completed)?;
        if empty.contains(&file) {
            let detail = "it is empty, and does not record the result";
            let name = context.layout().relative(&file);
            findings.push(finding(Invariant::Unreadable, name, detail));
        }
    }
    Ok(findings)
}

/// Checks the files that savepoints protect.
pub(super) async fn check_savepoints(context: &Context, view: &View) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let stored: BTreeSet<String> = view
        .groups
        .values()
        .flat_map(|group| group.versions.iter().map(|version| group.path(version)))
        .collect();
    for entry in view.timeline.completed(Action::Savepoint) {
        let file = context.layout().entry_file(entry, State::Completed)?;
        let savepoint = match SavepointMetadata::decode(&storage::read(context.store(), &file).await?) {
            Ok(savepoint) => savepoint,
            Err(error) => {
                let name = context.layout().relative(&file);
                findings.push(finding(Invariant::Unreadable, name, error.to_string()));
                continue;
            }
        };
        for (partition, files) in savepoint.partition_metadata {
            let paths = files.savepoint_data_file.iter().map(|name| layout::in_partition(&partition, name));
            for path in paths.filter(|path| !stored.contains(path)) {
                let detail = format!("savepoint {} protects it, but it is missing", entry.instant);
                findings.push(finding(Invariant::MissingFile, path, detail));
            }
        }
    }
    Ok(findings)
}

/// Verifies the checksums that Hadoop's local file system writes next to files.
pub(super) async fn check_checksums(context: &Context, view: &View) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for checksum in view.checksums.iter() {
        let Some(file) = layout::checked_file(checksum) else { continue };
        let read = |path: &str| context.layout().resolve(path);
        let sums = storage::read_if_exists(context.store(), &read(checksum)?).await?;
        let bytes = storage::read_if_exists(context.store(), &read(&file)?).await?;
        if let (Some(sums), Some(bytes)) = (sums, bytes)
            && !hadoop::holds(&sums, &bytes)
        {
            let detail = "the .crc file next to it does not match, so engines on Hadoop reject the file";
            findings.push(finding(Invariant::StaleChecksum, file, detail));
        }
    }
    Ok(findings)
}
