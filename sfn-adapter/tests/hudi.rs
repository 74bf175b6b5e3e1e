//! The handler `hudi` on storage in memory: each raw file is taken in once, by several functions that may
//! die. Also formats, limits and calls.

#![allow(clippy::unwrap_used)]

#[path = "../../hudi-scd/tests/common/interposed.rs"]
#[allow(unreachable_pub, reason = "shared with other tests")]
mod interposed;
#[path = "../../hudi-scd/tests/common/mortal.rs"]
#[allow(dead_code, unreachable_pub, reason = "not every test uses everything")]
mod mortal;
#[path = "support/sources.rs"]
mod sources;

use std::{
    collections::VecDeque,
    io::Write,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use flate2::{Compression, write::GzEncoder};
use futures::{
    future::{BoxFuture, join_all},
    lock::Mutex as AsyncMutex,
};
use hudi_scd::{
    FnClock, Query, RetentionPolicy, SourceFile, Table, TableDefinition, TableOptions,
    arrow::{
        array::{ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray},
        datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit},
        util::display::{ArrayFormatter, FormatOptions},
    },
    scd::{Scd2, Scd2Table},
};
use interposed::{Interposed, Interposer};
use mortal::Mortal;
use object_store::{GetOptions, GetResult, ObjectStore, ObjectStoreExt, memory::InMemory, path::Path};
use rstest::rstest;
use serde_json::{Value, json};
use sfn_adapter::{
    Error, ErrorNames, Invocation, Lake, contract::hudi::Response, handler, handler::HudiConfig,
};
use sources::commits_by_file;
use tokio::time::{Instant, sleep};

/// A lake in memory. Its clock follows tokio's clock, so that leases expire.
#[derive(Clone, Debug)]
struct Pond {
    table: Arc<dyn ObjectStore>,
    raw: Arc<dyn ObjectStore>,
    begun: Instant,
    seeds: Arc<AtomicU64>,
}

impl Pond {
    fn new() -> Self {
        let store = || Arc::new(InMemory::new()) as Arc<dyn ObjectStore>;
        Self { table: store(), raw: store(), begun: Instant::now(), seeds: Arc::default() }
    }

    /// The same lake for a function that dies after this number of calls to the table's storage.
    fn mortal(&self, calls: i64) -> Self {
        Self { table: Mortal::after(self.table.clone(), calls, calls % 2 == 0).0, ..self.clone() }
    }

    fn options(&self) -> TableOptions {
        let begun = self.begun;
        let start = jiff::Timestamp::constant(1_795_934_400, 0);
        let now = move || start + jiff::SignedDuration::try_from(begun.elapsed()).unwrap();
        let seed = self.seeds.fetch_add(1, Ordering::Relaxed);
        TableOptions::new().with_clock(FnClock(now)).with_seed(seed)
    }

    async fn create(&self, definition: TableDefinition) -> Table {
        Table::create_with(self.table.clone(), "t".into(), definition, self.options()).await.unwrap()
    }

    async fn put(&self, key: &str, bytes: impl Into<Vec<u8>>) -> SourceFile {
        self.raw.put(&key.into(), bytes.into().into()).await.unwrap();
        let meta = self.raw.head(&key.into()).await.unwrap();
        SourceFile::new(format!("s3://raw/{key}"), meta.e_tag.unwrap())
    }

    async fn open(&self) -> Table {
        Table::open_with(self.table.clone(), "t".into(), self.options()).await.unwrap()
    }
}

#[async_trait]
impl Lake for Pond {
    async fn table(&self, options: TableOptions) -> hudi_scd::Result<Table> {
        let mine = self.options();
        let clock = mine.clock().clone();
        let options = options.with_clock(FnClock(move || clock.now())).with_seed(mine.seed().unwrap());
        Table::open_with(self.table.clone(), "t".into(), options).await
    }

    fn bucket(&self, name: &str) -> hudi_scd::Result<Arc<dyn ObjectStore>> {
        assert_eq!(name, "raw");
        Ok(self.raw.clone())
    }
}

fn invocation() -> Invocation {
    Invocation::new("r-1", Duration::from_secs(900)).at("2026-11-28T06:30:00.7Z".parse().unwrap())
}

async fn invoke(lake: &Pond, config: &HudiConfig, event: &Value) -> Result<Value, Error> {
    let response = handler::hudi(lake, config, &invocation(), &event.to_string()).await;
    response.map(|response: Response| serde_json::to_value(response).unwrap())
}

