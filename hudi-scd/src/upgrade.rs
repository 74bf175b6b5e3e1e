//! The upgrade of a table to version 6. Hudi's own writers perform it automatically, and this crate only on
//! request.
//!
//! | step | Hudi | here |
//! |---|---|---|
//! | before | | the writes of dead writers are undone, as in every write |
//! | 2 to 3 | deletes the metadata table; sets the form of partition paths and the key generator | the same |
//! | 3 to 4 | sets the checksum; lists the metadata table's index `files` | sets the checksum |
//! | 4 to 5 | refuses a partition `default` | the same if it has rows, also below another partition |
//! | 5 to 6 | deletes compaction plans in `.hoodie/.aux` | copy-on-write tables have none |
//! | at last | upgrades the metadata table | the metadata table is dropped first, as in every write |
//!
//! One replacement of `hoodie.properties` changes the version together with the other properties. A process
//! that dies before it leaves a table of the old version, without its metadata table.

use std::{collections::BTreeMap, fmt};

use crate::{
    Error, ErrorKind, Result, TableVersion,
    base_file::Footer,
    context::{Context, Turn},
    maintain::metadata_table,
    recover,
    snapshot::View,
    timeline::Instant,
};

/// The result, or the plan, of an upgrade.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UpgradeReport {
    /// The version before.
    pub from: TableVersion,
    /// The version after.
    pub to: TableVersion,
    /// The changed properties, with their new values.
    pub properties: BTreeMap<String, String>,
    /// The indexes of the metadata table that was dropped.
    pub metadata_table_dropped: Vec<String>,
    /// The unfinished writes that were undone.
    pub rolled_back: Vec<Instant>,
}

impl UpgradeReport {
    /// Returns `true` if the table already has the version.
    pub fn is_empty(&self) -> bool {
        self.from == self.to
    }

    /// Returns the releases of Hudi that can read the table after the upgrade, but no longer write it.
    pub fn locked_out(&self) -> Option<&'static str> {
        (!self.is_empty()).then_some("0.9 to 0.13")
    }
}

impl fmt::Display for UpgradeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(releases) = self.locked_out() else {
            return write!(f, "the table already has version {}", self.to);
        };
        write!(f, "version {} to {}", self.from, self.to)?;
        for (name, value) in &self.properties {
            write!(f, "\n  {name}={value}")?;
        }
        if !self.metadata_table_dropped.is_empty() {
            let dropped = self.metadata_table_dropped.join(", ");
            write!(f, "\nthe metadata table ({dropped}) is dropped; Hudi's writers create it again")?;
        }
        write!(f, "\nHudi {releases} can still read the table, but not write it: its writers fail with ")?;
        write!(f, "\"Unknown versionCode:{}\"", self.to)
    }
}

/// Implements [`Table::upgrade_plan`](crate::Table::upgrade_plan).
pub(crate) async fn plan(context: &Context) -> Result<UpgradeReport> {
    let view = context.view().await?;
    let properties = check_upgrade(context, &view).await?;
    let dropped = context.properties().metadata_partitions().into_iter().map(str::to_owned).collect();
    Ok(upgrade_report(context, properties, dropped, Vec::new()))
}

/// Implements [`Table::upgrade`](crate::Table::upgrade).
pub(crate) async fn upgrade(context: &Context) -> Result<UpgradeReport> {
    context.in_turn("upgrade", async |turn| upgrade_in_turn(context, turn).await).await
}

async fn upgrade_in_turn(context: &Context, turn: &Turn<'_>) -> Result<UpgradeReport> {
    check_upgrade(context, &*turn.view().await?).await?;
    if context.version() == TableVersion::SIX {
        return Ok(upgrade_report(context, BTreeMap::new(), Vec::new(), Vec::new()));
    }
    let rolled_back = recover::repair(context, turn).await?;
    let view = turn.view().await?;
    let properties = check_upgrade(context, &view).await?;
    if let Some(pending) = view.timeline.entries().iter().find(|entry| entry.is_pending()) {
        return Err(Error::new(ErrorKind::Conflict, "another writer is active")
            .with_context("action", pending.action)
            .with_context("instant", pending.instant)
            .with_context("hint", "repeat the upgrade when it has ended"));
    }
    metadata_table::drop_once(context, turn, &view).await?;
    turn.verify().await?;
    let mut raw = turn.stored().without_metadata_table();
    raw.extend(properties.clone());
    context.replace_properties(&view, &raw).await?;
    turn.forget_view().await;
    Ok(upgrade_report(context, properties, turn.dropped(), rolled_back))
}

/// Returns the properties that an upgrade sets, or refuses it.
async fn check_upgrade(context: &Context, view: &View) -> Result<BTreeMap<String, String>> {
    let properties = context.properties();
    let set = properties.upgrade()?;
    for (group, version) in view.latest_files() {
        if !properties.changes_meaning(&group.partition) {
            continue;
        }
        let path = context.layout().resolve(&group.path(version))?;
        // A file remains when all rows of a partition are moved or deleted.
        if Footer::load(context.store(), &path).await?.rows() > 0 {
            let message = "a partition contains the rows without a partition value; after the upgrade, \
                           its name would mean the text `default`";
            return Err(Error::new(ErrorKind::Unsupported, message)
                .with_context("partition", &group.partition)
                .with_context("hint", "give its rows another partition value, or delete them"));
        }
    }
    Ok(set)
}

fn upgrade_report(
    context: &Context,
    properties: BTreeMap<String, String>,
    metadata_table_dropped: Vec<String>,
    rolled_back: Vec<Instant>,
) -> UpgradeReport {
    let (from, to) = (context.version(), TableVersion::SIX);
    UpgradeReport { from, to, properties, metadata_table_dropped, rolled_back }
}
