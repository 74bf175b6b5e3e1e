//! [`FailureKind`]: why a step did not succeed, by what a retry can do about it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a step did not succeed, by what a retry can do about it.
///
/// A statement that ended `FAILED` tells why only in the database's words; [`FailureKind::of_text`] reads them. A step's
/// retry names the kinds after which running it again is safe *for that step*. An outcome that is unknown has no kind:
/// nothing may be repeated after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "cli", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub enum FailureKind {
    /// Two transactions wrote the same tables, and the database undid this one (Redshift's error 1023, SQLSTATE 40001).
    SerializationConflict,
    /// The database broke a deadlock by undoing this transaction (SQLSTATE 40P01).
    Deadlock,
    /// Another transaction dropped or replaced a table while this statement used it.
    ConcurrentDdl,
    /// The database's own limit on the statement's time was reached, or a rule of its workload management ended it.
    StatementTimeout,
    /// The database lost its connection, restarted, paused or resumed.
    Connection,
    /// Any other error of the statement: a repeat gives the same one until something is corrected.
    Sql,
    /// The statement was cancelled by somebody else, or by the service.
    Aborted,
    /// The step's own time was over, and its statement was cancelled.
    TimedOut,
    /// The service refused the statement, or could not be reached in time; it certainly did not run.
    NotSubmitted,
}

impl FailureKind {
    /// All kinds, for messages and menus.
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

    /// The name used in pipeline files and reports.
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

    /// Reads the kind from the text of a statement that ended `FAILED`.
    ///
    /// The texts are Redshift's and PostgreSQL's. What is not recognised is [`Sql`](Self::Sql), after which nothing is repeated
    /// unless a step says so.
    pub fn of_text(text: &str) -> Self {
        let text = text.to_ascii_lowercase();
        TEXTS.iter().find(|(part, _)| text.contains(part)).map_or(Self::Sql, |(_, kind)| *kind)
    }
}

/// Parts of the database's messages, in lower case. The first that is found decides.
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
