//! Converts the pages of a result to record batches.

use std::{sync::Arc, vec};

use arrow_array::RecordBatch;
use arrow_schema::{Field as ArrowField, Schema, SchemaRef};

use super::{RecordBatchOptions, column::Builder, csv};
use crate::{Column, Error, ErrorKind, Field, PageData, Result, StatementId};

/// A batch is complete when its texts have this size in bytes. An Arrow column holds less than 2 GiB of
/// text.
const MOST_BYTES: usize = 256 << 20;

/// Receives the data of a result page by page, and returns record batches.
#[derive(Debug)]
pub(super) struct Decoder {
    id: StatementId,
    options: RecordBatchOptions,
    columns: Vec<Column>,
    schema: SchemaRef,
    total_rows: Option<u64>,
    csv: csv::Reader,
    header: Header,
    records: vec::IntoIter<Vec<Field>>,
    batch: Batch,
    /// Number of rows in all batches.
    rows: u64,
}

/// State of the search for the header of a CSV result.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Header {
    /// The next record is the first one of the result, and therefore the header.
    Expected,
    /// The next record is the first one of a later page. It may repeat the header; the service's
    /// documentation does not specify this.
    Possible,
    Passed,
}

/// The current batch.
#[derive(Debug)]
struct Batch {
    builders: Vec<Builder>,
    rows: usize,
    bytes: usize,
}

impl Decoder {
    pub(super) fn new(
        id: &StatementId,
        columns: Vec<Column>,
        total_rows: Option<u64>,
        options: RecordBatchOptions,
    ) -> Result<Self> {
        let mut builders = Vec::with_capacity(columns.len());
        let mut fields = Vec::with_capacity(columns.len());
        for column in &columns {
            let data_type = options.data_type(column);
            builders.push(Builder::new(&data_type).ok_or_else(|| {
                let message = format!(
                    "column `{}` ({}) cannot be read as {data_type}; use a type from the documented table, such as Utf8",
                    column.name, column.type_name
                );
                Error::new(ErrorKind::Unsupported, message).with_context("statement_id", id)
            })?);
            fields.push(ArrowField::new(&column.name, data_type, true));
        }
        Ok(Self {
            id: id.clone(),
            options,
            columns,
            schema: Arc::new(Schema::new(fields)),
            total_rows,
            csv: csv::Reader::default(),
            header: Header::Expected,
            records: Vec::new().into_iter(),
            batch: Batch { builders, rows: 0, bytes: 0 },
            rows: 0,
        })
    }

    pub(super) fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// Adds the data of the next page, after the previous page has been read completely.
    pub(super) fn push(&mut self, data: PageData) {
        match data {
            PageData::Records(records) => self.records = records.into_iter(),
            PageData::Csv(pieces) => {
                if self.header == Header::Passed && self.csv.is_between_records() {
                    self.header = Header::Possible;
                }
                pieces.into_iter().for_each(|piece| self.csv.push(piece));
            }
        }
    }

    /// Returns the next full batch, or `None` if another page is needed.
    pub(super) fn next(&mut self) -> Result<Option<RecordBatch>> {
        while self.batch.rows < self.options.rows && self.batch.bytes < MOST_BYTES {
            if !self.read()? {
                return Ok(None);
            }
        }
        self.flush()
    }

    /// Returns the next batch, once all pages have been pushed. When no rows are left, returns `None` if the
    /// number of rows is as expected, and an error otherwise.
    pub(super) fn last(&mut self) -> Result<Option<RecordBatch>> {
        self.csv.finish();
        while self.batch.rows < self.options.rows && self.read()? {}
        if let Some(batch) = self.flush()? {
            return Ok(Some(batch));
        }
        // A total of 0 may mean that the response contained none.
        match self.total_rows {
            Some(total) if total > 0 && total != self.rows => {
                let message = format!("the result has {total} rows, but {} were received", self.rows);
                Err(Error::new(ErrorKind::Other, message).with_context("statement_id", &self.id))
            }
            _ => Ok(None),
        }
    }

