//! Checks the contents of the warehouse.

use anyhow::Result;
use jiff::Timestamp;

use super::{
    Proof, Row, compare,
    expected::{address_columns, customer_columns},
};
use crate::{
    changes::Changes,
    domain::Sale,
    lake::batch::iso,
    model::{Model, Totals, tracked},
    warehouse::Warehouse,
};

/// Format for `TO_CHAR` that matches the model's times.
const TIME: &str = r#"'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'"#;
/// `valid_to` of an open interval.
const FOREVER: &str = "9999-12-31T00:00:00.000000Z";

pub(super) async fn check(
    proof: &mut Proof,
    model: &Model<'_>,
    changes: &Changes,
    warehouse: &Warehouse,
) -> Result<()> {
    let found = rows(warehouse, CUSTOMERS, 2).await?;
    proof.rows("warehouse: history intervals of dim_customer", customers(model), found);
    let found = rows(warehouse, ADDRESSES, 1).await?;
    proof.rows("warehouse: latest rows and deleted keys of dim_address", addresses(model), found);
    let found = rows(warehouse, ITEMS, 1).await?;
    proof.rows("warehouse: dim_item", items(model), found);
    let found = rows(warehouse, STORES, 1).await?;
    proof.rows("warehouse: dim_store", stores(model), found);
    let found = rows(warehouse, DAYS, 1).await?;
    proof.rows("warehouse: dim_date", days(changes), found);
    if proof.failure.is_none() {
        facts(proof, model, warehouse).await?;
    }
    let found = rows(warehouse, STORE_DAYS, 2).await?;
    proof.rows("warehouse: count and sums by store and day", store_days(model), found);
    let found = rows(warehouse, AUDIT, 2).await?;
    proof.rows("warehouse: one audit row per procedure and cycle", audit(model, changes), found);
    let found = rows(warehouse, HIGH_WATER, 1).await?;
    proof.rows("warehouse: high-water marks", high_water(changes), found);
    Ok(())
}

/// Runs a query. Its first line lists the columns, as `name = expression` or `name`, separated by `;`. The
/// other lines are the `FROM` clause.
async fn rows(warehouse: &Warehouse, query: &str, keys: usize) -> Result<Vec<Row>> {
    let (columns, from) = query.split_once('\n').unwrap_or((query, ""));
    let columns: Vec<(&str, &str)> = columns
        .split(';')
        .map(|column| column.split_once('=').unwrap_or((column, column)))
        .map(|(name, expression)| (name.trim(), expression.trim()))
        .collect();
    let select: Vec<_> = columns.iter().map(|(name, expression)| format!("{expression} AS {name}")).collect();
    let sql = format!("SELECT {}\n{from}", select.join(", ")).replace("@TIME", TIME);
    let names: Vec<_> = columns.iter().map(|(name, _)| *name).collect();
    Ok(Row::all(&names, keys, warehouse.query(&sql).await?))
}

const CUSTOMERS: &str = "customer_id; valid_from = TO_CHAR(valid_from, @TIME); valid_to = TO_CHAR(valid_to, @TIME); is_current; is_preferred; address_id; salutation; first_name; last_name; birth_country; email
FROM mystore.dim_customer WHERE customer_key <> 0";

fn customers(model: &Model<'_>) -> Vec<Row> {
    let customers = &model.customers;
    customers
        .keys()
        .flat_map(|id| customers.history(id, tracked).into_iter().map(move |interval| (id, interval)))
        .filter_map(|(id, interval)| {
            let newest = customers.newest(id)?;
            let row = Row::new(format!("customer_id {id}, valid_from {}", iso(interval.valid_from)))
                .with("valid_to", interval.valid_to.map_or_else(|| FOREVER.to_owned(), iso))
                .with("is_current", interval.valid_to.is_none())
                .with("is_preferred", interval.row.preferred)
                .with("address_id", interval.row.address_id);
            Some(customer_columns(row, &newest.row))
        })
        .collect()
}

const ADDRESSES: &str = "address_id; is_deleted; address_datetime = TO_CHAR(address_datetime, @TIME); street; city; county; state; zip; country; location_type
FROM mystore.dim_address";

fn addresses(model: &Model<'_>) -> Vec<Row> {
    let newest = model.addresses.keys().filter_map(|id| model.addresses.newest(id));
    newest
        .map(|change| {
            let row = Row::new(format!("address_id {}", change.row.id))
                .with("is_deleted", change.deleted)
                .with("address_datetime", iso(change.at));
            address_columns(row, &change.row)
        })
        .collect()
}

const ITEMS: &str = "item_id; item_name; brand; category; price
FROM mystore.dim_item";

fn items(model: &Model<'_>) -> Vec<Row> {
    let row = |item: &&crate::domain::Item| {
        Row::new(format!("item_id {}", item.id))
            .with_text("item_name", item.name.as_ref())
            .with_text("brand", item.brand.as_ref())
            .with_text("category", item.category.as_ref())
            .with_text("price", item.price.map(|price| price.to_string()).as_ref())
    };
    model.items.values().map(row).collect()
}

const STORES: &str = "store_id; store_name; city; state; floor_space
FROM mystore.dim_store WHERE store_key <> 0";

fn stores(model: &Model<'_>) -> Vec<Row> {
    let row = |store: &&crate::domain::Store| {
        Row::new(format!("store_id {}", store.id))
            .with_text("store_name", store.name.as_ref())
            .with_text("city", store.city.as_ref())
            .with_text("state", store.state.as_ref())
            .with_text("floor_space", store.floor_space.map(|space| space.to_string()).as_ref())
    };
    model.stores.values().map(row).collect()
}

