//! `catalog crawler exclude`, `catalog crawler check`.

use std::time::Duration;

use hudi_scd::{
    Error, ErrorKind,
    glue::{
        GlueCatalog,
        crawler::{self, Crawlers, HudiTable, Touch},
    },
};
use serde_json::{Value, json};

use super::connect;
use crate::{
    Context,
    args::catalog::{CrawledTables, CrawlerCommand},
    commands::tell,
    failure::Failure,
    location::Location,
    progress::Progress,
};

pub(super) async fn run(context: Context, command: CrawlerCommand) -> Result<(), Failure> {
    match command {
        CrawlerCommand::Exclude { tables, wait } => exclude(context, tables, wait).await,
        CrawlerCommand::Check { tables } => check(context, tables).await,
    }
}

async fn exclude(context: Context, args: CrawledTables, wait: u64) -> Result<(), Failure> {
    let (catalog, tables) = tables(&args).await?;
    let done = {
        let _wheel = Progress::wheel(context, "waiting for the crawler");
        let done = crawler::exclude(&catalog, &args.crawler, &tables, Duration::from_secs(wait)).await;
        done.map_err(|error| args.service.named(error))?
    };
    let added = done.added.iter().map(|(target, pattern)| json!({ "target": target, "pattern": pattern }));
    let report = json!({
        "crawler": done.crawler,
        "added": added.collect::<Vec<_>>(),
        "left": done.left.iter().map(touch_report).collect::<Vec<_>>(),
        "waited_seconds": done.waited.as_secs_f64(),
    });
    tell(context, &done, report)?;
    if done.left.is_empty() { Ok(()) } else { Err(Failure::Findings) }
}

async fn check(context: Context, args: CrawledTables) -> Result<(), Failure> {
    let (catalog, tables) = tables(&args).await?;
    let touches = crawler::check(&catalog, &args.crawler, &tables).await;
    let touches = touches.map_err(|error| args.service.named(error))?;
    let text = match touches.as_slice() {
        [] => format!("the crawler {} reads none of the {} Hudi tables", args.crawler, tables.len()),
        some => some.iter().map(Touch::to_string).collect::<Vec<_>>().join("\n"),
    };
    let report =
        json!({ "crawler": args.crawler, "touches": touches.iter().map(touch_report).collect::<Vec<_>>() });
    tell(context, text, report)?;
    if touches.is_empty() { Ok(()) } else { Err(Failure::Findings) }
}

/// Returns the tables of the command line: tables given by URL, and tables of databases.
async fn tables(args: &CrawledTables) -> Result<(GlueCatalog, Vec<HudiTable>), Failure> {
    let mut tables = Vec::new();
    for table in &args.tables {
        match Location::parse(table)? {
            Location::S3 { url, .. } => tables.push(HudiTable::new(url)),
            Location::Folder(_) => {
                return Err(Failure::usage(format!(
                    "{table}: crawlers crawl S3; name the table's URL, as in s3://bucket/lake/customer"
                )));
            }
        }
    }
    let catalog = connect(args.service.endpoint_url.as_deref()).await?;
    for database in &args.database {
        let found = catalog.hudi_tables(database).await.map_err(|error| {
            let cause = Error::new(ErrorKind::Storage, "the tables of the database cannot be listed");
            args.service.named(cause.with_context("database", database).with_source(error))
        });
        tables.extend(found?);
    }
    Ok((catalog, tables))
}

fn touch_report(touch: &Touch) -> Value {
    json!({ "table": touch.location, "target": touch.target, "exclude": touch.pattern })
}
