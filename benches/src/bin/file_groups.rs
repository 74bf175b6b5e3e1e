//! How much does a table of many file groups cost?
//!
//! - **100,000 file groups in 1,000 partitions**, in memory: a new process opens the table and upserts 1,000 rows,
//!   with the clean that follows; then the same handle upserts again. The figures are seconds, requests, and the
//!   memory of the process without the objects.
//! - **1,000,000 file groups**, whose files a storage makes up when they are read: the same, with new rows, and the
//!   memory of the handle.
//!
//! **Limit: a handle of one million file groups takes at most 1 GiB**, at its peak.
//!
//! Run `cargo run --release -p benches --bin file_groups`. `--smoke` uses small tables, for CI.

#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::{
    fmt,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use async_trait::async_trait;
use benches::{
    measure::{json_lines, number, peak_bytes, resident_bytes},
    remote::{Remote, Traffic},
    results::Section,
};
use bytes::Bytes;
use clap::Parser;
use futures::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use hudi_scd::{Codec, Table, TableDefinition, TableOptions};
use object_store::{
    Attributes, CopyOptions, GetOptions, GetRange, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    memory::InMemory, path::Path,
};
use serde_json::json;

/// Limit for the memory of a handle of one million file groups.
const LIMIT: f64 = 1024.0 * 1024.0 * 1024.0;
/// Number of rows of an upsert.
const CHANGES: i64 = 1_000;

#[derive(Parser)]
#[command(about = "Seconds, requests and memory of a table of many file groups")]
struct Options {
    /// Uses small tables, for CI.
    #[arg(long)]
    smoke: bool,
    /// Measures the memory of one table in a separate process.
    #[arg(long, hide = true)]
    made_up: Option<u64>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let Options { smoke, made_up } = Options::parse();
    if let Some(groups) = made_up {
        return measure_made_up(groups).await;
    }
    let (stored, groups) = if smoke { (500, 2_000) } else { (100_000, 1_000_000) };
    let mut rows = measure_stored(stored).await?;
    let mut run = std::process::Command::new(std::env::current_exe()?);
    let measured = json_lines(run.args(["--made-up", &groups.to_string()]))?;
    let mut peak = 0.0_f64;
    for step in &measured {
        let memory = number(step, "peak_bytes")?;
        peak = peak.max(memory);
        let figure = |name| number(step, name).map(|figure| format!("{figure:.2}"));
        rows.push([
            format!("{groups} made up: {}", step["step"].as_str().context("a step has a name")?),
            figure("seconds")?,
            step["requests"].to_string(),
            format!("{:.0}", number(step, "bytes")? / 1e6),
            format!("{:.0}", memory / 1e6),
        ]);
    }
    Section::new(
        "file_groups",
        "How much does a table of many file groups cost?",
        &format!("an upsert of {CHANGES} rows, in memory; 10 retained commits; small files"),
    )
    .with_table(["file groups", "seconds", "requests", "MB kept", "peak MB"], rows)
    .with_note(&format!(
        "MB are those of the process above the ones before its table was opened. The first upsert of a handle lists \
         the table and reads all footers. {:.0} bytes for each made up file group at the peak, limit 1 GiB for one \
         million.",
        peak / groups as f64
    ))
    .publish(!smoke)?;
    if !smoke && peak > LIMIT {
        bail!("a handle of {groups} file groups takes {:.0} MB", peak / 1e6);
    }
    Ok(())
}

fn options() -> TableOptions {
    TableOptions::new().with_codec(Codec::Snappy)
}

