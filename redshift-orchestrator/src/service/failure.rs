//! [`FailureKind`]: the reason why a step failed. It determines whether a retry can help.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Serialize};

/// Reason why a step failed. It determines whether a retry can help.
///
/// For a statement that ended `FAILED`, the service returns only the database's error text.
/// [`FailureKind::from_error_text`] derives the kind from it. A step's `retry` lists the kinds after which it
/// is safe to run *that step* again. An unknown outcome has no kind, because its step must not be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
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
    /// The connection to the database was lost, or the database restarted, was paused or was resumed.
    Connection,
    /// Any other error of the statement. A retry fails in the same way until the cause is corrected.
    Sql,
    /// The statement was cancelled by another client or by the service.
    Aborted,
    /// The step's timeout expired, and its statement was cancelled.
    TimedOut,
    /// The Glue job or the write of a Hudi table failed.
    Task,
    /// The service rejected the statement, or could not be reached in time; the statement did not run.
    NotSubmitted,
}

impl FailureKind {
    /// All kinds, for messages and documentation.
    pub const ALL: [Self; 10] = [
        Self::SerializationConflict,
        Self::Deadlock,
        Self::ConcurrentDdl,
        Self::StatementTimeout,
        Self::Connection,
        Self::Sql,
        Self::Aborted,
        Self::TimedOut,
        Self::Task,
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
            Self::Task => "task",
            Self::NotSubmitted => "not-submitted",
        }
    }

    /// Derives the kind from the error text of a statement that ended `FAILED`.
    ///
    /// The method recognises the texts of Redshift and PostgreSQL. `[ErrorId: …]`, which Redshift adds at the
    /// end, is ignored. The kind follows from the first of these parts that the text contains:
    ///
    /// 1. the SQLSTATE at the end of the message: `[SQLSTATE 40001]`, `(SQLSTATE 40001)`, `[SQL
    ///    State=40001]`; except `XX000`, which all of Redshift's own errors have
    /// 2. the code of Redshift's own errors: a message that consists of a number (`ERROR: 1023 DETAIL: …`),
    ///    or the line `code:` in the block that Redshift adds
    /// 3. the first line, if it equals a known message or begins with one; some known messages contain the
    ///    name of an object. The rest of the line and later lines are ignored, because a procedure may raise
    ///    or quote any text. `RAISE EXCEPTION` always has the severity `ERROR`, and a lost connection never
    ///    does, so an `ERROR` is never a [`Connection`](Self::Connection) failure.
    ///
    /// An unrecognised text yields [`Sql`](Self::Sql), which a step retries only if its `retry` lists it.
    pub fn from_error_text(text: &str) -> Self {
        let message = Message::read(text);
        message.by_sqlstate().or_else(|| message.by_code()).unwrap_or_else(|| message.by_words())
    }
}

/// Parts of a database's message that determine the kind.
struct Message<'a> {
    /// `true` for `ERROR:`; `false` for `FATAL:`, `PANIC:`, and texts of clients, which have no severity.
    is_error: bool,
    sqlstate: Option<&'a str>,
    code: Option<u32>,
    /// The first line without severity and SQLSTATE, in lower case.
    words: String,
}

impl<'a> Message<'a> {
    fn read(text: &'a str) -> Self {
        let text = without_error_id(text.trim());
        let text = without_number(text, "statement ", " of the batch: ").unwrap_or(text);
        let text = without_driver(text).unwrap_or(text);
        let text = without_number(text, "Query #", " failed with ").unwrap_or(text);
        let (severity, rest) = severity(text);
        // A message may have several lines; the SQLSTATE follows the last one.
        let mut lines = rest.lines();
        let first = lines.next().unwrap_or_default();
        let last = lines.take_while(|line| !begins_details(line)).last().unwrap_or(first);
        let (_, sqlstate) = without_sqlstate(last);
        let words = trimmed(without_sqlstate(first).0);
        let (words, code) = match number(words) {
            Some((number, words)) => (words, Some(number)),
            None => (words, code_in_block(rest, words)),
        };
        let is_error = severity.is_some_and(|severity| severity == "ERROR");
        Self { is_error, sqlstate, code, words: words.to_ascii_lowercase() }
    }

