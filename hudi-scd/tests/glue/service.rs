//! AWS Glue in this process, behind the real SDK. Listings have pages, batches have limits, an update names a
//! version, names are converted to lower case, and a running crawler cannot be updated. Faults are generated
//! from a seed.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use aws_smithy_runtime_api::client::{
    http::{HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector},
    orchestrator::{HttpRequest, HttpResponse},
    result::ConnectorError,
    runtime_components::RuntimeComponents,
};
use hudi_scd::glue::{
    GlueCatalog,
    aws_sdk_glue::{
        Client,
        config::{Config, Credentials, Region, retry::RetryConfig},
        types::{CrawlerTargets, S3Target},
    },
    crawler::Crawlers,
};
use serde_json::{Value, json};
use tokio::time::Instant;

/// The service, and a catalog that calls it.
pub(crate) struct Service {
    pub(crate) glue: GlueCatalog,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) database: bool,
    pub(crate) tables: BTreeMap<String, Entry>,
    pub(crate) crawler: Option<Value>,
    /// Time until which the crawler runs.
    pub(crate) runs_until: Option<Instant>,
    /// If set, a run of this duration starts after the crawler was read and before it is updated.
    pub(crate) starts_after_read: Option<Duration>,
    /// The calls in order.
    pub(crate) calls: Vec<&'static str>,
    /// The calls with their inputs, if a test needs them.
    pub(crate) requests: Option<Vec<(&'static str, Value)>>,
    /// If set, the service rejects every call with this code and message.
    pub(crate) refusal: Option<(&'static str, &'static str)>,
    /// `true` if the service does not respond.
    pub(crate) is_silent: bool,
    /// The number of entries per page. Default: 100.
    pub(crate) page: Option<usize>,
    pub(crate) faults: Option<fastrand::Rng>,
}

/// A table of the catalog.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entry {
    pub(crate) table: Value,
    pub(crate) partitions: BTreeMap<Vec<String>, Value>,
    /// The number of versions that were archived.
    pub(crate) archived: usize,
    pub(crate) version: u64,
}

/// The code and the message of an error.
type Reply = Result<Value, (&'static str, String)>;

const CALLS: [&str; 14] = [
    "BatchCreatePartition",
    "BatchDeletePartition",
    "BatchGetPartition",
    "BatchUpdatePartition",
    "CreateDatabase",
    "CreateTable",
    "DeleteTable",
    "GetCrawler",
    "GetDatabase",
    "GetPartitions",
    "GetTable",
    "GetTables",
    "UpdateCrawler",
    "UpdateTable",
];

impl Default for Service {
    /// The pauses of the SDK's own retries are random, so that there are none unless a test is about them.
    fn default() -> Self {
        Self::with_retries(RetryConfig::disabled())
    }
}

impl Service {
    fn with_retries(retries: RetryConfig) -> Self {
        let state: Arc<Mutex<State>> = Arc::default();
        let config = Config::builder()
            .behavior_version_latest()
            .region(Region::new("eu-west-1"))
            .endpoint_url("http://in-process/")
            .credentials_provider(Credentials::new("id", "secret", None, None, "test"))
            .retry_config(retries)
            .http_client(Connector(state.clone()));
        Self { glue: GlueCatalog::new(Client::from_conf(config.build())), state }
    }

    /// Fails about one call in four: it is throttled, in conflict, lost, or performed without a response.
    /// Pages and batches are incomplete. Every second seed has the SDK's own retries.
    pub(crate) fn with_faults(seed: u64) -> Self {
        let retries = if seed.is_multiple_of(2) { RetryConfig::disabled() } else { RetryConfig::standard() };
        let service = Self::with_retries(retries);
        service.state().page = Some(2);
        service.state().faults = Some(fastrand::Rng::with_seed(seed));
        service
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Returns the names of the calls since the last call of this function.
    pub(crate) fn calls(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.state().calls)
    }

    pub(crate) fn stop_faults(&self) {
        self.state().faults = None;
    }

    /// Returns the only table.
    pub(crate) fn entry(&self) -> Entry {
        let state = self.state();
        assert!(state.tables.len() <= 1, "{:?}", state.tables.keys());
        state.tables.values().next().cloned().unwrap_or_default()
    }

    /// Changes the only table, as another writer would.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Value)) {
        change(&mut self.state().tables.values_mut().next().unwrap().table);
    }

    /// Creates a crawler.
    pub(crate) async fn with_crawler(targets: CrawlerTargets) -> Self {
        let service = Self::default();
        service.state().crawler = Some(json!({ "Name": "clean" }));
        service.glue.update_targets("clean", targets).await.unwrap();
        service.calls();
        service
    }

    /// Returns the crawler's S3 targets.
    pub(crate) async fn s3_targets(&self) -> Vec<S3Target> {
        let found = self.glue.crawler("clean").await.unwrap().unwrap();
        found.targets.unwrap().s3_targets.unwrap_or_default()
    }

    /// Returns the exclusion patterns of each target.
    pub(crate) async fn exclusions(&self) -> Vec<Vec<String>> {
        self.s3_targets().await.iter().map(|target| target.exclusions().to_vec()).collect()
    }

    /// Returns the values of all partitions of the only table.
    pub(crate) fn partitions(&self) -> Vec<Vec<String>> {
        self.entry().partitions.into_keys().collect()
    }
}

