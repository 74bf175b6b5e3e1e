//! [`DataApiExecutor`]: runs statements with the Amazon Redshift Data API, through `aws-sdk-redshiftdata`.
//!
//! ```no_run
//! use redshift_orchestrator::{DataApiExecutor, Statement, StatementExecutor, Target};
//!
//! # async fn run() -> redshift_orchestrator::Result<()> {
//! let sdk = aws_config::load_from_env().await;
//! let target = Target::cluster("dwh", "mystore").with_secret("arn:aws:secretsmanager:eu-west-1:111122223333:secret:dwh");
//! let executor = DataApiExecutor::new(&sdk, target);
//! let submitted = executor.submit(&Statement::sql("CALL mystore.load_sales()"), None).await?;
//! println!("{}", submitted.id);
//! # Ok(())
//! # }
//! ```
//!
//! # Configuration of the SDK
//!
//! [`DataApiExecutor::config`] changes three defaults of the SDK that do not suit this service:
//!
//! | setting | value | reason |
//! |---|---|---|
//! | attempt timeout | 40 s; 150 s for a listing | without a timeout, the SDK waits forever for a lost response. A long poll takes up to 30 s, and a listing took 120 s in a busy account |
//! | stalled-stream protection | off | it ends a long poll after about 6 s if the headers of the response arrive early |
//! | retries | off | the SDK does not recognise a throttle wrapped in a `ValidationException` or the three `Active…ExceededException`. Its retries would also multiply those of the layers |
//!
//! The region, endpoint, credentials, HTTP client, connect timeout and interceptors are taken from the
//! [`SdkConfig`]. The crate itself neither contains a TLS stack nor searches for credentials. An application
//! loads the configuration with `aws-config`; the feature `default-https-client` of `aws-config` adds the
//! HTTP client.
//!
//! # Errors
//!
//! The errors distinguish a request that was not sent (no credentials, no connection) from a request that may
//! have taken effect (lost connection, no response in time). The SDK's errors do not.
//!
//! A single table in `classify.rs` maps every response of the service and every failure of a request to an
//! [`ErrorKind`]. [`Error::code`] returns the service's code, including one that is not in the table. SQL
//! text, parameter values and the secret's ARN are removed from the service's messages. The SDK itself logs
//! complete requests and responses, including credentials in headers, at level *trace* under the target
//! `aws_smithy_runtime`. Limit this target to level *debug* in the subscriber.

mod catalog;
mod classify;
mod convert;
mod service_name;

use std::{fmt, time::Duration};

use async_trait::async_trait;
pub use aws_sdk_redshiftdata;
use aws_sdk_redshiftdata::{
    Client,
    config::{self, StalledStreamProtectionConfig, retry::RetryConfig, timeout::TimeoutConfig},
    operation::{
        batch_execute_statement::BatchExecuteStatementError as BatchError,
        execute_statement::ExecuteStatementError as ExecuteError,
    },
};
pub use aws_types;
use aws_types::SdkConfig;

use self::classify::{Meaning, RequestContext};
use crate::{
    Description, Error, ErrorKind, PageToken, Result, ResultFormat, ResultPage, Statement, StatementExecutor,
    StatementFilter, StatementId, StatementPage, Submitted, Target, WaitTime, service::LISTING_TIMEOUT,
};

/// Timeout of one request: 30 s for the longest long poll, and 10 s for the network.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(40);

/// Prefix of the page tokens of CSV results. Each result format has a separate operation, and the prefix
/// selects the one for the next page. The service's tokens contain no colon.
const CSV_PAGE: &str = "csv:";

/// Executor for the Amazon Redshift Data API, with a default target.
///
/// Clones share connections and credentials, and are cheap.
#[derive(Clone)]
pub struct DataApiExecutor {
    client: Client,
    target: Target,
    listing_timeout: Option<Duration>,
}

impl DataApiExecutor {
    /// Creates an executor with this default target and the configuration returned by
    /// [`config`](Self::config). If the target has no [name of the service](Target::with_service_name), sets
    /// the one returned by [`service_name`](Self::service_name).
    pub fn new(sdk: &SdkConfig, target: Target) -> Self {
        let target = named(target, Self::service_name(sdk));
        Self { listing_timeout: Some(LISTING_TIMEOUT), ..Self::from_conf(Self::config(sdk).build(), target) }
    }

    /// Returns the name of the service of this configuration: the URL of the endpoint, if one is set, and the
    /// region. Returns `None` if neither is set.
    ///
    /// Credentials belong to an account, so they are not part of the configuration. An application that runs
    /// a pipeline in several accounts adds the account with [`Target::with_service_name`].
    pub fn service_name(sdk: &SdkConfig) -> Option<String> {
        service_name::of(sdk)
    }

