//! `timeline`, `show`, `validate`: the contents of a table, and its validity.

use std::{collections::BTreeMap, io::Write};

use comfy_table::CellAlignment;
use hudi_format::retention::Bytes;
use hudi_scd::{
    Error, FileGroup, Result, Table, TableOptions,
    timeline::{
        Action, CommitMetadata, State, TimelineEntry,
        archive::ArchivedEntry,
        avro::{CleanMetadata, RollbackMetadata, SavepointMetadata},
    },
};
use serde_json::{Value, json};

use crate::{
    Context,
    args::{Target, Timeline},
    failure::Failure,
    output,
    progress::Progress,
};

pub(super) async fn timeline(context: Context, args: Timeline) -> Result<(), Failure> {
    let (location, table) = super::open(context, &args.target.table, TableOptions::new()).await?;
    let named = |error: Error| Failure::from(error).of(&location);
    let mut lines = if args.archived { archived(&table).await.map_err(named)? } else { Vec::new() };
    for entry in table.timeline().await.map_err(named)?.entries() {
        lines.push(line(&table, entry).await.map_err(named)?);
    }
    let mut out = output::stdout();
    if context.json {
        for line in lines {
            writeln!(out, "{line}")?;
        }
    } else {
        let mut picture = output::picture(["instant", "action", "state", "what"]);
        for line in &lines {
            let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
            picture.add_row([text("instant"), text("action"), text("state").to_lowercase(), told(line)]);
        }
        writeln!(out, "{picture}")?;
    }
    Ok(out.flush()?)
}

/// Converts an action to an object: instant, action, state, and its metadata.
async fn line(table: &Table, entry: &TimelineEntry) -> Result<Value> {
    let mut line = json!({
        "instant": entry.instant.to_string(),
        "action": entry.action.as_str(),
        "state": entry.state.as_str(),
        "time": entry.instant.to_timestamp(table.time_zone()).map(|time| time.to_string()),
    });
    if let Some(completed) = entry.completed_at() {
        line["completed"] = json!(completed.to_string());
    }
    if entry.state != State::Completed {
        return Ok(line);
    }
    let (path, bytes) = table.entry_file(entry).await?;
    if bytes.is_empty() {
        line["empty"] = json!(true);
        return Ok(line);
    }
    let in_file = |error: Error| error.with_context("file", &path);
    match entry.action {
        Action::Commit | Action::ReplaceCommit => {
            let commit = CommitMetadata::parse(&bytes, &path)?;
            let sum = |of: fn(&hudi_scd::timeline::WriteStat) -> i64| commit.stats().map(of).sum::<i64>();
            line["operation"] = json!(commit.operation_type);
            line["inserts"] = json!(sum(|stat| stat.num_inserts));
            line["updates"] = json!(sum(|stat| stat.num_update_writes));
            line["deletes"] = json!(sum(|stat| stat.num_deletes));
            line["files"] = json!(commit.stats().count());
            line["bytes"] = json!(sum(|stat| stat.file_size_in_bytes));
        }
        Action::Clean => {
            let clean = CleanMetadata::decode(&bytes).map_err(in_file)?;
            line["files"] = json!(clean.total_files_deleted);
            line["earliest"] = json!(clean.earliest_commit_to_retain);
        }
        Action::Rollback => {
            let rollback = RollbackMetadata::decode(&bytes).map_err(in_file)?;
            line["undone"] = json!(rollback.commits_rollback);
            line["files"] = json!(rollback.total_files_deleted);
        }
        Action::Savepoint => {
            let savepoint = SavepointMetadata::decode(&bytes).map_err(in_file)?;
            line["by"] = json!(savepoint.savepointed_by);
            line["comment"] = json!(savepoint.comments);
        }
        _ => {}
    }
    Ok(line)
}

