//! What runs the statements: AWS, an endpoint, or a PostgreSQL server.

use std::sync::Arc;

use aws_config::{BehaviorVersion, ConfigLoader, Region, SdkConfig};
use redshift_orchestrator::{
    Compute, DataApiExecutor, Error, ErrorKind, Messages, Pipeline, Result, StatementExecutor,
    SystemMessages, Target, layer::Fleet, local::LocalExecutor,
};

use crate::options::ServiceOptions;

/// What runs the statements, and where that is, for the journal.
pub(crate) struct Service {
    pub(crate) executor: Arc<dyn StatementExecutor>,
    pub(crate) place: String,
    /// Where to read what procedures say.
    pub(crate) messages: Option<Arc<dyn Messages>>,
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
                    "no AWS region is known; give --region, or set AWS_REGION",
                ));
            }
        };
        let executor = Arc::new(Fleet::new(DataApiExecutor::new(&sdk, target)));
        let messages = Arc::new(SystemMessages::new(executor.clone()));
        Ok(Service { executor, place, messages: Some(messages) })
    }

    async fn sdk_config(&self, region: Option<String>) -> SdkConfig {
        let mut loader = self.aws(region);
        if let Some(url) = &self.endpoint_url {
            loader = loader.endpoint_url(url);
        }
        let sdk = loader.load().await;
        if self.endpoint_url.is_some() && sdk.region().is_none() {
            // Requests are signed for a region; an emulator takes any.
            return sdk.into_builder().region(Region::new("us-east-1")).build();
        }
        sdk
    }
}

impl ServiceOptions {
    /// The AWS configuration of the environment, and of the options that are about AWS as a whole.
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

/// On a server at hand, the journal's runs are told apart by the database only: ports of throwaway servers change.
async fn postgres(url: &str, pipeline: Option<&Pipeline>) -> Result<Service> {
    // One keeps the records.
    let connections = pipeline.map_or(2, |pipeline| pipeline.concurrency().saturating_add(1)).clamp(2, 65);
    let executor = LocalExecutor::postgres(url).with_connections(connections).start().await?;
    let place = format!("postgres:{}", database(url));
    let executor = Arc::new(executor);
    Ok(Service { executor: executor.clone(), place, messages: Some(executor) })
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
        other => format!("{other:?}/{}", target.database()),
    }
}
