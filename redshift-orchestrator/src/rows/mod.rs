//! Results: columns, fields and pages, as the service hands them out.

use crate::PageToken;

#[cfg(feature = "arrow")]
pub mod arrow;
mod de;
mod ext;
#[cfg(test)]
mod tests;

pub use ext::StatementExecutorExt;

/// One page of a result.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ResultPage {
    /// The columns, in order; on every page.
    pub columns: Vec<Column>,
    /// The rows of this page.
    pub data: PageData,
    /// Rows in the whole result, if the service said so.
    pub total_rows: Option<u64>,
    /// Where the next page begins; `None` on the last one.
    pub next: Option<PageToken>,
}

impl ResultPage {
    /// A page that is the whole result.
    pub fn new(columns: Vec<Column>, data: PageData) -> Self {
        Self { columns, data, total_rows: None, next: None }
    }
}

/// The rows of a page, in the format that was chosen at submit.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum PageData {
    /// One field a column, one vector a row.
    Records(Vec<Vec<Field>>),
    /// Pieces of a CSV text whose first record, on the first page, is the header; records end with a carriage return and a line feed, and a
    /// piece need not end at the end of one. A result without rows may have no piece at all.
    Csv(Vec<String>),
}

/// One value. What has no variant of its own (decimals, dates, timestamps) comes as text, exact.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Field {
    /// SQL NULL.
    Null,
    /// A boolean.
    Boolean(bool),
    /// A whole number of up to 64 bits.
    Long(i64),
    /// A floating-point number.
    Double(f64),
    /// Text, and everything that comes as text.
    String(String),
    /// Bytes.
    Blob(Vec<u8>),
}

/// What the service says about a column of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Column {
    /// The name in the result: the alias, if there is one.
    pub name: String,
    /// The database's name of the type, such as `int4`, `numeric`, `varchar`, `timestamptz`.
    pub type_name: String,
    /// Digits in all, of a decimal; length, of a text.
    pub precision: Option<u32>,
    /// Digits after the point, of a decimal.
    pub scale: Option<u32>,
    /// Whether the column may hold NULL; `None` when the database does not know.
    pub nullable: Option<bool>,
    /// Bytes that a value takes, or characters that a text may have.
    pub length: Option<u32>,
    /// The table that the column comes from, if it comes from one.
    pub table: Option<String>,
    /// The schema of that table.
    pub schema: Option<String>,
    /// The expression for rows that do not name the column; only a table's own columns have one.
    pub default: Option<String>,
}

impl Column {
    /// A column of this name and type.
    pub fn new(name: impl Into<String>, type_name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            type_name: type_name.into(),
            precision: None,
            scale: None,
            nullable: None,
            length: None,
            table: None,
            schema: None,
            default: None,
        }
    }
}