/// Formats an action for people.
fn told(line: &Value) -> String {
    let number = |key: &str| line[key].as_i64().unwrap_or_default();
    match line["action"].as_str() {
        _ if line["empty"] == true => "the file is empty".to_owned(),
        Some("commit" | "replacecommit") if line["operation"].is_string() => format!(
            "{}: {} inserts, {} updates, {} deletes; {} files, {}",
            line["operation"].as_str().unwrap_or_default().to_lowercase(),
            number("inserts"),
            number("updates"),
            number("deletes"),
            number("files"),
            Bytes(number("bytes").unsigned_abs()),
        ),
        Some("clean") if line["files"].is_number() => {
            let deleted = format!("{} files deleted", number("files"));
            match line["earliest"].as_str() {
                Some(earliest) if !earliest.is_empty() => format!("{deleted}, readable from {earliest}"),
                _ => deleted,
            }
        }
        Some("rollback") if line["files"].is_number() => {
            let undone = line["undone"].as_array().into_iter().flatten().filter_map(Value::as_str);
            format!("undid {}, {} files deleted", undone.collect::<Vec<_>>().join(", "), number("files"))
        }
        Some("savepoint") => {
            let text = |key: &str| line[key].as_str().unwrap_or_default();
            format!("{} {}", text("by"), text("comment")).trim().to_owned()
        }
        _ => String::new(),
    }
}

/// Reads the completed actions in the archive, oldest first.
async fn archived(table: &Table) -> Result<Vec<Value>> {
    let mut found: BTreeMap<(String, String), Value> = BTreeMap::new();
    for ArchivedEntry { commit_time, action_type, action_state, .. } in table.archived_entries().await? {
        let (Some(instant), Some(action)) = (commit_time, action_type) else { continue };
        if action_state.as_deref() == Some(State::Completed.as_str()) {
            let line = json!({ "instant": instant, "action": action, "state": "ARCHIVED" });
            found.insert((instant, action), line);
        }
    }
    Ok(found.into_values().collect())
}

/// Maximum number of file groups in the drawing. `--json` prints all of them.
const DRAWN: usize = 60;
/// Width of the bar of the largest file group, in characters.
const BAR: u64 = 30;

