//! Slowly changing dimensions.
//!
//! Every table of this crate is of type 1, and contains only the latest row of each key. Type 2 keeps the
//! history as rows: [`Scd2`] defines the history, and [`Scd2::merge`] computes it on plain Arrow batches.
//! [`Scd2Table`] stores such a history in a Hudi table. A [`Dimension`] of either type finds the row for each
//! fact.
//!
//! | here | dbt snapshots | Databricks `AUTO CDC ... SCD TYPE 2` |
//! |---|---|---|
//! | keys | `unique_key` | `KEYS` |
//! | sequence | `updated_at` of the `timestamp` strategy | `SEQUENCE BY` |
//! | [`Scd2::track`] | `check_cols` of the `check` strategy | `TRACK HISTORY ON` |
//! | [`Scd2::track_all_but`] | | `TRACK HISTORY ON * EXCEPT` |
//! | [`Scd2::with_delete_marker`] | `hard_deletes='invalidate'` | `APPLY AS DELETE WHEN` |
//! | `valid_from`, `valid_to` | `dbt_valid_from`, `dbt_valid_to` | `__START_AT`, `__END_AT` |
//! | `is_current` | `dbt_valid_to is null` | `__END_AT is null` |
//! | [`Scd2::with_names`] | `snapshot_meta_column_names` | |
//! | record key, keys and `valid_from` | `dbt_scd_id` | |
//! | type 1: a [`Table`](crate::Table) | `incremental_strategy='merge'` | `STORED AS SCD TYPE 1` |

mod changes;
mod definition;
mod hidden;
mod history;
mod keys;
mod lookup;
mod merge;
mod table;

pub use definition::Scd2;
pub use lookup::{At, Dimension, Lookup};
pub use merge::{Merged, Scd2Counts};
pub use table::{Scd2Report, Scd2Table};
