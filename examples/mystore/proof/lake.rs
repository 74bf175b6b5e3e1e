//! Checks the lake: its current contents, and reads as of earlier commits.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use arrow::array::RecordBatch;
use futures::TryStreamExt;
use hudi_scd::{ErrorKind, Instant, Query, Table};

use super::{Proof, Row, expected};
use crate::{
    changes::Changes,
    domain::Sale,
    lake::{
        COMMITS_RETAINED, Lake, Place, VERSIONS_ALLOWED,
        batch::{self, texts_of},
    },
    model::{Kept, Model},
    record::CycleRecord,
};

pub(super) async fn check(
    proof: &mut Proof,
    changes: &Changes,
    model: &Model<'_>,
    cycles: &[CycleRecord],
    lake: &Lake,
) -> Result<()> {
    let found = read(&lake.customers, Query::snapshot()).await?;
    deleted(proof, "lake: deleted keys of store_customer", "customer_id", model.customers.deleted(), &found);
    proof.rows("lake: latest rows of store_customer", expected::customers(&model.customers), found);
    let found = read(&lake.addresses, Query::snapshot()).await?;
    deleted(
        proof,
        "lake: deleted keys of store_customer_address",
        "address_id",
        model.addresses.deleted(),
        &found,
    );
    proof.rows("lake: latest rows of store_customer_address", expected::addresses(&model.addresses), found);
    let found = Row::named(&["customer_id", "valid_from"], texts_of(&lake.history.rows().await?));
    proof.rows("lake: history intervals of store_customer_history", expected::history(model), found);

    for table in lake.tables() {
        versions(proof, table, &lake.place).await?;
        let findings = table.validate().await?;
        proof.holds(
            &format!("lake: invariants of the Hudi format in {}", table.name()),
            1,
            findings.first().map(|finding| finding.to_string()),
        );
    }
    for (name, table) in [("store_customer", &lake.customers), ("store_customer_address", &lake.addresses)] {
        time_travel(proof, name, table, changes, cycles).await?;
    }
    lookups(proof, model, cycles);
    sale_by_sale(proof, model, changes, lake).await
}

async fn read(table: &Table, query: Query) -> Result<Vec<Row>> {
    let batches = table.read(query).await?;
    let key: Vec<_> = table.record_key_fields().iter().map(String::as_str).collect();
    Ok(Row::named(&key, batches.iter().flat_map(|batch: &RecordBatch| texts_of(batch)).collect()))
}

fn deleted(proof: &mut Proof, name: &str, key: &str, keys: impl Iterator<Item = i64>, found: &[Row]) {
    let found: BTreeSet<&str> = found.iter().map(|row| row.key.as_str()).collect();
    let keys: Vec<_> = keys.map(|id| format!("{key} {id}")).collect();
    let there = keys.iter().find(|key| found.contains(key.as_str()));
    proof.holds(
        name,
        keys.len() as u64,
        there.map(|key| format!("the row {key} was deleted but still exists")),
    );
}

/// Counts the stored files, because these are what storage costs depend on. The name of a base file is
/// `{file group}_{write token}_{instant}.parquet`.
async fn versions(proof: &mut Proof, table: &Table, place: &Place) -> Result<()> {
    let mut files: BTreeMap<String, u64> = BTreeMap::new();
    let mut stored = place.store.list(Some(table.root()));
    while let Some(file) = stored.try_next().await? {
        let below = file.location.prefix_match(table.root());
        let is_metadata = below.into_iter().flatten().any(|part| part.as_ref().starts_with('.'));
        let name = file.location.filename().filter(|name| !is_metadata && name.ends_with(".parquet"));
        if let Some((group, _)) = name.and_then(|name| name.split_once('_')) {
            *files.entry(group.to_owned()).or_default() += 1;
        }
    }
    let most = files.iter().max_by_key(|(_, versions)| **versions);
    let too_many = most.filter(|(_, versions)| **versions > VERSIONS_ALLOWED);
    proof.holds(
        &format!("lake: at most {VERSIONS_ALLOWED} versions per file group of {} in storage", table.name()),
        files.len() as u64,
        too_many.map(|(group, versions)| format!("file group {group} has {versions}")),
    );
    Ok(())
}

