//! Detects different record keys of several columns that have the same text.
//!
//! Hudi formats such keys as `a:x,b:1`, without escapes, and NULL as `__null__`. The keys `("x,b:1", "2")`
//! and `("x", "1,b:2")` both become `a:x,b:1,b:2`. Java's writer treats such rows as one and loses one of
//! them. This crate rejects the write.

use std::cmp::Ordering;

use arrow::{
    array::{Array, ArrayRef, DynComparator, RecordBatch, make_comparator},
    compute::SortOptions,
    util::display::{ArrayFormatter, FormatOptions},
};

use crate::{Error, ErrorKind, Result};

/// The separators between the columns of a key: `,field:`.
pub(crate) struct Texts(Vec<String>);

impl Texts {
    pub(crate) fn of(fields: &[String]) -> Self {
        Self(fields.iter().skip(1).map(|field| format!(",{field}:")).collect())
    }

    /// Returns `true` if a different key may have this text.
    pub(crate) fn is_ambiguous(&self, key: &str) -> bool {
        !self.0.is_empty()
            && (self.0.iter().any(|separator| key.matches(separator.as_str()).count() > 1)
                || key.contains(":__null__")
                || key.contains(":__empty__"))
    }
}

/// Compares the record key columns of two batches.
pub(crate) struct Pair<'a> {
    left: &'a RecordBatch,
    right: &'a RecordBatch,
    fields: &'a [String],
    compare: Vec<DynComparator>,
}

impl<'a> Pair<'a> {
    pub(crate) fn of(left: &'a RecordBatch, right: &'a RecordBatch, fields: &'a [String]) -> Result<Self> {
        let compare = fields.iter().map(|field| {
            let columns = (column(left, field)?, column(right, field)?);
            make_comparator(columns.0, columns.1, SortOptions::default()).map_err(|cause| {
                Error::new(ErrorKind::InvalidInput, "values of a record key column cannot be compared")
                    .with_context("column", field)
                    .with_source(cause)
            })
        });
        let compare = compare.collect::<Result<_>>()?;
        Ok(Self { left, right, fields, compare })
    }

    /// Rejects two rows that have the same key text but different columns.
    pub(crate) fn check(&self, key: &str, left: usize, right: usize) -> Result<()> {
        if self.compare.iter().all(|compare| compare(left, right) == Ordering::Equal) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::InvalidInput,
            "two record keys have the same text, and Hudi's writers would treat their rows as one",
        )
        .with_context("key", key)
        .with_context("one", values(self.left, self.fields, left))
        .with_context("other", values(self.right, self.fields, right)))
    }
}

fn column<'a>(rows: &'a RecordBatch, field: &str) -> Result<&'a ArrayRef> {
    rows.column_by_name(field).ok_or_else(|| {
        Error::new(ErrorKind::InvalidInput, "the rows lack a column of the record key")
            .with_context("column", field)
    })
}

/// Formats the values of a row's record key columns. Quotes show where each value ends.
fn values(rows: &RecordBatch, fields: &[String], row: usize) -> String {
    let options = FormatOptions::default();
    let value = |field: &String| {
        let column = rows.column_by_name(field)?;
        let text = ArrayFormatter::try_new(column, &options).ok()?.value(row).to_string();
        Some(if column.is_null(row) { "NULL".to_owned() } else { format!("{text:?}") })
    };
    fields.iter().filter_map(value).collect::<Vec<_>>().join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_ambiguous_if_it_can_be_cut_in_two_ways_or_holds_a_substitute() {
        let texts = Texts::of(&["a".to_owned(), "b".to_owned()]);
        assert!(texts.is_ambiguous("a:x,b:1,b:2"));
        assert!(texts.is_ambiguous("a:__null__,b:1") && texts.is_ambiguous("a:1,b:__empty__"));
        assert!(!texts.is_ambiguous("a:x,b:1") && !texts.is_ambiguous("a:a:1,b:1,c:2"));
        assert!(!Texts::of(&["a".to_owned()]).is_ambiguous("__null__"), "one column has no separators");
    }
}
