//! Spans, log lines and metrics of operations.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use arrow::array::RecordBatch;
use common::{
    meter::{Meter, Requests},
    s3::S3,
};
use futures::{FutureExt, StreamExt};
use hudi_scd::{Query, Table, TableDefinition};
use tracing::{
    Dispatch, Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};

const DDL: &str = "id bigint, name string, at bigint";

/// The fields of a span or an event, by name.
#[derive(Clone, Debug, Default)]
struct Fields(BTreeMap<String, String>);

impl Fields {
    fn text(&self, name: &str) -> &str {
        self.0.get(name).unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }

    fn number(&self, name: &str) -> u64 {
        self.text(name).parse().unwrap()
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }
}

/// The end of an operation: its level, and the fields of its span and of its event.
#[derive(Clone, Debug)]
struct Ended(Level, Fields);

/// Collects the ends of operations.
#[derive(Clone, Default)]
struct Log {
    spans: Arc<Mutex<HashMap<u64, Fields>>>,
    entered: Arc<Mutex<Vec<u64>>>,
    ended: Arc<Mutex<Vec<Ended>>>,
    last: Arc<AtomicU64>,
}

impl Log {
    /// Collects the operations on this thread until the guard is dropped.
    fn start() -> (Self, impl Sized) {
        let log = Self::default();
        // With a single subscriber, `tracing` caches the response of the first thread that reaches an event,
        // and threads of other tests have no subscriber.
        let second = Dispatch::new(Self::default());
        let guard = tracing::subscriber::set_default(log.clone());
        (log, (second, guard))
    }

    /// Returns the operations that ended since the last call.
    fn lap(&self) -> Vec<Ended> {
        std::mem::take(&mut self.ended.lock().unwrap())
    }

    /// Returns the only operation that ended since the last call.
    fn only(&self) -> Ended {
        let ended = self.lap();
        assert_eq!(ended.len(), 1, "{ended:#?}");
        ended[0].clone()
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("hudi_scd")
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let mut fields = Fields::default();
        span.record(&mut fields);
        self.spans.lock().unwrap().insert(id, fields);
        Id::from_u64(id)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        values.record(self.spans.lock().unwrap().get_mut(&span.into_u64()).unwrap());
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        if let Some(span) = self.entered.lock().unwrap().last() {
            fields = self.spans.lock().unwrap()[span].clone();
        }
        event.record(&mut fields);
        if fields.text("message").starts_with("operation ") {
            self.ended.lock().unwrap().push(Ended(*event.metadata().level(), fields));
        }
    }

    fn enter(&self, span: &Id) {
        self.entered.lock().unwrap().push(span.into_u64());
    }

    fn exit(&self, _: &Id) {
        self.entered.lock().unwrap().pop();
    }
}