impl State {
    /// Stores a table in the catalog as given.
    pub(crate) fn put(&mut self, mut table: Value, partitions: BTreeMap<Vec<String>, Value>) {
        self.database = true;
        let name = folded(&table["Name"]);
        table["Name"] = name.clone().into();
        table["VersionId"] = "1".into();
        self.tables.insert(name, Entry { table, partitions, archived: 0, version: 1 });
    }

    /// Responds to a call. Codes and limits are those of the service's API.
    fn answer(&mut self, call: &str, input: &Value) -> Reply {
        if call != "CreateDatabase" && input["DatabaseName"].is_string() && !self.database {
            return Err(not_found("Database"));
        }
        match call {
            "GetDatabase" if self.database => Ok(json!({ "Database": { "Name": input["Name"] } })),
            "GetDatabase" => Err(not_found("Database")),
            "CreateDatabase" if self.database => Err(exists("Database")),
            "CreateDatabase" => {
                self.database = true;
                Ok(json!({}))
            }
            "GetTable" => Ok(json!({ "Table": self.entry(&input["Name"])?.table })),
            "GetTables" => {
                let tables = self.tables.values().map(|entry| entry.table.clone()).collect();
                Ok(self.page("TableList", tables, input))
            }
            "CreateTable" => self.create_table(input),
            "UpdateTable" => self.update_table(input),
            "DeleteTable" => {
                self.entry(&input["Name"])?;
                self.tables.remove(&folded(&input["Name"]));
                Ok(json!({}))
            }
            "GetPartitions" => {
                let partitions = self.entry(&input["TableName"])?.partitions.values().cloned().collect();
                Ok(self.page("Partitions", partitions, input))
            }
            "BatchGetPartition" => self.get_partitions(input),
            "BatchCreatePartition" => self.create_partitions(input),
            "BatchUpdatePartition" => self.update_partitions(input),
            "BatchDeletePartition" => self.delete_partitions(input),
            "GetCrawler" => self.get_crawler(),
            "UpdateCrawler" => self.update_crawler(input),
            other => panic!("{other}"),
        }
    }

    fn entry(&mut self, name: &Value) -> Result<&mut Entry, (&'static str, String)> {
        self.tables.get_mut(&folded(name)).ok_or_else(|| not_found("Table"))
    }

    fn create_table(&mut self, input: &Value) -> Reply {
        if self.entry(&input["TableInput"]["Name"]).is_ok() {
            return Err(exists("Table"));
        }
        self.put(input["TableInput"].clone(), BTreeMap::new());
        Ok(json!({}))
    }

    /// Replaces the table. Fields that the input omits are removed.
    fn update_table(&mut self, input: &Value) -> Reply {
        let mut table = input["TableInput"].clone();
        let entry = self.entry(&table["Name"])?;
        let stale = input["VersionId"].as_str().is_some_and(|version| version != entry.version.to_string());
        if stale {
            let text = "Update table failed due to concurrent modifications.";
            return Err(("ConcurrentModificationException", text.to_owned()));
        }
        if entry.table["PartitionKeys"] != table["PartitionKeys"] {
            return Err(invalid("Partition keys can not be changed."));
        }
        entry.archived += usize::from(input["SkipArchive"] != true);
        entry.version += 1;
        table["VersionId"] = entry.version.to_string().into();
        table["Name"] = folded(&table["Name"]).into();
        entry.table = table;
        Ok(json!({}))
    }

