//! Converts PostgreSQL's errors to the error texts of failed statements and to the errors of requests.

use std::{error::Error as _, fmt::Write};

use tokio_postgres::{
    Config,
    config::Host,
    error::{DbError, SqlState},
};

use super::dialect;
use redshift_orchestrator::{Error, ErrorKind};

/// Returns the error text of a failed statement: the server's message as Redshift's drivers print it, with
/// the SQLSTATE.
///
/// A serialization conflict gets the number 1023, which Redshift uses for it and which users and programs
/// search for.
pub(super) fn text(error: &DbError) -> String {
    if let Some(refused) = missing(error).and_then(dialect::refusal_of_missing) {
        return refused;
    }
    let mut text = format!("{}: ", error.severity());
    if *error.code() == SqlState::T_R_SERIALIZATION_FAILURE {
        text.push_str("1023 Serializable isolation violation: ");
    }
    // Writing to a String cannot fail.
    let _ = write!(text, "{} [SQLSTATE {}]", error.message(), error.code().code());
    for (name, part) in [("Detail", error.detail()), ("Hint", error.hint()), ("Where", error.where_())] {
        // Omits the context lines of the internal functions that column checks call.
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

/// Returns the name of the missing table or function, from messages such as `relation "x" does not exist` and
/// `function x(integer) does not exist`.
fn missing(error: &DbError) -> Option<&str> {
    let message = error.message();
    match *error.code() {
        SqlState::UNDEFINED_TABLE => message.split('"').nth(1),
        SqlState::UNDEFINED_FUNCTION => message.strip_prefix("function ")?.split('(').next(),
        _ => None,
    }
}

/// Returns the server's error that caused `error`. Returns `error` itself if it has another cause.
pub(super) fn refusal(error: Error) -> Result<Box<DbError>, Error> {
    let source = error.source().and_then(|source| source.downcast_ref::<tokio_postgres::Error>());
    match source.and_then(tokio_postgres::Error::as_db_error) {
        Some(refusal) => Ok(Box::new(refusal.clone())),
        None => Err(error),
    }
}

/// Returns `true` if the statement must run outside a transaction, because it ends transactions or cannot run
/// in one.
pub(super) fn wants_no_transaction(error: &DbError) -> bool {
    *error.code() == SqlState::INVALID_TRANSACTION_TERMINATION
        || *error.code() == SqlState::ACTIVE_SQL_TRANSACTION
}

/// Returns `true` if the statement was cancelled. PostgreSQL reports a timeout with the same SQLSTATE.
pub(super) fn is_cancel(error: &DbError) -> bool {
    *error.code() == SqlState::QUERY_CANCELED && !error.message().contains("timeout")
}

/// Returns the error of a failed connection. It contains the address but not the password.
pub(super) fn unreachable(config: &Config, error: tokio_postgres::Error) -> Error {
    let message = match error.as_db_error() {
        Some(refusal) => format!("the database rejected the connection: {}", refusal.message()),
        None => "the database cannot be reached".to_owned(),
    };
    Error::new(ErrorKind::DatabaseUnreachable, message)
        .with_context("database", config.get_dbname().unwrap_or("(default)"))
        .with_context("host", addresses(config))
        .with_source(error)
}

/// Returns the addresses of the server, separated by commas: `127.0.0.1:5432`, or the directory of a socket.
pub(super) fn addresses(config: &Config) -> String {
    let ports = config.get_ports();
    // The driver uses a single port for all hosts, or one port for each.
    let port = |index: usize| ports.get(index).or(ports.first()).copied().unwrap_or(5432);
    let name = |host: &Host| match host {
        Host::Tcp(name) => name.clone(),
        #[cfg(unix)]
        Host::Unix(directory) => directory.display().to_string(),
    };
    let mut hosts: Vec<_> = config.get_hosts().iter().map(name).collect();
    if hosts.is_empty() {
        hosts = config.get_hostaddrs().iter().map(ToString::to_string).collect();
    }
    let addresses = hosts.iter().enumerate().map(|(index, host)| match host.contains(':') {
        true => format!("[{host}]:{}", port(index)),
        false => format!("{host}:{}", port(index)),
    });
    addresses.collect::<Vec<_>>().join(",")
}

/// Returns the error of a failed catalog query.
pub(super) fn catalog(error: tokio_postgres::Error) -> Error {
    let message = match error.as_db_error() {
        Some(refusal) => text(refusal),
        None => "the connection to the database was lost".to_owned(),
    };
    Error::new(ErrorKind::DatabaseUnreachable, message).with_source(error)
}

/// Returns the error of a failed query on the records. If the connection was lost, the query may have taken
/// effect.
pub(super) fn records(error: tokio_postgres::Error) -> Error {
    match error.as_db_error() {
        // The request contains a character that the database does not accept, such as NUL.
        Some(refusal) if refusal.code().code().starts_with("22") => {
            Error::new(ErrorKind::Invalid, refusal.message())
        }
        Some(refusal) => Error::new(
            ErrorKind::Other,
            format!(
                "the database could not store the record: {} [SQLSTATE {}]",
                refusal.message(),
                refusal.code().code()
            ),
        ),
        None => Error::new(ErrorKind::Disconnected, "the connection to the database was lost"),
    }
    .with_source(error)
}
