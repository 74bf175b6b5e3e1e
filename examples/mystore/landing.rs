//! Prepares the warehouse before the day begins: creates the tables and procedures, and loads all rows that
//! the sources will ever deliver, in one transaction. The landing tables play the role of raw files that
//! Spectrum would expose. A cycle processes the rows that landed before its end. No data is transferred while
//! the cycles run, and after a crash the warehouse is either empty or completely prepared.

use std::{fmt::Display, io::Cursor, pin::pin};

use anyhow::{Context, Result, anyhow};
use futures::SinkExt;
use tokio_postgres::Client;

use crate::changes::{Changes, Cycle};

/// SQL files in the order in which a Redshift user would run them.
const SCRIPTS: [(&str, &str); 4] = [
    ("tables.sql", include_str!("sql/tables.sql")),
    ("stage.sql", include_str!("sql/stage.sql")),
    ("dimensions.sql", include_str!("sql/dimensions.sql")),
    ("facts.sql", include_str!("sql/facts.sql")),
];

/// Creates the table that records the run to which the database belongs.
const DELIVERY: &str = "CREATE TABLE IF NOT EXISTS landing.delivery (run_id VARCHAR(64) NOT NULL)";

/// Returns the names of the procedures, including their schema.
pub(crate) fn procedures() -> Vec<&'static str> {
    let create = "CREATE OR REPLACE PROCEDURE ";
    let name = |after: &'static str| after.split('(').next().unwrap_or_default();
    SCRIPTS.iter().flat_map(|(_, script)| script.split(create).skip(1).map(name)).collect()
}

/// Returns the id of the run to which the database belongs, if any.
pub(crate) async fn owner(client: &Client) -> Result<Option<String>> {
    let known = client.query_one("SELECT TO_REGCLASS('landing.delivery') IS NOT NULL", &[]).await?;
    if !known.get::<_, bool>(0) {
        return Ok(None);
    }
    let row = client.query_opt("SELECT run_id FROM landing.delivery", &[]).await?;
    Ok(row.map(|row| row.get(0)))
}

/// Returns the error for a database that belongs to another run.
pub(crate) fn occupied(owner: &str) -> anyhow::Error {
    anyhow!(
        "the database belongs to another run of MyStore ({owner}); continue in that run's directory, or drop the schemas landing, \
         work and mystore"
    )
}

/// Prepares the warehouse for the run, unless that has been done.
///
/// # Errors
/// Fails without changing anything if the database belongs to another run.
pub(crate) async fn prepare(client: &mut Client, run_id: &str, changes: &Changes) -> Result<()> {
    match owner(client).await? {
        Some(owner) if owner == run_id => return Ok(()),
        Some(owner) => return Err(occupied(&owner)),
        None => {}
    }
    let transaction = client.transaction().await?;
    for (name, script) in SCRIPTS {
        transaction.batch_execute(script).await.with_context(|| format!("running sql/{name}"))?;
    }
    for table in tables(changes) {
        let sink = transaction
            .copy_in::<_, Cursor<Vec<u8>>>(&format!("COPY landing.{} FROM STDIN", table.name))
            .await?;
        let mut sink = pin!(sink);
        for piece in table.pieces {
            sink.send(Cursor::new(piece.0.into_bytes())).await?;
        }
        sink.finish().await.with_context(|| format!("loading landing.{}", table.name))?;
    }
    transaction.batch_execute(DELIVERY).await?;
    transaction.execute("INSERT INTO landing.delivery VALUES ($1)", &[&run_id]).await?;
    transaction.commit().await?;
    Ok(())
}

/// Counts the rows that [`prepare`] loads.
pub(crate) fn rows(changes: &Changes) -> u64 {
    changes.days.len() as u64 + changes.cycles.iter().map(Cycle::rows).sum::<u64>()
}

struct Delivery<'a> {
    name: &'static str,
    pieces: Box<dyn Iterator<Item = Lines> + Send + 'a>,
}