    fn by_sqlstate(&self) -> Option<FailureKind> {
        match self.sqlstate? {
            // `XX000` does not determine the kind: Redshift's own errors have a code, and PostgreSQL's
            // internal errors are classified by their text.
            "XX000" => None,
            "40001" => Some(FailureKind::SerializationConflict),
            "40P01" => Some(FailureKind::Deadlock),
            // `57014`: a user or a timeout cancelled the query. `55P03`: a lock was not available, either at
            // once or in time.
            "57014" | "55P03" => match self.by_words() {
                FailureKind::Sql if self.sqlstate == Some("57014") => Some(FailureKind::Aborted),
                kind => Some(kind),
            },
            "57P01" | "57P02" | "57P03" | "57P05" => Some(FailureKind::Connection),
            state if state.starts_with("08") => Some(FailureKind::Connection),
            _ => Some(FailureKind::Sql),
        }
    }

    /// Classifies the codes of Redshift's own errors. Sources:
    /// `c_serial_isolation.html` in the Redshift guide (1018, 1023), awslabs/aws-lambda-redshift-loader#68
    /// (1020, `abort query`, `system requested abort`).
    fn by_code(&self) -> Option<FailureKind> {
        match self.code? {
            1018 => Some(FailureKind::ConcurrentDdl),
            1020 => Some(FailureKind::Aborted),
            1023 => Some(FailureKind::SerializationConflict),
            _ => None,
        }
    }

    fn by_words(&self) -> FailureKind {
        let words = without_query_id(without_detail(&self.words));
        TEXTS
            .iter()
            .filter(|(_, kind)| !self.is_error || *kind != FailureKind::Connection)
            .find(|(form, _)| form.fits(&words))
            .map_or(FailureKind::Sql, |(_, kind)| *kind)
    }
}

