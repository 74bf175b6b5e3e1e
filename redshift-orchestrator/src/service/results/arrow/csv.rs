//! Reads CSV text that arrives in pieces.

use std::{borrow::Cow, collections::VecDeque, fmt};

/// Maximum size of a record in bytes. A row of the service has at most 64 KB. Without a maximum, a field with
/// an unclosed quote would extend to the end of the result.
const MOST_BYTES: usize = 16 << 20;

/// Reads records from a text that arrives in pieces. A piece may end at any character.
///
/// Records end with `\n` or `\r\n`. A field may be quoted with `"`; a quote inside such a field is doubled.
/// An empty line is a record with one empty field, which is a NULL in a result with one column.
#[derive(Debug, Default)]
pub(super) struct Reader {
    pieces: VecDeque<String>,
    /// The current piece, preceded by the remainder of the previous one.
    text: String,
    /// Position of the next record in `text`.
    at: usize,
    /// Fields of the last record.
    spans: Vec<Span>,
    is_whole: bool,
}

/// Position of a field in the text.
#[derive(Clone, Copy, Debug)]
struct Span {
    begin: usize,
    end: usize,
    is_quoted: bool,
    has_quotes: bool,
}

/// Text of a field, and whether the field is quoted.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cell<'a> {
    pub(super) text: Cow<'a, str>,
    pub(super) is_quoted: bool,
}

/// Fields of one record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    text: &'a str,
    spans: &'a [Span],
}

impl<'a> Record<'a> {
    pub(super) fn len(&self) -> usize {
        self.spans.len()
    }

    pub(super) fn cells(self) -> impl Iterator<Item = Cell<'a>> {
        self.spans.iter().map(move |span| {
            let text = &self.text[span.begin..span.end];
            let text = if span.has_quotes { single_quotes(text).into() } else { text.into() };
            Cell { text, is_quoted: span.is_quoted }
        })
    }
}

/// Replaces each doubled quote in a quoted field with a single quote.
fn single_quotes(mut text: &str) -> String {
    let mut single = String::with_capacity(text.len());
    while let Some(at) = text.bytes().position(|byte| byte == b'"') {
        single.push_str(&text[..=at]);
        text = text.get(at + 2..).unwrap_or_default();
    }
    single.push_str(text);
    single
}

/// Reason why a text is not valid CSV.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Malformed {
    TextAfterQuote,
    OpenQuote,
    TooLong,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TextAfterQuote => "there is text after a closing quote",
            Self::OpenQuote => "the result ends within a quoted field",
            Self::TooLong => "the record has more than 16 MiB; a quote may be unclosed",
        })
    }
}

impl Reader {
    /// Appends the next piece of the text.
    pub(super) fn push(&mut self, piece: String) {
        self.pieces.push_back(piece);
    }

    /// Marks the end of the text. If text remains, it is the last record.
    pub(super) fn finish(&mut self) {
        self.is_whole = true;
    }

    /// Returns `true` if the text received so far has been read and ends with the end of a record.
    pub(super) fn is_between_records(&self) -> bool {
        self.at == self.text.len() && self.pieces.iter().all(String::is_empty)
    }

    /// Returns the next record, or `None` if more text is needed.
    pub(super) fn next(&mut self) -> Result<Option<Record<'_>>, Malformed> {
        loop {
            let is_last = self.is_whole && self.pieces.is_empty();
            if let Some(end) = scan(self.text.as_bytes(), self.at, is_last, &mut self.spans)? {
                self.at = end;
                return Ok(Some(Record { text: &self.text, spans: &self.spans }));
            }
            if self.text.len() - self.at > MOST_BYTES {
                return Err(Malformed::TooLong);
            }
            let Some(piece) = self.pieces.pop_front() else { return Ok(None) };
            if self.at == self.text.len() {
                self.text = piece;
            } else {
                self.text.drain(..self.at);
                self.text.push_str(&piece);
            }
            self.at = 0;
        }
    }
}

/// Finds the fields of the record that begins at `at`, and returns the position after it. Returns `None` if
/// the text ends before the record does.
fn scan(
    text: &[u8],
    mut at: usize,
    is_last: bool,
    spans: &mut Vec<Span>,
) -> Result<Option<usize>, Malformed> {
    if at == text.len() {
        return Ok(None);
    }
    spans.clear();
    loop {
        let span = if text.get(at) == Some(&b'"') {
            match quoted(text, at + 1, is_last) {
                Some(span) => span,
                None if is_last => return Err(Malformed::OpenQuote),
                None => return Ok(None),
            }
        } else {
            Span { begin: at, end: bare(text, at), is_quoted: false, has_quotes: false }
        };
        at = span.end + usize::from(span.is_quoted);
        spans.push(span);
        match (text.get(at), text.get(at + 1)) {
            (Some(b','), _) => at += 1,
            (Some(b'\n'), _) => return Ok(Some(at + 1)),
            (Some(b'\r'), Some(b'\n')) => return Ok(Some(at + 2)),
            (Some(b'\r'), None) if is_last => return Ok(Some(at + 1)),
            (None, _) if is_last => return Ok(Some(at)),
            (None, _) | (Some(b'\r'), None) => return Ok(None),
            (Some(_), _) => return Err(Malformed::TextAfterQuote),
        }
    }
}