/// Reads the table as of the commit of each cycle. For a retained commit the rows must be correct, and for an
/// older commit the read must fail. The number of readable commits must be exactly the number of retained
/// commits.
async fn time_travel(
    proof: &mut Proof,
    name: &str,
    table: &Table,
    changes: &Changes,
    cycles: &[CycleRecord],
) -> Result<()> {
    let earliest = table.earliest_instant().await?;
    let (mut inside, mut outside) = (BTreeSet::new(), BTreeSet::new());
    let mut compared = 0;
    let (mut wrong_inside, mut wrong_outside) = (None, None);
    for record in cycles {
        let recorded = record.tables.iter().find(|table| table.name == name);
        let recorded = recorded.with_context(|| format!("cycle {} has no record of {name}", record.cycle))?;
        let instant: Instant = recorded.instant.parse()?;
        if earliest.is_some_and(|earliest| instant < earliest) {
            outside.insert(instant);
            match table.read(Query::as_of(instant)).await {
                Err(error) if error.kind() == ErrorKind::OutsideRetention => {}
                Err(error) => return Err(error).with_context(|| format!("reading {name} as of {instant}")),
                Ok(_) => {
                    wrong_outside = wrong_outside.or_else(|| {
                        Some(format!("cycle {} ({instant}) is not retained but could be read", record.cycle))
                    });
                }
            }
            continue;
        }
        inside.insert(instant);
        let until = &changes.cycles[..=record.cycle as usize];
        let rows = if name == "store_customer" {
            expected::customers(&Kept::of(until.iter().flat_map(|cycle| &cycle.customers)))
        } else {
            expected::addresses(&Kept::of(until.iter().flat_map(|cycle| &cycle.addresses)))
        };
        match super::compare(rows, read(table, Query::as_of(instant)).await?) {
            Ok(values) => compared += values,
            Err(difference) => {
                wrong_inside = wrong_inside
                    .or_else(|| Some(format!("as of cycle {} ({instant}), {difference}", record.cycle)));
            }
        }
    }
    // A cycle that did not change the table created no commit.
    let commits = inside.len() + outside.len();
    let must = commits.min(COMMITS_RETAINED);
    let miscounted = (inside.len() != must)
        .then(|| format!("{} of {commits} commits are readable, expected {must}", inside.len()));
    proof.holds(
        &format!("lake: {name} as of the {must} newest of {commits} commits, which are retained"),
        compared,
        wrong_inside.or(miscounted),
    );
    if commits > must {
        // `outside` is not empty: otherwise too many commits would be readable, and the check above would
        // have failed.
        proof.holds(
            &format!("lake: {name} as of the {} commits before them is an error", commits - must),
            outside.len() as u64,
            wrong_outside,
        );
    }
    Ok(())
}

fn lookups(proof: &mut Proof, model: &Model<'_>, cycles: &[CycleRecord]) {
    let row = |cycle: usize, matches: crate::model::Matches| {
        Row::new(format!("cycle {cycle}"))
            .with("sales", matches.sales)
            .with("latest", matches.latest)
            .with("as_of_sale", matches.as_of_sale)
    };
    let expected = model.lookups.iter().enumerate().map(|(cycle, matches)| row(cycle, *matches)).collect();
    let found = cycles.iter().map(|record| row(record.cycle as usize, record.lookups.matches)).collect();
    proof.rows("lake: matches of each cycle's lookups", expected, found);
}

/// Looks up all sales of the day in the final history.
async fn sale_by_sale(proof: &mut Proof, model: &Model<'_>, changes: &Changes, lake: &Lake) -> Result<()> {
    let sales: Vec<Sale> =
        changes.cycles.iter().skip(1).flat_map(|cycle| cycle.sales.iter().cloned()).collect();
    let lookup = lake.as_of_sale(&batch::sales(&sales)).await?;
    let columns = ["ticket_number", "item_id", "is_preferred", "address_id"];
    let places: Vec<usize> =
        columns.iter().filter_map(|name| lookup.rows.schema().index_of(name).ok()).collect();
    let found = Row::named(&columns[..2], texts_of(&lookup.rows.project(&places)?));
    let expected = sales
        .iter()
        .map(|sale| {
            let state = sale.customer_id.and_then(|id| model.customers.state_at(id, sale.sold_at));
            let text = |value: Option<String>| value;
            Row::new(format!("ticket_number {}, item_id {}", sale.ticket, sale.item_id))
                .with_text(
                    "is_preferred",
                    text(state.map(|change| change.row.preferred.to_string())).as_ref(),
                )
                .with_text("address_id", text(state.map(|change| change.row.address_id.to_string())).as_ref())
        })
        .collect();
    proof.rows("lake: the customer row that was valid at each sale of the day", expected, found);
    Ok(())
}