    /// Reads one record into the batch. Returns `false` if no complete record is available.
    fn read(&mut self) -> Result<bool> {
        if let Some(record) = self.records.next() {
            self.of_record(&record)?;
            return Ok(true);
        }
        loop {
            let number = self.rows + 1;
            let record = match self.csv.next() {
                Ok(Some(record)) => record,
                Ok(None) => return Ok(false),
                Err(malformed) => {
                    let error =
                        Error::new(ErrorKind::Other, format!("the result is not valid CSV: {malformed}"));
                    return Err(error.with_context("row", number).with_context("statement_id", &self.id));
                }
            };
            if record.len() != self.columns.len() {
                return Err(wrong_length(record.len(), self.columns.len(), number, &self.id));
            }
            let header = std::mem::replace(&mut self.header, Header::Passed);
            if header == Header::Expected
                || header == Header::Possible && is_header(record, &self.columns, &self.batch.builders)
            {
                continue;
            }
            let cells = self.columns.iter().zip(&mut self.batch.builders).zip(record.cells());
            for ((column, builder), cell) in cells {
                if self.options.is_null(&cell, builder.is_text()) {
                    builder.append_null();
                } else if builder.append_text(&cell.text).is_none() {
                    return Err(unfit(column, builder, &cell.text, number, &self.id));
                }
                self.batch.bytes += cell.text.len();
            }
            self.batch.rows += 1;
            self.rows += 1;
            return Ok(true);
        }
    }

    /// Reads a record in JSON format.
    fn of_record(&mut self, record: &[Field]) -> Result<()> {
        let number = self.rows + 1;
        if record.len() != self.columns.len() {
            return Err(wrong_length(record.len(), self.columns.len(), number, &self.id));
        }
        for ((column, builder), field) in self.columns.iter().zip(&mut self.batch.builders).zip(record) {
            if builder.append(field).is_none() {
                return Err(unfit(column, builder, &shown(field), number, &self.id));
            }
            self.batch.bytes += match field {
                Field::String(text) => text.len(),
                Field::Blob(bytes) => bytes.len(),
                _ => 0,
            };
        }
        self.batch.rows += 1;
        self.rows += 1;
        Ok(())
    }

    /// Returns the current batch if it has rows, and starts another one.
    fn flush(&mut self) -> Result<Option<RecordBatch>> {
        if self.batch.rows == 0 {
            return Ok(None);
        }
        let columns = self.batch.builders.iter_mut().map(Builder::finish).collect();
        (self.batch.rows, self.batch.bytes) = (0, 0);
        let batch = RecordBatch::try_new(self.schema.clone(), columns).map_err(|error| {
            let message = "the columns of a batch are inconsistent";
            Error::new(ErrorKind::Other, message).with_context("statement_id", &self.id).with_source(error)
        })?;
        Ok(Some(batch))
    }
}

