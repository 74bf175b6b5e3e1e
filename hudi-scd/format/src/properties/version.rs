//! [`TableVersion`]: the format version of a table.

use std::fmt;

use crate::key::KeyEncoding;

/// The format version of a table, `hoodie.table.version`.
///
/// | version | written by Hudi | here |
/// |---|---|---|
/// | 0, 1 | up to 0.5, up to 0.8 | read by the rules in Hudi's source; not written, unless the properties contain the record key; no such table is tested |
/// | 2 | 0.9 | read and written; its instants have 14 digits |
/// | 3, 4, 5 | 0.10, 0.11, 0.12 and 0.13 | read and written |
/// | 6 | 0.14, 0.15, 1.x on request | read and written; the version of new tables |
/// | 8, 9 | 1.0, 1.1 and later | read |
///
/// Version 7 was never released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableVersion(u8);

impl TableVersion {
    /// The version of new tables, and the newest version that this crate writes.
    pub const SIX: Self = Self(6);

    /// Parses the property's value. Early versions of Hudi wrote no value, which means version 0.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" => Some(Self(0)),
            text => text.parse().ok().filter(|number| matches!(number, 0..=6 | 8 | 9)).map(Self),
        }
    }

    /// Returns the number.
    pub fn number(self) -> u8 {
        self.0
    }

    /// Returns `true` if this crate can also write tables of this version.
    pub fn is_writable(self) -> bool {
        self <= Self::SIX
    }

    /// Returns `true` for timeline layout 2, in which the timeline has its own folder and its names contain
    /// completion times.
    pub fn has_timeline_folder(self) -> bool {
        self > Self::SIX
    }

    /// Returns `true` if the Hudi release of this version (up to 0.9) writes instants without milliseconds.
    pub fn has_instants_of_seconds(self) -> bool {
        self.0 < 3
    }

    /// Returns `true` if the existence of the metadata table's directory makes writers use it, whatever the
    /// properties list. This applies to Hudi 0.9 to 0.13.
    pub fn goes_by_metadata_directory(self) -> bool {
        self < Self::SIX
    }

    /// Returns the form in which the Hudi releases of this version write a record key with one field under
    /// the complex generator. Use it only for tables without rows, because releases of both kinds wrote
    /// versions 6 and 8.
    pub fn key_encoding(self) -> KeyEncoding {
        match self.0 {
            6 | 8 => KeyEncoding::ValueOnly,
            _ => KeyEncoding::FieldPrefixed,
        }
    }

    /// Returns the partition value that represents nulls and empty strings.
    pub fn null_partition(self) -> &'static str {
        if self.0 < 5 { OLD_NULL_PARTITION } else { NULL_PARTITION }
    }
}

/// The partition value that represents nulls and empty strings.
pub const NULL_PARTITION: &str = "__HIVE_DEFAULT_PARTITION__";
/// The corresponding value before table version 5.
pub const OLD_NULL_PARTITION: &str = "default";

impl fmt::Display for TableVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