/// Known message, and how the first line is compared with it.
enum Form {
    Whole(&'static str),
    Begin(&'static str),
    /// Two texts with one name between them.
    Around(&'static str, &'static str),
}

impl Form {
    fn fits(&self, words: &str) -> bool {
        match self {
            Self::Whole(text) => words == *text,
            Self::Begin(text) => words.starts_with(text),
            Self::Around(begin, end) => {
                words.strip_prefix(begin).and_then(|rest| rest.strip_suffix(end)).is_some_and(is_name)
            }
        }
    }
}

use Form::{Around, Begin, Whole};

/// Known messages of Redshift and PostgreSQL, in lower case.
const TEXTS: [(Form, FailureKind); 30] = [
    (Begin("serializable isolation violation"), FailureKind::SerializationConflict),
    (
        Begin("could not complete because of conflict with concurrent transaction"),
        FailureKind::SerializationConflict,
    ),
    (Begin("could not serialize access due to "), FailureKind::SerializationConflict),
    (Whole("deadlock detected"), FailureKind::Deadlock),
    (Begin("could not open relation with oid "), FailureKind::ConcurrentDdl),
    (Around("table ", " dropped by concurrent transaction"), FailureKind::ConcurrentDdl),
    (Around("table ", " was concurrently dropped"), FailureKind::ConcurrentDdl),
    (Around("relation ", " was concurrently dropped"), FailureKind::ConcurrentDdl),
    (Around("role ", " was concurrently dropped"), FailureKind::ConcurrentDdl),
    (Around("database ", " was concurrently dropped"), FailureKind::ConcurrentDdl),
    (Around("tablespace ", " was concurrently dropped"), FailureKind::ConcurrentDdl),
    (Whole("tuple concurrently updated"), FailureKind::ConcurrentDdl),
    (Whole("tuple concurrently deleted"), FailureKind::ConcurrentDdl),
    (Begin("cache lookup failed for relation "), FailureKind::ConcurrentDdl),
    (Whole("canceling statement due to statement timeout"), FailureKind::StatementTimeout),
    (Whole("canceling statement due to lock timeout"), FailureKind::StatementTimeout),
    (Begin("query cancelled by wlm"), FailureKind::StatementTimeout),
    (Begin("query canceled by wlm"), FailureKind::StatementTimeout),
    (Whole("query cancelled on user's request"), FailureKind::Aborted),
    (Whole("query canceled on user's request"), FailureKind::Aborted),
    (Whole("canceling statement due to user request"), FailureKind::Aborted),
    (Begin("terminating connection"), FailureKind::Connection),
    (Begin("server closed the connection"), FailureKind::Connection),
    (Begin("could not connect to server"), FailureKind::Connection),
    (Begin("connection refused"), FailureKind::Connection),
    (Begin("connection reset"), FailureKind::Connection),
    (Begin("an i/o error occurred while sending to the backend"), FailureKind::Connection),
    (Begin("the database system is starting up"), FailureKind::Connection),
    (Begin("the database system is shutting down"), FailureKind::Connection),
    (Begin("the database system is in recovery mode"), FailureKind::Connection),
];

/// Returns `true` for a number, a word or a quoted name.
fn is_name(text: &str) -> bool {
    match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        Some(inner) => !inner.contains('"'),
        None => !text.is_empty() && !text.contains(char::is_whitespace),
    }
}

/// Removes the id that Redshift adds at the end of a message, such as
/// ` [ErrorId: 1-64da9ea9-672e60d16356d0f719974665]`.
fn without_error_id(text: &str) -> &str {
    let found = text.strip_suffix(']').and_then(|text| text.rsplit_once("[ErrorId:"));
    match found {
        Some((message, id))
            if id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b" -".contains(&byte)) =>
        {
            message.trim_end()
        }
        _ => text,
    }
}

/// Removes the details that some clients put on the first line.
fn without_detail(words: &str) -> &str {
    words.split_once(" detail:").map_or(words, |(words, _)| trimmed(words))
}

/// Removes the prefix of Redshift's JDBC driver: `[Amazon](500310) Invalid operation: `.
fn without_driver(text: &str) -> Option<&str> {
    let (code, rest) = text.strip_prefix("[Amazon](")?.split_once(") Invalid operation: ")?;
    code.bytes().all(|byte| byte.is_ascii_digit()).then_some(rest)
}

/// Removes the prefix of a statement in a batch. The Data API adds `Query #2 failed with `, and the orchestrator
/// and its Lambda handler add `statement 2 of the batch: `.
fn without_number<'a>(text: &'a str, begin: &str, end: &str) -> Option<&'a str> {
    let (number, rest) = text.strip_prefix(begin)?.split_once(end)?;
    number.bytes().all(|byte| byte.is_ascii_digit()).then_some(rest)
}

/// Splits `ERROR:  text` or `ERROR:text` at the severity.
fn severity(text: &str) -> (Option<&'static str>, &str) {
    let found = ["ERROR", "FATAL", "PANIC"].into_iter().find_map(|severity| {
        let (begin, rest) = text.split_at_checked(severity.len())?;
        let rest = rest.strip_prefix(':').filter(|_| begin.eq_ignore_ascii_case(severity))?;
        Some((Some(severity), rest.trim_start()))
    });
    found.unwrap_or((None, text))
}