    /// Returns a page of a listing. With faults, a page may be empty without being the last.
    fn page(&mut self, name: &str, all: Vec<Value>, input: &Value) -> Value {
        let size = self.page.unwrap_or(100).min(input["MaxResults"].as_u64().unwrap_or(1000) as usize);
        let begin: usize = input["NextToken"].as_str().map_or(0, |token| token.parse().unwrap());
        let size = if self.faults.as_mut().is_some_and(|random| random.u8(0..10) == 0) { 0 } else { size };
        let total = all.len();
        let page: Vec<Value> = all.into_iter().skip(begin).take(size).collect();
        let mut reply = json!({ name: page });
        if begin + size < total {
            reply["NextToken"] = (begin + size).to_string().into();
        }
        reply
    }

    fn get_partitions(&mut self, input: &Value) -> Reply {
        let wanted = batch(input, "PartitionsToGet", 1000)?;
        let (mut found, mut left) = (Vec::new(), Vec::new());
        for (number, wanted) in wanted.iter().enumerate() {
            // A reply without any progress would mean that the partitions do not exist.
            if number > 0 && self.draws(5) {
                left.push(wanted.clone());
                continue;
            }
            let entry = self.entry(&input["TableName"])?;
            found.extend(entry.partitions.get(&values(&wanted["Values"])).cloned());
        }
        Ok(json!({ "Partitions": found, "UnprocessedKeys": left }))
    }

    fn create_partitions(&mut self, input: &Value) -> Reply {
        let inputs = batch(input, "PartitionInputList", 100)?;
        let keys = self.entry(&input["TableName"])?.table["PartitionKeys"].as_array().map_or(0, Vec::len);
        if inputs.iter().any(|input| values(&input["Values"]).len() != keys) {
            return Err(invalid("The number of partition keys do not match the number of partition values"));
        }
        self.each(input, inputs, ("Values", "PartitionValues"), |partitions, values, partition| {
            match partitions.contains_key(&values) {
                true => Err("AlreadyExistsException"),
                false => {
                    partitions.insert(values, partition.clone());
                    Ok(())
                }
            }
        })
    }

    fn update_partitions(&mut self, input: &Value) -> Reply {
        let entries = batch(input, "Entries", 100)?;
        let names = ("PartitionValueList", "PartitionValueList");
        self.each(input, entries, names, |partitions, values, entry| {
            let known = partitions.get_mut(&values).ok_or("EntityNotFoundException")?;
            *known = entry["PartitionInput"].clone();
            Ok(())
        })
    }

    fn delete_partitions(&mut self, input: &Value) -> Reply {
        let lists = batch(input, "PartitionsToDelete", 25)?;
        self.each(input, lists, ("Values", "PartitionValues"), |partitions, values, _| {
            partitions.remove(&values).map(drop).ok_or("EntityNotFoundException")
        })
    }

    /// Performs the items of a batch one by one, and returns the failed ones. `names` contains the names of
    /// the values in the input and in the failures.
    fn each(
        &mut self,
        input: &Value,
        items: &[Value],
        names: (&str, &str),
        run: impl Fn(&mut BTreeMap<Vec<String>, Value>, Vec<String>, &Value) -> Result<(), &'static str>,
    ) -> Reply {
        let mut errors = Vec::new();
        for item in items {
            let values = values(&item[names.0]);
            let codes = ["InternalServiceException", "ThrottlingException", "Throttling", "InternalFailure"];
            let done = match self.draws(20) {
                true => Err(codes[self.calls.len() % codes.len()]),
                false => run(&mut self.entry(&input["TableName"])?.partitions, values.clone(), item),
            };
            if let Err(code) = done {
                let detail = json!({ "ErrorCode": code, "ErrorMessage": "not done" });
                errors.push(json!({ names.1: values, "ErrorDetail": detail }));
            }
        }
        Ok(json!({ "Errors": errors }))
    }

    fn is_running(&self) -> bool {
        self.runs_until.is_some_and(|until| Instant::now() < until)
    }