    /// Creates an executor with a custom configuration. Start with the builder that [`config`](Self::config)
    /// returns, and change individual settings.
    ///
    /// # Panics
    /// Panics in the same cases as [`Client::from_conf`]: if the configuration has no behaviour version, or
    /// has timeouts but no sleep implementation.
    pub fn from_conf(conf: aws_sdk_redshiftdata::Config, target: Target) -> Self {
        Self::from_client(Client::from_conf(conf), target)
    }

    /// Creates an executor with a custom client, and does not change its settings.
    ///
    /// A client with the SDK's defaults works, but retries requests itself, and may wait forever if the
    /// connection is lost during a long poll. If a submit fails after the SDK has repeated it, the error is
    /// [`Disconnected`](ErrorKind::Disconnected), because an earlier attempt may have taken effect.
    ///
    /// If the target has no [name of the service](Target::with_service_name), sets the region.
    pub fn from_client(client: Client, target: Target) -> Self {
        let target = named(target, client.config().region().map(ToString::to_string));
        Self { client, target, listing_timeout: None }
    }

    /// Returns the settings of `sdk`, changed for this service as described in [the module](self).
    pub fn config(sdk: &SdkConfig) -> config::Builder {
        let connect_timeout = sdk.timeout_config().and_then(TimeoutConfig::connect_timeout);
        config::Builder::from(sdk)
            .timeout_config(timeouts(connect_timeout, ATTEMPT_TIMEOUT))
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .retry_config(RetryConfig::disabled())
    }

    /// Returns the SDK's client, for operations that this executor does not offer.
    pub fn client(&self) -> &Client {
        &self.client
    }

    async fn execute(
        &self,
        statement: &Statement,
        wait: Option<WaitTime>,
        call: &RequestContext,
    ) -> Result<Submitted> {
        let request = convert::execute(self.client.execute_statement(), statement, &self.target, wait)?;
        let sent = request.customize().interceptor(call.sending()).send().await;
        let output = sent.map_err(|error| {
            let statement_id = match error.as_service_error() {
                Some(ExecuteError::ExecuteStatementException(e)) => Some(e.statement_id().to_owned()),
                _ => None,
            };
            call.error(error, statement_id)
        })?;
        convert::executed(output)
    }

    async fn batch_execute(
        &self,
        statement: &Statement,
        wait: Option<WaitTime>,
        call: &RequestContext,
    ) -> Result<Submitted> {
        let request = convert::batch(self.client.batch_execute_statement(), statement, &self.target, wait)?;
        let sent = request.customize().interceptor(call.sending()).send().await;
        let output = sent.map_err(|error| {
            let statement_id = match error.as_service_error() {
                Some(BatchError::BatchExecuteStatementException(e)) => Some(e.statement_id().to_owned()),
                _ => None,
            };
            call.error(error, statement_id)
        })?;
        convert::batch_executed(output)
    }

    async fn json_result(&self, id: &StatementId, page: Option<String>) -> Result<ResultPage> {
        let call = RequestContext::new("GetStatementResult").about(id);
        let output = self
            .client
            .get_statement_result()
            .id(id.as_str())
            .set_next_token(page)
            .customize()
            .interceptor(call.sending())
            .send()
            .await
            .map_err(|error| call.error(error, None))?;
        convert::json_page(output)
    }

    async fn csv_result(&self, id: &StatementId, page: Option<String>) -> Result<ResultPage> {
        let call = RequestContext::new("GetStatementResultV2").about(id);
        let output = self
            .client
            .get_statement_result_v2()
            .id(id.as_str())
            .set_next_token(page)
            .customize()
            .interceptor(call.sending())
            .send()
            .await
            .map_err(|error| call.error(error, None))?;
        convert::csv_page(output)
    }

    /// Returns the result format of a statement, or of the batch if `id` is a sub-statement.
    async fn result_format(&self, id: &StatementId) -> Result<ResultFormat> {
        let call = RequestContext::new("DescribeStatement").about(id);
        let statement = id.as_str().split(':').next().unwrap_or_default();
        let request = self.client.describe_statement().id(statement).customize();
        let output =
            request.interceptor(call.sending()).send().await.map_err(|error| call.error(error, None))?;
        let Some(format) = &output.result_format else { return Ok(ResultFormat::default()) };
        convert::format(Some(format)).ok_or_else(|| {
            Error::new(
                ErrorKind::Unsupported,
                "this version cannot read the result's format; submit with JSON or CSV",
            )
            .with_context("format", format.as_str())
            .with_context("statement_id", id)
        })
    }
}

/// Sets the name of the service, unless the target has one.
fn named(target: Target, service: Option<String>) -> Target {
    match (target.service_name(), service) {
        (None, Some(service)) => target.with_service_name(service),
        _ => target,
    }
}

