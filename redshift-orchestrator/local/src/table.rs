//! [`Table`]: a result and its pages.

use std::fmt::Write;

use super::limits;
use redshift_orchestrator::{Column, Field, PageData, PageToken, Result, ResultFormat, ResultPage};

/// A complete result.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Table {
    pub(crate) columns: Vec<Column>,
    pub(crate) rows: Vec<Vec<Field>>,
}

impl Table {
    /// Returns the size of all values in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.rows.iter().map(|row| Self::row_size(row)).sum()
    }

    /// Returns the size of a row's values in bytes: 1 for NULL and booleans, 8 for numbers, otherwise the
    /// length.
    pub(crate) fn row_size(row: &[Field]) -> u64 {
        let size = |field: &Field| match field {
            Field::Null | Field::Boolean(_) => 1,
            Field::Long(_) | Field::Double(_) => 8,
            Field::String(text) => text.len(),
            Field::Blob(bytes) => bytes.len(),
        };
        row.iter().map(|field| size(field) as u64).sum()
    }

    /// Returns the page that the token identifies, or the first page if there is no token.
    pub(crate) fn page(
        &self,
        format: ResultFormat,
        rows_per_page: usize,
        page: Option<PageToken>,
    ) -> Result<ResultPage> {
        let begin = page_number(page)?;
        let rows_per_page = rows_per_page.max(1);
        if begin > 0 && begin.saturating_mul(rows_per_page) >= self.rows.len() {
            return Err(limits::bad_page());
        }
        let rows = self.rows.chunks(rows_per_page).nth(begin).unwrap_or_default();
        let more = self.rows.len() > begin.saturating_add(1).saturating_mul(rows_per_page);
        Ok(page_of(self.columns.clone(), rows.to_vec(), format, begin, more, self.rows.len() as u64))
    }
}

/// Returns the number of the page that the token identifies, counted from 0.
pub(crate) fn page_number(page: Option<PageToken>) -> Result<usize> {
    match page {
        None => Ok(0),
        Some(page) => page.as_str().parse().map_err(|_| limits::bad_page()),
    }
}

/// Returns page `number` of a result in the requested format.
pub(crate) fn page_of(
    columns: Vec<Column>,
    rows: Vec<Vec<Field>>,
    format: ResultFormat,
    number: usize,
    more: bool,
    total: u64,
) -> ResultPage {
    let data = match format {
        ResultFormat::Json => PageData::Records(rows),
        ResultFormat::Csv => PageData::Csv(vec![csv(&columns, &rows, number == 0)]),
    };
    let mut page = ResultPage::new(columns, data);
    page.total_rows = Some(total);
    page.next = more.then(|| PageToken::new((number + 1).to_string()));
    page
}

/// Formats rows as CSV according to RFC 4180, with records ending in `\r\n`. NULL is an empty field and an
/// empty text is `""`, as in PostgreSQL, because the service does not document how it distinguishes the two.
fn csv(columns: &[Column], rows: &[Vec<Field>], header: bool) -> String {
    let mut text = String::new();
    if header {
        line(&mut text, columns.iter().map(|column| Some(column.name.clone())));
    }
    for row in rows {
        line(&mut text, row.iter().map(printed));
    }
    text
}

fn line(text: &mut String, values: impl Iterator<Item = Option<String>>) {
    for (index, value) in values.enumerate() {
        if index > 0 {
            text.push(',');
        }
        match value {
            None => {}
            Some(value) if value.is_empty() || value.contains([',', '"', '\n', '\r']) => {
                text.push('"');
                text.push_str(&value.replace('"', "\"\""));
                text.push('"');
            }
            Some(value) => text.push_str(&value),
        }
    }
    text.push_str("\r\n");
}

fn printed(field: &Field) -> Option<String> {
    match field {
        Field::Null => None,
        Field::Boolean(value) => Some(value.to_string()),
        Field::Long(value) => Some(value.to_string()),
        Field::Double(value) => Some(double(*value)),
        Field::String(value) => Some(value.clone()),
        Field::Blob(bytes) => Some(bytes.iter().fold(String::new(), |mut hex, byte| {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })),
    }
}

/// Formats a double like PostgreSQL: with the fewest digits that parse to the same value, and with an
/// exponent for very large and very small numbers.
fn double(value: f64) -> String {
    match value.abs() {
        f64::INFINITY => if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned(),
        size if size == 0.0 || value.is_nan() || (1e-4..1e15).contains(&size) => value.to_string(),
        _ => format!("{value:e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: i64) -> Table {
        let rows = (0..rows).map(|n| vec![Field::Long(n), Field::Null]).collect();
        Table { columns: vec![Column::new("n", "int8"), Column::new("nothing", "text")], rows }
    }

    #[test]
    fn every_row_is_on_exactly_one_page() {
        for rows in [0, 1, 2, 3, 4, 7] {
            let (table, mut seen, mut page) = (table(rows), Vec::new(), None);
            loop {
                let answer = table.page(ResultFormat::Json, 3, page).unwrap();
                let PageData::Records(records) = answer.data else { panic!("not records") };
                seen.extend(records);
                page = answer.next;
                if page.is_none() {
                    break;
                }
            }
            assert_eq!(seen, table.rows, "{rows}");
        }
    }

    #[test]
    fn an_invalid_page_token_is_rejected() {
        for token in ["2", "-1", "x", "99999999999999999999", "18446744073709551615"] {
            let answer = table(4).page(ResultFormat::Json, 3, Some(PageToken::new(token)));
            assert!(answer.is_err(), "{token}");
        }
        assert!(table(4).page(ResultFormat::Json, 3, Some(PageToken::new("1"))).is_ok());
    }

    #[test]
    fn csv_distinguishes_null_from_empty_text_and_quotes_where_needed() {
        let columns = vec![Column::new("a", "text"), Column::new("b", "text")];
        let text = |text: &str| Field::String(text.to_owned());
        let rows = vec![vec![Field::Null, text("")], vec![text("x,\"y\""), Field::Blob(vec![0, 255])]];
        let table = Table { columns, rows };
        let page = table.page(ResultFormat::Csv, 10, None).unwrap();
        assert_eq!(page.data, PageData::Csv(vec!["a,b\r\n,\"\"\r\n\"x,\"\"y\"\"\",00ff\r\n".to_owned()]));
    }

    #[test]
    fn doubles_are_short_and_are_read_back_unchanged() {
        for (value, text) in [
            (0.0, "0"),
            (-0.1, "-0.1"),
            (1.0, "1"),
            (123_456_789.25, "123456789.25"),
            (1e-4, "0.0001"),
            (1e-5, "1e-5"),
            (1e15, "1e15"),
            (f64::MAX, "1.7976931348623157e308"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            assert_eq!(double(value), text);
        }
    }
}
