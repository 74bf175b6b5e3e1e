//! The properties that an upgrade to version 6 sets, step by step as Hudi's `UpgradeDowngrade` does.

use std::collections::BTreeMap;

use super::{
    CHECKSUM, DATABASE, HIVE_STYLE, KEY_GENERATOR_CLASS, NAME, OLD_NULL_PARTITION, TableProperties,
    TableVersion, URL_ENCODE, VERSION, checksum, refused,
};
use crate::{ErrorKind, Result};

/// The first version that this crate upgrades. Earlier versions lack the record key in their properties.
const FIRST: u8 = 2;

impl TableProperties {
    /// Returns the properties that an upgrade of this table to version 6 sets, with their values. Empty if
    /// the table has version 6.
    ///
    /// | step | sets |
    /// |---|---|
    /// | 2 to 3 | the form of partition paths, the key generator |
    /// | 3 to 4 | the checksum |
    /// | 4 to 5 | nothing: the partition of nulls has a different name since version 5 |
    /// | 5 to 6 | nothing: only merge-on-read tables change |
    ///
    /// Hudi takes the values of the first step from the options of the write that performs the upgrade. This
    /// crate infers them from the table's folders.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for versions 0 and 1, whose properties lack the record key, and for
    /// versions after 6.
    pub fn upgrade(&self) -> Result<BTreeMap<String, String>> {
        self.check_version_writable()?;
        let from = self.version.number();
        if from < FIRST {
            let message = "tables of this version cannot be upgraded here";
            return Err(refused(ErrorKind::Unsupported, message, VERSION, &from.to_string())
                .with_context("hint", "upgrade it with Hudi 0.9 to 0.15: a write is enough"));
        }
        let raw = |key: &str| self.raw.get(key).map_or("", |value| value.trim());
        let mut set = BTreeMap::new();
        if from < 3 {
            set.insert(URL_ENCODE, self.url_encode.to_string());
            set.insert(HIVE_STYLE, self.hive_style.to_string());
            if let (true, Some(generator)) = (raw(KEY_GENERATOR_CLASS).is_empty(), self.key_generator) {
                set.insert(KEY_GENERATOR_CLASS, generator.class().to_owned());
            }
        }
        if from < 4 {
            set.insert(CHECKSUM, checksum(raw(DATABASE), raw(NAME)).to_string());
        }
        if self.version < TableVersion::SIX {
            set.insert(VERSION, TableVersion::SIX.to_string());
        }
        Ok(set.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }

    /// Returns `true` for a partition whose meaning an upgrade would change. Up to version 4 it contains the
    /// rows whose partition value is null or an empty string, and since version 5 the rows with the text
    /// `default`.
    pub fn changes_meaning(&self, partition: &str) -> bool {
        let is_old_null = |folder: &str| match folder.split_once('=') {
            Some((_, value)) if self.hive_style => value == OLD_NULL_PARTITION,
            _ => folder == OLD_NULL_PARTITION,
        };
        self.version.null_partition() == OLD_NULL_PARTITION && partition.split('/').any(is_old_null)
    }
}
