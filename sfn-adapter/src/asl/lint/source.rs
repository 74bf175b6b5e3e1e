//! [`Source`]: a JSON text, and the line of each of its values.

use std::collections::HashMap;

use serde_json::Value;

/// Parsed JSON with the line of each value.
pub(super) struct Source {
    pub(super) value: Value,
    /// JSON pointers of names that are repeated in one object.
    pub(super) repeated: Vec<String>,
    lines: HashMap<String, usize>,
}

impl Source {
    pub(super) fn parse(text: &str) -> Result<Self, serde_json::Error> {
        let text = text.trim_start_matches('\u{feff}');
        let value = serde_json::from_str(text)?;
        let mut scan =
            Scan { text: text.as_bytes(), at: 0, line: 1, lines: HashMap::new(), repeated: Vec::new() };
        scan.value(&mut String::new());
        Ok(Self { value, repeated: scan.repeated, lines: scan.lines })
    }

    /// Returns the line of the value at a JSON pointer, or of the closest enclosing value.
    pub(super) fn line(&self, pointer: &str) -> usize {
        let mut pointer = pointer;
        loop {
            if let Some(line) = self.lines.get(pointer) {
                return *line;
            }
            match pointer.rfind('/') {
                Some(end) => pointer = &pointer[..end],
                None => return 1,
            }
        }
    }
}

/// Writes a name as a part of a JSON pointer.
pub(super) fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// Scans valid JSON. The parser has already limited its depth.
struct Scan<'a> {
    text: &'a [u8],
    at: usize,
    line: usize,
    lines: HashMap<String, usize>,
    repeated: Vec<String>,
}

impl Scan<'_> {
    fn value(&mut self, pointer: &mut String) {
        self.blank();
        self.lines.insert(pointer.clone(), self.line);
        match self.peek() {
            Some(b'{') => self.members(pointer, b'}'),
            Some(b'[') => self.members(pointer, b']'),
            Some(b'"') => drop(self.string()),
            _ => {
                while self.peek().is_some_and(|byte| !b",]} \t\r\n".contains(&byte)) {
                    self.at += 1;
                }
            }
        }
    }

    fn members(&mut self, pointer: &mut String, end: u8) {
        self.at += 1;
        let mut index = 0;
        loop {
            self.blank();
            match self.peek() {
                None => return,
                Some(byte) if byte == end => {
                    self.at += 1;
                    return;
                }
                Some(b',') => self.at += 1,
                Some(_) => {
                    let length = pointer.len();
                    pointer.push('/');
                    let line = if end == b'}' {
                        let line = self.line;
                        let name = self.string();
                        pointer.push_str(&escaped(&name));
                        self.blank();
                        self.at += 1;
                        Some(line)
                    } else {
                        pointer.push_str(&index.to_string());
                        None
                    };
                    index += 1;
                    if self.lines.contains_key(pointer) {
                        self.repeated.push(pointer.clone());
                        // Members of the first value do not count as repeated because its name is.
                        let within = format!("{pointer}/");
                        self.lines.retain(|pointer, _| !pointer.starts_with(&within));
                    }
                    self.value(pointer);
                    // The line of a member is the line of its name.
                    if let Some(line) = line {
                        self.lines.insert(pointer.clone(), line);
                    }
                    pointer.truncate(length);
                }
            }
        }
    }

    /// Reads a string and returns it without its escapes.
    fn string(&mut self) -> String {
        let begin = self.at;
        self.at += 1;
        while let Some(byte) = self.peek() {
            self.at += if byte == b'\\' { 2 } else { 1 };
            if byte == b'"' {
                break;
            }
        }
        serde_json::from_slice(self.text.get(begin..self.at).unwrap_or_default()).unwrap_or_default()
    }

    fn blank(&mut self) {
        while let Some(byte) = self.peek().filter(u8::is_ascii_whitespace) {
            self.line += usize::from(byte == b'\n');
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_the_line_of_its_name() {
        let source = Source::parse("{\n \"a/b\": [\n  1,\n  {\"c\":\n \"\\\"}\"}],\n\"d\": {}\n}").unwrap();
        let lines = ["", "/a~1b", "/a~1b/0", "/a~1b/1", "/a~1b/1/c", "/d", "/d/missing", "/none"];
        assert_eq!(lines.map(|pointer| source.line(pointer)), [1, 2, 3, 4, 4, 6, 6, 1]);
    }
}