fn rows(ids: Range<i64>, at: i64) -> RecordBatch {
    let line = |id: i64| format!(r#"{{"id":{id},"name":"n{id} {at}","at":{at}}}"#) + "\n";
    common::batch(&common::schema(DDL), &ids.map(line).collect::<String>())
}

/// Creates the table `t` on a storage whose requests are measured.
async fn table(store: &S3) -> (Meter, Table) {
    let meter = Meter::over(store.store());
    let definition = TableDefinition::new("t", common::schema(DDL), ["id"]).with_ordering_field("at");
    let options = common::repeatable();
    let table = Table::create_with(meter.store(), "t".into(), definition, options).await.unwrap();
    meter.lap();
    (meter, table)
}

/// Checks the counts of an operation against the measured ones.
fn assert_counts(ended: &Fields, requests: &Requests) {
    let sum = |bytes: fn(&common::meter::Request) -> u64| requests.0.iter().map(bytes).sum::<u64>();
    assert_eq!(ended.number("requests"), requests.0.len() as u64, "{requests}");
    assert_eq!(ended.number("bytes_read"), sum(|request| request.down), "{requests}");
    assert_eq!(ended.number("bytes_sent"), sum(|request| request.up), "{requests}");
}

#[tokio::test]
async fn a_write_is_a_span_with_its_instant_its_phases_and_all_its_requests() {
    let (log, _guard) = Log::start();
    let (meter, table) = table(&S3::new()).await;
    for at in 0..12 {
        let report = table.upsert(&[rows(0..10, at)]).await.unwrap();
        let Ended(level, ended) = log.only();
        assert_eq!((level, ended.text("message")), (Level::INFO, "operation done"));
        assert_eq!((ended.text("operation"), ended.text("table")), ("upsert", "t"));
        assert_eq!(ended.text("instant"), report.instant.unwrap().to_string());
        assert_eq!((ended.number("files"), ended.number("bytes")), (report.files, report.bytes));
        assert_eq!(ended.text("phase"), "clean", "the last phase");
        for phase in ["wait", "repair", "prepare", "find", "write", "commit", "clean"] {
            assert!(ended.text("phases").contains(phase), "{ended:?}");
        }
        // Locks, heartbeats, cleans and archivals are part of the write.
        assert_counts(&ended, &meter.lap());
    }
}

#[tokio::test]
async fn reads_and_streams_are_counted_to_their_ends() {
    let (log, _guard) = Log::start();
    let (meter, table) = table(&S3::new()).await;
    table.upsert(&[rows(0..10, 0)]).await.unwrap();
    let reader = Table::open_with(meter.store(), "t".into(), common::repeatable()).await.unwrap();
    meter.lap();
    log.lap();

    reader.read(Query::snapshot()).await.unwrap();
    let Ended(level, ended) = log.only();
    assert_eq!((level, ended.text("operation")), (Level::DEBUG, "read"));
    assert_counts(&ended, &meter.lap());

    let mut stream = reader.read_stream(Query::snapshot()).await.unwrap();
    assert_eq!(log.lap().len(), 0, "the stream has not ended");
    while stream.next().await.is_some() {}
    assert_counts(&log.only().1, &meter.lap());

    let dropped = reader.read_stream(Query::snapshot()).await.unwrap();
    drop(dropped);
    assert_eq!(log.only().1.text("message"), "operation dropped");
    meter.lap();

    reader.history("3").await.unwrap();
    assert_eq!(log.only().1.text("operation"), "history");
}

#[tokio::test]
async fn an_operation_within_another_one_has_counts_of_its_own() {
    let (log, _guard) = Log::start();
    let (source_meter, source) = table(&S3::new()).await;
    source.upsert(&[rows(0..10, 0)]).await.unwrap();
    let (target_meter, target) = table(&S3::new()).await;
    source_meter.lap();
    target_meter.lap();
    log.lap();

    let rows = source.read_stream(Query::snapshot()).await.unwrap();
    target.upsert_stream(rows).await.unwrap();

    let ended = log.lap();
    let of = |name: &str| &ended.iter().find(|ended| ended.1.text("operation") == name).unwrap().1;
    assert_counts(of("read"), &source_meter.lap());
    assert_counts(of("upsert"), &target_meter.lap());
}

#[tokio::test]
async fn a_failure_names_its_phase_and_the_durations_until_then() {
    let (log, _guard) = Log::start();
    let (_, table) = table(&S3::new()).await;
    let error = "the source failed";
    let source = futures::stream::iter([Ok(rows(0..10, 0)), Err(failure(error))]);
    let failed = table.upsert_stream(source).await.unwrap_err();
    let Ended(level, ended) = log.only();
    assert_eq!((level, ended.text("message")), (Level::WARN, "operation failed"));
    assert_eq!(ended.text("phase"), "prepare");
    assert!(ended.text("phases").starts_with("prepare 0."), "{ended:?}");
    assert_eq!(ended.text("error"), failed.to_string());

    let missing = table.rollback("20200101000000000".parse().unwrap()).await.unwrap_err();
    let Ended(level, ended) = log.only();
    assert_eq!((level, ended.text("operation")), (Level::WARN, "rollback"));
    assert_eq!(ended.text("error"), missing.to_string());
}

#[tokio::test]
async fn a_dropped_write_is_reported_with_its_phase() {
    let (log, _guard) = Log::start();
    let (_, table) = table(&S3::new()).await;
    let endless = futures::stream::pending();
    assert!(table.upsert_stream(endless).now_or_never().is_none());
    let Ended(_, ended) = log.only();
    assert_eq!((ended.text("message"), ended.text("phase")), ("operation dropped", "prepare"));
}

fn failure(message: &str) -> hudi_scd::Error {
    hudi_scd::Error::new(hudi_scd::ErrorKind::Storage, message.to_owned())
}

#[cfg(feature = "metrics")]
mod metrics {
    use std::sync::atomic::AtomicU64;

    use ::metrics::{
        Counter, CounterFn, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString,
        Unit,
    };

    use futures::TryStreamExt;

    use super::*;

    /// Sums counters and histograms by name and labels.
    #[derive(Debug, Default)]
    struct Sums {
        sums: Mutex<BTreeMap<String, Arc<Sum>>>,
        described: Mutex<Vec<String>>,
    }

    #[derive(Debug, Default)]
    struct Sum {
        count: AtomicU64,
        values: Mutex<Vec<f64>>,
    }

    impl CounterFn for Sum {
        fn increment(&self, value: u64) {
            self.count.fetch_add(value, Ordering::Relaxed);
        }

        fn absolute(&self, value: u64) {
            self.count.store(value, Ordering::Relaxed);
        }
    }

    impl HistogramFn for Sum {
        fn record(&self, value: f64) {
            self.values.lock().unwrap().push(value);
        }
    }

    impl Sums {
        fn of(&self, key: &Key) -> Arc<Sum> {
            let labels: Vec<_> =
                key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
            let name = format!("{} {}", key.name(), labels.join(" "));
            self.sums.lock().unwrap().entry(name).or_default().clone()
        }

        fn count(&self, name: &str) -> u64 {
            let sums = self.sums.lock().unwrap();
            let sum = sums.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", sums.keys()));
            sum.count.load(Ordering::Relaxed)
        }

        fn values(&self, name: &str) -> usize {
            let sums = self.sums.lock().unwrap();
            let sum = sums.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", sums.keys()));
            sum.values.lock().unwrap().len()
        }

        fn describe(&self, name: &KeyName) {
            self.described.lock().unwrap().push(name.as_str().to_owned());
        }
    }

    impl Recorder for Sums {
        fn describe_counter(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
            self.describe(&name);
        }

        fn describe_gauge(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
            self.describe(&name);
        }

        fn describe_histogram(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
            self.describe(&name);
        }

        fn register_counter(&self, key: &Key, _: &::metrics::Metadata<'_>) -> Counter {
            Counter::from_arc(self.of(key))
        }

        fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::noop()
        }

        fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::from_arc(self.of(key))
        }
    }

    #[tokio::test]
    async fn operations_are_counted_and_every_metric_is_described() {
        let sums = Sums::default();
        let _guard = ::metrics::set_default_local_recorder(&sums);
        hudi_scd::describe_metrics();
        let (meter, table) = table(&S3::new()).await;
        let first = table.upsert(&[rows(0..10, 0)]).await.unwrap();
        let second = table.upsert(&[rows(0..10, 1)]).await.unwrap();
        let written = meter.lap();
        let failing = futures::stream::iter([Err(failure("the source failed"))]);
        table.upsert_stream(failing).await.unwrap_err();
        table.read_stream(Query::snapshot()).await.unwrap().try_collect::<Vec<_>>().await.unwrap();

        let of_upserts = "operation=upsert table=t";
        let count = |metric: &str| sums.count(&format!("{metric} {of_upserts}"));
        assert_eq!(count("hudi_scd_requests_total"), written.0.len() as u64);
        assert_eq!(
            count("hudi_scd_bytes_sent_total"),
            written.0.iter().map(|request| request.up).sum::<u64>()
        );
        assert_eq!(
            count("hudi_scd_bytes_read_total"),
            written.0.iter().map(|request| request.down).sum::<u64>()
        );
        assert_eq!(count("hudi_scd_files_total"), first.files + second.files);
        assert_eq!(count("hudi_scd_file_bytes_total"), first.bytes + second.bytes);
        let outcome = |outcome: &str| format!("{of_upserts} outcome={outcome}");
        assert_eq!(sums.count(&format!("hudi_scd_operations_total {}", outcome("done"))), 2);
        assert_eq!(sums.count(&format!("hudi_scd_operations_total {}", outcome("failed"))), 1);
        assert_eq!(sums.values(&format!("hudi_scd_operation_seconds {}", outcome("done"))), 2);
        assert_eq!(sums.values(&format!("hudi_scd_phase_seconds {of_upserts} phase=commit")), 2);
        assert_eq!(sums.count("hudi_scd_operations_total operation=read table=t outcome=done"), 1);

        let described = sums.described.lock().unwrap().clone();
        for name in sums.sums.lock().unwrap().keys() {
            let name = name.split(' ').next().unwrap();
            assert!(described.iter().any(|described| described == name), "{name} has no description");
        }
    }
}