/// Splits off the SQLSTATE in brackets at the end of a line.
fn without_sqlstate(line: &str) -> (&str, Option<&str>) {
    let line = trimmed(line);
    let inside = match line.as_bytes().last() {
        Some(b']') => line.rfind('['),
        Some(b')') => line.rfind('('),
        _ => None,
    };
    let found = inside.and_then(|open| {
        let bracket = &line[open + 1..line.len() - 1];
        let words = ["SQLSTATE", "SQL State"];
        let state = words.into_iter().find_map(|word| bracket.strip_prefix(word))?;
        let state = state.trim_start_matches([' ', ':', '=']);
        let is_state = state.len() == 5 && state.bytes().all(|byte| byte.is_ascii_alphanumeric());
        is_state.then_some((&line[..open], Some(state)))
    });
    found.unwrap_or((line, None))
}

fn trimmed(text: &str) -> &str {
    text.trim_end_matches([' ', '.', ';', '\t', '\r'])
}

/// Splits off the number that is the message of some of Redshift's errors: `1023`, `1023 DETAIL: …`. A number
/// followed by any other text is not a code.
fn number(words: &str) -> Option<(u32, &str)> {
    let end = words.find(|c: char| !c.is_ascii_digit()).unwrap_or(words.len());
    let rest = words[end..].trim_start();
    let details = ["DETAIL:", "Detail:", "Details:", "Serializable isolation violation"];
    let is_code = rest.is_empty() || details.iter().any(|detail| rest.starts_with(detail));
    words[..end].parse().ok().filter(|_| is_code).map(|number| (number, rest))
}

fn begins_details(line: &str) -> bool {
    const NAMES: [&str; 6] = ["detail", "details", "hint", "where", "context", "position"];
    let line = line.trim_start();
    line.starts_with("---")
        || line
            .split_once(':')
            .is_some_and(|(name, _)| NAMES.iter().any(|known| name.eq_ignore_ascii_case(known)))
}

/// Returns the code in the dashed block that Redshift adds as the detail of its own errors.
///
/// The block repeats the first line of the message. A block with another error is part of a text that a
/// procedure raised, and says nothing about that procedure.
fn code_in_block(text: &str, first: &str) -> Option<u32> {
    let mut lines = text.lines().map(str::trim);
    lines.by_ref().find(|line| line.len() > 5 && line.bytes().all(|byte| byte == b'-'))?;
    let block: Vec<_> = lines.take_while(|line| !line.starts_with("--")).collect();
    let field = |name| block.iter().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let code = field("code:").filter(|_| field("error:").map(trimmed) == Some(first))?;
    code[..code.find(|c: char| !c.is_ascii_digit()).unwrap_or(code.len())].parse().ok()
}

