//! Storage on S3, configured like AWS's own tools: variables, profiles with single sign-on, assumed roles or
//! processes, web identities, and roles of machines and containers.

use std::{sync::Arc, time::SystemTime};

use async_trait::async_trait;
use aws_config::BehaviorVersion;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use hudi_scd::{Clock, Error, ErrorKind, Result, S3RangeCopy, SystemClock, TableOptions};
use jiff::{SignedDuration, Timestamp};
use object_store::{
    CredentialProvider, ObjectStore,
    aws::{AmazonS3Builder, AmazonS3ConfigKey, AwsCredential},
    path::Path,
};
use tokio::sync::Mutex;

/// Time before their expiry at which credentials are fetched again.
const AHEAD: SignedDuration = SignedDuration::from_mins(5);

/// Returns the store and the path of the table at `s3://bucket/folder`, and options that contain its URL and
/// enable copies of ranges.
pub(super) async fn connect(
    url: &str,
    options: TableOptions,
) -> Result<(Arc<dyn ObjectStore>, Path, TableOptions)> {
    let invalid = |cause| {
        Error::new(ErrorKind::InvalidDefinition, "the URL does not name a bucket and a folder")
            .with_source(cause)
    };
    let (bucket, folder) =
        url.strip_prefix("s3://").and_then(|rest| rest.split_once('/')).unwrap_or_default();
    let root = Path::parse(folder).map_err(invalid)?;
    let config = aws_config::load_defaults(BehaviorVersion::latest()).await;
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
    let is_set = |builder: &AmazonS3Builder, key| builder.get_config_value(&key).is_some();
    if let (Some(region), false) = (config.region(), is_set(&builder, AmazonS3ConfigKey::Region)) {
        builder = builder.with_region(region.as_ref());
    }
    if let (Some(endpoint), false) = (config.endpoint_url(), is_set(&builder, AmazonS3ConfigKey::Endpoint)) {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(provider) = config.credentials_provider() {
        let credentials = Credentials::new(provider, SystemClock);
        // A missing profile is reported before the first request.
        credentials.get().await?;
        builder = builder.with_credentials(Arc::new(credentials));
    }
    let s3 = S3RangeCopy::build(builder)
        .map_err(|cause| Error::new(ErrorKind::Storage, "the storage is unavailable").with_source(cause))?;
    let options = options.with_base_url(url);
    Ok((s3.store(), root, options.with_range_copy(Arc::new(s3))))
}

/// The credentials of a provider of the AWS SDK, kept until shortly before they expire.
#[derive(Debug)]
struct Credentials<C> {
    provider: SharedCredentialsProvider,
    clock: C,
    kept: Mutex<Option<(Arc<AwsCredential>, Timestamp)>>,
}

impl<C: Clock> Credentials<C> {
    fn new(provider: SharedCredentialsProvider, clock: C) -> Self {
        Self { provider, clock, kept: Mutex::default() }
    }

    async fn get(&self) -> Result<Arc<AwsCredential>> {
        let mut kept = self.kept.lock().await;
        if let Some((credential, until)) = &*kept
            && self.clock.now() < *until
        {
            return Ok(credential.clone());
        }
        let found = self.provider.provide_credentials().await.map_err(|cause| {
            let error = Error::new(ErrorKind::Storage, "there are no credentials for S3").with_source(cause);
            match std::env::var("AWS_PROFILE") {
                Ok(profile) => error.with_context("AWS_PROFILE", profile),
                Err(_) => error,
            }
        })?;
        let credential = Arc::new(AwsCredential {
            key_id: found.access_key_id().to_owned(),
            secret_key: found.secret_access_key().to_owned(),
            token: found.session_token().map(str::to_owned),
        });
        *kept = Some((credential.clone(), until(found.expiry())));
        Ok(credential)
    }
}

/// Returns the time until which credentials are reused.
fn until(expiry: Option<SystemTime>) -> Timestamp {
    let expiry = expiry.and_then(|expiry| Timestamp::try_from(expiry).ok());
    expiry.map_or(Timestamp::MAX, |expiry| expiry.saturating_sub(AHEAD).unwrap_or(expiry))
}

#[async_trait]
impl<C: Clock + std::fmt::Debug> CredentialProvider for Credentials<C> {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let found = self.get().await;
        found.map_err(|error| object_store::Error::Generic { store: "S3", source: Box::new(error) })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use aws_credential_types::{
        Credentials as Found,
        provider::{error::CredentialsError, future},
    };
    use hudi_scd::FnClock;

    use super::*;

    /// Returns a new key each time. The key expires after an hour.
    #[derive(Debug)]
    struct Hourly(AtomicI64);

    impl ProvideCredentials for Hourly {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            let number = self.0.fetch_add(1, Ordering::Relaxed);
            let expiry = Timestamp::from_second(3_600 * (number + 1)).unwrap().into();
            let found = match number {
                2 => Err(CredentialsError::not_loaded("signed out")),
                _ => Ok(Found::new(format!("key{number}"), "secret", None, Some(expiry), "test")),
            };
            future::ProvideCredentials::ready(found)
        }
    }

    #[tokio::test]
    async fn credentials_are_fetched_again_before_they_expire() {
        let seconds = Arc::new(AtomicI64::new(0));
        let clock = seconds.clone();
        let clock = FnClock(move || Timestamp::from_second(clock.load(Ordering::Relaxed)).unwrap());
        let provider = SharedCredentialsProvider::new(Hourly(AtomicI64::new(0)));
        let credentials = Credentials::new(provider, clock);
        for (now, key) in [(0, "key0"), (3_299, "key0"), (3_300, "key1"), (6_899, "key1")] {
            seconds.store(now, Ordering::Relaxed);
            assert_eq!(credentials.get().await.unwrap().key_id, key, "at {now}");
        }
        seconds.store(6_900, Ordering::Relaxed);
        let error = credentials.get().await.unwrap_err();
        assert_eq!(error.message(), "there are no credentials for S3");
        assert_eq!(credentials.get().await.unwrap().key_id, "key3");
    }

    #[test]
    fn keys_without_an_end_are_kept() {
        assert_eq!(until(None), Timestamp::MAX);
    }
}
