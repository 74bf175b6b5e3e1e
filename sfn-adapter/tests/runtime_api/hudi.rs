//! The handler `hudi`: a table on the local disk, hostile events, and several functions on a real S3 server.

use std::{
    collections::{BTreeMap, VecDeque},
    path::Path,
    sync::{Arc, Mutex},
};

use futures::TryStreamExt;
use hudi_scd::{
    Query, RetentionPolicy, Table, TableDefinition, TableOptions,
    arrow::{
        array::AsArray,
        datatypes::{DataType, Field, Int64Type, Schema},
    },
};
use object_store::{ObjectStore, ObjectStoreExt, aws::AmazonS3Builder};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Child,
    sync::mpsc,
    time::timeout,
};

use super::{
    PATIENCE, Played,
    http::{Reply, Request, Server},
    invocation, play, sources, start,
};

fn definition() -> TableDefinition {
    let schema =
        Schema::new(vec![Field::new("id", DataType::Int64, false), Field::new("name", DataType::Utf8, true)]);
    TableDefinition::new("customer", Arc::new(schema), ["id"]).with_retention(RetentionPolicy::commits(3))
}

async fn played(events: &[String], table: &str) -> Played {
    let variables = [("SFN_ADAPTER_HANDLER", "hudi"), ("HUDI_TABLE", table), ("CLUSTER_NAME", "")];
    play(&variables, events, |_| Reply::HangUp).await
}

#[tokio::test]
async fn a_table_is_described_and_hostile_events_are_answered() {
    let folder = tempfile::tempdir().unwrap();
    let store = object_store::local::LocalFileSystem::new_with_prefix(folder.path()).unwrap();
    Table::create(Arc::new(store), "".into(), definition()).await.unwrap();
    let call = |action: &str| json!({ "version": 1, "action": action }).to_string();
    let nested = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    let hostile = ["", "null", "{", "{}", "[]", "7", "\"\\ud800\"", "{\"Records\":7}", nested.as_str()];
    let hostile = hostile.map(str::to_owned);
    let calls = [call("show"), call("validate"), json!({ "Event": "s3:TestEvent" }).to_string()];
    let events = [&calls[..], &hostile[..]].concat();
    let played = played(&events, folder.path().to_str().unwrap()).await;
    let (calls, hostile) = played.posted.split_at(3);
    assert_eq!((calls[0].0.as_str(), &calls[0].1["table"]), ("response", &json!("customer")));
    assert_eq!((calls[1].0.as_str(), &calls[1].1["valid"]), ("response", &json!(true)));
    assert_eq!((calls[2].0.as_str(), &calls[2].1["outcome"]), ("response", &json!("nothing")));
    for (kind, body) in hostile {
        assert_eq!((kind.as_str(), &body["errorType"]), ("error", &json!("SfnAdapter.BadInput")), "{body}");
    }
    assert!(!played.logs.contains("hush-hush"));
}

#[tokio::test]
async fn a_function_without_a_table_says_so() {
    let played = played(&["{}".to_owned()], "").await;
    assert_eq!(played.posted[0].1["errorType"], "SfnAdapter.Config");
    assert!(played.posted[0].1["errorMessage"].as_str().unwrap().contains("HUDI_TABLE"));
}

/// Messages that wait for a function.
type Queue = Arc<Mutex<VecDeque<Value>>>;

/// A function that takes messages from a queue.
struct Function {
    process: Child,
    /// The messages of its current invocation.
    at_work: Arc<Mutex<Vec<Value>>>,
    _runtime: Server,
}

impl Function {
    async fn start(queue: &Queue, done: mpsc::UnboundedSender<()>, variables: &[(&str, &str)]) -> Self {
        let at_work: Arc<Mutex<Vec<Value>>> = Arc::default();
        let (queue, current) = (queue.clone(), at_work.clone());
        let mut number = 0;
        let runtime = Server::start(move |request: &Request| {
            let (mut queue, mut current) = (queue.lock().unwrap(), current.lock().unwrap());
            if request.path.ends_with("/next") {
                *current = (0..8).map_while(|_| queue.pop_front()).collect();
                if current.is_empty() {
                    return Reply::Silence;
                }
                number += 1;
                return invocation(number, json!({ "Records": *current }).to_string());
            }
            let body = request.json();
            let failed = |message: &Value| {
                let failures = body["batchItemFailures"].as_array().unwrap();
                failures.iter().any(|failure| failure["itemIdentifier"] == message["messageId"])
            };
            let is_error = request.path.ends_with("/error");
            queue.extend(current.drain(..).filter(|message| is_error || failed(message)));
            done.send(()).unwrap();
            Reply::json(202, json!({ "status": "OK" }))
        })
        .await;
        let process = start(&runtime, &runtime, variables);
        Self { process, at_work, _runtime: runtime }
    }

    /// Kills the process. Its messages become visible in the queue again.
    async fn kill(mut self, queue: &Queue) {
        self.process.kill().await.unwrap();
        queue.lock().unwrap().extend(self.at_work.lock().unwrap().drain(..));
    }
}