fn config() -> HudiConfig {
    HudiConfig::new("memory")
}

fn name(error: &Error) -> String {
    error.name(ErrorNames::Qualified).into_owned()
}

/// An event of S3 about these keys and their ETags.
fn created(files: &[(&str, Option<&str>)]) -> Value {
    let record = |(key, e_tag): &(&str, Option<&str>)| {
        json!({
            "eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "eventTime": "2026-11-28T06:30:00Z",
            "userIdentity": {}, "requestParameters": {},
            "s3": { "bucket": { "name": "raw" }, "object": { "key": key, "eTag": e_tag } },
        })
    };
    json!({ "Records": files.iter().map(record).collect::<Vec<_>>() })
}

fn queued(messages: &[(String, Value)]) -> Value {
    let record = |(id, body): &(String, Value)| {
        json!({
            "messageId": id, "body": body.to_string(), "eventSource": "aws:sqs", "attributes": {}, "messageAttributes": {},
        })
    };
    json!({ "Records": messages.iter().map(record).collect::<Vec<_>>() })
}

fn upsert(urls: &[&str]) -> Value {
    json!({ "version": 1, "action": "upsert", "files": urls })
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn simple() -> TableDefinition {
    let schema =
        Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("name", DataType::Utf8, true)]);
    TableDefinition::new("customer", Arc::new(schema), ["id"])
}

/// Returns the rows of a table as lines, sorted by their first column.
async fn rows(table: &Table, columns: &[&str]) -> Vec<String> {
    let mut lines = Vec::new();
    for batch in table.read(Query::snapshot().with_columns(columns.iter().copied())).await.unwrap() {
        let options = FormatOptions::new().with_null("NULL");
        let formatters: Vec<_> =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
        for row in 0..batch.num_rows() {
            let values: Vec<_> = formatters.iter().map(|column| column.value(row).to_string()).collect();
            lines.push(values.join("|"));
        }
    }
    lines.sort();
    lines
}

/// A lake whose table cannot be opened.
#[derive(Debug)]
struct Closed;

#[async_trait]
impl Lake for Closed {
    async fn table(&self, _: TableOptions) -> hudi_scd::Result<Table> {
        panic!("the table was opened")
    }

    fn bucket(&self, name: &str) -> hudi_scd::Result<Arc<dyn ObjectStore>> {
        panic!("the bucket {name} was used")
    }
}

/// Regression: the event that S3 sends when a notification is set up failed if the table did not exist yet.
#[tokio::test(start_paused = true)]
async fn an_event_without_files_does_not_open_the_table() {
    let removed = json!({ "Records": [{ "eventName": "ObjectRemoved:Delete" }] });
    for event in [json!({ "Records": [] }), json!({ "Event": "s3:TestEvent", "Bucket": "raw" }), removed] {
        let config = HudiConfig::new("s3://lake/customer/");
        let response = handler::hudi(&Closed, &config, &invocation(), &event.to_string()).await.unwrap();
        let reply = serde_json::to_value(response).unwrap();
        assert_eq!((&reply["outcome"], &reply["table"]), (&json!("nothing"), &json!("customer")), "{event}");
    }
    let queued = queued(&[("m-1".to_owned(), json!({ "Event": "s3:TestEvent" }))]);
    let response = handler::hudi(&Closed, &config(), &invocation(), &queued.to_string()).await.unwrap();
    assert_eq!(serde_json::to_value(response).unwrap(), json!({ "batchItemFailures": [] }));
}