/// Returns `true` if the first record of a later page repeats the header. Such a record consists of the
/// column names. If all columns are text, it could also be a row, and is treated as one; if it was a header,
/// [`Decoder::last`] reports a wrong number of rows.
fn is_header(record: csv::Record<'_>, columns: &[Column], builders: &[Builder]) -> bool {
    let is_named = |(column, cell): (&Column, csv::Cell<'_>)| column.name == cell.text;
    !builders.iter().all(Builder::is_text) && columns.iter().zip(record.cells()).all(is_named)
}

fn wrong_length(has: usize, wanted: usize, number: u64, id: &StatementId) -> Error {
    let message = format!("the row has {has} values for {wanted} columns");
    Error::new(ErrorKind::Other, message).with_context("row", number).with_context("statement_id", id)
}

fn unfit(column: &Column, builder: &Builder, text: &str, number: u64, id: &StatementId) -> Error {
    let mut shown: String = text.chars().take(40).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    let message = format!(
        "column `{}` ({}): `{shown}` is not a valid {}; RecordBatchOptions::with_column_type can set another type, such as Utf8",
        column.name,
        column.type_name,
        builder.name()
    );
    Error::new(ErrorKind::Invalid, message).with_context("row", number).with_context("statement_id", id)
}

fn shown(field: &Field) -> String {
    match field {
        Field::Null => "NULL".into(),
        Field::Boolean(value) => value.to_string(),
        Field::Long(value) => value.to_string(),
        Field::Double(value) => value.to_string(),
        Field::String(value) => value.clone(),
        Field::Blob(bytes) => format!("{} bytes", bytes.len()),
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::{Int32Array, StringArray, cast::AsArray, types::Decimal128Type};
    use arrow_schema::DataType;
    use proptest::prelude::*;

    use super::*;

    /// Returns the batches of a result whose pages contain these pieces of CSV.
    fn batches(
        columns: &[Column],
        total_rows: Option<u64>,
        options: RecordBatchOptions,
        pages: &[&[&str]],
    ) -> Result<Vec<RecordBatch>> {
        let pages = pages.iter().map(|pieces| pieces.iter().map(|&piece| piece.to_owned()).collect());
        decode(columns, total_rows, options, pages.map(PageData::Csv))
    }

    fn decode(
        columns: &[Column],
        total_rows: Option<u64>,
        options: RecordBatchOptions,
        pages: impl Iterator<Item = PageData>,
    ) -> Result<Vec<RecordBatch>> {
        let mut decoder = Decoder::new(&StatementId::new("id"), columns.to_vec(), total_rows, options)?;
        let mut batches = Vec::new();
        for page in pages {
            decoder.push(page);
            while let Some(batch) = decoder.next()? {
                batches.push(batch);
            }
        }
        while let Some(batch) = decoder.last()? {
            batches.push(batch);
        }
        Ok(batches)
    }

    fn two_columns() -> [Column; 2] {
        [Column::new("n", "int4"), Column::new("note", "varchar")]
    }

    fn notes(batch: &RecordBatch) -> Vec<Option<&str>> {
        batch["note"].as_string::<i32>().iter().collect()
    }

    #[test]
    fn the_header_is_not_a_row_and_null_is_not_an_empty_text() {
        let page = ["n,note\r\n1,\r\n,\"\"\r\n3,\"a, \"\"b\"\"\r\nc\"\r\n"];
        let all = batches(&two_columns(), Some(3), RecordBatchOptions::default(), &[&page]).unwrap();
        assert_eq!(all.len(), 1);
        assert_eq!(all[0]["n"].as_ref(), &Int32Array::from(vec![Some(1), None, Some(3)]));
        assert_eq!(notes(&all[0]), [None, Some(""), Some("a, \"b\"\r\nc")]);
    }

    #[test]
    fn the_null_text_is_null_unless_it_is_quoted() {
        let page = ["n,note\r\n1,\\N\r\n,\r\n\\N,\"\\N\"\r\n"];
        let options = RecordBatchOptions::default().with_null_marker("\\N");
        let all = batches(&two_columns(), None, options, &[&page]).unwrap();
        assert_eq!(all[0]["n"].as_ref(), &Int32Array::from(vec![Some(1), None, None]));
        assert_eq!(notes(&all[0]), [None, Some(""), Some("\\N")]);
    }

    #[test]
    fn batches_do_not_depend_on_pages_and_chunks() {
        let pages: [&[&str]; 4] =
            [&["n,no", "te\r\n1,a\r", "\n2,"], &[], &["", "\"b", "\"\"\"\r\n3,c\r\n"], &["4,d"]];
        let all = batches(&two_columns(), Some(4), RecordBatchOptions::default().with_batch_size(3), &pages)
            .unwrap();
        assert_eq!(all.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [3, 1]);
        assert_eq!(notes(&all[0]), [Some("a"), Some("b\""), Some("c")]);
        assert_eq!(notes(&all[1]), [Some("d")]);
    }

    #[test]
    fn a_result_without_rows_has_no_batch_with_or_without_its_header() {
        for pages in [&[][..], &[&[][..]], &[&["n,note\r\n"][..]]] {
            assert!(
                batches(&two_columns(), Some(0), RecordBatchOptions::default(), pages).unwrap().is_empty()
            );
        }
    }

    #[test]
    fn an_empty_line_is_null_in_a_result_with_one_column() {
        let page = ["note\r\n\r\nx\r\n\r\n"];
        let all = batches(&two_columns()[1..], Some(3), RecordBatchOptions::default(), &[&page]).unwrap();
        assert_eq!(notes(&all[0]), [None, Some("x"), None]);
    }

    #[test]
    fn a_repeated_header_is_not_a_row_but_an_equal_row_is_one() {
        let pages: [&[&str]; 2] = [&["n,note\r\n1,a\r\n"], &["n,note\r\n2,b\r\n"]];
        let all = batches(&two_columns(), Some(2), RecordBatchOptions::default(), &pages).unwrap();
        assert_eq!(notes(&all[0]), [Some("a"), Some("b")]);
        let pages: [&[&str]; 2] = [&["note\r\nnote\r\n"], &["note\r\nx\r\n"]];
        let all = batches(&two_columns()[1..], Some(3), RecordBatchOptions::default(), &pages).unwrap();
        assert_eq!(notes(&all[0]), [Some("note"), Some("note"), Some("x")]);
    }

    #[test]
    fn a_value_that_does_not_fit_is_an_error_with_row_column_and_way_out() {
        let fails = |columns: &[Column], total, pages: &[&[&str]]| {
            batches(columns, total, RecordBatchOptions::default(), pages).unwrap_err().to_string()
        };
        assert_eq!(
            fails(&two_columns(), None, &[&["n,note\r\n1,a\r\n"], &["1.5,b\r\n"]]),
            "invalid request: column `n` (int4): `1.5` is not a valid 32-bit integer; RecordBatchOptions::with_column_type can set another \
             type, such as Utf8 { row: 2, statement_id: id }"
        );
        assert_eq!(
            fails(&two_columns(), None, &[&["n,note\r\n1,a,b\r\n"]]),
            "unknown response: the row has 3 values for 2 columns { row: 1, statement_id: id }"
        );
        assert_eq!(
            fails(&two_columns(), Some(3), &[&["n,note\r\n1,a\r\n"]]),
            "unknown response: the result has 3 rows, but 1 were received { statement_id: id }"
        );
        assert_eq!(
            fails(&two_columns(), None, &[&["n,note\r\n1,\"a"]]),
            "unknown response: the result is not valid CSV: the result ends within a quoted field { row: 1, statement_id: id }"
        );
        let long = fails(&two_columns(), None, &[&["n,note\r\n", &"é".repeat(50), ",\r\n"]]);
        assert!(long.contains(&format!("`{}…`", "é".repeat(40))), "{long}");
    }

    #[test]
    fn the_caller_may_choose_another_type() {
        let columns = [Column::new("total", "numeric")];
        let page: [&[&str]; 1] = [&["total\r\n12345678901234567890.12\r\n"]];
        let all = batches(&columns, Some(1), RecordBatchOptions::default(), &page).unwrap();
        assert_eq!(all[0]["total"].as_ref(), &StringArray::from(vec!["12345678901234567890.12"]));
        let options = RecordBatchOptions::default().with_column_type("total", DataType::Decimal128(38, 2));
        let all = batches(&columns, Some(1), options, &page).unwrap();
        assert_eq!(all[0]["total"].as_primitive::<Decimal128Type>().value(0), 1_234_567_890_123_456_789_012);
        for odd in [
            DataType::UInt8,
            DataType::Decimal128(77, 0),
            DataType::Timestamp(arrow_schema::TimeUnit::Second, None),
        ] {
            let options = RecordBatchOptions::default().with_column_type("total", odd);
            let error = batches(&columns, None, options, &page).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.message().starts_with("column `total` (numeric) cannot be read as"), "{error}");
        }
    }

    #[test]
    fn every_type_of_the_database_has_its_arrow_type() {
        let column = |name: &str, precision, scale| {
            let mut column = Column::new("c", name);
            (column.precision, column.scale) = (precision, scale);
            super::super::column::data_type(&column).to_string()
        };
        for (name, expected) in [
            ("bool", "Boolean"),
            ("int2", "Int16"),
            ("int4", "Int32"),
            ("int8", "Int64"),
            ("float4", "Float32"),
            ("float8", "Float64"),
            ("numeric", "Utf8"),
            ("date", "Date32"),
            ("time", "Time64(µs)"),
            ("timetz", "Utf8"),
            ("timestamp", "Timestamp(µs)"),
            ("timestamptz", "Timestamp(µs, \"UTC\")"),
            ("varbyte", "Binary"),
            ("bytea", "Binary"),
            ("bpchar", "Utf8"),
            ("varchar", "Utf8"),
            ("super", "Utf8"),
            ("geometry", "Utf8"),
            ("interval", "Utf8"),
            ("", "Utf8"),
            ("something new", "Utf8"),
        ] {
            assert_eq!(column(name, None, None), expected, "{name}");
        }
        assert_eq!(column("numeric", Some(18), Some(4)), "Decimal128(18, 4)");
        assert_eq!(column("numeric", Some(38), None), "Decimal128(38, 0)");
        assert_eq!(
            column("numeric", Some(39), Some(0)),
            "Utf8",
            "a decimal of PostgreSQL may have more digits than one of Arrow"
        );
        assert_eq!(column("numeric", Some(2), Some(3)), "Utf8");
    }

    proptest! {
        #[test]
        fn no_page_causes_a_panic(pieces in prop::collection::vec("[n1,\"\\r\\né]{0,9}", 0..6)) {
            let pages: Vec<Vec<&str>> = pieces.iter().map(|piece| vec![piece.as_str()]).collect();
            let pages: Vec<&[&str]> = pages.iter().map(Vec::as_slice).collect();
            let _ = batches(&two_columns(), None, RecordBatchOptions::default(), &pages);
        }
    }
}
