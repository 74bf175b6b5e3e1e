//! The customers' history: an SCD type 2 table.

use std::{path::Path as Directory, sync::Arc};

use anyhow::Result;
use arrow::{
    array::{ArrayRef, BooleanArray, RecordBatch},
    datatypes::{DataType, Field, Schema},
};
use hudi_scd::{Query, Table, scd::Scd2, schema::IS_DELETED_COLUMN};
use object_store::ObjectStore;

use super::{one, open};

/// A Hudi table with a row for each state that a customer was in, and the interval in which it held.
pub(crate) struct History {
    table: Table,
    scd: Scd2,
}

impl History {
    pub(super) async fn open(
        store: &Arc<dyn ObjectStore>,
        dir: &Directory,
        name: &'static str,
        changes: &Schema,
    ) -> Result<Self> {
        let scd = Scd2::new(["customer_id"], "customer_datetime").track(["is_preferred", "address_id"]);
        let schema = scd.history_schema(changes)?;
        let table =
            open(store, dir, name, &schema, |definition| definition(&["customer_id", "valid_from"])).await?;
        Ok(Self { table, scd })
    }

    /// Brings changes into the history, and says how many rows that wrote or took away. Repeated changes change nothing.
    pub(super) async fn apply(&self, changes: &RecordBatch) -> Result<u64> {
        let merged = self.scd.merge(&self.stored().await?, std::slice::from_ref(changes))?;
        if merged.is_empty() {
            return Ok(0);
        }
        // Both in one commit, or a reader could see a state twice, or not at all.
        let rows = [marked(&merged.upserts, false)?, marked(&merged.deletes, true)?];
        let report = self.table.upsert(&rows).await?;
        Ok(report.inserted + report.updated + report.deleted)
    }

    /// The rows that held at some time, without what only the merge needs.
    pub(crate) async fn rows(&self) -> Result<RecordBatch> {
        Ok(self.scd.visible(&self.stored().await?)?)
    }

    /// All rows, without the marker of deletions, which is false in each of them.
    async fn stored(&self) -> Result<RecordBatch> {
        let mut rows = one(self.table.read(Query::snapshot()).await?)?;
        if let Some((marker, _)) = rows.schema().column_with_name(IS_DELETED_COLUMN) {
            rows.remove_column(marker);
        }
        Ok(rows)
    }

    pub(crate) fn table(&self) -> &Table {
        &self.table
    }
}

/// The rows with Hudi's marker of deletions.
fn marked(rows: &RecordBatch, deleted: bool) -> Result<RecordBatch> {
    let mut fields = rows.schema().fields().to_vec();
    fields.push(Arc::new(Field::new(IS_DELETED_COLUMN, DataType::Boolean, true)));
    let mut columns: Vec<ArrayRef> = rows.columns().to_vec();
    columns.push(Arc::new(BooleanArray::from(vec![deleted; rows.num_rows()])));
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}
