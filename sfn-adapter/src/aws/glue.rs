//! The services of the handler `glue` over the SDK, and storage that an event or a variable names.

use std::sync::Arc;

use async_trait::async_trait;
use aws_types::SdkConfig;
use hudi_scd::{Result, Table, TableOptions, glue::GlueCatalog};
use redshift_orchestrator::glue::{GlueService, aws_sdk_glue::Client};

use super::bucket::bucket;
use crate::{
    Error, Tables,
    handler::{GlueServices, JournalPlace},
    sentence::in_words,
};

/// Returns the services of a region. The SDK repeats throttled requests, except the start of a run.
pub fn glue(sdk: &SdkConfig, region: String, journal: Option<JournalPlace>) -> GlueServices {
    let client = Client::new(sdk);
    let catalog = Arc::new(GlueCatalog::new(client.clone()));
    GlueServices {
        jobs: Arc::new(GlueService::new(client)),
        catalog: catalog.clone(),
        crawlers: catalog,
        tables: Arc::new(S3Tables),
        journal,
        region: Some(region),
    }
}

/// Tables in S3, or in local folders. Region, credentials and endpoint come from the `AWS_*` variables.
#[derive(Clone, Copy, Debug, Default)]
pub struct S3Tables;

#[async_trait]
impl Tables for S3Tables {
    async fn open(&self, url: &str, options: TableOptions) -> Result<Table> {
        const NONE: [(&str, &str); 0] = [];
        Table::open_url_with(url, NONE, options).await
    }
}

/// Opens the place of a journal at a URL such as `s3://bucket/folder`.
///
/// # Errors
/// Returns [`Error::Config`] for another URL, or an environment that does not allow the use of S3.
pub fn journal(url: &str) -> Result<JournalPlace, Error> {
    let wrong = || {
        Error::Config("GLUE_JOURNAL must be the URL of a folder in S3, such as s3://lake/journal".to_owned())
    };
    let (name, prefix) = url.strip_prefix("s3://").and_then(|rest| rest.split_once('/')).ok_or_else(wrong)?;
    let prefix = prefix.trim_matches('/');
    if name.is_empty() || prefix.is_empty() {
        return Err(wrong());
    }
    let store = bucket(name).map_err(|cause| {
        let cause = in_words(&cause.to_string());
        Error::Config(format!("GLUE_JOURNAL cannot be used: {cause}; correct the AWS_* variables"))
    })?;
    Ok(JournalPlace { store, prefix: prefix.to_owned() })
}
