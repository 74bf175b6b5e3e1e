//! [`FailureKind`]: the reason why a step failed. It determines whether a retry can help.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Reason why a step failed. It determines whether a retry can help.
///
/// For a statement that ended `FAILED`, the reason is only in the text of the database, from which
/// [`FailureKind::of_text`] derives the kind. A step's `retry` lists the kinds after which it is safe to run
/// *that step* again. An unknown outcome has no kind, because nothing may be repeated after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub enum FailureKind {
    /// Two transactions wrote the same tables, and the database rolled this one back (Redshift's error 1023,
    /// SQLSTATE 40001).
    SerializationConflict,
    /// The database rolled this transaction back to resolve a deadlock (SQLSTATE 40P01).
    Deadlock,
    /// Another transaction dropped or replaced a table while this statement used it.
    ConcurrentDdl,
    /// The statement reached the database's statement timeout, or a rule of its workload management stopped
    /// it.
    StatementTimeout,
    /// The database lost its connection, restarted, was paused or resumed.
    Connection,
    /// Any other error of the statement. A retry fails in the same way until the cause is corrected.
    Sql,
    /// The statement was cancelled by another client or by the service.
    Aborted,
    /// The step's timeout expired, and its statement was cancelled.
    TimedOut,
    /// The service rejected the statement, or could not be reached in time; the statement did not run.
    NotSubmitted,
}

impl FailureKind {
    /// All kinds, for messages and documentation.
    pub const ALL: [Self; 9] = [
        Self::SerializationConflict,
        Self::Deadlock,
        Self::ConcurrentDdl,
        Self::StatementTimeout,
        Self::Connection,
        Self::Sql,
        Self::Aborted,
        Self::TimedOut,
        Self::NotSubmitted,
    ];

    /// Returns the name used in pipeline files and reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SerializationConflict => "serialization-conflict",
            Self::Deadlock => "deadlock",
            Self::ConcurrentDdl => "concurrent-ddl",
            Self::StatementTimeout => "statement-timeout",
            Self::Connection => "connection",
            Self::Sql => "sql",
            Self::Aborted => "aborted",
            Self::TimedOut => "timed-out",
            Self::NotSubmitted => "not-submitted",
        }
    }

    /// Derives the kind from the error text of a statement that ended `FAILED`.
    ///
    /// The texts are those of Redshift and PostgreSQL. An unrecognised text yields [`Sql`](Self::Sql), which
    /// a step retries only if its `retry` lists it.
    pub fn of_text(text: &str) -> Self {
        let text = text.to_ascii_lowercase();
        TEXTS.iter().find(|(part, _)| text.contains(part)).map_or(Self::Sql, |(_, kind)| *kind)
    }
}

/// Parts of the database's messages in lower case. The first match wins.
const TEXTS: [(&str, FailureKind); 22] = [
    ("serializable isolation violation", FailureKind::SerializationConflict),
    ("conflict with concurrent transaction", FailureKind::SerializationConflict),
    ("could not serialize access", FailureKind::SerializationConflict),
    ("deadlock detected", FailureKind::Deadlock),
    ("could not open relation with oid", FailureKind::ConcurrentDdl),
    ("concurrently dropped", FailureKind::ConcurrentDdl),
    ("tuple concurrently updated", FailureKind::ConcurrentDdl),
    ("tuple concurrently deleted", FailureKind::ConcurrentDdl),
    ("cache lookup failed for relation", FailureKind::ConcurrentDdl),
    ("due to statement timeout", FailureKind::StatementTimeout),
    ("due to lock timeout", FailureKind::StatementTimeout),
    ("cancelled by wlm", FailureKind::StatementTimeout),
    ("canceled by wlm", FailureKind::StatementTimeout),
    ("query cancelled on user's request", FailureKind::Aborted),
    ("query canceled on user's request", FailureKind::Aborted),
    ("due to user request", FailureKind::Aborted),
    ("terminating connection", FailureKind::Connection),
    ("server closed the connection", FailureKind::Connection),
    ("connection refused", FailureKind::Connection),
    ("connection reset", FailureKind::Connection),
    ("the database system is starting up", FailureKind::Connection),
    ("the database system is shutting down", FailureKind::Connection),
];

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_databases_words() {
        for (text, kind) in [
            (
                "ERROR: 1023 DETAIL: Serializable isolation violation on table in Redshift DETAIL: Serializable isolation violation on table - 1234",
                FailureKind::SerializationConflict,
            ),
            (
                "ERROR: could not serialize access due to concurrent update",
                FailureKind::SerializationConflict,
            ),
            ("ERROR: deadlock detected", FailureKind::Deadlock),
            ("ERROR: could not open relation with OID 108340", FailureKind::ConcurrentDdl),
            ("ERROR: canceling statement due to statement timeout", FailureKind::StatementTimeout),
            (
                "ERROR: Query (42) cancelled by WLM abort action of Query Monitoring Rule",
                FailureKind::StatementTimeout,
            ),
            ("ERROR: canceling statement due to user request", FailureKind::Aborted),
            ("FATAL: terminating connection due to administrator command", FailureKind::Connection),
            ("ERROR: relation \"sales\" does not exist", FailureKind::Sql),
            ("", FailureKind::Sql),
        ] {
            assert_eq!(FailureKind::of_text(text), kind, "{text}");
        }
    }

    #[test]
    fn the_name_in_files_is_the_name_in_reports() {
        for kind in FailureKind::ALL {
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
        }
    }
}
