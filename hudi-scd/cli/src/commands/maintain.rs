//! `clean`, `archive`, `rollback`, `savepoint`, `upgrade`.

use hudi_scd::{
    Error, Instant, RetentionPolicy, TableOptions,
    retention::{ArchiveReport, CleanReport, Plan},
    timeline::archive::ArchiveLimits,
};
use serde_json::{Value, json};

use crate::{
    Context,
    args::{Archive, Clean, Keep, Rollback, Savepoint, Upgrade},
    failure::Failure,
    progress::Progress,
};

pub(super) async fn clean(context: Context, args: Clean) -> Result<(), Failure> {
    let options = match policy(&args.keep) {
        Some(policy) => TableOptions::new().with_retention(policy),
        None => TableOptions::new(),
    };
    let (location, table) = super::open(context, &args.target.table, options).await?;
    let named = |error: Error| Failure::from(error).of(&location);
    if args.dry_run {
        let plan = table.clean_plan().await.map_err(named)?;
        return super::tell(context, &plan, plan_report(&plan));
    }
    let cleaned = {
        let _wheel = Progress::wheel(context, "cleaning");
        table.clean().await.map_err(named)?
    };
    match cleaned {
        Some(report) => {
            let earliest =
                report.earliest.map(|earliest| format!(", readable from {earliest}")).unwrap_or_default();
            super::tell(
                context,
                format!("clean {}: {} files deleted{earliest}", report.instant, report.files),
                clean_report(&report),
            )
        }
        None => {
            super::tell(context, "nothing to clean", json!({ "instant": null, "files": 0, "earliest": null }))
        }
    }
}

fn policy(keep: &Keep) -> Option<RetentionPolicy> {
    let commits = keep.retain_commits.map(RetentionPolicy::commits);
    let hours = keep.retain_hours.map(RetentionPolicy::hours);
    commits.or(hours).or(keep.retain_versions.map(RetentionPolicy::file_versions))
}

fn plan_report(plan: &Plan) -> Value {
    let deletions = plan.deletions().iter().map(|deletion| {
        json!({
            "partition": deletion.partition,
            "file_id": deletion.file_id,
            "instant": deletion.instant.to_string(),
            "file": deletion.file,
            "bytes": deletion.bytes,
        })
    });
    json!({
        "policy": plan.policy().name(),
        "earliest": plan.earliest_to_retain().map(|instant| instant.to_string()),
        "files": plan.deletions().len(),
        "bytes": plan.bytes(),
        "delete": deletions.collect::<Vec<_>>(),
        "partitions": plan.partitions_to_delete(),
    })
}

pub(super) fn clean_report(report: &CleanReport) -> Value {
    json!({
        "instant": report.instant.to_string(),
        "files": report.files,
        "earliest": report.earliest.map(|instant| instant.to_string()),
    })
}

pub(super) async fn archive(context: Context, args: Archive) -> Result<(), Failure> {
    if args.keep_max < args.keep_min {
        return Err(Failure::usage("--keep-max is less than --keep-min"));
    }
    let limits = ArchiveLimits { keep_min: args.keep_min, keep_max: args.keep_max };
    let options = TableOptions::new().with_archive_limits(limits);
    let (location, table) = super::open(context, &args.target.table, options).await?;
    let archived = {
        let _wheel = Progress::wheel(context, "archiving");
        table.archive().await.map_err(|error| Failure::from(error).of(&location))?
    };
    match archived {
        Some(report) => {
            let text = format!("{} actions moved to {}", report.actions, report.file);
            super::tell(context, text, archive_report(&report))
        }
        None => super::tell(context, "nothing to archive", json!({ "actions": 0, "file": null })),
    }
}

pub(super) fn archive_report(report: &ArchiveReport) -> Value {
    json!({ "actions": report.actions, "file": report.file })
}

pub(super) async fn rollback(context: Context, args: Rollback) -> Result<(), Failure> {
    let (location, table) = super::open(context, &args.target.table, TableOptions::new()).await?;
    let instant = super::instant(&table, args.instant)?;
    let report = table.rollback(instant).await.map_err(|error| Failure::from(error).of(&location))?;
    super::tell(
        context,
        format!("rollback {}: undid {}, {} files deleted", report.instant, report.undone, report.files),
        json!({
            "instant": report.instant.to_string(),
            "undone": report.undone.to_string(),
            "files": report.files,
        }),
    )
}

pub(super) async fn savepoint(context: Context, args: Savepoint) -> Result<(), Failure> {
    let (location, table) = super::open(context, &args.target.table, TableOptions::new()).await?;
    let named = |error: Error| Failure::from(error).of(&location);
    let instant = super::instant(&table, args.instant)?;
    if args.delete {
        table.delete_savepoint(instant).await.map_err(named)?;
        let report = json!({ "instant": instant.to_string(), "deleted": true });
        return super::tell(
            context,
            format!("savepoint {instant} is deleted: the next clean may delete its files"),
            report,
        );
    }
    let report = table.savepoint(instant, &args.user, &args.comment).await.map_err(named)?;
    super::tell(
        context,
        format!("savepoint {instant}: {} files are protected", report.files),
        json!({ "instant": instant.to_string(), "files": report.files, "deleted": false }),
    )
}

pub(super) async fn upgrade(context: Context, args: Upgrade) -> Result<(), Failure> {
    let (location, table) = super::open(context, &args.target.table, TableOptions::new()).await?;
    let report = match args.dry_run {
        true => table.upgrade_plan().await,
        false => table.upgrade().await,
    };
    let report = report.map_err(|error| Failure::from(error).of(&location))?;
    let instants = |instants: &[Instant]| instants.iter().map(Instant::to_string).collect::<Vec<_>>();
    super::tell(
        context,
        &report,
        json!({
            "from": report.from.number(),
            "to": report.to.number(),
            "properties": report.properties,
            "metadata_table_dropped": report.metadata_table_dropped,
            "rolled_back": instants(&report.rolled_back),
            "locked_out": report.locked_out(),
        }),
    )
}