#[tokio::test(start_paused = true)]
async fn a_thousand_files_delivered_up_to_three_times_to_four_functions_that_die_are_taken_in_once() {
    const FILES: usize = 1_000;
    let mut random = fastrand::Rng::with_seed(20_261_128);
    let pond = Pond::new();
    pond.create(simple().with_retention(RetentionPolicy::commits(3))).await;
    let (mut sources, mut deliveries) = (Vec::new(), Vec::new());
    for number in 0..FILES {
        let text = format!("id,name\n{},a\n{},b\n", 2 * number, 2 * number + 1);
        let (key, bytes) = match number % 3 {
            0 => (format!("in/{number}.csv"), text.into_bytes()),
            1 => (format!("in/{number}.csv.gz"), gzip(text.as_bytes())),
            _ => {
                let line = |row: usize| json!({ "id": 2 * number + row, "name": "j" }).to_string();
                (format!("in/{number}.jsonl"), format!("{}\n{}\n", line(0), line(1)).into_bytes())
            }
        };
        let source = pond.put(&key, bytes).await;
        for _ in 0..random.usize(1..=3) {
            // S3 always sends the ETag. An event made by hand may lack it.
            let e_tag = random.bool().then(|| source.version.clone());
            deliveries.push(created(&[(key.as_str(), e_tag.as_deref())]));
        }
        sources.push(source);
    }
    random.shuffle(&mut deliveries);
    let queue: VecDeque<Value> = deliveries.into();
    let queue = Mutex::new(queue);
    let (random, deaths) = (AsyncMutex::new(random), AtomicU64::new(0));
    let function = || async {
        loop {
            let (batch, calls) = {
                let mut random = random.lock().await;
                let size = random.usize(10..80);
                let mut queue = queue.lock().unwrap();
                let batch: Vec<Value> = (0..size).map_while(|_| queue.pop_front()).collect();
                (batch, (random.u8(..100) < 20).then(|| random.i64(1..60)))
            };
            if batch.is_empty() {
                return;
            }
            let lake = calls.map_or_else(|| pond.clone(), |calls| pond.mortal(calls));
            let messages: Vec<_> =
                batch.iter().enumerate().map(|(number, body)| (number.to_string(), body.clone())).collect();
            let returned: Vec<usize> = match invoke(&lake, &config(), &queued(&messages)).await {
                Ok(response) => {
                    let failures = response["batchItemFailures"].as_array().unwrap().iter();
                    failures
                        .map(|failure| failure["itemIdentifier"].as_str().unwrap().parse().unwrap())
                        .collect()
                }
                Err(_) => (0..batch.len()).collect(),
            };
            if !returned.is_empty() {
                deaths.fetch_add(1, Ordering::Relaxed);
            }
            let mut queue = queue.lock().unwrap();
            queue.extend(returned.into_iter().map(|number| batch[number].clone()));
        }
    };
    join_all((0..4).map(|_| function())).await;

    assert!(deaths.load(Ordering::Relaxed) >= 3, "some functions died: {deaths:?}");
    let table = pond.open().await;
    let ids = table.read(Query::snapshot().with_columns(["id"])).await.unwrap();
    let mut ids: Vec<i64> =
        ids.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
    ids.sort_unstable();
    assert!(ids.into_iter().eq(0..2 * FILES as i64));
    let taken = commits_by_file(&table).await;
    assert_eq!(taken.len(), FILES);
    assert!(taken.values().all(|commits| *commits == 1), "each file in one commit");
    assert!(
        sources
            .iter()
            .all(|source| taken.contains_key(&SourceFile::new(&source.name, bare(&source.version))))
    );
    assert_eq!(table.validate().await.unwrap(), []);
}

fn bare(e_tag: &str) -> &str {
    e_tag.trim_matches('"')
}

fn customer(table: bool) -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let balance = if table { DataType::Decimal128(15, 2) } else { DataType::Float64 };
    let mut fields = vec![
        Field::new("customer_id", DataType::Int64, true),
        Field::new("balance", balance, true),
        Field::new("birth_date", if table { DataType::Date32 } else { DataType::Utf8 }, true),
        Field::new("zip", if table { DataType::Utf8 } else { DataType::Int64 }, true),
        Field::new("customer_datetime", if table { time.clone() } else { DataType::Utf8 }, true),
    ];
    if table {
        fields.push(Field::new("customer_date", DataType::Date32, true));
        fields.push(Field::new("etl_processing_datetime", time, true));
    }
    Arc::new(Schema::new(fields))
}

fn reference() -> HudiConfig {
    let profile =
        json!({ "preset": "reference", "date": { "column": "customer_date", "of": "customer_datetime" } });
    let variable = |name: &str| match name {
        "HUDI_TABLE" => Some("s3://lake/memory".to_owned()),
        "HUDI_PROFILE" => Some(profile.to_string()),
        _ => None,
    };
    HudiConfig::from_variables(variable).unwrap()
}

fn parquet_of(batch: &RecordBatch) -> Vec<u8> {
    let mut writer = parquet::arrow::ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.into_inner().unwrap()
}

