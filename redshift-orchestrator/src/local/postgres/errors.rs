//! What PostgreSQL's errors are called, as the text of a failed statement and as an error of a call.

use std::{error::Error as _, fmt::Write};

use tokio_postgres::{
    Config,
    error::{DbError, SqlState},
};

use super::dialect;
use crate::{Error, ErrorKind};

/// The text of a failed statement: the server's, as drivers for Redshift print it, with the SQLSTATE.
///
/// Redshift numbers a serialization conflict 1023, and people and programs look for that.
pub(super) fn text(error: &DbError) -> String {
    if let Some(refused) = missing(error).and_then(dialect::refusal_of_missing) {
        return refused;
    }
    let mut text = format!("{}: ", error.severity());
    if *error.code() == SqlState::T_R_SERIALIZATION_FAILURE {
        text.push_str("1023 Serializable isolation violation: ");
    }
    // Writing to a String does not fail.
    let _ = write!(text, "{} [SQLSTATE {}]", error.message(), error.code().code());
    for (name, part) in [("Detail", error.detail()), ("Hint", error.hint()), ("Where", error.where_())] {
        // The functions that a check calls are not the user's.
        let part =
            part.map(|part| part.lines().filter(|line| !is_of_check(line)).collect::<Vec<_>>().join("\n"));
        if let Some(part) = part.filter(|part| !part.is_empty()) {
            let _ = write!(text, "\n  {name}: {part}");
        }
    }
    text
}

fn is_of_check(line: &str) -> bool {
    line.starts_with("PL/pgSQL function ") && (line.contains(".too_long(") || line.contains(".not_ascii("))
}

/// The name of the table or function that the server does not have: `relation "x" does not exist`, `function x(integer) does not exist`.
fn missing(error: &DbError) -> Option<&str> {
    let message = error.message();
    match *error.code() {
        SqlState::UNDEFINED_TABLE => message.split('"').nth(1),
        SqlState::UNDEFINED_FUNCTION => message.strip_prefix("function ")?.split('(').next(),
        _ => None,
    }
}

/// What the server said no with, if it was the server that did.
pub(super) fn refusal(error: Error) -> Result<Box<DbError>, Error> {
    let source = error.source().and_then(|source| source.downcast_ref::<tokio_postgres::Error>());
    match source.and_then(tokio_postgres::Error::as_db_error) {
        Some(refusal) => Ok(Box::new(refusal.clone())),
        None => Err(error),
    }
}

/// Whether a statement that met this needs to run outside of a transaction: it commits itself, or forbids one.
pub(super) fn wants_no_transaction(error: &DbError) -> bool {
    *error.code() == SqlState::INVALID_TRANSACTION_TERMINATION
        || *error.code() == SqlState::ACTIVE_SQL_TRANSACTION
}

/// Whether somebody cancelled the statement (and not a timeout).
pub(super) fn is_cancel(error: &DbError) -> bool {
    *error.code() == SqlState::QUERY_CANCELED && !error.message().contains("timeout")
}

/// No connection. The address is told, the password is not.
pub(super) fn unreachable(config: &Config, error: tokio_postgres::Error) -> Error {
    let message = match error.as_db_error() {
        Some(refusal) => format!("the database refused the connection: {}", refusal.message()),
        None => "the database cannot be reached".to_owned(),
    };
    let hosts: Vec<_> = config.get_hosts().iter().map(|host| format!("{host:?}")).collect();
    Error::new(ErrorKind::Database, message)
        .with_context("database", config.get_dbname().unwrap_or("(default)"))
        .with_context("host", hosts.join(" "))
        .with_source(error)
}

/// A question about the server's catalog failed; nothing was to take effect.
pub(super) fn catalog(error: tokio_postgres::Error) -> Error {
    let message = match error.as_db_error() {
        Some(refusal) => text(refusal),
        None => "the connection to the database was lost".to_owned(),
    };
    Error::new(ErrorKind::Database, message).with_source(error)
}

/// A request about the records failed. If the connection broke, what was asked for may have been done.
pub(super) fn records(error: tokio_postgres::Error) -> Error {
    match error.as_db_error() {
        Some(refusal) => Error::new(
            ErrorKind::Other,
            format!(
                "the database refused to keep the record: {} [SQLSTATE {}]",
                refusal.message(),
                refusal.code().code()
            ),
        ),
        None => Error::new(ErrorKind::Disconnected, "the connection to the database was lost"),
    }
    .with_source(error)
}