/// Returns the end of an unquoted field: the position of a comma, the end of the record, or the end of the
/// text. A carriage return ends a record only if a line feed follows it.
fn bare(text: &[u8], begin: usize) -> usize {
    let mut at = begin;
    // A comma, a line feed and a carriage return sort before most bytes of values, such as letters and
    // digits, so one comparison rules out most bytes.
    while let Some(next) = text[at..].iter().position(|byte| *byte <= b',') {
        at += next;
        match text[at] {
            b',' | b'\n' => return at,
            b'\r' if matches!(text.get(at + 1), Some(b'\n') | None) => return at,
            _ => at += 1,
        }
    }
    text.len()
}

/// Returns the field that begins after an opening quote. Returns `None` if the text ends before the field
/// ends, or if the field may continue in the next piece.
fn quoted(text: &[u8], begin: usize, is_last: bool) -> Option<Span> {
    let (mut end, mut has_quotes) = (begin, false);
    loop {
        end += text.get(end..)?.iter().position(|byte| *byte == b'"')?;
        match text.get(end + 1) {
            Some(b'"') => {
                has_quotes = true;
                end += 2;
            }
            None if !is_last => return None,
            _ => return Some(Span { begin, end, is_quoted: true, has_quotes }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns all records of a text that arrives in pieces. Each field consists of its text, and `true` if
    /// it is quoted.
    fn read<'a>(pieces: impl IntoIterator<Item = &'a str>) -> Result<Vec<Vec<(String, bool)>>, Malformed> {
        let (mut reader, mut records) = (Reader::default(), Vec::new());
        let mut take = |reader: &mut Reader| -> Result<(), Malformed> {
            while let Some(record) = reader.next()? {
                records.push(record.cells().map(|cell| (cell.text.into_owned(), cell.is_quoted)).collect());
            }
            Ok(())
        };
        for piece in pieces {
            reader.push(piece.to_owned());
            take(&mut reader)?;
        }
        reader.finish();
        take(&mut reader)?;
        Ok(records)
    }

    fn texts(text: &str) -> Vec<Vec<String>> {
        let records = read([text]).unwrap();
        records.into_iter().map(|record| record.into_iter().map(|(text, _)| text).collect()).collect()
    }

    #[test]
    fn a_record_ends_at_a_line_end_or_at_the_end_of_the_text() {
        for text in ["a,b\r\n1,2\r\n", "a,b\n1,2\n", "a,b\n1,2", "a,b\r\n1,2\r"] {
            assert_eq!(texts(text), [["a", "b"], ["1", "2"]], "{text:?}");
        }
        assert!(texts("").is_empty());
    }

    #[test]
    fn quotes_hold_commas_line_ends_and_quotes() {
        assert_eq!(texts("\"a,\r\n\"\"b\"\"\",\r,\"\"\n"), [["a,\r\n\"b\"", "\r", ""]]);
        assert_eq!(read(["\"\",\n"]), Ok(vec![vec![(String::new(), true), (String::new(), false)]]));
    }

    #[test]
    fn an_empty_line_is_a_record_of_one_empty_field() {
        assert_eq!(texts("a\r\n\r\n\r\nx\r\n"), [["a"], [""], [""], ["x"]]);
    }

    #[test]
    fn rejects_text_that_is_not_csv() {
        assert_eq!(read(["\"a\"b,1\n"]), Err(Malformed::TextAfterQuote));
        assert_eq!(read(["a,\"b\n"]), Err(Malformed::OpenQuote));
        let line = "x".repeat(1 << 20);
        assert_eq!(
            read(std::iter::once("\"").chain(std::iter::repeat_n(&*line, 18))),
            Err(Malformed::TooLong)
        );
    }

    /// Generates the text of a field, and `true` if the field is quoted. Some fields are quoted although
    /// their text does not require it.
    fn field() -> impl Strategy<Value = (String, bool)> {
        let text = "[a-c,\"\\r\\n\u{e9}\u{1f980}]{0,6}";
        (text, any::<bool>()).prop_map(|(text, quoted)| {
            let is_quoted = quoted || text.contains([',', '"', '\r', '\n']);
            (text, is_quoted)
        })
    }

    proptest! {
        #[test]
        fn every_text_is_read_back_regardless_of_its_chunks(
            records in prop::collection::vec(prop::collection::vec(field(), 1..4), 0..6),
            end in prop::sample::select(vec!["\n", "\r\n"]),
            size in 1_usize..9,
        ) {
            let mut text = String::new();
            for record in &records {
                let cells: Vec<_> = record.iter().map(|(text, quoted)| {
                    if *quoted { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.clone() }
                }).collect();
                text.push_str(&cells.join(","));
                text.push_str(end);
            }
            let letters: Vec<char> = text.chars().collect();
            let pieces: Vec<String> = letters.chunks(size).map(|piece| piece.iter().collect()).collect();
            prop_assert_eq!(read(pieces.iter().map(String::as_str)), Ok(records));
        }

        #[test]
        fn no_text_causes_a_panic(pieces in prop::collection::vec("[a,\"\\r\\n\u{e9}]{0,8}", 0..5)) {
            let _ = read(pieces.iter().map(String::as_str));
        }
    }
}
