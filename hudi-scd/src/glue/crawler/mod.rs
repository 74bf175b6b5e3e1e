//! Keeps Glue crawlers away from Hudi tables.
//!
//! An S3 crawler does not know Hudi's timeline. It registers every folder, including old files, and changes
//! the formats of tables that [`sync`](super::sync()) registered. [`exclude`] adds exclusion patterns for the
//! tables; [`check`] finds the tables that a crawler would still read.

mod glob;

use std::{fmt, time::Duration};

use async_trait::async_trait;
use aws_sdk_glue::types::{Crawler, CrawlerState, CrawlerTargets, S3Target};
use tokio::time::Instant as Stopwatch;

use self::glob::{Glob, cover, escaped};
use super::{
    catalog::{CatalogError, CatalogErrorKind, GlueCatalog, failed, next_page},
    definition::{INPUT_FORMAT, same_place},
};
use crate::{Error, ErrorKind, Result};

/// A Hudi table that crawlers must not read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HudiTable {
    location: String,
    entry: Option<(String, String)>,
}

impl HudiTable {
    /// Names the folder of a table, such as `s3://bucket/lake/customer`.
    pub fn new(location: impl Into<String>) -> Self {
        Self { location: location.into().trim_end_matches('/').to_owned(), entry: None }
    }

    /// Adds the table's database and name in the catalog, for crawlers whose targets are tables of the
    /// catalog.
    #[must_use]
    pub fn with_entry(mut self, database: impl Into<String>, table: impl Into<String>) -> Self {
        self.entry = Some((database.into(), table.into()));
        self
    }

    /// Returns the folder.
    pub fn location(&self) -> &str {
        &self.location
    }
}

/// The calls that concern crawlers. [`GlueCatalog`] sends them to the service.
#[async_trait]
pub trait Crawlers: Send + Sync {
    /// Returns a crawler. Returns `None` if no crawler has this name.
    async fn crawler(&self, name: &str) -> Result<Option<Crawler>, CatalogError>;

    /// Replaces all targets of a crawler.
    ///
    /// # Errors
    /// [`CatalogErrorKind::Conflict`] while the crawler runs.
    async fn update_targets(&self, name: &str, targets: CrawlerTargets) -> Result<(), CatalogError>;

    /// Returns the Hudi tables of a database in the catalog.
    async fn hudi_tables(&self, database: &str) -> Result<Vec<HudiTable>, CatalogError>;
}

/// A table that a crawler would read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Touch {
    /// The table's folder.
    pub location: String,
    /// The crawler's target, such as `S3 target s3://bucket/lake`.
    pub target: String,
    /// The exclusion pattern for this target that prevents it. `None` if no pattern can, and the table must
    /// be removed from the target.
    pub pattern: Option<String>,
    /// The index of the S3 target.
    at: Option<usize>,
}

impl fmt::Display for Touch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is crawled by the {}; ", self.location, self.target)?;
        match &self.pattern {
            Some(pattern) => write!(f, "exclude {pattern}"),
            None => f.write_str("remove it from this target"),
        }
    }
}

/// The result of [`exclude`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exclusion {
    /// The crawler.
    pub crawler: String,
    /// The added patterns: the path of the S3 target, and the pattern.
    pub added: Vec<(String, String)>,
    /// The tables that the crawler still reads, because no pattern can exclude them.
    pub left: Vec<Touch>,
    /// The time spent waiting for the end of the crawler's run.
    pub waited: Duration,
}

impl fmt::Display for Exclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.added.len() {
            0 => write!(f, "the crawler {} needs no further exclusion", self.crawler)?,
            _ => write!(f, "the crawler {} excludes:", self.crawler)?,
        }
        for (target, pattern) in &self.added {
            write!(f, "\n  {pattern} in {target}")?;
        }
        self.left.iter().try_for_each(|touch| write!(f, "\n  {touch}"))
    }
}

/// Finds the tables that a crawler would read in its next run. Changes nothing.
///
/// # Errors
/// [`ErrorKind::NotFound`] if there is no such crawler; [`ErrorKind::Storage`] if the service failed or
/// refused the call.
pub async fn check(crawlers: &dyn Crawlers, name: &str, tables: &[HudiTable]) -> Result<Vec<Touch>> {
    Ok(touches(&targets_of(&read(crawlers, name).await?), tables))
}

