//! Results: columns, fields and pages.

use crate::PageToken;

#[cfg(feature = "arrow")]
pub mod arrow;
mod de;
mod ext;

pub use ext::StatementExecutorExt;

/// One page of a result.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ResultPage {
    /// The columns in order. Every page contains them.
    pub columns: Vec<Column>,
    /// The rows of this page.
    pub data: PageData,
    /// Number of rows in the complete result, if the service returned it.
    pub total_rows: Option<u64>,
    /// Token of the next page; `None` on the last page.
    pub next: Option<PageToken>,
}

impl ResultPage {
    /// Creates a page that contains the complete result.
    pub fn new(columns: Vec<Column>, data: PageData) -> Self {
        Self { columns, data, total_rows: None, next: None }
    }
}

/// Rows of a page, in the format that was set when the statement was submitted.
///
/// The enum is exhaustive, so that every executor must handle a new variant.
#[derive(Clone, Debug, PartialEq)]
pub enum PageData {
    /// One vector per row, with one field per column.
    Records(Vec<Vec<Field>>),
    /// Pieces of a CSV text. The first record of the first page is the header. Records end with a carriage
    /// return and a line feed; a piece may end in the middle of a record. A result without rows may have no
    /// pieces.
    Csv(Vec<String>),
}

/// Value of a result. Values of other types, such as decimals, dates and timestamps, are exact text in
/// [`Field::String`].
///
/// The enum is exhaustive, so that every executor must handle a new variant.
#[derive(Clone, Debug, PartialEq)]
pub enum Field {
    /// SQL NULL.
    Null,
    /// A boolean.
    Boolean(bool),
    /// An integer of up to 64 bits.
    Long(i64),
    /// A floating-point number.
    Double(f64),
    /// Text, and values of types represented as text.
    String(String),
    /// Bytes.
    Blob(Vec<u8>),
}

/// Metadata of a result column.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Column {
    /// Name in the result: the alias, if there is one.
    pub name: String,
    /// Type name in the database, such as `int4`, `numeric`, `varchar`, `timestamptz`.
    pub type_name: String,
    /// Total number of digits of a decimal, or the length of a text.
    pub precision: Option<u32>,
    /// Number of digits after the decimal point.
    pub scale: Option<u32>,
    /// `true` if the column can be NULL; `None` if the database does not know.
    pub nullable: Option<bool>,
    /// Size of a value in bytes, or the maximum number of characters of a text.
    pub length: Option<u32>,
    /// Table of the column, if the column belongs to a table.
    pub table: Option<String>,
    /// Schema of that table.
    pub schema: Option<String>,
    /// Default expression; only columns of a table have one.
    pub default: Option<String>,
}

impl Column {
    /// Creates a column with this name and type.
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
