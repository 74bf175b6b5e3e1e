//! The commands, one module each.

#[cfg(feature = "glue")]
mod catalog;
mod create;
mod inspect;
mod keys;
mod maintain;
mod read;
mod spark;
mod write;

use std::io::Write;

use serde_json::Value;

use super::{
    Context,
    args::{Command, InstantArg},
    failure::Failure,
    location::Location,
    output,
};
use hudi_scd::{Error, ErrorKind, Instant, Table, TableOptions};

/// Runs a command.
pub(super) async fn run(context: Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Create(args) => create::run(context, *args).await,
        Command::Upsert(args) => {
            write::run(context, args.write, write::Kind::Upsert, args.operation_column).await
        }
        Command::Insert(args) => write::run(context, args, write::Kind::Insert, None).await,
        Command::BulkInsert(args) => write::run(context, args, write::Kind::BulkInsert, None).await,
        Command::InsertOverwrite(args) => {
            let whole = args.whole_table;
            write::run(context, args.write, write::Kind::InsertOverwrite { whole }, None).await
        }
        Command::Delete(args) => write::delete(context, args).await,
        Command::Read(args) => read::run(context, args).await,
        Command::History(args) => keys::history(context, args).await,
        Command::Lookup(args) => keys::lookup(context, args).await,
        Command::Timeline(args) => inspect::timeline(context, args).await,
        Command::Show(args) => inspect::show(context, args).await,
        Command::Validate(args) => inspect::validate(context, args).await,
        Command::Clean(args) => maintain::clean(context, args).await,
        Command::Archive(args) => maintain::archive(context, args).await,
        Command::Rollback(args) => maintain::rollback(context, args).await,
        Command::Savepoint(args) => maintain::savepoint(context, args).await,
        Command::Upgrade(args) => maintain::upgrade(context, args).await,
        Command::Spark(command) => spark::run(context, command).await,
        #[cfg(feature = "glue")]
        Command::Catalog(command) => catalog::run(context, command).await,
    }
}

/// Opens the table that the command line names. Later errors name it too.
async fn open(context: Context, text: &str, options: TableOptions) -> Result<(Location, Table), Failure> {
    let location = Location::parse(text)?;
    let opened = location.open(options.with_cancellation(context.cancellation.clone())).await;
    let table = opened.map_err(|error| {
        let error = match error.kind() {
            ErrorKind::NotFound => error.with_context("hint", "create one with `hudi-scd create`"),
            _ => error,
        };
        Failure::from(error).of(&location)
    })?;
    Ok((location, table))
}

/// Converts an instant of the command line to the table's time zone.
fn instant(table: &Table, given: InstantArg) -> Result<Instant, Failure> {
    let zone = table.time_zone();
    match given {
        InstantArg::Digits(instant) => Ok(instant),
        InstantArg::Time(time) => Ok(Instant::from_timestamp(time, zone)),
        // A time without a zone is in UTC, as everywhere in this program.
        InstantArg::Clock(time) => match jiff::tz::TimeZone::UTC.to_timestamp(time) {
            Ok(time) => Ok(Instant::from_timestamp(time, zone)),
            Err(cause) => Err(Error::new(ErrorKind::InvalidInput, "the time is out of range")
                .with_context("instant", time)
                .with_source(cause)
                .into()),
        },
    }
}

/// Prints the result of a command: text, or one JSON object.
fn tell(context: Context, text: impl std::fmt::Display, report: Value) -> Result<(), Failure> {
    let mut out = output::stdout();
    if context.json {
        writeln!(out, "{report}")?;
    } else {
        writeln!(out, "{text}")?;
    }
    Ok(out.flush()?)
}