/// Number of attempts if other clients change the crawler or calls fail.
const ATTEMPTS: u32 = 6;
/// The pause between two polls of a running crawler. Runs take minutes.
const PAUSE: Duration = Duration::from_secs(10);
/// The pause after a failed call.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Adds exclusion patterns for the tables to a crawler's S3 targets, and reads the crawler back. Existing
/// patterns and targets are kept. If the crawler reads none of the tables, no change is sent.
///
/// The service refuses to update a running crawler. This function waits for the end of the run, for up to
/// `wait`. It never stops a run.
///
/// If the future is dropped, the crawler has all of the new patterns or none. Call the function again.
///
/// # Errors
/// [`ErrorKind::NotFound`] if there is no such crawler; [`ErrorKind::Conflict`] if it is still running after
/// `wait`, or if other clients kept changing it; [`ErrorKind::Storage`] if the service failed or refused a
/// call.
pub async fn exclude(
    crawlers: &dyn Crawlers,
    name: &str,
    tables: &[HudiTable],
    wait: Duration,
) -> Result<Exclusion> {
    let began = Stopwatch::now();
    let mut report =
        Exclusion { crawler: name.to_owned(), added: Vec::new(), left: Vec::new(), waited: Duration::ZERO };
    let mut attempts = 0;
    let mut last =
        CatalogError::new(CatalogErrorKind::Conflict, "GetCrawler", "another client changed the targets");
    loop {
        let crawler = read(crawlers, name).await?;
        let mut targets = targets_of(&crawler);
        let (excludable, left): (Vec<_>, Vec<_>) =
            touches(&targets, tables).into_iter().partition(|touch| touch.pattern.is_some());
        if excludable.is_empty() {
            report.left = left;
            return Ok(report);
        }
        if crawler.state != Some(CrawlerState::Ready) {
            let remaining = wait.saturating_sub(began.elapsed());
            if remaining.is_zero() {
                return Err(running(&crawler, name));
            }
            tokio::time::sleep(PAUSE.min(remaining)).await;
            report.waited = began.elapsed();
            continue;
        }
        if attempts == ATTEMPTS {
            return Err(given_up(last, name));
        }
        attempts += 1;
        let added = add(&mut targets, &excludable);
        let result = crawlers.update_targets(name, targets).await;
        // An update without a response may have been made. If not, it is repeated.
        if result.as_ref().err().is_none_or(|error| error.kind() == CatalogErrorKind::Transient) {
            report
                .added
                .extend(added.into_iter().filter(|new| !report.added.contains(new)).collect::<Vec<_>>());
        }
        match result {
            Ok(()) => {}
            Err(error) if error.kind() == CatalogErrorKind::Refused => return Err(given_up(error, name)),
            Err(error) => {
                last = error;
                tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
            }
        }
    }
}

/// Reads a crawler. A failed call is retried.
async fn read(crawlers: &dyn Crawlers, name: &str) -> Result<Crawler> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        match crawlers.crawler(name).await {
            Ok(Some(crawler)) => return Ok(crawler),
            Ok(None) => {
                return Err(
                    Error::new(ErrorKind::NotFound, "there is no such crawler").with_context("crawler", name)
                );
            }
            Err(error) if error.kind() == CatalogErrorKind::Transient && attempts < ATTEMPTS => {
                tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
            }
            Err(error) => return Err(given_up(error, name)),
        }
    }
}

fn running(crawler: &Crawler, name: &str) -> Error {
    let state = crawler.state.as_ref().map_or("UNKNOWN", CrawlerState::as_str);
    Error::new(
        ErrorKind::Conflict,
        "the crawler is running, and the service updates only one that is not; wait longer, or stop it",
    )
    .with_context("crawler", name)
    .with_context("state", state)
}

fn given_up(error: CatalogError, name: &str) -> Error {
    let kind = match error.kind() {
        CatalogErrorKind::Conflict => ErrorKind::Conflict,
        CatalogErrorKind::NotFound => ErrorKind::NotFound,
        _ => ErrorKind::Storage,
    };
    Error::new(kind, format!("the crawler's exclusions are not complete: {error}"))
        .with_context("crawler", name)
        .with_source(error)
}

fn targets_of(crawler: &Crawler) -> CrawlerTargets {
    crawler.targets.clone().unwrap_or_else(|| CrawlerTargets::builder().build())
}

/// Adds patterns to their targets, and returns the paths and the patterns.
fn add(targets: &mut CrawlerTargets, touches: &[Touch]) -> Vec<(String, String)> {
    let s3_targets = targets.s3_targets.get_or_insert_default();
    let mut added = Vec::new();
    for touch in touches {
        let target = touch.at.and_then(|at| s3_targets.get_mut(at));
        if let (Some(target), Some(pattern)) = (target, &touch.pattern) {
            let exclusions = target.exclusions.get_or_insert_default();
            if !exclusions.contains(pattern) {
                exclusions.push(pattern.clone());
                added.push((target.path.clone().unwrap_or_default(), pattern.clone()));
            }
        }
    }
    added
}

