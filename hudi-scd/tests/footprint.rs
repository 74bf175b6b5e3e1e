//! Measures the memory that a handle needs per file group. The limit for a table with a million file groups
//! is 1 GiB.
//!
//! | part | MB for a million file groups |
//! |---|---:|
//! | [`LIMIT`] for each file group at the peak | 700 |
//! | bloom filters, up to a fixed number of bytes | 67 |
//! | metadata and content of the files that were read last | 67 |
//!
//! The limit is 1,074 MB. The test compares tables of two sizes, so that memory of a fixed size cancels out.
//! Its allocator counts all threads, so this test is the only one in its binary.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use async_trait::async_trait;
use bytes::Bytes;
use common::interposed::{Interposed, Interposer};
use futures::{StreamExt, stream, stream::BoxStream};
use hudi_scd::{Codec, Table, TableDefinition, TableOptions};
use object_store::{
    Attributes, GetOptions, GetRange, GetResult, GetResultPayload, ListResult, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutOptions, PutPayload, PutResult, memory::InMemory, path::Path,
};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// The maximum memory per file group at the peak, in bytes.
const LIMIT: f64 = 700.0;
const PARTITIONS: usize = 30;
/// The key in the row of the template. Its digits are replaced in each file.
const KEY: &str = "key-000000000";
/// The footer entry of the bloom filter. The files lack it, because the bytes of filters have a limit of their own.
const FILTER: &str = "org.apache.hudi.bloomfilter";

/// Adds many copies of a base file to a table. Each copy has a different key.
#[derive(Clone, Debug)]
struct Copies {
    groups: usize,
    /// The name of the file, without the beginning of its id.
    name: String,
    template: Bytes,
}

impl Copies {
    fn listed(&self) -> impl Iterator<Item = ObjectMeta> + use<> {
        let (groups, name, size) = (self.groups, self.name.clone(), self.template.len() as u64);
        (0..groups).map(move |number| ObjectMeta {
            location: format!("t/part=p{:03}/m{number:011}{name}", number * PARTITIONS / groups).into(),
            last_modified: Default::default(),
            size,
            // As long as S3's.
            e_tag: Some("\"5d41402abc4b2a76b9719d911017c592\"".to_owned()),
            version: None,
        })
    }

    /// Returns the content of a copy.
    fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let number =
            path.filename()?.strip_prefix('m')?.strip_suffix(self.name.as_str())?.parse::<usize>().ok()?;
        let mut content = self.template.to_vec();
        let key = format!("key-{number:09}");
        for at in 0..content.len() - KEY.len() {
            if content[at..].starts_with(KEY.as_bytes()) {
                content[at..at + KEY.len()].copy_from_slice(key.as_bytes());
            }
        }
        Some(content)
    }
}

#[async_trait]
impl Interposer for Copies {
    fn list(
        &self,
        inner: &Arc<dyn ObjectStore>,
        prefix: Option<&Path>,
    ) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        let stored = inner.list(prefix);
        match prefix.is_some_and(|prefix| prefix.as_ref() == "t") {
            true => stored.chain(stream::iter(self.listed().map(Ok))).boxed(),
            false => stored,
        }
    }

    /// Stores a copy, because the buffers of a writer are larger than their content.
    async fn put(
        &self,
        inner: &dyn ObjectStore,
        path: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        let content: Vec<u8> = payload.iter().flatten().copied().collect();
        inner.put_opts(path, content.into_boxed_slice().into_vec().into(), options).await
    }

    async fn get(
        &self,
        inner: &dyn ObjectStore,
        path: &Path,
        options: GetOptions,
    ) -> object_store::Result<GetResult> {
        let Some(content) = self.content(path) else { return inner.get_opts(path, options).await };
        let size = content.len() as u64;
        let range = match options.range {
            Some(GetRange::Bounded(range)) => range,
            Some(GetRange::Offset(start)) => start..size,
            Some(GetRange::Suffix(length)) => size.saturating_sub(length)..size,
            None => 0..size,
        };
        let part = Bytes::from(content).slice(range.start as usize..range.end as usize);
        let meta = ObjectMeta {
            location: path.clone(),
            last_modified: Default::default(),
            size,
            e_tag: None,
            version: None,
        };
        let payload = GetResultPayload::Stream(stream::once(async move { Ok(part) }).boxed());
        Ok(GetResult { payload, meta, range, attributes: Attributes::default() })
    }

    async fn folders(
        &self,
        inner: &dyn ObjectStore,
        prefix: Option<&Path>,
    ) -> object_store::Result<ListResult> {
        let mut listed = inner.list_with_delimiter(prefix).await?;
        if prefix.is_some_and(|prefix| prefix.as_ref() == "t") {
            listed.common_prefixes.extend((1..PARTITIONS).map(|part| format!("t/part=p{part:03}").into()));
        }
        Ok(listed)
    }
}

fn options() -> TableOptions {
    common::repeatable().with_codec(Codec::Snappy).with_file_sizes(0, 1 << 20)
}

fn rows(keys: impl Iterator<Item = String>) -> RecordBatch {
    let keys: ArrayRef = Arc::new(StringArray::from_iter_values(keys));
    let parts: ArrayRef = Arc::new(StringArray::from_iter_values(std::iter::repeat_n("p000", keys.len())));
    RecordBatch::try_from_iter([("id", keys), ("part", parts)]).unwrap()
}

/// Returns the peak memory of a handle that upserts twice. The first upsert lists the table and reads all
/// footers.
async fn peak(groups: usize) -> usize {
    let inner = Arc::new(InMemory::new());
    let row = rows(std::iter::once(KEY.to_owned()));
    let definition = TableDefinition::new("t", row.schema(), ["id"]).with_partition_fields(["part"]);
    let table = Table::create_with(inner.clone(), "t".into(), definition, options()).await.unwrap();
    table.upsert(&[row]).await.unwrap();
    let group = table.file_groups().await.unwrap().remove(0);
    let file = &group.versions[0].file;
    let path = Path::from(format!("t/{}/{file}", group.partition));
    let mut template = inner.get(&path).await.unwrap().bytes().await.unwrap().to_vec();
    let filters: Vec<usize> =
        (0..template.len()).filter(|at| template[*at..].starts_with(FILTER.as_bytes())).collect();
    assert!(!filters.is_empty());
    filters.into_iter().for_each(|at| template[at] = b'x');
    let copies = Copies { groups, name: file[12..].to_owned(), template: template.into() };
    drop(table);

    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let store = Interposed::over(inner, copies);
    let table = Table::open_with(store, "t".into(), options()).await.unwrap();
    for turn in 0..2 {
        let report = table.upsert(&[rows((0..100).map(|row| format!("z{turn}-{row}")))]).await.unwrap();
        assert_eq!((report.inserted, report.files), (100, 1));
    }
    let peak = ALLOCATOR.peak_usage().saturating_sub(before);
    assert_eq!(table.file_groups().await.unwrap().len(), groups + 3);
    peak
}

#[tokio::test]
async fn a_file_group_takes_little_memory() {
    let (few, many) = (10_000, 40_000);
    let more = peak(many).await.saturating_sub(peak(few).await);
    let each = more as f64 / (many - few) as f64;
    println!("{each:.0} bytes for each file group");
    assert!(each < LIMIT, "{each:.0} bytes for each file group");
}
