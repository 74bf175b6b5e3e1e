//! Generates the rows that the table benchmarks write.

use std::{fs::File, path::Path, sync::Arc};

use anyhow::{Context, Result};
use arrow::{
    array::{
        ArrayRef, AsArray, Decimal128Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    },
    datatypes::{
        DataType, Decimal128Type, Field, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType,
    },
};
use parquet::arrow::ArrowWriter;
use serde_json::{Value, json};

/// Number of partitions over which [`batch`] spreads the rows.
pub const PARTITIONS: i64 = 100;
const CITIES: [&str; 6] = ["Austin", "Bergen", "Kyiv", "Lyon", "Oslo", "Rome"];

/// Returns the columns of a customer.
pub fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("city", DataType::Utf8, true),
        Field::new("balance", DataType::Decimal128(15, 2), true),
        Field::new("updated_at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
        Field::new("region", DataType::Utf8, true),
    ]))
}

/// Returns the partition of a key.
pub fn region(id: i64) -> String {
    format!("r{:02}", id % PARTITIONS)
}

/// Generates one row for each key. `time` is the time of the change in seconds.
pub fn batch(ids: &[i64], time: i64, rng: &mut fastrand::Rng) -> Result<RecordBatch> {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(ids.to_vec())),
        Arc::new(StringArray::from_iter_values(ids.iter().map(|id| format!("customer {id}")))),
        Arc::new(StringArray::from_iter_values(ids.iter().map(|_| CITIES[rng.usize(..CITIES.len())]))),
        Arc::new(
            Decimal128Array::from_iter_values(ids.iter().map(|_| i128::from(rng.u32(..10_000_000))))
                .with_precision_and_scale(15, 2)?,
        ),
        Arc::new(
            TimestampMicrosecondArray::from_iter_values(ids.iter().map(|_| time * 1_000_000))
                .with_timezone("UTC"),
        ),
        Arc::new(StringArray::from_iter_values(ids.iter().map(|id| region(*id)))),
    ];
    Ok(RecordBatch::try_new(schema(), columns)?)
}

/// Sums over rows, independent of their order. Different rows have different sums with high probability.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sums {
    rows: i64,
    ids: i64,
    balances: i64,
    times: i64,
}

impl Sums {
    /// Adds the rows of a batch with the columns of [`schema`].
    pub fn add(&mut self, batch: &RecordBatch) -> Result<()> {
        let column = |name: &str| batch.column_by_name(name).with_context(|| format!("no column {name}"));
        let ids = column("id")?.as_primitive::<Int64Type>().values();
        let balances = column("balance")?.as_primitive::<Decimal128Type>().values();
        let times = column("updated_at")?.as_primitive::<TimestampMicrosecondType>().values();
        self.rows += i64::try_from(ids.len())?;
        for ((id, balance), time) in ids.iter().zip(balances).zip(times) {
            self.ids += id;
            // Multiplying by the key makes the sum change if two rows swap their values.
            self.balances += id % 1_000 * i64::try_from(*balance)?;
            self.times += id % 1_000 * (time / 1_000_000);
        }
        Ok(())
    }

    /// Converts the sums to the JSON that the peers also print.
    pub fn to_json(self) -> Value {
        let Self { rows, ids, balances, times } = self;
        json!({ "rows": rows, "ids": ids, "balances": balances, "times": times })
    }
}

/// Generates the rows with the keys `0..rows` and time 0, in batches.
pub fn base(rows: i64) -> impl Iterator<Item = Result<RecordBatch>> + Send {
    const STEP: i64 = 65_536;
    let mut rng = fastrand::Rng::with_seed(1);
    (0..rows)
        .step_by(STEP as usize)
        .map(move |start| batch(&(start..rows.min(start + STEP)).collect::<Vec<_>>(), 0, &mut rng))
}

/// Writes batches into a Parquet file.
pub fn write_parquet(path: &Path, batches: impl Iterator<Item = Result<RecordBatch>>) -> Result<()> {
    let mut writer = ArrowWriter::try_new(File::create(path)?, schema(), None)?;
    for batch in batches {
        writer.write(&batch?)?;
    }
    writer.close()?;
    Ok(())
}