fn tables(changes: &Changes) -> [Delivery<'_>; 6] {
    fn by_cycle<'a>(
        changes: &'a Changes,
        name: &'static str,
        write: impl Fn(&'a Cycle, &mut Lines) + Send + 'a,
    ) -> Delivery<'a> {
        let pieces = changes.cycles.iter().map(move |cycle| {
            let mut lines = Lines::default();
            write(cycle, &mut lines);
            lines
        });
        Delivery { name, pieces: Box::new(pieces) }
    }
    [
        by_cycle(changes, "customer", |cycle, lines| {
            for change in &cycle.customers {
                let row = &change.row;
                lines
                    .value(cycle.until)
                    .value(change.deleted)
                    .value(change.at)
                    .value(row.id)
                    .text(row.salutation.as_ref())
                    .text(row.first_name.as_ref())
                    .text(row.last_name.as_ref())
                    .value(row.preferred)
                    .text(row.birth_country.as_ref())
                    .text(row.email.as_ref())
                    .value(row.address_id)
                    .end();
            }
        }),
        by_cycle(changes, "address", |cycle, lines| {
            for change in &cycle.addresses {
                let row = &change.row;
                lines
                    .value(cycle.until)
                    .value(change.deleted)
                    .value(change.at)
                    .value(row.id)
                    .text(row.street.as_ref())
                    .text(row.city.as_ref())
                    .text(row.county.as_ref())
                    .text(row.state.as_ref())
                    .text(row.zip.as_ref())
                    .text(row.country.as_ref())
                    .text(row.location_type.as_ref())
                    .end();
            }
        }),
        by_cycle(changes, "item", |cycle, lines| {
            for row in &cycle.items {
                lines
                    .value(cycle.until)
                    .value(row.id)
                    .text(row.name.as_ref())
                    .text(row.brand.as_ref())
                    .text(row.category.as_ref())
                    .text(row.price)
                    .end();
            }
        }),
        by_cycle(changes, "store", |cycle, lines| {
            for row in &cycle.stores {
                lines
                    .value(cycle.until)
                    .value(row.id)
                    .text(row.name.as_ref())
                    .text(row.city.as_ref())
                    .text(row.state.as_ref())
                    .text(row.floor_space)
                    .end();
            }
        }),
        by_cycle(changes, "day", |cycle, lines| {
            for day in changes.days.iter().filter(|_| cycle.number == 0) {
                lines
                    .value(cycle.until)
                    .value(day.date)
                    .value(&day.name)
                    .value(&day.quarter)
                    .value(day.holiday)
                    .end();
            }
        }),
        by_cycle(changes, "sale", |cycle, lines| {
            for row in &cycle.sales {
                lines
                    .value(cycle.until)
                    .value(row.ticket)
                    .value(row.item_id)
                    .text(row.customer_id)
                    .text(row.store_id)
                    .value(row.sold_at)
                    .value(row.quantity)
                    .value(row.net_paid)
                    .value(row.net_profit)
                    .end();
            }
        }),
    ]
}

/// Rows in COPY's text format: columns separated by tabs, and `\N` for NULL.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn value(&mut self, value: impl Display) -> &mut Self {
        self.text(Some(value))
    }

    fn text(&mut self, value: Option<impl Display>) -> &mut Self {
        match value {
            None => self.0.push_str("\\N"),
            Some(value) => {
                let begin = self.0.len();
                // Writing to a String cannot fail.
                let _ = std::fmt::Write::write_fmt(&mut self.0, format_args!("{value}"));
                if self.0[begin..].contains(['\\', '\t', '\n', '\r']) {
                    let escaped = self.0[begin..]
                        .replace('\\', "\\\\")
                        .replace('\t', "\\t")
                        .replace('\n', "\\n")
                        .replace('\r', "\\r");
                    self.0.replace_range(begin.., &escaped);
                }
            }
        }
        self.0.push('\t');
        self
    }

    fn end(&mut self) {
        self.0.pop();
        self.0.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_procedures_are_listed_from_the_scripts() {
        let procedures = procedures();
        assert_eq!(procedures.len(), 12);
        assert!(procedures.contains(&"mystore.load_customer"));
    }

    #[test]
    fn null_differs_from_empty_text_and_separators_are_escaped() {
        let mut lines = Lines::default();
        lines.value(1).text(None::<&str>).text(Some("")).text(Some("a\tb\\c\nd")).end();
        assert_eq!(lines.0, "1\t\\N\t\ta\\tb\\\\c\\nd\n");
    }
}
