//! [`Catalog`]: the calls of a sync, and [`GlueCatalog`], the service.

use std::{error::Error as StdError, fmt};

use async_trait::async_trait;
use aws_sdk_glue::{
    Client,
    config::retry::RetryConfig,
    error::{ProvideErrorMetadata, SdkError},
    types::{
        DatabaseInput, ErrorDetail, Partition, PartitionError, PartitionInput, PartitionValueList, Table,
        TableInput,
    },
};

/// The kinds of failures of the catalog. Each kind determines what a sync does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CatalogErrorKind {
    /// The object does not exist.
    NotFound,
    /// Another writer created or changed the object first. Read it again.
    Conflict,
    /// The call was throttled, timed out or lost its response, and may have taken effect. Read the object
    /// again.
    Transient,
    /// The service refuses the call, and would refuse it again.
    Refused,
}

impl CatalogErrorKind {
    /// Returns the kind of a failure with this code of the service. A batch reports the same codes for its
    /// entries as a call does.
    pub(super) fn of(code: &str) -> Self {
        match code {
            "EntityNotFoundException" => Self::NotFound,
            "AlreadyExistsException"
            | "ConcurrentModificationException"
            | "VersionMismatchException"
            | "CrawlerRunningException" => Self::Conflict,
            "FederationSourceRetryableException"
            | "InternalError"
            | "InternalFailure"
            | "InternalServiceException"
            | "OperationTimeoutException"
            | "RequestLimitExceeded"
            | "RequestThrottledException"
            | "RequestTimeout"
            | "RequestTimeoutException"
            | "ResourceNotReadyException"
            | "ServiceUnavailable"
            | "ServiceUnavailableException"
            | "SlowDown"
            | "Throttling"
            | "ThrottledException"
            | "ThrottlingException"
            | "TooManyRequestsException" => Self::Transient,
            _ => Self::Refused,
        }
    }
}

/// A failed call of the catalog.
#[derive(Debug)]
pub struct CatalogError {
    kind: CatalogErrorKind,
    call: &'static str,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl CatalogError {
    /// Creates an error for a call, such as `UpdateTable`.
    pub fn new(kind: CatalogErrorKind, call: &'static str, message: impl Into<String>) -> Self {
        Self { kind, call, message: message.into(), source: None }
    }

    /// Returns the kind.
    pub fn kind(&self) -> CatalogErrorKind {
        self.kind
    }

    /// Returns the name of the failed call.
    pub fn call(&self) -> &'static str {
        self.call
    }
}

impl fmt::Display for CatalogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failed: {}", self.call, self.message)
    }
}

impl StdError for CatalogError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// A partition in a batch that the catalog did not store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionFailure {
    /// Its values.
    pub values: Vec<String>,
    /// The service's code, such as `AlreadyExistsException`.
    pub code: String,
    /// The service's message.
    pub message: String,
}

impl PartitionFailure {
    /// Creates a failure for a partition.
    pub fn new(values: Vec<String>, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { values, code: code.into(), message: message.into() }
    }
}

/// The calls that a sync makes. Batches have at most the size that the service accepts: 100 partitions to
/// create or update, 25 to delete, 1,000 to get.
#[async_trait]
pub trait Catalog: Send + Sync {
    /// Returns a table. Returns `None` if the table or its database does not exist.
    async fn table(&self, database: &str, table: &str) -> Result<Option<Table>, CatalogError>;

    /// Creates a database unless it exists.
    async fn ensure_database(&self, database: &str) -> Result<(), CatalogError>;

    /// Creates a table.
    async fn create_table(&self, database: &str, table: TableInput) -> Result<(), CatalogError>;

    /// Replaces a table's description if its version is still `version`. With `archive`, the catalog keeps
    /// the old version.
    async fn update_table(
        &self,
        database: &str,
        table: TableInput,
        version: Option<&str>,
        archive: bool,
    ) -> Result<(), CatalogError>;

    /// Deletes a table with its partitions.
    async fn delete_table(&self, database: &str, table: &str) -> Result<(), CatalogError>;

    /// Returns all partitions.
    async fn partitions(&self, database: &str, table: &str) -> Result<Vec<Partition>, CatalogError>;

    /// Returns those of the given partitions that exist.
    async fn partitions_with(
        &self,
        database: &str,
        table: &str,
        values: &[Vec<String>],
    ) -> Result<Vec<Partition>, CatalogError>;

    /// Creates partitions, and returns those that failed.
    async fn create_partitions(
        &self,
        database: &str,
        table: &str,
        partitions: &[PartitionInput],
    ) -> Result<Vec<PartitionFailure>, CatalogError>;

