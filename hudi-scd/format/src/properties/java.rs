//! The text format of `java.util.Properties`.

use std::{collections::BTreeMap, fmt::Write as _};

use jiff::{Timestamp, tz::TimeZone};

use crate::{Error, ErrorKind, Result};

/// Parses a properties file: comments; `=`, `:` or white space between key and value; continued lines;
/// escapes.
pub(super) fn parse(bytes: &[u8]) -> Result<BTreeMap<String, String>> {
    let text = std::str::from_utf8(bytes).map_err(|cause| {
        Error::new(ErrorKind::Corrupt, "a properties file is not text").with_source(cause)
    })?;
    let mut properties = BTreeMap::new();
    let mut lines = text.lines();
    while let Some(first) = lines.next() {
        let first = first.trim_start_matches(is_space);
        if first.is_empty() || first.starts_with(['#', '!']) {
            continue;
        }
        let mut line = first.to_owned();
        while is_continued(&line) {
            line.pop();
            match lines.next() {
                Some(next) => line.push_str(next.trim_start_matches(is_space)),
                None => break,
            }
        }
        let (key, value) = split(&line);
        properties.insert(unescape(key)?, unescape(value)?);
    }
    Ok(properties)
}

fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\u{c}')
}

/// Returns `true` if the next line continues this one, because it ends with an odd number of backslashes.
fn is_continued(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    for (index, character) in line.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '=' | ':' => return (&line[..index], line[index + 1..].trim_start_matches(is_space)),
            character if is_space(character) => {
                let rest = line[index..].trim_start_matches(is_space);
                let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
                return (&line[..index], rest.trim_start_matches(is_space));
            }
            _ => {}
        }
    }
    (line, "")
}

fn unescape(text: &str) -> Result<String> {
    let mut units: Vec<u16> = Vec::with_capacity(text.len());
    let mut buffer = [0; 2];
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '\\' {
            units.extend_from_slice(character.encode_utf16(&mut buffer));
            continue;
        }
        match characters.next() {
            Some('t') => units.push(u16::from(b'\t')),
            Some('n') => units.push(u16::from(b'\n')),
            Some('r') => units.push(u16::from(b'\r')),
            Some('f') => units.push(0xc),
            Some('u') => {
                let digits: String = characters.by_ref().take(4).collect();
                let unit = u16::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 4);
                units.push(unit.ok_or_else(|| {
                    Error::new(ErrorKind::Corrupt, "a properties file has a bad unicode escape")
                        .with_context("escape", format!("\\u{digits}"))
                })?);
            }
            Some(other) => units.extend_from_slice(other.encode_utf16(&mut buffer)),
            None => {}
        }
    }
    Ok(String::from_utf16_lossy(&units))
}

/// Writes a properties file under the two comment lines that Hudi writes.
pub(super) fn write(properties: &BTreeMap<String, String>, now: Timestamp) -> Vec<u8> {
    let mut text = format!("#Properties saved on {now}\n#{}\n", java_date(now));
    for (key, value) in properties {
        escape(key, true, &mut text);
        text.push('=');
        escape(value, false, &mut text);
        text.push('\n');
    }
    text.into_bytes()
}

fn escape(text: &str, is_key: bool, out: &mut String) {
    for (index, character) in text.chars().enumerate() {
        match character {
            ' ' if is_key || index == 0 => out.push_str("\\ "),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\u{c}' => out.push_str("\\f"),
            '\\' | '=' | ':' | '#' | '!' => {
                out.push('\\');
                out.push(character);
            }
            ' '..='~' => out.push(character),
            other => {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    // Writing to a String cannot fail.
                    let _ = write!(out, "\\u{unit:04X}");
                }
            }
        }
    }
}

/// Formats like `java.util.Date`, as in `Mon Nov 23 04:25:49 UTC 2026`.
pub fn java_date(now: Timestamp) -> String {
    now.to_zoned(TimeZone::UTC).strftime("%a %b %d %H:%M:%S UTC %Y").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_forms_that_java_allows() {
        let text = "# comment\n! too\n  a = 1\nb:2\nc 3\nd\\ e=x\\=y\\u00e9\\n\nf=one\\\n   two\ng\n\n";
        let expected = [("a", "1"), ("b", "2"), ("c", "3"), ("d e", "x=yé\n"), ("f", "onetwo"), ("g", "")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(parse(text.as_bytes()).unwrap(), BTreeMap::from(expected));
        assert_eq!(parse(b"a=\\u00g0").unwrap_err().kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn what_it_writes_it_reads_again() {
        let properties = BTreeMap::from(
            [("a b:c", " x y = z#"), ("ключ", "värde \\ 𝄞\t\n")]
                .map(|(key, value)| (key.to_owned(), value.to_owned())),
        );
        let written = write(&properties, "2026-11-23T04:25:49.079Z".parse().unwrap());
        assert!(written.is_ascii());
        assert!(
            written.starts_with(
                b"#Properties saved on 2026-11-23T04:25:49.079Z\n#Mon Nov 23 04:25:49 UTC 2026\n"
            )
        );
        assert_eq!(parse(&written).unwrap(), properties);
    }
}
