//! Connects to the service that runs the statements: AWS, an endpoint, or a PostgreSQL server.

use std::{net::IpAddr, sync::Arc};

use aws_config::{BehaviorVersion, ConfigLoader, Region, SdkConfig};
use aws_sdk_redshiftdata::config::{Credentials, ProvideCredentials, SharedCredentialsProvider};
use redshift_data_local::LocalExecutor;
use redshift_orchestrator::{
    Compute, DataApiExecutor, Error, ErrorKind, MessageSource, Pipeline, ProcedureMessages, Result,
    StatementExecutor, Target, layer::Fleet,
};

use crate::options::ServiceOptions;

/// Executor of the statements, and the name of its target for the journal.
pub(crate) struct Service {
    pub(crate) executor: Arc<dyn StatementExecutor>,
    pub(crate) place: String,
    /// Source of the messages of stored procedures.
    pub(crate) messages: Option<Arc<dyn MessageSource>>,
}

impl ServiceOptions {
    pub(crate) async fn connect(&self, pipeline: Option<&Pipeline>) -> Result<Service> {
        match &self.postgres {
            Some(url) => postgres(url, pipeline).await,
            None => self.data_api(pipeline).await,
        }
    }

    async fn data_api(&self, pipeline: Option<&Pipeline>) -> Result<Service> {
        let target = self.target(pipeline)?;
        let region = self.region.clone().or_else(|| pipeline.and_then(Pipeline::region).map(str::to_owned));
        let sdk = self.sdk_config(region).await;
        let region = sdk.region().map(|region| region.to_string());
        let place = match (&self.endpoint_url, region) {
            (Some(_), _) => format!("endpoint:{}", named(&target)),
            (None, Some(region)) => format!("aws:{region}:{}", named(&target)),
            (None, None) => {
                return Err(Error::new(
                    ErrorKind::Invalid,
                    "no AWS region is configured; use --region, or set AWS_REGION",
                ));
            }
        };
        let sdk = self.with_credentials(sdk).await?;
        let executor = Arc::new(Fleet::new(DataApiExecutor::new(&sdk, target)));
        let messages = Arc::new(ProcedureMessages::new(executor.clone()));
        Ok(Service { executor, place, messages: Some(messages) })
    }

    /// Loads the credentials now to report missing ones at once. Otherwise every request would be retried
    /// until the retry timeout.
    async fn with_credentials(&self, sdk: SdkConfig) -> Result<SdkConfig> {
        let found = match sdk.credentials_provider() {
            Some(provider) => {
                provider.provide_credentials().await.map(drop).map_err(|error| error.to_string())
            }
            None => Err("none are configured".to_owned()),
        };
        match found {
            Ok(()) => Ok(sdk),
            // An emulator accepts any credentials.
            Err(_) if self.endpoint_url.as_deref().is_some_and(is_loopback) => {
                let any = Credentials::new("any", "any", None, None, "emulator");
                Ok(sdk.into_builder().credentials_provider(SharedCredentialsProvider::new(any)).build())
            }
            Err(cause) => Err(Error::new(
                ErrorKind::Denied,
                "there are no AWS credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, use --profile, or run on a machine with an IAM role",
            )
            .with_source(cause)),
        }
    }

    async fn sdk_config(&self, region: Option<String>) -> SdkConfig {
        let mut loader = self.aws(region);
        if let Some(url) = &self.endpoint_url {
            loader = loader.endpoint_url(url);
        }
        let sdk = loader.load().await;
        if self.endpoint_url.is_some() && sdk.region().is_none() {
            // Requests must be signed for some region, and an emulator accepts any.
            return sdk.into_builder().region(Region::new("us-east-1")).build();
        }
        sdk
    }
}

impl ServiceOptions {
    /// Returns the AWS configuration of the environment, with the region and the profile of the options.
    pub(crate) fn aws(&self, region: Option<String>) -> ConfigLoader {
        let mut loader = aws_config::defaults(BehaviorVersion::latest());
        if let Some(region) = region {
            loader = loader.region(Region::new(region));
        }
        if let Some(profile) = &self.profile {
            loader = loader.profile_name(profile);
        }
        loader
    }
}

/// Connects to a PostgreSQL server. The name of the target contains only the database, because a temporary
/// server may have another port when a run is resumed.
async fn postgres(url: &str, pipeline: Option<&Pipeline>) -> Result<Service> {
    // One additional connection is used for the records.
    let connections = pipeline.map_or(2, |pipeline| pipeline.concurrency().saturating_add(1)).clamp(2, 65);
    let executor = LocalExecutor::postgres(url).with_connections(connections).start().await?;
    let place = format!("postgres:{}", database(url));
    let executor = Arc::new(executor);
    Ok(Service { executor: executor.clone(), place, messages: Some(executor) })
}

fn is_loopback(url: &str) -> bool {
    let host = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = host.split(['/', '?']).next().unwrap_or_default();
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host).trim_matches(['[', ']']);
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

fn database(url: &str) -> &str {
    let path = url.split_once("://").map_or(url, |(_, rest)| rest);
    let name = path.split_once('/').map_or("", |(_, name)| name);
    name.split(['?', '#']).next().unwrap_or_default()
}

fn named(target: &Target) -> String {
    match target.compute() {
        Compute::Cluster(cluster) => format!("cluster/{cluster}/{}", target.database()),
        Compute::Workgroup(workgroup) => format!("workgroup/{workgroup}/{}", target.database()),
    }
}
