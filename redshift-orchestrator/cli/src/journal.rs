//! Opens the journal of a command.

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use aws_config::ConfigLoader;
use aws_sdk_redshiftdata::config::{ProvideCredentials, SharedCredentialsProvider};
use object_store::{
    CredentialProvider,
    aws::{AmazonS3Builder, AwsCredential},
};
use redshift_orchestrator::{
    Error, ErrorKind, Result,
    journal::{FileJournal, Journal, ObjectStoreJournal, RunEntry},
};

/// Location of the journal, and the AWS configuration that contains the credentials for S3.
pub(crate) struct JournalLocation {
    pub(crate) text: String,
    pub(crate) aws: ConfigLoader,
}

impl JournalLocation {
    /// Opens the journal for writing. With `queue`, waits while another process uses it.
    pub(crate) async fn open(self, queue: bool) -> Result<Arc<dyn Journal>> {
        match self.bucket()? {
            Some((bucket, prefix)) => s3(&bucket, &prefix, self.aws).await,
            None if queue => FileJournal::open_when_unlocked(&self.text).await.map(shared),
            None => FileJournal::open_async(&self.text).await.map(shared),
        }
    }

    /// Opens an existing journal for writing.
    pub(crate) async fn open_existing(self, queue: bool) -> Result<Arc<dyn Journal>> {
        self.exists()?;
        self.open(queue).await
    }

    /// Opens an existing journal read-only, even while another process uses it.
    pub(crate) async fn look(self) -> Result<Arc<dyn Journal>> {
        self.exists()?;
        match self.bucket()? {
            Some((bucket, prefix)) => s3(&bucket, &prefix, self.aws).await,
            None => {
                let read = tokio::task::spawn_blocking(move || FileJournal::open_read_only(&self.text));
                let failed =
                    |error: tokio::task::JoinError| Error::new(ErrorKind::Journal, error.to_string());
                read.await.map_err(failed)?.map(shared)
            }
        }
    }

    /// Returns the bucket and the prefix, or `None` if the journal is a file.
    fn bucket(&self) -> Result<Option<(String, String)>> {
        match self.text.split_once("://") {
            None => Ok(None),
            Some(("s3", rest)) if !rest.is_empty() && !rest.starts_with('/') => {
                let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                Ok(Some((bucket.to_owned(), prefix.trim_matches('/').to_owned())))
            }
            Some(_) => {
                Err(Error::new(ErrorKind::Invalid, "a journal must be a file or `s3://BUCKET/PREFIX`")
                    .with_context("journal", &self.text))
            }
        }
    }

    fn exists(&self) -> Result<()> {
        if self.text.contains("://") || Path::new(&self.text).exists() {
            return Ok(());
        }
        let message = "there is no journal; run the pipeline first, or select another journal with --journal";
        Err(Error::new(ErrorKind::Invalid, message).with_context("journal", &self.text))
    }
}

fn shared(journal: impl Journal + 'static) -> Arc<dyn Journal> {
    Arc::new(journal)
}

/// Opens a journal on S3. Credentials and region are taken from the AWS configuration. An endpoint and its
/// options are taken from the environment (`AWS_ENDPOINT_URL_S3`, `AWS_ALLOW_HTTP`).
async fn s3(bucket: &str, prefix: &str, aws: ConfigLoader) -> Result<Arc<dyn Journal>> {
    let sdk = aws.load().await;
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
    if let Some(region) = sdk.region() {
        builder = builder.with_region(region.as_ref());
    }
    if let Some(provider) = sdk.credentials_provider() {
        builder = builder.with_credentials(Arc::new(Credentials(provider)));
    }
    let store = builder.build().map_err(|error| {
        Error::new(ErrorKind::Invalid, "the journal's bucket is not accessible")
            .with_context("bucket", bucket)
            .with_source(error)
    })?;
    Ok(shared(ObjectStoreJournal::new(Arc::new(store), prefix)))
}

/// Passes the credentials of the AWS configuration to the object store.
#[derive(Debug)]
struct Credentials(SharedCredentialsProvider);

#[async_trait]
impl CredentialProvider for Credentials {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let given = self.0.provide_credentials().await;
        let given =
            given.map_err(|error| object_store::Error::Generic { store: "S3", source: Box::new(error) })?;
        Ok(Arc::new(AwsCredential {
            key_id: given.access_key_id().to_owned(),
            secret_key: given.secret_access_key().to_owned(),
            token: given.session_token().map(str::to_owned),
        }))
    }
}

/// Replaces the message of the error for a journal that another process has open. The library's message is
/// about a run, and not every command begins one.
pub(crate) fn in_use(error: Error, message: &str) -> Error {
    match error.kind() {
        ErrorKind::Overlap => error.with_message(message),
        _ => error,
    }
}

/// Maximum number of runs to search if no run id is given.
const LATEST: usize = 200;

/// Finds the run with this id. Without an id, finds the newest run that `wanted` accepts, among the newest
/// 200.
pub(crate) async fn find_run(
    journal: &dyn Journal,
    name: Option<&str>,
    wanted: impl Fn(&RunEntry) -> bool,
    otherwise: &str,
) -> Result<RunEntry> {
    if let Some(name) = name {
        return journal.run_entry(name).await?.ok_or_else(|| {
            Error::new(ErrorKind::Invalid, "the journal has no run with this id; `status` lists them")
                .with_context("run", name)
        });
    }
    let (mut after, mut read, mut found) = (None, 0, None::<RunEntry>);
    while read < LATEST {
        let page = journal.runs(PAGE, after.as_ref()).await?;
        read += PAGE;
        found = found
            .into_iter()
            .chain(page.runs.into_iter().filter(|run| wanted(run)))
            .max_by_key(|run| run.begun_at);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    found.ok_or_else(|| {
        let message = match after {
            Some(_) => format!("{otherwise} (among the newest {LATEST} runs)"),
            None => otherwise.to_owned(),
        };
        Error::new(ErrorKind::Invalid, message)
    })
}

const PAGE: usize = 50;