/// Finds the tables that the targets include. A pure function.
fn touches(targets: &CrawlerTargets, tables: &[HudiTable]) -> Vec<Touch> {
    let mut found = Vec::new();
    for (at, target) in targets.s3_targets().iter().enumerate() {
        // It is not documented that an invalid pattern excludes anything.
        let patterns: Vec<_> =
            target.exclusions().iter().filter_map(|pattern| Glob::parse(pattern)).collect();
        let touched = |table: &HudiTable| touch_of_s3(at, target, &patterns, table);
        found.extend(tables.iter().filter_map(touched));
    }
    let touch = |table: &HudiTable, target: String| Touch {
        location: table.location.clone(),
        target,
        pattern: None,
        at: None,
    };
    for target in targets.catalog_targets() {
        let named = |table: &&HudiTable| {
            table.entry.as_ref().is_some_and(|(database, name)| {
                target.database_name.eq_ignore_ascii_case(database)
                    && target.tables.iter().any(|table| table.eq_ignore_ascii_case(name))
            })
        };
        let text = format!("catalog target {}", target.database_name);
        found.extend(tables.iter().filter(named).map(|table| touch(table, text.clone())));
    }
    for path in targets.hudi_targets().iter().flat_map(|target| target.paths()) {
        let overlaps = |table: &&HudiTable| below(path, &table.location).is_some();
        let text = format!("Hudi target {path}");
        found.extend(tables.iter().filter(overlaps).map(|table| touch(table, text.clone())));
    }
    found
}

fn touch_of_s3(at: usize, target: &S3Target, patterns: &[Glob], table: &HudiTable) -> Option<Touch> {
    let path = target.path.as_deref().unwrap_or_default();
    let (folder, pattern) = match below(path, &table.location)? {
        "" => (String::new(), "**".to_owned()),
        folder => (format!("{folder}/"), format!("{}/**", escaped(folder))),
    };
    (!cover(patterns, &folder)).then(|| Touch {
        location: table.location.clone(),
        target: format!("S3 target {path}"),
        pattern: Some(pattern),
        at: Some(at),
    })
}

/// Returns the table's path below an include path. Empty if the include path is the table's folder or lies
/// inside it. `None` if neither contains the other.
fn below<'a>(include: &str, location: &'a str) -> Option<&'a str> {
    let (include, table) = (without_scheme(include), without_scheme(location));
    let inside = |inner: &str, outer: &str| {
        outer.is_empty()
            || inner == outer
            || inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with('/'))
    };
    if inside(include, table) {
        return Some("");
    }
    inside(table, include).then(|| table[include.len()..].trim_start_matches('/'))
}

/// Returns `bucket/folder`. The console and templates write include paths both with and without a scheme.
fn without_scheme(path: &str) -> &str {
    path.split_once("://").map_or(path, |(_, rest)| rest).trim_matches('/')
}

#[async_trait]
impl Crawlers for GlueCatalog {
    async fn crawler(&self, name: &str) -> Result<Option<Crawler>, CatalogError> {
        match self.client.get_crawler().name(name).send().await {
            Ok(found) => Ok(found.crawler),
            Err(cause) => match failed("GetCrawler", cause) {
                error if error.kind() == CatalogErrorKind::NotFound => Ok(None),
                error => Err(error),
            },
        }
    }

    async fn update_targets(&self, name: &str, targets: CrawlerTargets) -> Result<(), CatalogError> {
        let call = self.client.update_crawler().name(name).targets(targets);
        call.send().await.map(drop).map_err(|cause| failed("UpdateCrawler", cause))
    }

    async fn hudi_tables(&self, database: &str) -> Result<Vec<HudiTable>, CatalogError> {
        const CALL: &str = "GetTables";
        let call = self.client.get_tables().database_name(database);
        let (mut found, mut token) = (Vec::new(), None);
        loop {
            let page = call.clone().set_next_token(token.clone()).send().await;
            let page = page.map_err(|cause| failed(CALL, cause))?;
            for table in page.table_list.unwrap_or_default() {
                let storage = table.storage_descriptor.as_ref();
                let is_hudi = storage.and_then(|storage| storage.input_format()) == Some(INPUT_FORMAT);
                let location = storage.and_then(|storage| storage.location()).unwrap_or_default();
                if is_hudi && !same_place(location, "") {
                    found.push(HudiTable::new(location).with_entry(database, &table.name));
                }
            }
            token = next_page(CALL, token, page.next_token)?;
            if token.is_none() {
                return Ok(found);
            }
        }
    }
}