    fn get_crawler(&mut self) -> Reply {
        let mut crawler = self.crawler.clone().ok_or_else(|| not_found("Crawler"))?;
        crawler["State"] = if self.is_running() { "RUNNING" } else { "READY" }.into();
        if let Some(run) = self.starts_after_read.take() {
            self.runs_until = Some(Instant::now() + run);
        }
        Ok(json!({ "Crawler": crawler }))
    }

    fn update_crawler(&mut self, input: &Value) -> Reply {
        if self.is_running() {
            return Err(("CrawlerRunningException", "Crawler is running.".to_owned()));
        }
        let crawler = self.crawler.as_mut().ok_or_else(|| not_found("Crawler"))?;
        crawler["Targets"] = input["Targets"].clone();
        Ok(json!({}))
    }

    /// Decides at random if one item of a batch fails. With faults, one in `number` does.
    fn draws(&mut self, number: u8) -> bool {
        self.faults.as_mut().is_some_and(|random| random.u8(0..number) == 0)
    }

    /// Performs a call, a fault, or the call without a response. `None` closes the connection.
    fn play(&mut self, call: &'static str, input: &Value) -> Option<(u16, String)> {
        self.calls.push(call);
        if let Some(requests) = &mut self.requests {
            requests.push((call, input.clone()));
        }
        if let Some((code, message)) = self.refusal {
            return Some(failed(code, message));
        }
        let changes = !call.contains("Get");
        let drawn = self.faults.as_mut().map_or(u8::MAX, |random| random.u8(0..28));
        match drawn {
            0 => return None,
            1 | 2 => {
                let _ = self.answer(call, input);
                return None;
            }
            3 if call == "UpdateCrawler" => return Some(failed("VersionMismatchException", "changed")),
            3 if changes => return Some(failed("ConcurrentModificationException", "changed")),
            3 | 4 => return Some(failed("ThrottlingException", "Rate exceeded")),
            5 => {
                let _ = self.answer(call, input);
                return Some(failed("OperationTimeoutException", "took too long"));
            }
            6 => return Some((503, "<html>a proxy answers</html>".to_owned())),
            _ => {}
        }
        Some(match self.answer(call, input) {
            Ok(reply) => (200, reply.to_string()),
            Err((code, message)) => failed(code, &message),
        })
    }
}

fn failed(code: &str, message: &str) -> (u16, String) {
    (400, json!({ "__type": code, "Message": message }).to_string())
}

fn not_found(what: &str) -> (&'static str, String) {
    ("EntityNotFoundException", format!("{what} not found."))
}

fn exists(what: &str) -> (&'static str, String) {
    ("AlreadyExistsException", format!("{what} already exists."))
}

fn invalid(message: &str) -> (&'static str, String) {
    ("InvalidInputException", message.to_owned())
}

/// Converts a name to lower case, as the service does.
fn folded(name: &Value) -> String {
    name.as_str().unwrap().to_lowercase()
}

fn values(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|value| value.as_str().unwrap().to_owned()).collect()
}

/// Returns the items of a batch. The service rejects an empty batch and one above the limit.
fn batch<'a>(input: &'a Value, name: &str, limit: usize) -> Result<&'a [Value], (&'static str, String)> {
    match input[name].as_array() {
        Some(items) if (1..=limit).contains(&items.len()) => Ok(items),
        _ => Err(("ValidationException", format!("{name}: 1 to {limit} items"))),
    }
}

/// HTTP client of the SDK that calls the service directly. It needs no socket, so time can be paused.
#[derive(Clone)]
struct Connector(Arc<Mutex<State>>);

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let state = self.0.clone();
        HttpConnectorFuture::new(async move {
            let target = request.headers().get("x-amz-target").unwrap().to_owned();
            let call = CALLS.into_iter().find(|call| target == format!("AWSGlue.{call}")).expect(&target);
            let input: Value = serde_json::from_slice(request.body().bytes().unwrap()).unwrap();
            if state.lock().unwrap().is_silent {
                std::future::pending::<()>().await;
            }
            let played = state.lock().unwrap().play(call, &input);
            let (status, body) = played.ok_or_else(|| ConnectorError::io("connection reset".into()))?;
            let mut response = HttpResponse::new(status.try_into().unwrap(), body.into());
            response.headers_mut().insert("content-type", "application/x-amz-json-1.1");
            Ok(response)
        })
    }
}

impl HttpClient for Connector {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}