    /// Replaces the descriptions of partitions, and returns those that failed.
    async fn update_partitions(
        &self,
        database: &str,
        table: &str,
        partitions: &[PartitionInput],
    ) -> Result<Vec<PartitionFailure>, CatalogError>;

    /// Deletes partitions, and returns those that failed.
    async fn delete_partitions(
        &self,
        database: &str,
        table: &str,
        values: &[Vec<String>],
    ) -> Result<Vec<PartitionFailure>, CatalogError>;
}

/// The AWS Glue Data Catalog.
#[derive(Clone, Debug)]
pub struct GlueCatalog {
    pub(super) client: Client,
    /// Sends each call once.
    once: Client,
}

impl GlueCatalog {
    /// Calls the service through a client. Calls that read are retried as the client is configured. Calls that
    /// change the catalog are sent once: after a failure, the caller reads what has become of them.
    pub fn new(client: Client) -> Self {
        let once = client.config().to_builder().retry_config(RetryConfig::disabled());
        let once = Client::from_conf(once.build());
        Self { client, once }
    }
}

#[async_trait]
impl Catalog for GlueCatalog {
    async fn table(&self, database: &str, table: &str) -> Result<Option<Table>, CatalogError> {
        match self.client.get_table().database_name(database).name(table).send().await {
            Ok(found) => Ok(found.table),
            Err(cause) => match failed("GetTable", cause) {
                error if error.kind == CatalogErrorKind::NotFound => Ok(None),
                error => Err(error),
            },
        }
    }

    async fn ensure_database(&self, database: &str) -> Result<(), CatalogError> {
        match self.client.get_database().name(database).send().await.map_err(|e| failed("GetDatabase", e)) {
            Err(error) if error.kind == CatalogErrorKind::NotFound => {}
            other => return other.map(drop),
        }
        let input =
            DatabaseInput::builder().name(database).description("Hudi tables, registered by hudi-scd");
        let input = input.build().map_err(|cause| incomplete("CreateDatabase", cause))?;
        match self.client.create_database().database_input(input).send().await {
            Ok(_) => Ok(()),
            Err(cause) => match failed("CreateDatabase", cause) {
                error if error.kind == CatalogErrorKind::Conflict => Ok(()),
                error => Err(error),
            },
        }
    }

    async fn create_table(&self, database: &str, table: TableInput) -> Result<(), CatalogError> {
        let call = self.once.create_table().database_name(database).table_input(table);
        call.send().await.map(drop).map_err(|cause| failed("CreateTable", cause))
    }

    async fn update_table(
        &self,
        database: &str,
        table: TableInput,
        version: Option<&str>,
        archive: bool,
    ) -> Result<(), CatalogError> {
        let call = self.once.update_table().database_name(database).table_input(table).skip_archive(!archive);
        let call = call.set_version_id(version.map(str::to_owned));
        call.send().await.map(drop).map_err(|cause| failed("UpdateTable", cause))
    }

    async fn delete_table(&self, database: &str, table: &str) -> Result<(), CatalogError> {
        let call = self.once.delete_table().database_name(database).name(table);
        call.send().await.map(drop).map_err(|cause| failed("DeleteTable", cause))
    }

    async fn partitions(&self, database: &str, table: &str) -> Result<Vec<Partition>, CatalogError> {
        const CALL: &str = "GetPartitions";
        let call = self.client.get_partitions().database_name(database).table_name(table);
        let call = call.exclude_column_schema(false);
        let (mut found, mut token) = (Vec::new(), None);
        loop {
            let page = call.clone().set_next_token(token.clone()).send().await;
            let page = page.map_err(|cause| failed(CALL, cause))?;
            found.extend(page.partitions.unwrap_or_default());
            token = next_page(CALL, token, page.next_token)?;
            if token.is_none() {
                return Ok(found);
            }
        }
    }

    async fn partitions_with(
        &self,
        database: &str,
        table: &str,
        values: &[Vec<String>],
    ) -> Result<Vec<Partition>, CatalogError> {
        const CALL: &str = "BatchGetPartition";
        let mut left = lists(CALL, values)?;
        let mut found = Vec::new();
        while !left.is_empty() {
            let asked = left.len();
            let call = self.client.batch_get_partition().database_name(database).table_name(table);
            let reply = call.set_partitions_to_get(Some(left)).send().await.map_err(|e| failed(CALL, e))?;
            let got = reply.partitions.unwrap_or_default();
            left = reply.unprocessed_keys.unwrap_or_default();
            // An emulator reports partitions that do not exist as unprocessed.
            if got.is_empty() && left.len() == asked {
                break;
            }
            found.extend(got);
        }
        Ok(found)
    }