fn timeouts(connect: Option<Duration>, attempt: Duration) -> TimeoutConfig {
    let mut builder = TimeoutConfig::builder();
    builder.set_connect_timeout(connect);
    builder.operation_attempt_timeout(attempt).disable_operation_timeout().disable_read_timeout().build()
}

#[async_trait]
impl StatementExecutor for DataApiExecutor {
    async fn submit(&self, statement: &Statement, wait: Option<WaitTime>) -> Result<Submitted> {
        let single = statement.execution_mode().is_none();
        let operation = if single { "ExecuteStatement" } else { "BatchExecuteStatement" };
        let call =
            RequestContext::new(operation).withholding(statement, statement.target().unwrap_or(&self.target));
        if single {
            self.execute(statement, wait, &call).await
        } else {
            self.batch_execute(statement, wait, &call).await
        }
    }

    async fn describe(&self, id: &StatementId, wait: Option<WaitTime>) -> Result<Description> {
        let call = RequestContext::new("DescribeStatement").about(id);
        let output = self
            .client
            .describe_statement()
            .id(id.as_str())
            .set_wait_time_seconds(convert::wait_seconds(wait))
            .customize()
            .interceptor(call.sending())
            .send()
            .await
            .map_err(|error| call.error(error, None))?;
        Ok(convert::description(output))
    }

    /// Also returns `false` if the statement has already ended, because the service rejects such a cancel as
    /// an invalid request.
    async fn cancel(&self, id: &StatementId) -> Result<bool> {
        let call = RequestContext::new("CancelStatement").about(id);
        let request = self.client.cancel_statement().id(id.as_str()).customize();
        match request.interceptor(call.sending()).send().await {
            Ok(output) => Ok(output.status.unwrap_or(false)),
            Err(error) => match call.meaning(error, None) {
                Meaning::AlreadyEnded => Ok(false),
                Meaning::Error(error) => Err(error),
            },
        }
    }

    /// Sends an additional request before the first page, to find out the format of the result.
    async fn result(&self, id: &StatementId, page: Option<PageToken>) -> Result<ResultPage> {
        if let Some(requested) = page {
            let mut response = match requested.as_str().strip_prefix(CSV_PAGE) {
                Some(token) => self.csv_result(id, Some(token.to_owned())).await?,
                None => self.json_result(id, Some(requested.as_str().to_owned())).await?,
            };
            response.next = checked_next(Some(&requested), response.next)?;
            return Ok(response);
        }
        match self.result_format(id).await? {
            ResultFormat::Json => self.json_result(id, None).await,
            ResultFormat::Csv => self.csv_result(id, None).await,
        }
    }

    /// Lists the statements that the caller's role submitted to *any* target, unless the filter sets a
    /// compute or a database.
    ///
    /// The default target is not used as a filter. Callers mostly list statements to find out if a statement
    /// exists, and a filter that the service interprets in another way could hide it.
    async fn list(&self, filter: &StatementFilter, page: Option<PageToken>) -> Result<StatementPage> {
        let call = RequestContext::new("ListStatements");
        let (cluster, workgroup) = convert::compute(filter.compute.as_ref());
        let request = self
            .client
            .list_statements()
            .status(convert::status_filter(filter.status.as_ref()))
            .set_statement_name(filter.name_prefix.clone())
            .role_level(!filter.own_session_only)
            .set_cluster_identifier(cluster)
            .set_workgroup_name(workgroup)
            .set_database(filter.database.clone())
            .set_max_results(filter.page_size.map(i32::from))
            .set_next_token(page.as_ref().map(|page| page.as_str().to_owned()))
            .customize()
            .interceptor(call.sending());
        let request = match self.listing_timeout {
            Some(limit) => {
                let connect = self.client.config().timeout_config().and_then(TimeoutConfig::connect_timeout);
                request.config_override(config::Config::builder().timeout_config(timeouts(connect, limit)))
            }
            None => request,
        };
        let output = request.send().await.map_err(|error| call.error(error, None))?;
        let mut response = convert::statement_page(output);
        response.next = checked_next(page.as_ref(), response.next)?;
        Ok(response)
    }

    fn target(&self) -> Option<Target> {
        Some(self.target.clone())
    }
}

/// Returns the token of the next page. If it equals the token of the current page, returns an error, because
/// the pages would never end.
fn checked_next(requested: Option<&PageToken>, next: Option<PageToken>) -> Result<Option<PageToken>> {
    if next.is_some() && next.as_ref() == requested {
        return Err(Error::new(
            ErrorKind::Other,
            "the service returned the token of the same page as the token of the next page",
        ));
    }
    Ok(next)
}

impl fmt::Debug for DataApiExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataApiExecutor").field("target", &self.target).finish_non_exhaustive()
    }
}

impl fmt::Display for DataApiExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataApi")
    }
}
