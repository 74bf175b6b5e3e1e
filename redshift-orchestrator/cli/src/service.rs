//! Connects to the service that runs the statements: AWS, an endpoint, or a PostgreSQL server.

use std::{net::IpAddr, sync::Arc};

use aws_config::{BehaviorVersion, ConfigLoader, Region, SdkConfig};
use aws_sdk_redshiftdata::config::{Credentials, ProvideCredentials, SharedCredentialsProvider};
use redshift_data_local::LocalExecutor;
use redshift_orchestrator::{
    DataApiExecutor, Error, ErrorKind, MessageSource, Pipeline, ProcedureMessages, Result, StatementExecutor,
    journal::RunEntry, layer::Fleet,
};

use crate::{account, options::ServiceOptions};

/// Executor of the statements, and the names of its service and database.
pub(crate) struct Service {
    pub(crate) executor: Arc<dyn StatementExecutor>,
    /// Name of the service: its account and region, or its address.
    name: String,
    /// Compute and database, such as `workgroup/dwh/mystore`, or the database of a PostgreSQL server.
    database: String,
    /// Source of the messages of stored procedures.
    pub(crate) messages: Option<Arc<dyn MessageSource>>,
}

impl Service {
    /// Returns the label under which the journal records the target of a run.
    pub(crate) fn target_label(&self) -> String {
        format!("{}:{}", self.name, self.database)
    }

    /// Rejects a run that was begun on another service, compute or database.
    pub(crate) fn check_target(&self, run: &RunEntry) -> Result<()> {
        let is = self.target_label();
        let Some(was) = run.begun.target.as_deref().filter(|was| *was != is && *was != self.database) else {
            return Ok(());
        };
        let mut message =
            format!("the run was started on `{was}`, and this command uses `{is}`; use another --run-id");
        if let Some(name) = was.strip_suffix(&self.database).and_then(|name| name.strip_suffix(':')) {
            message += &format!(", or add --service-name '{name}' if both are the same database");
        }
        Err(Error::new(ErrorKind::Definition, message).with_context("run", &run.run))
    }
}

impl ServiceOptions {
    pub(crate) async fn connect(&self, pipeline: Option<&Pipeline>) -> Result<Service> {
        match &self.postgres {
            Some(url) => self.postgres(url, pipeline).await,
            None => self.data_api(pipeline).await,
        }
    }

    async fn data_api(&self, pipeline: Option<&Pipeline>) -> Result<Service> {
        let target = self.target(pipeline)?;
        let region = self.region.clone().or_else(|| pipeline.and_then(Pipeline::region).map(str::to_owned));
        let sdk = self.sdk_config(region).await;
        if sdk.region().is_none() {
            return Err(no_region());
        }
        let (sdk, credentials) = self.with_credentials(sdk).await?;
        let name = match &self.service_name {
            Some(name) => name.clone(),
            None => account::service_name(&sdk, &credentials).await?,
        };
        let database = target.to_string();
        let executor = DataApiExecutor::new(&sdk, target.with_service_name(&name));
        let executor = Arc::new(Fleet::new(executor));
        let messages = Arc::new(ProcedureMessages::new(executor.clone()));
        Ok(Service { executor, name, database, messages: Some(messages) })
    }

    /// Returns the client of AWS Glue. `--endpoint-url` is that of the Data API; the variable
    /// `AWS_ENDPOINT_URL_GLUE` sets the endpoint of Glue.
    #[cfg(feature = "glue")]
    pub(crate) async fn glue(
        &self,
        pipeline: Option<&Pipeline>,
    ) -> Result<redshift_orchestrator::glue::GlueService> {
        use redshift_orchestrator::glue::{GlueService, aws_sdk_glue::Client};
        let region = self.region.clone().or_else(|| pipeline.and_then(Pipeline::region).map(str::to_owned));
        let sdk = self.aws(region).load().await;
        if sdk.region().is_none() {
            return Err(no_region());
        }
        Ok(GlueService::new(Client::new(&self.with_credentials(sdk).await?.0)))
    }

    /// Loads the credentials now to report missing ones at once. Otherwise every request would be retried
    /// until the retry timeout.
    async fn with_credentials(&self, sdk: SdkConfig) -> Result<(SdkConfig, Credentials)> {
        let found = match sdk.credentials_provider() {
            Some(provider) => provider.provide_credentials().await.map_err(|error| error.to_string()),
            None => Err("none are configured".to_owned()),
        };
        match found {
            Ok(credentials) => Ok((sdk, credentials)),
            // An emulator accepts any credentials.
            Err(_) if self.endpoint_url.as_deref().is_some_and(is_loopback) => {
                let any = Credentials::new("any", "any", None, None, "emulator");
                let provider = SharedCredentialsProvider::new(any.clone());
                Ok((sdk.into_builder().credentials_provider(provider).build(), any))
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

    /// Connects to a PostgreSQL server. The default name of the service is the server's address.
    async fn postgres(&self, url: &str, pipeline: Option<&Pipeline>) -> Result<Service> {
        // One additional connection is used for the records.
        let connections =
            pipeline.map_or(2, |pipeline| pipeline.concurrency().saturating_add(1)).clamp(2, 65);
        let executor = LocalExecutor::postgres(url).with_connections(connections).start().await?;
        let name = self.service_name.clone().unwrap_or_else(|| format!("postgres:{}", executor.server()));
        let executor = Arc::new(executor);
        let database = database(url).to_owned();
        Ok(Service { executor: executor.clone(), name, database, messages: Some(executor) })
    }
}

fn no_region() -> Error {
    Error::new(ErrorKind::Invalid, "no AWS region is configured; use --region, or set AWS_REGION")
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
