//! [`Tables`]: Hudi tables by their URLs.

use std::fmt;

use async_trait::async_trait;
use hudi_scd::{Result, Table, TableOptions};

/// Opens tables that an event names.
#[async_trait]
pub trait Tables: fmt::Debug + Send + Sync {
    /// Opens the table at a URL, such as `s3://lake/clean/customer`.
    async fn open(&self, url: &str, options: TableOptions) -> Result<Table>;
}
