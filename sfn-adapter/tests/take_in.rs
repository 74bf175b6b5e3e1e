//! Spark's program and the handler `hudi` alternately take in the files of one table, with the same cleaning
//! rules.
//!
//! The raw files are CSV with TPC-DS customers and addresses: 12 cycles of changes, with late rows, ties, and
//! two rows of a key in one file. Each cycle delivers all files again. Spark begins, and dies after each of
//! its first commits before it has written the ledger. The handler takes over, and then Spark continues.
//! After each cycle the rows must equal those of a model. `scripts/spark/take_in` starts the test with the
//! variables
//!
//! - `TAKE_IN_PYTHON`: the Python with pyspark;
//! - `TAKE_IN_HUDI`: the version of Hudi;
//! - `TAKE_IN_ROWS`: the numbers of customers and of addresses (`200,0`).

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may panic, and reports its progress")]

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{BufRead, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use hudi_scd::{
    Query, RetentionPolicy, SourceFile, Table, TableDefinition, TableOptions,
    arrow::{
        datatypes::{DataType, Field, Schema, TimeUnit},
        util::display::{ArrayFormatter, FormatOptions},
    },
    spark::{self, Release, TakeIn},
};
use object_store::{ObjectStore, ObjectStoreExt, local::LocalFileSystem};
use serde_json::{Value, json};
use sfn_adapter::{Invocation, Lake, handler, handler::HudiConfig};
use tpcdsgen::{
    config::{SessionBuilder, Table as Tpcds},
    row::{CustomerAddressRowGenerator, CustomerRowGenerator},
};

const CYCLES: usize = 12;
/// Spark runs the cycles before this one and writes no ledger in them.
const NATIVE: usize = 7;
/// Spark runs this cycle and all later ones.
const SPARK_AGAIN: usize = 9;
/// A short active timeline, so that commits are archived.
const KEEP: [(&str, &str); 2] = [("hoodie.keep.min.commits", "4"), ("hoodie.keep.max.commits", "5")];

/// An entity of the shop: its raw columns, starting with the key, and its rows in TPC-DS.
struct Entity {
    name: &'static str,
    prefix: &'static str,
    columns: Vec<(&'static str, Kind)>,
    rows: Vec<Vec<Option<String>>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Key,
    Text,
    Date,
    /// A number with three decimal places. The profile rounds it to two.
    Money,
}

impl Entity {
    fn customers(rows: usize) -> Self {
        let session = SessionBuilder::new().with_scale_factor(0.01).build().unwrap();
        let count = session.get_scaling().get_row_count(Tpcds::Customer);
        let row = |text: String| {
            let column = column_of(&text);
            let born = column(13).zip(column(12)).zip(column(11));
            let born = born.map(|((year, month), day)| format!("{year}-{month:0>2}-{day:0>2}"));
            vec![column(0), column(8), column(9), born, column(16), Some("100.005".to_owned())]
        };
        let generated = CustomerRowGenerator::new(session.clone(), count).map(|row| row.to_string());
        let columns = [
            ("customer_id", Kind::Key),
            ("first_name", Kind::Text),
            ("last_name", Kind::Text),
            ("birth_date", Kind::Date),
            ("email", Kind::Text),
            ("balance", Kind::Money),
        ];
        let rows = generated.take(rows).map(row).collect();
        Self { name: "store_customer", prefix: "customer", columns: columns.into(), rows }
    }

    fn addresses(rows: usize) -> Self {
        let session = SessionBuilder::new().with_scale_factor(0.01).build().unwrap();
        let count = session.get_scaling().get_row_count(Tpcds::CustomerAddress);
        let row = |text: String| {
            let column = column_of(&text);
            vec![column(0), column(3), column(6), column(9), Some("-5.995".to_owned())]
        };
        let generated = CustomerAddressRowGenerator::new(session.clone(), count).map(|row| row.to_string());
        let columns = [
            ("address_id", Kind::Key),
            ("street", Kind::Text),
            ("city", Kind::Text),
            ("zip", Kind::Text),
            ("gmt_offset", Kind::Money),
        ];
        let rows = generated.take(rows).map(row).collect();
        Self { name: "store_customer_address", prefix: "address", columns: columns.into(), rows }
    }

    fn datetime(&self) -> String {
        format!("{}_datetime", self.prefix)
    }

    fn definition(&self) -> TableDefinition {
        let utc = || DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let field = |(name, kind): &(&str, Kind)| match kind {
            Kind::Key => Field::new(*name, DataType::Int64, false),
            Kind::Text => Field::new(*name, DataType::Utf8, true),
            Kind::Date => Field::new(*name, DataType::Date32, true),
            Kind::Money => Field::new(*name, DataType::Decimal128(15, 2), true),
        };
        let mut fields: Vec<Field> = self.columns.iter().map(field).collect();
        fields.push(Field::new(self.datetime(), utc(), true));
        fields.push(Field::new("processing_datetime", utc(), true));
        fields.push(Field::new("etl_processing_datetime", utc(), true));
        fields.push(Field::new(format!("{}_date", self.prefix), DataType::Date32, true));
        TableDefinition::new(self.name, Arc::new(Schema::new(fields)), [self.columns[0].0])
            .with_ordering_field(self.datetime())
            .with_retention(RetentionPolicy::commits(2))
    }

    fn profile(&self) -> Value {
        let date = json!({ "column": format!("{}_date", self.prefix), "of": self.datetime() });
        json!({ "preset": "reference", "date": date })
    }
}

/// Returns the columns of a TPC-DS row by number.
fn column_of(text: &str) -> impl Fn(usize) -> Option<String> {
    let columns: Vec<_> = text.split('|').map(|column| column.trim().to_owned()).collect();
    move |number| columns.get(number).filter(|text| !text.is_empty()).cloned()
}

/// A change of a row, with its time in seconds.
struct Change {
    row: Vec<Option<String>>,
    at: i64,
}

const START: i64 = 1_767_225_600;

/// The rows of a table by key. A row replaces a stored row that is not newer.
#[derive(Default)]
struct Model(BTreeMap<i64, Change>);

impl Model {
    fn apply(&mut self, changes: Vec<Change>) {
        for change in changes {
            let key = change.row[0].as_ref().unwrap().parse().unwrap();
            if self.0.get(&key).is_none_or(|stored| stored.at <= change.at) {
                self.0.insert(key, change);
            }
        }
    }

    /// Returns the rows as text, without the time of processing.
    fn lines(&self, entity: &Entity) -> Vec<String> {
        let line = |change: &Change| {
            let kinds = entity.columns.iter().map(|(_, kind)| *kind);
            let mut values: Vec<_> =
                change.row.iter().zip(kinds).map(|(raw, kind)| stored(raw.as_deref(), kind)).collect();
            let time = time(change.at);
            values.push(format!("{}Z", time.replace(' ', "T")));
            values.push(time[..10].to_owned());
            values.join("|")
        };
        self.0.values().map(line).collect()
    }
}

fn time(at: i64) -> String {
    jiff::Timestamp::new(at, 0).unwrap().strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// Returns the text of a stored value. Money is rounded half up, away from zero.
fn stored(raw: Option<&str>, kind: Kind) -> String {
    let Some(raw) = raw else { return "NULL".to_owned() };
    if kind != Kind::Money {
        return raw.to_owned();
    }
    let thousandths: i64 = raw.replace('.', "").parse().unwrap();
    let cents = (thousandths.abs() + 5) / 10;
    let sign = if raw.starts_with('-') && cents != 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", cents / 100, cents % 100)
}

/// Generates random changes for a cycle: all rows in the first cycle, then updates, late rows, ties and new
/// keys.
fn changes(entity: &Entity, cycle: usize, model: &Model, random: &mut fastrand::Rng) -> Vec<Change> {
    let begin = START + cycle as i64 * 1_800;
    if cycle == 0 {
        let known = entity.rows.len() * 9 / 10;
        let rows = entity.rows.iter().take(known).cloned();
        return rows.enumerate().map(|(n, row)| Change { row, at: begin + n as i64 % 1_700 }).collect();
    }
    let mut changes = Vec::new();
    for _ in 0..entity.rows.len().div_ceil(12) {
        let number = random.usize(..entity.rows.len());
        let mut row = entity.rows[number].clone();
        for (value, (_, kind)) in row.iter_mut().zip(&entity.columns) {
            match (kind, random.u8(..8)) {
                (Kind::Text, 0) => *value = None,
                (Kind::Text, 1) => *value = Some(String::new()),
                (Kind::Text, 2) => *value = Some(format!("O\"Neil, {}", random.u16(..))),
                (Kind::Date, 0) => *value = Some(format!("19{}-02-28", random.u8(10..99))),
                (Kind::Money, 0) => *value = None,
                (Kind::Money, _) => {
                    let sign = if random.bool() { "-" } else { "" };
                    *value = Some(format!("{sign}{}.{:03}", random.u32(..1_000_000), random.u16(..1_000)));
                }
                _ => {}
            }
        }
        let key: i64 = row[0].as_ref().unwrap().parse().unwrap();
        let at = begin + random.i64(0..1_800);
        let at = match (random.u8(..8), model.0.get(&key)) {
            (0, Some(stored)) => stored.at - 1,
            (1, Some(stored)) => stored.at,
            _ => at,
        };
        changes.push(Change { row: row.clone(), at });
        if random.u8(..8) == 0 {
            let again = random.i64(-1..=1);
            row[1] = Some(format!("again {again}"));
            changes.push(Change { row, at: at + again });
        }
    }
    changes
}

/// Returns the text of a raw file.
fn csv(entity: &Entity, changes: &[Change]) -> String {
    let mut text = String::new();
    for (name, _) in &entity.columns {
        let _ = write!(text, "{name},");
    }
    let _ = writeln!(text, "{},processing_datetime", entity.datetime());
    for change in changes {
        for value in &change.row {
            let _ = match value {
                None => write!(text, ","),
                Some(value) if value.is_empty() || value.contains([',', '"']) => {
                    write!(text, "\"{}\",", value.replace('"', "\"\""))
                }
                Some(value) => write!(text, "{value},"),
            };
        }
        let _ = writeln!(text, "{},{}", time(change.at), change.at);
    }
    text
}

/// A folder with the table and its raw files, as the handler's lake.
#[derive(Clone, Debug)]
struct Shore {
    folder: PathBuf,
    store: Arc<dyn ObjectStore>,
}

impl Shore {
    fn table_folder(&self) -> PathBuf {
        self.folder.join("table")
    }

    fn raw_folder(&self) -> PathBuf {
        self.folder.join("raw")
    }

    /// Writes a raw file.
    async fn put(&self, name: &str, text: String) -> SourceFile {
        std::fs::create_dir_all(self.raw_folder()).unwrap();
        std::fs::write(self.raw_folder().join(name), text).unwrap();
        let meta = self.bucket("raw").unwrap().head(&name.into()).await.unwrap();
        SourceFile::new(format!("s3://raw/{name}"), meta.e_tag.unwrap().trim_matches('"'))
    }

    async fn open(&self, options: TableOptions) -> hudi_scd::Result<Table> {
        let path = object_store::path::Path::from_absolute_path(self.table_folder()).unwrap();
        Table::open_with(self.store.clone(), path, options).await
    }

    /// Removes the ledger of the latest commit, as if Spark had died before it wrote one.
    async fn forget_ledger(&self) {
        let table = self.open(TableOptions::new()).await.unwrap();
        let latest = table.timeline().await.unwrap().latest_commit().unwrap();
        let ledgers = self.table_folder().join(".hoodie/.aux/tombstones");
        std::fs::remove_file(ledgers.join(format!("{latest}.ledger"))).unwrap();
    }
}

#[async_trait]
impl Lake for Shore {
    async fn table(&self, options: TableOptions) -> hudi_scd::Result<Table> {
        self.open(options).await
    }

    fn bucket(&self, _: &str) -> hudi_scd::Result<Arc<dyn ObjectStore>> {
        Ok(Arc::new(LocalFileSystem::new_with_prefix(self.raw_folder()).unwrap()))
    }
}

/// A process with a Spark session.
struct Spark {
    process: Child,
    requests: ChildStdin,
    replies: BufReader<ChildStdout>,
}

impl Spark {
    fn start(python: &str, hudi: &str) -> Self {
        let engine = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/spark/engine.py");
        let mut command = Command::new(python);
        command.arg(engine).arg(hudi).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().unwrap();
        let requests = process.stdin.take().unwrap();
        let replies = BufReader::new(process.stdout.take().unwrap());
        let mut spark = Self { process, requests, replies };
        spark.reply().unwrap();
        spark
    }

    fn ask(&mut self, request: &Value) -> Result<Value, String> {
        writeln!(self.requests, "{request}").unwrap();
        self.reply()
    }

    fn reply(&mut self) -> Result<Value, String> {
        let mut line = String::new();
        self.replies.read_line(&mut line).unwrap();
        let reply: Value = serde_json::from_str(&line).map_err(|_| "Spark has ended".to_owned())?;
        match reply.get("error") {
            Some(error) => Err(error.to_string()),
            None => Ok(reply["ok"].clone()),
        }
    }

    /// Takes files in with the program.
    fn take_in(&mut self, take_in: &TakeIn, raw: &Path) -> Value {
        let mut arguments: Vec<String> =
            take_in.arguments().into_iter().flat_map(|(name, value)| [name, value]).collect();
        arguments.extend(["--read-from".to_owned(), format!("s3://raw/=file://{}/", raw.display())]);
        self.ask(&json!({ "do": "take_in", "arguments": arguments })).unwrap()
    }

    /// Returns the rows in the form of the model.
    fn lines(&mut self, table: &Path, columns: &[String]) -> Vec<String> {
        let rows = self.ask(&json!({ "do": "rows", "table": table })).unwrap();
        let text = |value: &Value| match value {
            Value::Null => "NULL".to_owned(),
            Value::String(text) => text.replace(".000000Z", "Z"),
            other => other.to_string(),
        };
        let line = |row: &Value| columns.iter().map(|name| text(&row[name])).collect::<Vec<_>>().join("|");
        sorted(rows.as_array().unwrap().iter().map(line).collect())
    }
}

impl Drop for Spark {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Sorts lines by their key, a number.
fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort_by_key(|line| line.split('|').next().unwrap().parse::<i64>().unwrap());
    lines
}

/// Returns the rows that this crate reads, in the form of the model.
async fn lines(table: &Table, columns: &[String]) -> Vec<String> {
    let mut lines = Vec::new();
    for batch in table.read(Query::snapshot().with_columns(columns.iter().map(String::as_str))).await.unwrap()
    {
        let options = FormatOptions::new().with_null("NULL");
        let formatters: Vec<_> =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).unwrap()).collect();
        for row in 0..batch.num_rows() {
            let values: Vec<_> = formatters.iter().map(|column| column.value(row).to_string()).collect();
            lines.push(values.join("|"));
        }
    }
    sorted(lines)
}

#[tokio::test]
#[ignore = "needs Spark: scripts/spark/take_in starts it"]
async fn other_engines_and_the_handler_take_in_the_files_of_one_table() {
    let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let hudi = variable("TAKE_IN_HUDI");
    let counts = variable("TAKE_IN_ROWS");
    let (customers, addresses) = counts.split_once(',').unwrap();
    let mut spark = Spark::start(&variable("TAKE_IN_PYTHON"), &hudi);
    let release = Release::parse(&hudi).unwrap();
    let entities =
        [Entity::customers(customers.parse().unwrap()), Entity::addresses(addresses.parse().unwrap())];
    for entity in entities.iter().filter(|entity| !entity.rows.is_empty()) {
        shared(entity, &mut spark, release).await;
    }
}

/// Lets both engines take in the files of one entity.
async fn shared(entity: &Entity, spark: &mut Spark, release: Release) {
    let folder = tempfile::tempdir().unwrap();
    let shore = Shore {
        folder: folder.path().canonicalize().unwrap(),
        store: Arc::new(LocalFileSystem::new().with_automatic_cleanup(false)),
    };
    let definition = entity.definition();
    let profile = entity.profile();
    let table_folder = shore.table_folder();
    let url = table_folder.to_string_lossy().into_owned();
    let mut config = HudiConfig::new(url.clone());
    config.profile = serde_json::from_value(profile.clone()).unwrap();
    let date = format!("{}_date", entity.prefix);
    let columns: Vec<String> =
        entity.columns.iter().map(|(name, _)| (*name).to_owned()).chain([entity.datetime(), date]).collect();
    let (mut model, mut files, mut random) = (Model::default(), Vec::new(), fastrand::Rng::with_seed(7));
    for cycle in 0..CYCLES {
        let begun = tokio::time::Instant::now();
        let mut drawn = changes(entity, cycle, &model, &mut random);
        // Every third cycle has two files. The second contains the later rows.
        let second = if cycle % 3 == 2 { drawn.split_off(drawn.len() / 2) } else { Vec::new() };
        let new = files.len();
        for (part, changes) in [drawn, second].into_iter().enumerate().filter(|(_, part)| !part.is_empty()) {
            files.push(shore.put(&format!("{cycle:02}-{part}.csv"), csv(entity, &changes)).await);
            model.apply(changes);
        }
        let counts = if (NATIVE..SPARK_AGAIN).contains(&cycle) {
            let urls: Vec<_> = files.iter().map(|file| &file.name).collect();
            let event = json!({ "version": 1, "action": "upsert", "files": urls });
            let now = jiff::Timestamp::new(START + cycle as i64 * 1_800, 0).unwrap();
            let invocation = Invocation::new("r", Duration::from_secs(900)).at(now);
            let reply = handler::hudi(&shore, &config, &invocation, &event.to_string()).await.unwrap();
            let reply = serde_json::to_value(reply).unwrap();
            [reply["files"]["new"].clone(), reply["files"]["known"].clone()]
        } else {
            let take_in = TakeIn::new(&url, &definition, release)
                .unwrap()
                .with_profile(profile.to_string())
                .with_files(&files)
                .with_options(KEEP.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
            let report = spark.take_in(&take_in, &shore.raw_folder());
            if cycle < NATIVE {
                shore.forget_ledger().await;
            }
            [report["new"].clone(), report["known"].clone()]
        };
        assert_eq!(counts, [json!(files.len() - new), json!(new)], "new and known files of cycle {cycle}");
        let table = shore.open(TableOptions::new()).await.unwrap();
        assert_eq!(lines(&table, &columns).await, model.lines(entity), "cycle {cycle}");
        println!(
            "{} cycle {cycle}: {} rows, {:.1} s",
            entity.name,
            model.0.len(),
            begun.elapsed().as_secs_f64()
        );
        if cycle == 0 {
            as_defined(&table, &definition, release).await;
        }
    }
    let table = shore.open(TableOptions::new()).await.unwrap();
    assert_eq!(table.new_files(&files).await.unwrap(), []);
    assert_eq!(table.validate().await.unwrap(), []);
    assert!(!table.archived_entries().await.unwrap().is_empty(), "files were known by the archive");
    assert_eq!(spark.lines(&table_folder, &columns), model.lines(entity));
}

/// Checks that the table that Spark created matches the definition.
async fn as_defined(table: &Table, definition: &TableDefinition, release: Release) {
    let options = spark::options_of(table, release).await.unwrap();
    assert_eq!(options, spark::options(definition, release).unwrap());
    let native = Arc::new(object_store::memory::InMemory::new());
    let native = Table::create(native, "t".into(), definition.clone()).await.unwrap();
    assert_eq!(table.schema().await.unwrap(), native.schema().await.unwrap());
    assert_eq!(table.options().retention(), native.options().retention());
    assert_eq!(table.version(), native.version());
    assert_eq!(table.time_zone(), native.time_zone());
}
