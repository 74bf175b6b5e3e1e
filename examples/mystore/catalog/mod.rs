//! The catalog: AWS Glue, or a local server that speaks its protocol. Each commit brings the table's entry up
//! to date, the lookups take a table's location and columns from it, and a crawler of the lake's folder
//! excludes the tables.

use std::collections::BTreeMap;

#[cfg(feature = "aws")]
mod glue;
#[cfg(feature = "aws")]
pub(crate) use glue::Catalog;

#[cfg(not(feature = "aws"))]
mod missing;
#[cfg(not(feature = "aws"))]
pub(crate) use missing::{Catalog, WITHOUT_AWS};

/// Key id and secret for a local server, unless the environment has others.
#[cfg(feature = "aws")]
pub(crate) const LOCAL_KEY: &str = "mystore";
/// Region of a local server, unless the environment has another.
#[cfg(feature = "aws")]
pub(crate) const LOCAL_REGION: &str = "us-east-1";

/// Returns `true` for the endpoint of a local server. It has no encryption, and accepts any credentials.
#[cfg(feature = "aws")]
pub(crate) fn is_local(endpoint: &str) -> bool {
    endpoint.starts_with("http://")
}

/// Names and types of columns, in order.
pub(crate) type Columns = Vec<(String, String)>;

/// A table as the catalog describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) location: String,
    /// The columns in the files.
    pub(crate) columns: Columns,
    /// The columns that partition the table.
    pub(crate) keys: Columns,
    /// Locations of the partitions by their values.
    pub(crate) partitions: BTreeMap<Vec<String>, String>,
    /// Newest commit that the catalog knows.
    pub(crate) last_commit: Option<String>,
}

impl Entry {
    /// Returns the first of these columns that the table does not have.
    pub(crate) fn lacks<'a>(&self, columns: &[&'a str]) -> Option<&'a str> {
        let has = |wanted: &str| self.columns.iter().chain(&self.keys).any(|(name, _)| name == wanted);
        columns.iter().copied().find(|column| !has(column))
    }
}

/// Returns the pattern by which a crawler of the lake's folder excludes a table.
pub(crate) fn exclusion(table: &str) -> String {
    format!("{table}/**")
}