/// Measures a table of `groups` file groups in memory.
async fn measure_stored(groups: i64) -> Result<Vec<[String; 5]>> {
    let partitions = (groups / 100).max(5);
    let remote = Remote::default().near();
    let rows = |ids: &[i64], at| stored_rows(ids, partitions, at);
    let schema = rows(&[0], 0)?.schema();
    let definition =
        TableDefinition::new("t", schema, ["id"]).with_ordering_field("at").with_partition_fields(["region"]);
    // Each commit adds a file of two rows to each partition.
    let table =
        Table::create_with(Arc::new(remote.clone()), "t".into(), definition, options().with_file_sizes(0, 1))
            .await?;
    for first in (0..2 * groups).step_by(2 * partitions as usize) {
        table.bulk_insert(&[rows(&(first..first + 2 * partitions).collect::<Vec<_>>(), 0)?]).await?;
    }
    drop(table);
    remote.lap();
    let before = resident_bytes();
    let mut measured = Vec::new();
    let mut step = |name: &str, seconds: f64, traffic: Traffic| {
        let megabytes = |bytes: u64| format!("{:.0}", bytes.saturating_sub(before) as f64 / 1e6);
        measured.push([
            format!("{groups} in {partitions} partitions: {name}"),
            format!("{seconds:.2}"),
            traffic.requests.to_string(),
            megabytes(resident_bytes()),
            String::new(),
        ]);
    };
    let begun = Instant::now();
    let table = Table::open_with(Arc::new(remote.clone()), "t".into(), options()).await?;
    step("open", begun.elapsed().as_secs_f64(), remote.lap());
    for (turn, name) in [(1, "first upsert"), (2, "second upsert"), (3, "third upsert")] {
        let mut random = fastrand::Rng::with_seed(turn);
        let ids: std::collections::BTreeSet<i64> = (0..CHANGES).map(|_| random.i64(0..2 * groups)).collect();
        let ids: Vec<i64> = ids.into_iter().collect();
        let changes = rows(&ids, turn.cast_signed())?;
        let begun = Instant::now();
        let report = table.upsert(&[changes]).await?;
        let seconds = begun.elapsed().as_secs_f64();
        ensure!(report.updated == ids.len() as u64, "{report:?}");
        step(&format!("{name} of {} files", report.files), seconds, remote.lap());
    }
    let begun = Instant::now();
    table.clean().await?;
    step("clean", begun.elapsed().as_secs_f64(), remote.lap());
    Ok(measured)
}

fn stored_rows(ids: &[i64], partitions: i64, at: i64) -> Result<RecordBatch> {
    let columns: [(&str, ArrayRef); 3] = [
        ("id", Arc::new(Int64Array::from(ids.to_vec()))),
        (
            "region",
            Arc::new(StringArray::from_iter_values(ids.iter().map(|id| format!("r{:04}", id % partitions)))),
        ),
        ("at", Arc::new(Int64Array::from(vec![at; ids.len()]))),
    ];
    Ok(RecordBatch::try_from_iter(columns)?)
}

/// Measures a table of made up file groups, and prints a line for each step.
async fn measure_made_up(groups: u64) -> Result<()> {
    let store = MadeUp::new(groups).await?;
    let before = (resident_bytes(), store.requests.swap(0, Ordering::Relaxed));
    let step = |name: &str, seconds: f64| {
        let line = json!({
            "step": name,
            "seconds": seconds,
            "requests": store.requests.swap(0, Ordering::Relaxed),
            "bytes": resident_bytes().saturating_sub(before.0),
            "peak_bytes": peak_bytes().saturating_sub(before.0),
        });
        println!("{line}");
    };
    let begun = Instant::now();
    let table =
        Table::open_with(Arc::new(store.clone()), "t".into(), options().with_file_sizes(0, 1)).await?;
    step("open", begun.elapsed().as_secs_f64());
    for (turn, name) in (1..).zip(["first upsert", "second upsert"]) {
        let keys = (0..CHANGES).map(|row| format!("z{turn}-{row}"));
        let begun = Instant::now();
        let report = table.upsert(&[made_up_rows(keys)?]).await?;
        ensure!(report.inserted == CHANGES.cast_unsigned(), "{report:?}");
        step(name, begun.elapsed().as_secs_f64());
    }
    Ok(())
}

fn made_up_rows(keys: impl Iterator<Item = String>) -> Result<RecordBatch> {
    let keys: ArrayRef = Arc::new(StringArray::from_iter_values(keys));
    let parts: ArrayRef = Arc::new(StringArray::from_iter_values(std::iter::repeat_n("p000", keys.len())));
    Ok(RecordBatch::try_from_iter([("id", keys), ("part", parts)])?)
}

/// Number of partitions of the files that are made up.
const PARTITIONS: u64 = 1_000;

/// The key of the row of the template, whose digits are replaced in each file.
const KEY: &str = "key-000000000";

