//! The catalog of AWS Glue.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use aws_config::BehaviorVersion;
use hudi_scd::{
    Table, TableOptions,
    glue::{
        self, Catalog as _, GlueCatalog, GlueSync, SyncOptions,
        aws_sdk_glue::{
            Client,
            config::{Credentials, Region},
            types::{Column, CrawlerTargets, S3Target},
        },
        crawler::{self, Crawlers, HudiTable},
    },
};

use super::{Columns, Entry, LOCAL_KEY, LOCAL_REGION, exclusion, is_local};

/// Role of the crawler. It is never assumed, because MyStore does not start the crawler.
const ROLE: &str = "arn:aws:iam::123456789012:role/mystore-crawler";
/// Files of Spark that the crawler of the reference solution excludes too.
const SPARK_FILES: [&str; 2] = ["**_SUCCESS", "**crc"];
/// Table parameter that holds the newest commit known to the catalog.
const LAST_COMMIT: &str = "last_commit_time_sync";

/// A run's database in the catalog, and its crawler.
#[derive(Clone)]
pub(crate) struct Catalog {
    client: Client,
    glue: GlueCatalog,
    database: String,
    crawler: String,
}

impl Catalog {
    /// Connects to an endpoint. The names of a run's database and crawler contain its id.
    pub(crate) async fn connect(endpoint: &str, run_id: &str) -> Result<Self> {
        let mut config = aws_config::defaults(BehaviorVersion::latest()).endpoint_url(endpoint);
        if is_local(endpoint) {
            let is_set = |name| std::env::var_os(name).is_some();
            if !is_set("AWS_ACCESS_KEY_ID") {
                let credentials = Credentials::new(LOCAL_KEY, LOCAL_KEY, None, None, "local server");
                config = config.credentials_provider(credentials);
            }
            if !is_set("AWS_REGION") && !is_set("AWS_DEFAULT_REGION") {
                config = config.region(Region::new(LOCAL_REGION));
            }
        }
        let client = Client::new(&config.load().await);
        Ok(Self {
            glue: GlueCatalog::new(client.clone()),
            client,
            database: run_id.replace('-', "_"),
            crawler: format!("{run_id}-lake"),
        })
    }

    /// Returns the name of the database.
    pub(crate) fn database(&self) -> &str {
        &self.database
    }

    /// Returns the name of the crawler.
    pub(crate) fn crawler(&self) -> &str {
        &self.crawler
    }

    /// Creates the crawler of the lake's folder unless it exists. It excludes the tables, because a crawler
    /// would register their old files too, and replace their formats in the catalog.
    pub(crate) async fn exclude(&self, folder: &str, tables: &[&str]) -> Result<()> {
        self.glue.ensure_database(&self.database).await.context("creating the database of the catalog")?;
        if self.glue.crawler(&self.crawler).await?.is_none() {
            let patterns = SPARK_FILES.map(str::to_owned).into_iter();
            let patterns = patterns.chain(tables.iter().map(|table| exclusion(table))).collect();
            let target = S3Target::builder().path(folder).set_exclusions(Some(patterns)).build();
            let crawler = self.client.create_crawler().name(&self.crawler).role(ROLE);
            let crawler = crawler.database_name(&self.database);
            let crawler = crawler.targets(CrawlerTargets::builder().s3_targets(target).build());
            crawler.send().await.context("creating the crawler")?;
        }
        // Adds what a crawler of an earlier process may lack.
        let tables: Vec<_> = tables.iter().map(|table| HudiTable::new(format!("{folder}/{table}"))).collect();
        crawler::exclude(&self.glue, &self.crawler, &tables, Duration::ZERO).await?;
        Ok(())
    }

    fn options(&self, url: &str) -> SyncOptions {
        SyncOptions::new(&self.database, url).with_timestamps(true)
    }

    /// Returns options with which each write brings the catalog's entry of the table up to date.
    pub(crate) fn keep_in_step(&self, url: &str, options: TableOptions) -> TableOptions {
        let sync = GlueSync::new(Arc::new(self.glue.clone()), self.options(url));
        options.with_catalog_sync(Arc::new(sync))
    }

    /// Brings a table's entry up to date.
    pub(crate) async fn sync(&self, table: &Table, url: &str) -> Result<()> {
        glue::sync(table, &self.glue, &self.options(url)).await?;
        Ok(())
    }

    /// Reads a table's entry with its partitions.
    pub(crate) async fn entry(&self, table: &str) -> Result<Entry> {
        let found = self.glue.table(&self.database, table).await?;
        let found = found.with_context(|| format!("the catalog has no table {}.{table}", self.database))?;
        let partitions = match found.partition_keys() {
            [] => Vec::new(),
            _ => self.glue.partitions(&self.database, table).await?,
        };
        let storage = found.storage_descriptor.as_ref();
        let parameters = found.parameters.as_ref();
        Ok(Entry {
            location: storage.and_then(|storage| storage.location.clone()).unwrap_or_default(),
            columns: named(storage.map(|storage| storage.columns()).unwrap_or_default()),
            keys: named(found.partition_keys()),
            partitions: partitions
                .into_iter()
                .map(|partition| {
                    let location = partition.storage_descriptor.and_then(|storage| storage.location);
                    (partition.values.unwrap_or_default(), location.unwrap_or_default())
                })
                .collect(),
            last_commit: parameters.and_then(|parameters| parameters.get(LAST_COMMIT).cloned()),
        })
    }

    /// Compares a table's entry with the table, and returns the differences.
    pub(crate) async fn drift(&self, table: &Table, url: &str) -> Result<Option<String>> {
        let plan = glue::check(table, &self.glue, &self.options(url)).await?;
        Ok((!plan.is_empty()).then(|| plan.to_string()))
    }

    /// Returns the crawler's exclusion patterns.
    pub(crate) async fn exclusions(&self) -> Result<Vec<String>> {
        let found = self.glue.crawler(&self.crawler).await?;
        let found = found.with_context(|| format!("the catalog has no crawler {}", self.crawler))?;
        let targets = found.targets.and_then(|targets| targets.s3_targets).unwrap_or_default();
        Ok(targets.into_iter().flat_map(|target| target.exclusions.unwrap_or_default()).collect())
    }

    /// Returns a table that the crawler would touch.
    pub(crate) async fn crawled(&self, urls: &[String]) -> Result<Option<String>> {
        let tables: Vec<_> = urls.iter().map(HudiTable::new).collect();
        let touches = crawler::check(&self.glue, &self.crawler, &tables).await?;
        Ok(touches.first().map(ToString::to_string))
    }
}

fn named(columns: &[Column]) -> Columns {
    let named = |column: &Column| (column.name.clone(), column.r#type.clone().unwrap_or_default());
    columns.iter().map(named).collect()
}