pub(super) async fn show(context: Context, args: Target) -> Result<(), Failure> {
    let (location, table) = super::open(context, &args.table, TableOptions::new()).await?;
    let named = |error: Error| Failure::from(error).of(&location);
    let groups = table.file_groups().await.map_err(named)?;
    let timeline = table.timeline().await.map_err(named)?;
    let earliest = table.earliest_instant().await.map_err(named)?;
    let latest = timeline.latest_commit();
    let shown =
        |group: &FileGroup| latest.and_then(|latest| group.version_at(latest)).map_or(0, |file| file.bytes);
    let stored = |group: &FileGroup| group.versions.iter().map(|file| file.bytes).sum::<u64>();
    let versions: usize = groups.iter().map(|group| group.versions.len()).sum();
    let (now, all): (u64, u64) = (groups.iter().map(shown).sum(), groups.iter().map(stored).sum());
    let mut out = output::stdout();
    if context.json {
        let summary = json!({
            "kind": "table",
            "name": table.name(),
            "location": location.to_string(),
            "version": table.version().number(),
            "writable": table.check_writable().is_ok(),
            "metadata_partitions": table.metadata_partitions(),
            "record_key": table.record_key_fields(),
            "ordering_field": table.ordering_field(),
            "partition_fields": table.partition_fields(),
            "scd": if table.is_history() { 2 } else { 1 },
            "latest": latest.map(|instant| instant.to_string()),
            "earliest": earliest.map(|instant| instant.to_string()),
            "commits": timeline.completed_commits().count(),
            "file_groups": groups.len(),
            "files": versions,
            "bytes": all,
            "bytes_latest": now,
        });
        writeln!(out, "{summary}")?;
        for group in &groups {
            let versions = group.versions.iter().map(|version| {
                json!({ "instant": version.instant.to_string(), "file": &*version.file, "bytes": version.bytes })
            });
            let line = json!({
                "kind": "file_group",
                "partition": &*group.partition,
                "file_id": &*group.file_id,
                "replaced_at": group.replaced_at.map(|instant| instant.to_string()),
                "versions": versions.collect::<Vec<_>>(),
            });
            writeln!(out, "{line}")?;
        }
        return Ok(out.flush()?);
    }
    let list = |names: &[String]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let kind = if table.is_history() {
        "SCD type 2, a row for each state of a key"
    } else {
        "SCD type 1, the latest row of each key"
    };
    writeln!(out, "{} at {location}", table.name())?;
    writeln!(out, "  {kind}")?;
    writeln!(out, "  version       {}", version(&table))?;
    let metadata: Vec<String> = table.metadata_partitions().into_iter().map(str::to_owned).collect();
    writeln!(out, "  metadata      {}", list(&metadata))?;
    writeln!(out, "  record key    {}", list(table.record_key_fields()))?;
    writeln!(out, "  ordering      {}", table.ordering_field().unwrap_or("none"))?;
    writeln!(out, "  partitions    {}", list(table.partition_fields()))?;
    let at = |instant: Option<hudi_scd::Instant>, none: &str| {
        instant.map_or_else(|| none.to_owned(), |i| i.to_string())
    };
    writeln!(out, "  latest commit {}", at(latest, "none"))?;
    let first = timeline.completed_commits().next().map(|entry| entry.instant);
    writeln!(out, "  readable from {}", at(earliest.or(first), "the first commit"))?;
    writeln!(
        out,
        "  latest rows   {} in {} files",
        Bytes(now),
        groups.iter().filter(|group| shown(group) > 0).count()
    )?;
    writeln!(out, "  total         {} in {versions} files of {} file groups", Bytes(all), groups.len())?;
    if groups.is_empty() {
        return Ok(out.flush()?);
    }
    let largest = groups.iter().map(stored).max().unwrap_or(0).max(1);
    let mut picture = output::picture([
        "partition",
        "file group",
        "versions",
        "latest",
        "total",
        "█ latest ░ older versions",
    ]);
    for index in [2, 3, 4] {
        if let Some(column) = picture.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for group in groups.iter().take(DRAWN) {
        let (now, all) = (shown(group), stored(group));
        let width = |bytes: u64| usize::try_from((bytes * BAR).div_ceil(largest)).unwrap_or(0);
        let (solid, whole) = (width(now), width(all));
        let bar = "█".repeat(solid) + &"░".repeat(whole.saturating_sub(solid));
        let replaced = if group.replaced_at.is_some() { " (replaced)" } else { "" };
        let partition = if group.partition.is_empty() { "." } else { &group.partition };
        picture.add_row([
            partition.to_owned(),
            format!("{}{replaced}", group.file_id.get(..8).unwrap_or(&group.file_id)),
            group.versions.len().to_string(),
            Bytes(now).to_string(),
            Bytes(all).to_string(),
            bar,
        ]);
    }
    writeln!(out, "{picture}")?;
    if groups.len() > DRAWN {
        writeln!(out, "and {} more file groups: see --json", groups.len() - DRAWN)?;
    }
    Ok(out.flush()?)
}

/// Describes the version of a table, and the effect of later Hudi versions on it.
fn version(table: &Table) -> String {
    let version = table.version();
    let writers = match version.number() {
        0..=2 => "written by Hudi 0.9, hudi-scd; upgraded by the next write of Hudi 0.10 to 0.15",
        3 => "written by Hudi 0.10, hudi-scd; upgraded by the next write of Hudi 0.11 to 0.15",
        4 => "written by Hudi 0.11, hudi-scd; upgraded by the next write of Hudi 0.12 to 0.15",
        5 => "written by Hudi 0.12 and 0.13, hudi-scd; upgraded by the next write of Hudi 0.14 and 0.15",
        6 => "written by Hudi 0.14 and later, hudi-scd",
        8 => "written by Hudi 1.0 and later; read only here",
        _ => "written by Hudi 1.1 and later; read only here",
    };
    match table.check_writable() {
        Err(reason) if version.is_writable() => {
            format!("{version}, {writers}; read only here: {}", reason.message())
        }
        _ => format!("{version}, {writers}"),
    }
}

pub(super) async fn validate(context: Context, args: Target) -> Result<(), Failure> {
    let (location, table) = super::open(context, &args.table, TableOptions::new()).await?;
    let findings = {
        let _wheel = Progress::wheel(context, "validating");
        table.validate().await.map_err(|error| Failure::from(error).of(&location))?
    };
    let mut out = output::stdout();
    for finding in &findings {
        if context.json {
            let line = json!({
                "invariant": finding.invariant.as_str(),
                "subject": finding.subject,
                "detail": finding.detail,
            });
            writeln!(out, "{line}")?;
        } else {
            writeln!(out, "{finding}")?;
        }
    }
    if findings.is_empty() && !context.json {
        writeln!(out, "{location}: all invariants hold")?;
    }
    out.flush()?;
    if findings.is_empty() { Ok(()) } else { Err(Failure::Findings) }
}