#[rstest]
#[case::plain(false)]
#[case::packed(true)]
#[tokio::test(start_paused = true)]
async fn every_format_is_cleaned_by_the_rules_of_the_reference(#[case] packed: bool) {
    let csv = "customer_id,balance,birth_date,zip,customer_datetime\n\
        1,1.005,1970-01-02,501,2026-11-27 23:59:59\n2,,,,2026-11-28T01:00:00+02:00\n";
    let json = "{\"customer_id\":1,\"balance\":1.005,\"birth_date\":\"1970-01-02\",\"zip\":501,\
        \"customer_datetime\":\"2026-11-27T23:59:59\"}\n{\"customer_id\":2,\"customer_datetime\":\"2026-11-27T23:00:00Z\"}\n";
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![1, 2])),
        Arc::new(Float64Array::from(vec![Some(1.005), None])),
        Arc::new(StringArray::from(vec![Some("1970-01-02"), None])),
        Arc::new(Int64Array::from(vec![Some(501), None])),
        Arc::new(StringArray::from(vec!["2026-11-27 23:59:59", "2026-11-27T23:00:00Z"])),
    ];
    let rows_of_parquet = RecordBatch::try_new(customer(false), columns).unwrap();
    for (extension, bytes) in
        [("csv", csv.as_bytes().to_vec()), ("jsonl", json.into()), ("parquet", parquet_of(&rows_of_parquet))]
    {
        let pond = Pond::new();
        let definition = TableDefinition::new("customer", customer(true), ["customer_id"])
            .with_ordering_field("customer_datetime");
        pond.create(definition).await;
        let (key, bytes) = match packed {
            true => (format!("c.{extension}.gz"), gzip(&bytes)),
            false => (format!("c.{extension}"), bytes),
        };
        pond.put(&key, bytes).await;
        let reply = invoke(&pond, &reference(), &created(&[(&key, None)])).await.unwrap();
        assert_eq!(
            (&reply["outcome"], &reply["rows"]["inserted"]),
            (&json!("committed"), &json!(2)),
            "{key}"
        );
        let names = [
            "customer_id",
            "balance",
            "birth_date",
            "zip",
            "customer_datetime",
            "customer_date",
            "etl_processing_datetime",
        ];
        assert_eq!(
            rows(&pond.open().await, &names).await,
            [
                "1|1.01|1970-01-02|501|2026-11-27T23:59:59Z|2026-11-27|2026-11-28T06:30:00Z",
                "2|NULL|NULL|NULL|2026-11-27T23:00:00Z|2026-11-27|2026-11-28T06:30:00Z",
            ],
            "{key}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn repeated_replaced_empty_and_lost_files_are_no_errors() {
    let pond = Pond::new();
    pond.create(simple()).await;
    let old = pond.put("a.csv", "id,name\n1,old\n").await;
    let new = pond.put("a.csv", "id,name\n1,new\n").await;
    pond.put("empty.csv", "").await;
    pond.put("_SUCCESS", "").await;
    // The first event arrives after the object was replaced, and its content no longer exists.
    let events =
        [("a.csv", Some(old.version.as_str())), ("gone.csv", None), ("empty.csv", None), ("_SUCCESS", None)];
    let reply = invoke(&pond, &config(), &created(&events)).await.unwrap();
    let counts = |reply: &Value| {
        (reply["files"]["new"].as_u64(), reply["files"]["known"].as_u64(), reply["files"]["gone"].as_u64())
    };
    assert_eq!(counts(&reply), (Some(2), Some(0), Some(1)), "{reply}");
    for event in
        [created(&[("a.csv", Some(bare(&new.version))), ("a.csv", None)]), upsert(&["s3://raw/a.csv"])]
    {
        let reply = invoke(&pond, &config(), &event).await.unwrap();
        assert_eq!((&reply["outcome"], &reply["files"]["new"]), (&json!("nothing"), &json!(0)), "{reply}");
    }
    assert_eq!(rows(&pond.open().await, &["id", "name"]).await, ["1|new"]);

    let only_empty = Pond::new();
    only_empty.create(simple()).await;
    only_empty.put("empty.csv", "").await;
    only_empty.put("header.csv", "id,name\n").await;
    let reply =
        invoke(&only_empty, &config(), &created(&[("empty.csv", None), ("header.csv", None)])).await.unwrap();
    assert_eq!((&reply["outcome"], &reply["instant"]), (&json!("nothing"), &Value::Null));
}

#[tokio::test(start_paused = true)]
async fn of_messages_only_that_of_the_broken_file_returns() {
    let pond = Pond::new();
    pond.create(simple()).await;
    pond.put("a.csv", "id,name\n1,a\n").await;
    pond.put("b.csv", "id,name\nx,b\n").await;
    pond.put("c.csv", "id,name\n3,c\n").await;
    let message = |key: &str| (key.to_owned(), created(&[(key, None)]));
    let messages = [message("a.csv"), message("b.csv"), ("text".to_owned(), json!("[")), message("c.csv")];
    let reply = invoke(&pond, &config(), &queued(&messages)).await.unwrap();
    let failed: Vec<_> =
        reply["batchItemFailures"].as_array().unwrap().iter().map(|f| f["itemIdentifier"].clone()).collect();
    assert_eq!(failed, ["b.csv", "text"]);
    assert_eq!(rows(&pond.open().await, &["id", "name"]).await, ["1|a", "3|c"]);

    let error = invoke(&pond, &config(), &created(&[("c.csv", None), ("b.csv", None)])).await.unwrap_err();
    assert_eq!(name(&error), "Hudi.InvalidInput");
    let message = error.to_string();
    assert!(
        message.contains("s3://raw/b.csv") && message.contains("line 2") && message.contains("column id"),
        "{message}"
    );
}

/// A storage that denies access to objects whose names contain `denied`.
#[derive(Clone, Debug)]
struct Guarded;

#[async_trait]
impl Interposer for Guarded {
    async fn get(
        &self,
        inner: &dyn ObjectStore,
        path: &Path,
        options: GetOptions,
    ) -> object_store::Result<GetResult> {
        if path.as_ref().contains("denied") {
            return Err(object_store::Error::PermissionDenied {
                path: path.to_string(),
                source: "403".into(),
            });
        }
        inner.get_opts(path, options).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_denied_file_and_keys_that_cannot_be_read_block_no_other_message() {
    let pond = Pond::new();
    pond.create(simple()).await;
    for key in ["a.csv", "denied.csv", "z.csv"] {
        pond.put(key, format!("id,name\n{},{key}\n", key.len())).await;
    }
    let pond = Pond { raw: Interposed::over(pond.raw.clone(), Guarded), ..pond };
    let message = |key: &str| (key.to_owned(), created(&[(key, None)]));
    let odd = ["/a.csv", "x//a.csv", "./a.csv", "a%0A.csv"];
    let both = ("both".to_owned(), created(&[("/z.csv", None), ("z.csv", None)]));
    let mut messages: Vec<_> = odd.into_iter().chain(["denied.csv", "a.csv"]).map(message).collect();
    messages.push(both);
    let reply = invoke(&pond, &config(), &queued(&messages)).await.unwrap();
    let failed: Vec<_> =
        reply["batchItemFailures"].as_array().unwrap().iter().map(|f| f["itemIdentifier"].clone()).collect();
    assert_eq!(failed, ["/a.csv", "x//a.csv", "./a.csv", "a%0A.csv", "denied.csv", "both"]);
    assert_eq!(rows(&pond.open().await, &["id", "name"]).await, ["5|z.csv"], "a later row of the key 5");

    let cases =
        [("/a.csv", "Hudi.Unsupported", "s3://raw//a.csv"), ("denied.csv", "Hudi.Denied", "s3:GetObject")];
    for (key, expected, part) in cases {
        for event in [created(&[(key, None)]), upsert(&[&format!("s3://raw/{key}")])] {
            let error = invoke(&pond, &config(), &event).await.unwrap_err();
            assert_eq!(name(&error), expected, "{error}");
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_that_lacks_a_column_of_the_table_is_named() {
    let pond = Pond::new();
    pond.create(simple()).await;
    pond.put("1.csv", "id,name,city\n1,a,Oslo\n").await;
    pond.put("2.csv", "id,name\n2,b\n").await;
    let first = created(&[("1.csv", None)]);
    for event in [created(&[("1.csv", None), ("2.csv", None)]), created(&[("2.csv", None)])] {
        let error = invoke(&pond, &config(), &event).await.unwrap_err();
        assert_eq!(name(&error), "Hudi.InvalidInput");
        let message = error.to_string();
        assert!(message.contains("file s3://raw/2.csv") && message.contains("column city"), "{message}");
        invoke(&pond, &config(), &first).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn errors_about_rows_name_file_and_line() {
    let pond = Pond::new();
    pond.create(simple()).await;
    pond.put("a.csv", "id,name\n1,a\n2,b\n").await;
    pond.put("b.jsonl", "{\"id\":3}\n\n{\"name\":\"no key\"}\n").await;
    let error = invoke(&pond, &config(), &upsert(&["s3://raw/a.csv", "s3://raw/b.jsonl"])).await.unwrap_err();
    let message = error.to_string();
    assert!(message.contains("s3://raw/b.jsonl") && message.contains("line 3"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn files_that_do_not_fit_are_named_before_anything_is_written() {
    let pond = Pond::new();
    pond.create(simple()).await;
    let text = format!("id,name\n{}", "1,a\n".repeat(10_000));
    pond.put("big.csv", text.clone()).await;
    pond.put("packed.csv.gz", gzip(text.as_bytes())).await;
    let small = HudiConfig { max_bytes: 20_000, ..config() };
    for key in ["big.csv", "packed.csv.gz"] {
        let error = invoke(&pond, &small, &created(&[(key, None)])).await.unwrap_err();
        assert_eq!(name(&error), "Hudi.TooLarge", "{error}");
        assert!(error.to_string().contains("Glue job"), "{error}");
    }
    let hurried = Invocation::new("r-1", Duration::from_secs(4));
    let event = created(&[("big.csv", None)]).to_string();
    let error = handler::hudi(&pond, &config(), &hurried, &event).await.unwrap_err();
    assert_eq!(name(&error), "Hudi.TooLarge", "{error}");
    assert_eq!(pond.open().await.timeline().await.unwrap().entries().len(), 0);
    assert_eq!(
        invoke(&pond, &config(), &created(&[("big.csv", None)])).await.unwrap()["outcome"],
        "committed"
    );
}

#[tokio::test(start_paused = true)]
async fn a_function_that_does_not_get_the_lock_ends_before_its_deadline_and_nothing_is_lost() {
    let pond = Pond::new();
    pond.create(simple()).await;
    pond.put("a.csv", "id,name\n1,a\n").await;
    // A function dies while it holds the lock. The lease lasts for five minutes.
    let mut calls = 1;
    while invoke(&pond.mortal(calls), &config(), &upsert(&["s3://raw/a.csv"])).await.is_err() {
        let lock = pond.table.get(&"t/.hoodie/.locks/table_lock.json".into()).await;
        if let Ok(lock) = lock
            && String::from_utf8_lossy(&lock.bytes().await.unwrap()).contains("\"expired\":false")
        {
            break;
        }
        calls += 1;
    }
    let begin = Instant::now();
    let invocation = Invocation::new("r-2", Duration::from_secs(30));
    let error = handler::hudi(&pond, &config(), &invocation, &upsert(&["s3://raw/a.csv"]).to_string()).await;
    let error = error.unwrap_err();
    assert!(["Hudi.Conflict", "Hudi.Deadline"].contains(&name(&error).as_str()), "{error}");
    assert!(error.to_string().contains("same event"), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(30));

    let reply = invoke(&pond, &config(), &upsert(&["s3://raw/a.csv"])).await.unwrap();
    assert_eq!(reply["files"]["new"], 1);
    assert_eq!(rows(&pond.open().await, &["id", "name"]).await, ["1|a"]);
}

/// A storage whose calls take a second.
#[derive(Clone, Debug)]
struct Slow;

#[async_trait]
impl Interposer for Slow {
    async fn call<T: Send>(&self, call: BoxFuture<'_, object_store::Result<T>>) -> object_store::Result<T> {
        sleep(Duration::from_secs(1)).await;
        call.await
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_takes_too_long_ends_in_order_and_releases_the_lock() {
    let raw = Pond::new();
    raw.put("a.csv", "id,name\n1,a\n").await;
    let (mut ended, mut committed) = (0, 0);
    for seconds in 8..60 {
        let pond = Pond { table: Arc::new(InMemory::new()), ..raw.clone() };
        pond.create(simple()).await;
        let slow = Pond { table: Interposed::over(pond.table.clone(), Slow), ..pond.clone() };
        let (begin, invocation) = (Instant::now(), Invocation::new("r-1", Duration::from_secs(seconds)));
        let event = upsert(&["s3://raw/a.csv"]).to_string();
        let outcome = handler::hudi(&slow, &config(), &invocation, &event).await;
        assert!(begin.elapsed() < Duration::from_secs(seconds), "{seconds}");
        match outcome {
            Ok(_) => committed += 1,
            Err(error) => {
                assert!(["Hudi.Deadline", "Hudi.TooLarge"].contains(&name(&error).as_str()), "{error}");
                ended += u32::from(name(&error) == "Hudi.Deadline");
                let names_it = error.to_string().starts_with(&format!("table {}: ", config().table));
                assert!(names_it || name(&error) == "Hudi.TooLarge", "{error}");
            }
        }
        let begin = Instant::now();
        let reply = invoke(&pond, &config(), &upsert(&["s3://raw/a.csv"])).await.unwrap();
        assert!(begin.elapsed() < Duration::from_secs(60), "the lock was released after {seconds} s");
        assert!(["committed", "nothing"].contains(&reply["outcome"].as_str().unwrap()));
        assert_eq!(rows(&pond.open().await, &["id", "name"]).await, ["1|a"], "{seconds}");
    }
    assert!(ended > 5 && committed > 5, "{ended} ended, {committed} committed");
}

#[tokio::test(start_paused = true)]
async fn calls_maintain_and_describe_the_table() {
    let pond = Pond::new();
    pond.create(simple().with_retention(RetentionPolicy::commits(1))).await;
    for number in 0..3 {
        let key = format!("{number}.csv");
        pond.put(&key, format!("id,name\n1,v{number}\n")).await;
        invoke(&pond, &config(), &upsert(&[&format!("s3://raw/{key}")])).await.unwrap();
    }
    let call = |action: &str| json!({ "version": 1, "action": action });
    let shown = invoke(&pond, &config(), &call("show")).await.unwrap();
    assert_eq!(
        (&shown["table"], &shown["commits"], &shown["scd"]),
        (&json!("customer"), &json!(3), &json!(1))
    );
    let valid = invoke(&pond, &config(), &call("validate")).await.unwrap();
    assert_eq!((&valid["valid"], &valid["count"]), (&json!(true), &json!(0)), "{valid}");
    let cleaned = invoke(&pond, &config(), &call("clean")).await.unwrap();
    assert_eq!(
        (&cleaned["action"], &cleaned["instant"]),
        (&json!("clean"), &Value::Null),
        "each commit cleans"
    );
    let archived = invoke(&pond, &config(), &call("archive")).await.unwrap();
    assert_eq!(archived["actions"], 0);

    let error = invoke(&pond, &config(), &upsert(&["s3://raw/9.csv"])).await.unwrap_err();
    assert_eq!(
        (name(&error).as_str(), error.to_string().contains("s3://raw/9.csv")),
        ("Hudi.FileNotFound", true)
    );
    let error = invoke(&Pond::new(), &config(), &call("show")).await.unwrap_err();
    assert_eq!(name(&error), "Hudi.NotFound");
}

#[tokio::test(start_paused = true)]
async fn a_history_takes_in_changes() {
    let pond = Pond::new();
    let changes = Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("tier", DataType::Utf8, true),
        Field::new("at", DataType::Int64, false),
    ]);
    let definition = Scd2Table::definition_of("tiers", &Scd2::new(["id"], "at"), &changes).unwrap();
    Scd2Table::create_with(pond.table.clone(), "t".into(), definition, pond.options()).await.unwrap();
    pond.put("1.jsonl", "{\"id\":1,\"tier\":\"basic\",\"at\":10}\n").await;
    pond.put("2.jsonl", "{\"id\":1,\"tier\":\"gold\",\"at\":20}\n").await;
    let event = upsert(&["s3://raw/1.jsonl", "s3://raw/2.jsonl"]);
    let reply = invoke(&pond, &config(), &event).await.unwrap();
    assert_eq!((&reply["rows"]["rows"], &reply["rows"]["inserted"]), (&json!(2), &json!(2)), "{reply}");
    assert_eq!(invoke(&pond, &config(), &event).await.unwrap()["outcome"], "nothing");
    let shown = invoke(&pond, &config(), &json!({ "version": 1, "action": "show" })).await.unwrap();
    assert_eq!(shown["scd"], 2);
    let lines = rows(&pond.open().await, &["id", "tier", "valid_to"]).await;
    assert_eq!(lines, ["1|basic|20", "1|gold|NULL"]);
}