/// A table of one real file and many copies of it with other keys, in 1,000 partitions, which are made up when they
/// are listed or read. Everything else is stored.
#[derive(Clone, Debug)]
struct MadeUp {
    inner: Arc<InMemory>,
    groups: u64,
    /// The name of the file, without the beginning of its id.
    name: Arc<String>,
    template: Bytes,
    requests: Arc<AtomicU64>,
}

impl MadeUp {
    async fn new(groups: u64) -> Result<Self> {
        let inner = Arc::new(InMemory::new());
        let rows = made_up_rows(std::iter::once(KEY.to_owned()))?;
        let definition = TableDefinition::new("t", rows.schema(), ["id"]).with_partition_fields(["part"]);
        let table = Table::create_with(inner.clone(), "t".into(), definition, options()).await?;
        table.upsert(&[rows]).await?;
        let files: Vec<ObjectMeta> = inner.list(Some(&"t".into())).try_collect().await?;
        let file = files.iter().find(|file| file.location.as_ref().ends_with(".parquet"));
        let file = file.context("there is a base file")?;
        let template = inner.get(&file.location).await?.bytes().await?;
        let name = file.location.filename().context("a file has a name")?[12..].to_owned();
        Ok(Self { inner, groups, name: Arc::new(name), template, requests: Arc::default() })
    }

    fn path(&self, number: u64) -> Path {
        let part = number * PARTITIONS / self.groups;
        format!("t/part=p{part:03}/m{number:011}{}", self.name).into()
    }

    /// Returns the number of a file that is made up.
    fn number(&self, path: &Path) -> Option<u64> {
        let name = path.filename()?.strip_prefix('m')?;
        name.strip_suffix(self.name.as_str())?.parse().ok()
    }

    fn meta(&self, location: Path) -> ObjectMeta {
        let size = self.template.len() as u64;
        ObjectMeta { location, last_modified: Default::default(), size, e_tag: None, version: None }
    }

    fn content(&self, number: u64) -> Bytes {
        let key = format!("key-{number:09}");
        let mut content = self.template.to_vec();
        let found = content.windows(KEY.len()).enumerate().filter(|(_, at)| *at == KEY.as_bytes());
        let places: Vec<usize> = found.map(|(at, _)| at).collect();
        for at in places {
            content[at..at + KEY.len()].copy_from_slice(key.as_bytes());
        }
        content.into()
    }

    fn count(&self, requests: u64) {
        self.requests.fetch_add(requests, Ordering::Relaxed);
    }
}

impl fmt::Display for MadeUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MadeUp")
    }
}

#[async_trait]
impl ObjectStore for MadeUp {
    async fn put_opts(
        &self,
        path: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        self.count(1);
        self.inner.put_opts(path, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.count(1);
        let Some(number) = self.number(path) else { return self.inner.get_opts(path, options).await };
        let content = self.content(number);
        let size = content.len() as u64;
        let range: Range<u64> = match options.range {
            Some(GetRange::Bounded(range)) => range,
            Some(GetRange::Offset(start)) => start..size,
            Some(GetRange::Suffix(length)) => size.saturating_sub(length)..size,
            None => 0..size,
        };
        let part = content.slice(range.start as usize..range.end as usize);
        Ok(GetResult {
            payload: GetResultPayload::Stream(stream::once(async move { Ok(part) }).boxed()),
            meta: self.meta(path.clone()),
            range,
            attributes: Attributes::default(),
        })
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.count(1);
        self.inner.list(prefix)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        let stored = self.inner.list_with_offset(prefix, offset);
        if prefix.is_none_or(|prefix| prefix.as_ref() != "t") {
            return stored;
        }
        self.count(self.groups / 1_000);
        let all = self.clone();
        stored.chain(stream::iter(0..self.groups).map(move |number| Ok(all.meta(all.path(number))))).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.count(1);
        let mut listed = self.inner.list_with_delimiter(prefix).await?;
        if prefix.is_some_and(|prefix| prefix.as_ref() == "t") {
            let parts = (1..PARTITIONS).map(|part| Path::from(format!("t/part=p{part:03}")));
            listed.common_prefixes.extend(parts);
        }
        Ok(listed)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.count(1);
        self.inner.copy_opts(from, to, options).await
    }
}
