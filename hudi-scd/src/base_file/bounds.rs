//! The bounds of columns in row groups, according to their statistics.

use arrow::{array::ArrayRef, compute::cast, datatypes::DataType};
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;

use super::OpenFile;

impl OpenFile {
    /// Returns the minimum and the maximum of a column in each row group, excluding nulls, with this type.
    /// Returns `None` if they are unknown. A group without statistics has null bounds.
    ///
    /// A column of numbers that was promoted to text has no bounds, because `10` is less than `9` as text.
    pub(crate) fn bounds(&self, name: &str, data_type: &DataType) -> Option<(ArrayRef, ArrayRef)> {
        let metadata = self.footer().metadata();
        let [leaf] = *self.leaves(name) else { return None };
        let groups = || metadata.row_groups().iter();
        // Old writers compared bounds as signed bytes.
        let is_certain = groups().all(|group| {
            group.column(leaf).statistics().is_none_or(|statistics| !statistics.is_min_max_deprecated())
        });
        if !is_certain || self.field(name)?.data_type().is_numeric() != data_type.is_numeric() {
            return None;
        }
        let schema = metadata.file_metadata().schema_descr();
        let converter = StatisticsConverter::try_new(name, self.schema(), schema).ok()?;
        let typed = |bounds: ArrayRef| cast(&bounds, data_type).ok();
        let (min, max) =
            (converter.row_group_mins(groups()).ok()?, converter.row_group_maxes(groups()).ok()?);
        typed(min).zip(typed(max))
    }

    /// Returns `true` if the statistics show that a column has no nulls in any row group.
    pub(crate) fn is_without_nulls(&self, name: &str) -> bool {
        let [leaf] = *self.leaves(name) else { return false };
        self.footer().metadata().row_groups().iter().all(|group| {
            let statistics = group.column(leaf).statistics();
            statistics.is_none_or(|statistics| statistics.null_count_opt() == Some(0))
        })
    }
}