/// Creates a bucket on the server at `endpoint`.
async fn bucket(endpoint: &str, name: &str) {
    let host = endpoint.strip_prefix("http://").unwrap();
    let mut server = TcpStream::connect(host).await.unwrap();
    let request =
        format!("PUT /{name} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    server.write_all(request.as_bytes()).await.unwrap();
    let mut said = String::new();
    server.read_to_string(&mut said).await.unwrap();
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
}

/// Copies a table from a bucket into a folder.
async fn copy(store: &dyn ObjectStore, table: &str, folder: &Path) {
    let objects: Vec<_> = store.list(Some(&table.into())).try_collect().await.unwrap();
    for object in objects {
        let bytes = store.get(&object.location).await.unwrap().bytes().await.unwrap();
        let file = folder.join(object.location.as_ref());
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, bytes).unwrap();
    }
}

/// `TAKEN_IN_FILES` is the number of raw files, 120 by default. `TAKEN_IN_FOLDER` names a folder that gets a
/// copy of the table, for other readers (`scripts/spark/take_in`).
#[tokio::test]
#[ignore = "needs an S3 server: scripts/s3/server start prints the value for HUDI_SCD_S3_ENDPOINT"]
async fn four_functions_on_s3_take_in_each_file_once_though_some_are_killed() {
    let files: usize = std::env::var("TAKEN_IN_FILES").map_or(120, |text| text.parse().unwrap());
    let endpoint = std::env::var("HUDI_SCD_S3_ENDPOINT")
        .unwrap_or_else(|_| panic!("HUDI_SCD_S3_ENDPOINT is not set: scripts/s3/server start prints it"));
    let (raw, lake) = (format!("raw-{}", std::process::id()), format!("lake-{}", std::process::id()));
    let mut stores: BTreeMap<&str, Arc<dyn ObjectStore>> = BTreeMap::new();
    for name in [&raw, &lake] {
        bucket(&endpoint, name).await;
        let builder =
            AmazonS3Builder::new().with_bucket_name(name).with_endpoint(&endpoint).with_allow_http(true);
        let builder =
            builder.with_access_key_id("id").with_secret_access_key("secret").with_region("eu-west-1");
        stores.insert(name, Arc::new(builder.build().unwrap()));
    }
    let table = Table::create_with(
        stores[lake.as_str()].clone(),
        "customer".into(),
        definition(),
        TableOptions::new(),
    );
    table.await.unwrap();
    let mut random = fastrand::Rng::with_seed(7);
    let mut messages = Vec::new();
    for number in 0..files {
        let key = format!("in/{number}.csv");
        let text = format!("id,name\n{},a\n{},b\n", 2 * number, 2 * number + 1);
        stores[raw.as_str()].put(&key.as_str().into(), text.into()).await.unwrap();
        let body = json!({ "source": "aws.s3", "detail-type": "Object Created",
            "detail": { "bucket": { "name": raw }, "object": { "key": key } } });
        for delivery in 0..random.usize(1..=3) {
            messages.push(json!({
                "messageId": format!("{number}-{delivery}"), "body": body.to_string(), "eventSource": "aws:sqs",
                "attributes": {}, "messageAttributes": {},
            }));
        }
    }
    random.shuffle(&mut messages);
    let queue: Queue = Arc::new(Mutex::new(messages.into()));
    let url = format!("s3://{lake}/customer");
    let variables = [
        ("SFN_ADAPTER_HANDLER", "hudi"),
        ("HUDI_TABLE", url.as_str()),
        ("HUDI_LEASE_SECONDS", "10"),
        ("AWS_ENDPOINT_URL", endpoint.as_str()),
        ("AWS_REGION", "eu-west-1"),
        ("CLUSTER_NAME", ""),
    ];
    let (done, mut ended) = mpsc::unbounded_channel();
    let mut functions = VecDeque::new();
    for _ in 0..4 {
        functions.push_back(Function::start(&queue, done.clone(), &variables).await);
    }
    let mut killed = 0;
    let is_idle = |functions: &VecDeque<Function>| {
        let queue = queue.lock().unwrap();
        queue.is_empty() && functions.iter().all(|function| function.at_work.lock().unwrap().is_empty())
    };
    for invocations in 1.. {
        timeout(PATIENCE, ended.recv()).await.unwrap().unwrap();
        if is_idle(&functions) {
            break;
        }
        // Each process has messages at the moment, because it is busy or the queue is not empty.
        if invocations % 6 == 3 && killed < files / 40 {
            functions.pop_front().unwrap().kill(&queue).await;
            functions.push_back(Function::start(&queue, done.clone(), &variables).await);
            killed += 1;
        }
    }
    assert!(killed > 0);
    drop(functions);

    let table = Table::open(stores[lake.as_str()].clone(), "customer".into()).await.unwrap();
    let batches = table.read(Query::snapshot().with_columns(["id"])).await.unwrap();
    let mut ids: Vec<i64> = batches
        .iter()
        .flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec())
        .collect();
    ids.sort_unstable();
    assert!(ids.into_iter().eq(0..2 * files as i64));
    let taken = sources::commits_by_file(&table).await;
    assert_eq!(taken.len(), files);
    assert!(taken.values().all(|commits| *commits == 1), "each file in one commit: {taken:?}");
    assert_eq!(table.validate().await.unwrap(), []);
    if let Ok(folder) = std::env::var("TAKEN_IN_FOLDER") {
        copy(&*stores[lake.as_str()], "customer", Path::new(&folder)).await;
    }
}