const DAYS: &str = "date_key; day_date = TO_CHAR(day_date, 'YYYY-MM-DD'); day_name; quarter_name; is_holiday
FROM mystore.dim_date";

fn days(changes: &Changes) -> Vec<Row> {
    let row = |day: &crate::domain::Day| {
        Row::new(format!("date_key {}", day.date.strftime("%Y%m%d")))
            .with("day_date", day.date)
            .with("day_name", &day.name)
            .with("quarter_name", &day.quarter)
            .with("is_holiday", day.holiday)
    };
    changes.days.iter().map(row).collect()
}

// The outer joins reveal wrong keys: a dangling key yields NULL, and a key that matches several rows makes
// the sale occur twice.
const FACTS: &str = "ticket_number; item_id = fact_sale.item_id; customer_id = fact_sale.customer_id; id_of_customer_key = dim_customer.customer_id; valid_from_of_customer_key = TO_CHAR(dim_customer.valid_from, @TIME); id_of_item_key = dim_item.item_id; id_of_store_key = dim_store.store_id; day_of_date_key = TO_CHAR(dim_date.day_date, 'YYYY-MM-DD'); sold_at = TO_CHAR(sold_at, @TIME); quantity; net_paid; net_profit
FROM mystore.fact_sale
LEFT JOIN mystore.dim_customer ON dim_customer.customer_key = fact_sale.customer_key
LEFT JOIN mystore.dim_item ON dim_item.item_key = fact_sale.item_key
LEFT JOIN mystore.dim_store ON dim_store.store_key = fact_sale.store_key
LEFT JOIN mystore.dim_date ON dim_date.date_key = fact_sale.date_key
WHERE MOD(ABS(ticket_number), @PORTIONS) = @PORTION";

/// Number of portions in which the sales are compared, to limit the memory for their texts.
const PORTIONS: i64 = 8;

/// Compares every sale, including the dimension rows to which its keys refer.
async fn facts(proof: &mut Proof, model: &Model<'_>, warehouse: &Warehouse) -> Result<()> {
    let (mut compared, mut difference) = (0, None);
    for portion in 0..PORTIONS {
        let query =
            FACTS.replace("@PORTIONS", &PORTIONS.to_string()).replace("@PORTION", &portion.to_string());
        let found = rows(warehouse, &query, 2).await?;
        let sales = model.sales.values().filter(|sale| sale.ticket.abs() % PORTIONS == portion);
        match compare(sales.map(|sale| fact(model, sale)).collect(), found) {
            Ok(values) => compared += values,
            Err(first) => {
                difference = Some(first);
                break;
            }
        }
    }
    proof.holds("warehouse: fact_sale row by row, with the dimension rows of its keys", compared, difference);
    Ok(())
}

fn fact(model: &Model<'_>, sale: &Sale) -> Row {
    let unknown = || (0, "1900-01-01T00:00:00Z".parse::<Timestamp>().unwrap_or(Timestamp::MIN));
    let (customer, valid_from) = model.customer_row(sale).unwrap_or_else(unknown);
    Row::new(format!("ticket_number {}, item_id {}", sale.ticket, sale.item_id))
        .with_text("customer_id", sale.customer_id.map(|id| id.to_string()).as_ref())
        .with("id_of_customer_key", customer)
        .with("valid_from_of_customer_key", iso(valid_from))
        .with("id_of_item_key", sale.item_id)
        .with("id_of_store_key", sale.store_id.unwrap_or(0))
        .with("day_of_date_key", sale.sold_at.strftime("%Y-%m-%d"))
        .with("sold_at", iso(sale.sold_at))
        .with("quantity", sale.quantity)
        .with("net_paid", sale.net_paid)
        .with("net_profit", sale.net_profit)
}

fn with_totals(row: Row, totals: Totals) -> Row {
    row.with("sales", totals.sales)
        .with("quantity", totals.quantity)
        .with("net_paid", totals.net_paid)
        .with("net_profit", totals.net_profit)
}

const STORE_DAYS: &str = "store_id = dim_store.store_id; date_key; sales; quantity; net_paid; net_profit
FROM mystore.store_day JOIN mystore.dim_store ON dim_store.store_key = store_day.store_key";

fn store_days(model: &Model<'_>) -> Vec<Row> {
    let row = |(day, totals): (crate::model::StoreDay, Totals)| {
        let date = day.date.replace('-', "");
        with_totals(Row::new(format!("store_id {}, date_key {date}", day.store)), totals)
    };
    model.store_days().into_iter().map(row).collect()
}

// The rows are not grouped, so that a procedure that ran twice occurs twice.
const AUDIT: &str = "cycle; procedure_name; affected_rows; business_time = TO_CHAR(business_time, @TIME)
FROM mystore.audit";

fn audit(model: &Model<'_>, changes: &Changes) -> Vec<Row> {
    let until = |cycle: u32| changes.cycles.get(cycle as usize).map_or(Timestamp::MIN, |cycle| cycle.until);
    let row = |((cycle, procedure), affected): (&(u32, &str), &u64)| {
        Row::new(format!("cycle {cycle}, procedure_name {procedure}"))
            .with("affected_rows", affected)
            .with("business_time", iso(until(*cycle)))
    };
    model.audit.iter().map(row).collect()
}

const HIGH_WATER: &str = "source; landed_until = TO_CHAR(landed_until, @TIME)
FROM mystore.high_water";

fn high_water(changes: &Changes) -> Vec<Row> {
    let last = changes.cycles.last().map_or(Timestamp::MIN, |cycle| cycle.until);
    ["customer", "address", "item", "store", "day", "sale"]
        .map(|source| Row::new(format!("source {source}")).with("landed_until", iso(last)))
        .into()
}
