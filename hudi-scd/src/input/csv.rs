//! Reads CSV (RFC 4180) record by record, with the line on which each record begins.

use std::io::{self, BufRead};

/// A field and its quoting. An empty field is NULL without quotes, and the empty string with quotes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) text: String,
    pub(super) quoted: bool,
}

impl Value {
    pub(super) fn is_null(&self) -> bool {
        self.text.is_empty() && !self.quoted
    }
}

/// A reader of records.
pub(super) struct Records<R> {
    input: R,
    line: u64,
    buffer: Vec<u8>,
    /// The line ending in the buffer. Inside quotes it is part of the text.
    ending: &'static [u8],
}

/// An error in a file, with its location.
#[derive(Debug)]
pub(super) enum Broken {
    Io(io::Error),
    At(u64, &'static str),
}

impl<R: BufRead> Records<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, line: 0, buffer: Vec::new(), ending: b"" }
    }

    /// Reads the next record into `values`. Returns the line on which it begins, or `None` at the end. Empty
    /// lines are skipped.
    pub(super) fn read(&mut self, values: &mut Vec<Value>) -> Result<Option<u64>, Broken> {
        loop {
            let first = self.line + 1;
            if !self.read_line()? {
                return Ok(None);
            }
            if self.buffer.is_empty() {
                continue;
            }
            values.clear();
            self.split(first, values)?;
            return Ok(Some(first));
        }
    }

    /// Reads the next line without its ending. Returns `false` at the end.
    fn read_line(&mut self) -> Result<bool, Broken> {
        self.buffer.clear();
        if self.input.read_until(b'\n', &mut self.buffer).map_err(Broken::Io)? == 0 {
            return Ok(false);
        }
        self.line += 1;
        let endings: [&[u8]; 3] = [b"\r\n", b"\n", b""];
        self.ending = endings.into_iter().find(|ending| self.buffer.ends_with(ending)).unwrap_or_default();
        self.buffer.truncate(self.buffer.len() - self.ending.len());
        if self.line == 1 && self.buffer.starts_with(b"\xEF\xBB\xBF") {
            self.buffer.drain(..3);
        }
        Ok(true)
    }

    fn split(&mut self, first: u64, values: &mut Vec<Value>) -> Result<(), Broken> {
        let text =
            |bytes: Vec<u8>| String::from_utf8(bytes).map_err(|_| Broken::At(first, "the text is not UTF-8"));
        let mut at = 0;
        loop {
            if self.buffer.get(at) == Some(&b'"') {
                let mut field = Vec::new();
                at += 1;
                loop {
                    match self.buffer.get(at) {
                        Some(b'"') if self.buffer.get(at + 1) == Some(&b'"') => {
                            field.push(b'"');
                            at += 2;
                        }
                        Some(b'"') => break,
                        Some(byte) => {
                            field.push(*byte);
                            at += 1;
                        }
                        None => {
                            // The line ends inside quotes, so its ending is part of the text.
                            field.extend_from_slice(self.ending);
                            at = 0;
                            if !self.read_line()? {
                                return Err(Broken::At(first, "a quoted field has no closing quote"));
                            }
                        }
                    }
                }
                at += 1;
                values.push(Value { text: text(field)?, quoted: true });
            } else {
                let rest = &self.buffer[at..];
                let length = rest.iter().position(|byte| *byte == b',').unwrap_or(rest.len());
                values.push(Value { text: text(rest[..length].to_vec())?, quoted: false });
                at += length;
            }
            match self.buffer.get(at) {
                None => return Ok(()),
                Some(b',') => at += 1,
                Some(_) => return Err(Broken::At(first, "text after the closing quote of a field")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(u64, Vec<String>)>, Broken> {
        let mut records = Records::new(text.as_bytes());
        let (mut all, mut values) = (Vec::new(), Vec::new());
        while let Some(line) = records.read(&mut values)? {
            let shown = |value: &Value| if value.is_null() { "NULL".to_owned() } else { value.text.clone() };
            all.push((line, values.iter().map(shown).collect()));
        }
        Ok(all)
    }

    #[test]
    fn quotes_commas_and_line_ends_inside_of_fields() {
        let text = "\u{feff}a,b,c\r\n1,\"x, \"\"y\"\"\nz\",\n\n2,\"\",ü\n";
        let row = |fields: [&str; 3]| fields.map(str::to_owned).to_vec();
        let expected =
            [(1, row(["a", "b", "c"])), (2, row(["1", "x, \"y\"\nz", "NULL"])), (5, row(["2", "", "ü"]))];
        assert_eq!(read(text).unwrap(), expected);
    }

    #[test]
    fn broken_files_name_the_line() {
        for (text, line) in [("a\n\"b", 2), ("a\nb\n\"c\"d\n", 3)] {
            assert!(matches!(read(text), Err(Broken::At(at, _)) if at == line), "{text}");
        }
        let mut records = Records::new(&b"\xff,1\n"[..]);
        assert!(matches!(records.read(&mut Vec::new()), Err(Broken::At(1, _))));
    }
}
