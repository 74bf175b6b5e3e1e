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
    table::{Table, Turn},
    timeline::Instant,
    view::View,
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

impl Table {
    /// Computes what [`Table::upgrade`] would change, without changing it.
    ///
    /// # Errors
    /// As [`Table::upgrade`].
    pub async fn upgrade_plan(&self) -> Result<UpgradeReport> {
        let view = self.view().await?;
        let properties = self.check_upgrade(&view).await?;
        let dropped = self.metadata_partitions().into_iter().map(str::to_owned).collect();
        Ok(self.upgrade_report(properties, dropped, Vec::new()))
    }

    /// Upgrades a table of version 2 to 5 to version 6, which Hudi 0.14 and later write. A write never does
    /// this automatically, because after an upgrade Hudi 0.13 and earlier can read the table but no longer
    /// write it. Open the table again after the upgrade, because this handle rejects further changes.
    ///
    /// An upgrade that fails can be repeated, and so can one whose future is
    /// [dropped](Table#dropped-futures). The rows, the files and the timeline do not change. An existing
    /// metadata table is dropped.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for other versions, and for a table with a partition `default`, which up to
    /// version 4 contains rows without a partition value; [`ErrorKind::Conflict`] if another writer is
    /// active; otherwise as [`Table::upsert`].
    pub async fn upgrade(&self) -> Result<UpgradeReport> {
        self.in_turn("upgrade", async |turn| self.upgrade_in_turn(turn).await).await
    }

    async fn upgrade_in_turn(&self, turn: &Turn<'_>) -> Result<UpgradeReport> {
        self.check_upgrade(&*turn.view().await?).await?;
        if self.version() == TableVersion::SIX {
            return Ok(self.upgrade_report(BTreeMap::new(), Vec::new(), Vec::new()));
        }
        let rolled_back = self.repair(turn).await?;
        let view = turn.view().await?;
        let properties = self.check_upgrade(&view).await?;
        if let Some(pending) = view.timeline.entries().iter().find(|entry| entry.is_pending()) {
            return Err(Error::new(ErrorKind::Conflict, "another writer is active")
                .with_context("action", pending.action)
                .with_context("instant", pending.instant)
                .with_context("hint", "repeat the upgrade when it has ended"));
        }
        self.drop_metadata_table(turn, &view).await?;
        turn.verify().await?;
        let mut raw = turn.stored().without_metadata_table();
        raw.extend(properties.clone());
        self.replace_properties(&view, &raw).await?;
        turn.forget_view().await;
        Ok(self.upgrade_report(properties, turn.dropped(), rolled_back))
    }

    /// Returns the properties that an upgrade sets, or refuses it.
    async fn check_upgrade(&self, view: &View) -> Result<BTreeMap<String, String>> {
        let properties = &self.inner.properties;
        let set = properties.upgrade()?;
        for (group, version) in view.latest_files() {
            if !properties.changes_meaning(&group.partition) {
                continue;
            }
            let path = self.inner.layout.resolve(&group.path(version))?;
            // A file remains when all rows of a partition are moved or deleted.
            if Footer::load(self.store(), &path).await?.rows() > 0 {
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
        &self,
        properties: BTreeMap<String, String>,
        metadata_table_dropped: Vec<String>,
        rolled_back: Vec<Instant>,
    ) -> UpgradeReport {
        let (from, to) = (self.version(), TableVersion::SIX);
        UpgradeReport { from, to, properties, metadata_table_dropped, rolled_back }
    }
}
