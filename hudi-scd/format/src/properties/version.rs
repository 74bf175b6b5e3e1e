//! [`TableVersion`]: the format version of a table.

use std::fmt;

use crate::key::KeyEncoding;

/// The format version of a table, `hoodie.table.version`.
///
/// | version | written by Hudi | here |
/// |---|---|---|
/// | 0, 1 | up to 0.5, up to 0.8 | read and written by the rules in Hudi's source; the tests contain no such table |
/// | 2 | 0.9 | read and written; its instants have 14 digits |
/// | 3, 4, 5 | 0.10, 0.11, 0.12 and 0.13 | read and written |
/// | 6 | 0.14, 0.15, 1.x on demand | read and written; the version of new tables |
/// | 8, 9 | 1.0, 1.1 and later | read |
///
/// Version 7 was never released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableVersion(u8);

impl TableVersion {
    /// The version of new tables, and the newest that this crate writes.
    pub const SIX: Self = Self(6);

    /// Parses the property's value. Early versions of Hudi wrote none, which is version 0.
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

    /// Returns `true` if tables of this version can be written here, and not only read.
    pub fn is_writable(self) -> bool {
        self <= Self::SIX
    }

    /// Returns `true` if the timeline has its own folder and its names contain completion times: timeline
    /// layout 2.
    pub fn has_timeline_folder(self) -> bool {
        self > Self::SIX
    }

    /// Returns `true` if the table's own Hudi (up to 0.9) writes instants without milliseconds.
    pub fn has_instants_of_seconds(self) -> bool {
        self.0 < 3
    }

    /// Returns `true` if the mere directory of the metadata table makes writers use it, whatever the
    /// properties list: Hudi 0.9 to 0.13.
    pub fn goes_by_metadata_directory(self) -> bool {
        self < Self::SIX
    }

    /// Returns the form in which the Hudi releases of this version write a record key of one field under the
    /// complex generator. It counts only for tables without rows, because versions 6 and 8 belong to releases
    /// of both kinds.
    pub fn key_encoding(self) -> KeyEncoding {
        match self.0 {
            6 | 8 => KeyEncoding::ValueOnly,
            _ => KeyEncoding::FieldPrefixed,
        }
    }

    /// Returns the partition value of nulls and empty strings.
    pub fn null_partition(self) -> &'static str {
        if self.0 < 5 { OLD_NULL_PARTITION } else { NULL_PARTITION }
    }
}

/// The partition value of a null and of an empty string.
pub const NULL_PARTITION: &str = "__HIVE_DEFAULT_PARTITION__";
/// The same value before table version 5.
pub const OLD_NULL_PARTITION: &str = "default";

impl fmt::Display for TableVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