    async fn create_partitions(
        &self,
        database: &str,
        table: &str,
        partitions: &[PartitionInput],
    ) -> Result<Vec<PartitionFailure>, CatalogError> {
        let call = self.once.batch_create_partition().database_name(database).table_name(table);
        let call = call.set_partition_input_list(Some(partitions.to_vec()));
        let reply = call.send().await.map_err(|cause| failed("BatchCreatePartition", cause))?;
        Ok(failures(reply.errors))
    }

    async fn update_partitions(
        &self,
        database: &str,
        table: &str,
        partitions: &[PartitionInput],
    ) -> Result<Vec<PartitionFailure>, CatalogError> {
        const CALL: &str = "BatchUpdatePartition";
        use aws_sdk_glue::types::BatchUpdatePartitionRequestEntry as Entry;
        let entry = |partition: &PartitionInput| {
            let entry = Entry::builder().set_partition_value_list(partition.values.clone());
            entry.partition_input(partition.clone()).build().map_err(|cause| incomplete(CALL, cause))
        };
        let entries = partitions.iter().map(entry).collect::<Result<Vec<_>, _>>()?;
        let call = self.once.batch_update_partition().database_name(database).table_name(table);
        let reply = call.set_entries(Some(entries)).send().await.map_err(|cause| failed(CALL, cause))?;
        let failures = reply.errors.unwrap_or_default().into_iter();
        Ok(failures.map(|failed| failure(failed.partition_value_list, failed.error_detail)).collect())
    }

    async fn delete_partitions(
        &self,
        database: &str,
        table: &str,
        values: &[Vec<String>],
    ) -> Result<Vec<PartitionFailure>, CatalogError> {
        const CALL: &str = "BatchDeletePartition";
        let call = self.once.batch_delete_partition().database_name(database).table_name(table);
        let call = call.set_partitions_to_delete(Some(lists(CALL, values)?));
        let reply = call.send().await.map_err(|cause| failed(CALL, cause))?;
        Ok(failures(reply.errors))
    }
}

/// Returns the token of a listing's next page, `None` after the last page. A repeated token is an error; the
/// SDK's own iterator over pages would end there, without the rest of the listing.
pub(super) fn next_page(
    call: &'static str,
    sent: Option<String>,
    received: Option<String>,
) -> Result<Option<String>, CatalogError> {
    let next = received.filter(|token| !token.is_empty());
    if next.is_some() && next == sent {
        let message = "the service returned the same page token again";
        return Err(CatalogError::new(CatalogErrorKind::Transient, call, message));
    }
    Ok(next)
}

fn lists(call: &'static str, values: &[Vec<String>]) -> Result<Vec<PartitionValueList>, CatalogError> {
    let list = |values: &Vec<String>| {
        PartitionValueList::builder()
            .set_values(Some(values.clone()))
            .build()
            .map_err(|e| incomplete(call, e))
    };
    values.iter().map(list).collect()
}

fn failures(errors: Option<Vec<PartitionError>>) -> Vec<PartitionFailure> {
    let errors = errors.unwrap_or_default().into_iter();
    errors.map(|error| failure(error.partition_values, error.error_detail)).collect()
}

fn failure(values: Option<Vec<String>>, detail: Option<ErrorDetail>) -> PartitionFailure {
    let (code, message) = detail.map_or((None, None), |detail| (detail.error_code, detail.error_message));
    PartitionFailure {
        values: values.unwrap_or_default(),
        code: code.unwrap_or_default(),
        message: message.unwrap_or_default(),
    }
}

fn incomplete(call: &'static str, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> CatalogError {
    let mut error = CatalogError::new(CatalogErrorKind::Refused, call, "the request is incomplete");
    error.source = Some(cause.into());
    error
}

/// Classifies a failed call by the service's code.
pub(super) fn failed<E, R>(call: &'static str, cause: SdkError<E, R>) -> CatalogError
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    R: fmt::Debug + Send + Sync + 'static,
{
    let answer = cause.as_service_error();
    let kind = match (answer.and_then(ProvideErrorMetadata::code), &cause) {
        (Some(code), _) => CatalogErrorKind::of(code),
        (None, SdkError::ConstructionFailure(_)) => CatalogErrorKind::Refused,
        // Without a code, the service did not respond, or a proxy responded in its place.
        (None, _) => CatalogErrorKind::Transient,
    };
    let message = match answer.map(|answer| (answer.code(), answer.message())) {
        Some((Some(code), Some(message))) => format!("{message} ({code})"),
        Some((Some(code), None)) => code.to_owned(),
        _ => chain(&cause),
    };
    CatalogError { kind, call, message, source: Some(Box::new(cause)) }
}

/// Returns the message of an error and of its causes.
fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        // Some errors contain the message of their cause.
        if !text.contains(&said) {
            text.push_str(&format!(": {said}"));
        }
        source = cause.source();
    }
    text
}
