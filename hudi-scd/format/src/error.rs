//! [`Error`]: the cause, the affected objects, and the caller's next action.

use std::{error::Error as StdError, fmt};

use crate::timeline::Instant;

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kinds of errors. Each kind tells the caller what to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The input cannot be written: it lacks a column, or contains a null key or a type that tables do not
    /// support. Nothing was written. Correct the input.
    InvalidInput,
    /// A definition or an option is contradictory, or does not fit the table. Correct it.
    InvalidDefinition,
    /// There is no table at the location. Create it, or correct the path.
    NotFound,
    /// There is already a table at the location. Open it instead.
    AlreadyExists,
    /// The table uses a feature that this crate does not support. The error names the property.
    Unsupported,
    /// The requested instant lies outside the retained window. The error names the earliest readable instant.
    OutsideRetention,
    /// A file of the table violates its format. The error names the file.
    Corrupt,
    /// Another writer holds the table's lock, or took over the table, or may do so because this writer was
    /// suspended. Nothing of this write is visible. Run it again.
    Conflict,
    /// The storage failed. Nothing of this write is visible, and the next writer removes its files. Run it
    /// again.
    Storage,
    /// The caller cancelled the write. Nothing of it is visible, and the next writer removes its files.
    Cancelled,
    /// The storage failed, or the writer was suspended, while the commit was being completed, and no response
    /// says whether it was. Call `Table::settle` before you repeat the write, because its rows may be visible.
    Unknown {
        /// The commit.
        instant: Instant,
    },
}

impl ErrorKind {
    /// Returns a stable name for logs, programs and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidInput => "invalid input",
            Self::InvalidDefinition => "invalid definition",
            Self::NotFound => "not found",
            Self::AlreadyExists => "already exists",
            Self::Unsupported => "unsupported",
            Self::OutsideRetention => "outside retention",
            Self::Corrupt => "corrupt table",
            Self::Conflict => "conflict",
            Self::Storage => "storage failure",
            Self::Cancelled => "cancelled",
            Self::Unknown { .. } => "unknown outcome",
        }
    }

    /// Returns `true` if the same call may succeed later without another change, because another writer or
    /// the storage prevented it. Returns `false` for [`ErrorKind::Unknown`], whose outcome must be determined
    /// first.
    pub fn is_retryable(self) -> bool {
        match self {
            Self::Conflict | Self::Storage => true,
            Self::InvalidInput
            | Self::InvalidDefinition
            | Self::NotFound
            | Self::AlreadyExists
            | Self::Unsupported
            | Self::OutsideRetention
            | Self::Corrupt
            | Self::Cancelled
            | Self::Unknown { .. } => false,
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error with its kind, its context and its source.
///
/// It is displayed on one line: `unsupported: table version is not 6 { property: hoodie.table.version, value:
/// 8 }`. [`std::error::Error::source`] returns the source, if there is one.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    context: Vec<(&'static str, String)>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// Creates an error of `kind`. `message` is in lower case, without a full stop.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), context: Vec::new(), source: None }))
    }

    /// Adds an affected object: a path, a column, a property.
    #[must_use]
    pub fn with_context(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.0.context.push((name, value.to_string()));
        self
    }

    /// Renumbers the rows that the error names (`row`, `other row`). Use it if other rows of the input
    /// precede the numbered ones.
    #[must_use]
    pub fn map_rows(mut self, number: impl Fn(usize) -> usize) -> Self {
        let rows = self.0.context.iter_mut().filter(|(name, _)| matches!(*name, "row" | "other row"));
        for (_, row) in rows {
            if let Ok(known) = row.parse() {
                *row = number(known).to_string();
            }
        }
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Returns the kind, which determines the caller's next action.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the message without kind, context and source.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Returns the value of one context entry.
    pub fn context(&self, name: &str) -> Option<&str> {
        self.0.context.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.kind, self.0.message)?;
        for (index, (name, value)) in self.0.context.iter().enumerate() {
            write!(f, "{}{name}: {value}", if index == 0 { " { " } else { ", " })?;
        }
        if self.0.context.is_empty() { Ok(()) } else { f.write_str(" }") }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)?;
        let mut source = self.source();
        while let Some(cause) = source {
            write!(f, "\n  caused by: {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_others_caused_is_worth_a_retry() {
        for kind in [ErrorKind::Conflict, ErrorKind::Storage] {
            assert!(kind.is_retryable(), "{kind}");
        }
        let unknown = ErrorKind::Unknown { instant: "20260101000000000".parse().unwrap() };
        for kind in [ErrorKind::InvalidInput, ErrorKind::Corrupt, ErrorKind::Cancelled, unknown] {
            assert!(!kind.is_retryable(), "{kind}");
        }
    }

    #[test]
    fn prints_kind_message_and_context_on_one_line_and_causes_below() {
        let error = Error::new(ErrorKind::Unsupported, "table version is not 6")
            .with_context("property", "hoodie.table.version")
            .with_context("value", 8)
            .with_source("a cause");
        assert_eq!(
            error.to_string(),
            "unsupported: table version is not 6 { property: hoodie.table.version, value: 8 }"
        );
        assert_eq!(format!("{error:?}"), format!("{error}\n  caused by: a cause"));
        assert_eq!(error.context("value"), Some("8"));
        let error = error.with_context("row", 3).map_rows(|row| row + 10);
        assert_eq!((error.context("value"), error.context("row")), (Some("8"), Some("13")));
    }
}