/// Removes the number from `query (168) cancelled on user's request`.
fn without_query_id(words: &str) -> Cow<'_, str> {
    let rest = words.strip_prefix("query (").and_then(|rest| rest.split_once(") "));
    match rest {
        Some((id, rest)) if id.bytes().all(|byte| byte.is_ascii_digit()) => format!("query {rest}").into(),
        _ => words.into(),
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Real messages from the Redshift guide, from issues (snowplow/snowplow-rdb-loader#557,
    /// estuary/connectors#5218, awslabs/aws-lambda-redshift-loader#68, dbt-labs/dbt-redshift#766), and from
    /// PostgreSQL.
    #[test]
    fn classifies_the_databases_messages() {
        use FailureKind::*;
        for (text, kind) in [
            // Messages with a code of Redshift's own errors.
            (
                "ERROR: 1023 DETAIL: Serializable isolation violation on table in Redshift DETAIL: Serializable isolation violation on table - 1234",
                SerializationConflict,
            ),
            (
                "ERROR:1023 DETAIL: Serializable isolation violation on a table in Redshift",
                SerializationConflict,
            ),
            (
                "ERROR: 1023\n  Detail: Serializable isolation violation on table - 119371",
                SerializationConflict,
            ),
            ("ERROR: 1023 (SQLSTATE XX000)", SerializationConflict),
            (
                "[Amazon](500310) Invalid operation: 1023 \nDetails: Serializable isolation violation on table - 100167, \
                 transactions forming the cycle are: 55705701, 55705754 (pid:16606);",
                SerializationConflict,
            ),
            ("Serializable isolation violation on table - 119371", SerializationConflict),
            ("ERROR: 1018 DETAIL: Relation does not exist.", ConcurrentDdl),
            (
                "ERROR: abort query\nDETAIL:\n-----------------------------------------------\n  error:  abort query\n  \
                 code:      1020\n  context:   system requested abort\n  query:     1903\n  location:  queryabort.cpp:347\n  \
                 process:   padbmaster [pid=13787]\n  -----------------------------------------------",
                Aborted,
            ),
            (
                "ERROR:  8001\nDETAIL:  The combined length of columns processed in the SQL statement\nexceeded the query-processing \
                 limit of 65535 characters (pid:7627)",
                Sql,
            ),
            (
                "ERROR:  Rate Exceeded.; Exception: TooManyRequestsException; ShouldRetry: 1\nDETAIL:\n-------------------\nerror:  \
                 Rate Exceeded.\ncode:      32103\ncontext:query:     0\n-------------------",
                Sql,
            ),
            // Messages with a SQLSTATE.
            (
                "ERROR: could not serialize access due to concurrent update [SQLSTATE 40001]",
                SerializationConflict,
            ),
            (
                "ERROR: 1023 Serializable isolation violation: could not serialize access due to concurrent update [SQLSTATE 40001]",
                SerializationConflict,
            ),
            ("ERROR: die Transaktion wurde abgebrochen (SQLSTATE 40P01)", Deadlock),
            ("ERROR: permission denied for relation test [SQL State=42501]", Sql),
            ("ERROR: canceling statement due to statement timeout [SQLSTATE 57014]", StatementTimeout),
            ("ERROR: canceling statement due to user request [SQLSTATE 57014]", Aborted),
            ("ERROR: Long-running query [SQLSTATE 57014]", Aborted),
            ("ERROR: canceling statement due to lock timeout [SQLSTATE 55P03]", StatementTimeout),
            ("ERROR: could not obtain lock on relation \"sales\" [SQLSTATE 55P03]", Sql),
            ("FATAL: terminating connection due to administrator command [SQLSTATE 57P01]", Connection),
            ("ERROR: could not open relation with OID 108340 [SQLSTATE XX000]", ConcurrentDdl),
            // Messages that are recognised by their first line.
            ("ERROR: could not serialize access due to concurrent update", SerializationConflict),
            ("could not complete because of conflict with concurrent transaction", SerializationConflict),
            ("ERROR: deadlock detected\n  Detail: Process 1 waits for AccessExclusiveLock.", Deadlock),
            ("Query #11 failed with ERROR: deadlock detected", Deadlock),
            ("statement 2 of the batch: ERROR: deadlock detected", Deadlock),
            ("statement two of the batch: ERROR: deadlock detected", Sql),
            ("ERROR: could not open relation with OID 108340", ConcurrentDdl),
            ("ERROR: table 108340 dropped by concurrent transaction", ConcurrentDdl),
            ("ERROR: canceling statement due to statement timeout", StatementTimeout),
            (
                "ERROR: Query (42) cancelled by WLM abort action of Query Monitoring Rule \"long\".",
                StatementTimeout,
            ),
            ("ERROR:  Query (168) cancelled on user's request", Aborted),
            ("ERROR: Query cancelled on user's request.", Aborted),
            ("ERROR: canceling statement due to user request", Aborted),
            ("FATAL: terminating connection due to administrator command", Connection),
            ("FATAL:  the database system is starting up", Connection),
            (
                "server closed the connection unexpectedly\n\tThis probably means the server terminated abnormally",
                Connection,
            ),
            (
                "Connection refused. Check that the hostname and port are correct and that the postmaster is accepting TCP/IP \
                 connections.",
                Connection,
            ),
            ("ERROR: relation \"sales\" does not exist", Sql),
            ("", Sql),
            // Messages with Redshift's error id at the end.
            ("ERROR: deadlock detected [ErrorId: 1-64da9ea9-672e60d16356d0f719974665]", Deadlock),
            (
                "ERROR: Query (168) cancelled on user's request [ErrorId: 1-64da9ea9-672e60d16356d0f719974665]",
                Aborted,
            ),
            ("ERROR: table 108340 dropped by concurrent transaction [ErrorId: 1-64da9ea9]", ConcurrentDdl),
            ("ERROR: 1023 [ErrorId: 1-64da9ea9]", SerializationConflict),
            ("ERROR: no such row [SQLSTATE 40001] [ErrorId: 1-64da9ea9]", SerializationConflict),
            (
                "ERROR: 1023\n  Detail: Serializable isolation violation on table - 119371\n  [ErrorId: 1-64da9ea9]",
                SerializationConflict,
            ),
            ("ERROR: column \"foo\" of relation \"statement\" already exists [ErrorId: 1-64da9ea9]", Sql),
            ("ERROR: deadlock detected Detail: Process 1 waits for AccessExclusiveLock.", Deadlock),
            ("ERROR: role 16384 was concurrently dropped", ConcurrentDdl),
            ("ERROR: relation \"my sales\" was concurrently dropped", ConcurrentDdl),
        ] {
            assert_eq!(FailureKind::from_error_text(text), kind, "{text}");
        }
    }

    /// Regression: a procedure raised or quoted a message with a known text in it. The message was classified
    /// by that text, and the step was retried.
    #[test]
    fn words_within_a_message_do_not_classify_it() {
        for text in [
            "ERROR: upstream said: connection refused",
            "ERROR: upstream said: connection refused [SQLSTATE P0001]\n  Where: PL/pgSQL function load() line 3 at RAISE",
            "ERROR: connection refused",
            "ERROR: connection refused by the partner [SQLSTATE P0001]",
            "ERROR: deadlock detected [SQLSTATE P0001]",
            "ERROR: deadlock detected\nin the other system [SQLSTATE P0001]\n  Where: PL/pgSQL function load() line 3 at RAISE",
            "ERROR: no deadlock detected, and yet: 3 rows are missing",
            "ERROR: 1023 rows were rejected",
            "ERROR: order 1023",
            "ERROR: value (40001) is out of range",
            "ERROR: the partner failed with SQLSTATE 40001 at 06:30",
            "ERROR: invalid input syntax for integer: \"deadlock detected\"",
            "ERROR: relation \"canceling statement due to user request\" does not exist",
            "ERROR: column \"x\" does not exist\n  Hint: could not serialize access due to concurrent update",
            "ERROR: bad row\nDETAIL: code: 1023",
            "ERROR: the partner's load failed:\n  -----------------------------------------------\n  error:  Serializable isolation \
             violation on table - 1\n  code:      1023\n  -----------------------------------------------",
            "ERROR: the partner's load failed\nDETAIL:\n-------\n  code:  1023\n-------",
            "ERROR: Query (1; terminating connection) cancelled on user's request",
            "ERROR: upstream said: relation 7 was concurrently dropped",
            "ERROR: table loader said: x dropped by concurrent transaction",
            "ERROR: relation \"a\" in the file \"b\" was concurrently dropped",
            "ERROR: upstream said: deadlock detected [ErrorId: 1-64da9ea9]",
            "ERROR: order 7 [ErrorId: see deadlock detected]",
        ] {
            assert_eq!(FailureKind::from_error_text(text), FailureKind::Sql, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_has_a_kind(text in "\\PC{0,60}(\\[SQLSTATE [0-9A-Zä]{4,5}[\\])]|\n-----*\ncode: [0-9ä]{0,12})?") {
            let _ = FailureKind::from_error_text(&text);
        }
    }

    #[test]
    fn names_are_equal_in_files_and_reports() {
        for kind in FailureKind::ALL {
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
        }
    }
}
