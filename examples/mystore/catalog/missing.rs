//! The catalog of a program that was built without access to AWS, which refuses every use.

use anyhow::{Result, bail};
use hudi_scd::{Table, TableOptions};

use super::Entry;

/// Message for a program that has the options, but not the code behind them.
pub(crate) const WITHOUT_AWS: &str = "this program was built without S3 and Glue; start it with \
                                      cargo run -p examples --features aws --example mystore -- --s3 URL";

/// A catalog that cannot exist.
#[derive(Clone)]
pub(crate) enum Catalog {}

impl Catalog {
    pub(crate) async fn connect(_: &str, _: &str) -> Result<Self> {
        bail!(WITHOUT_AWS)
    }

    pub(crate) fn database(&self) -> &str {
        match *self {}
    }

    pub(crate) fn crawler(&self) -> &str {
        match *self {}
    }

    pub(crate) async fn exclude(&self, _: &str, _: &[&str]) -> Result<()> {
        match *self {}
    }

    pub(crate) fn keep_in_step(&self, _: &str, _: TableOptions) -> TableOptions {
        match *self {}
    }

    pub(crate) async fn sync(&self, _: &Table, _: &str) -> Result<()> {
        match *self {}
    }

    pub(crate) async fn entry(&self, _: &str) -> Result<Entry> {
        match *self {}
    }

    pub(crate) async fn drift(&self, _: &Table, _: &str) -> Result<Option<String>> {
        match *self {}
    }

    pub(crate) async fn exclusions(&self) -> Result<Vec<String>> {
        match *self {}
    }

    pub(crate) async fn crawled(&self, _: &[String]) -> Result<Option<String>> {
        match *self {}
    }
}
