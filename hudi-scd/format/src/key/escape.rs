//! Escape sequences in folder names.

use std::{borrow::Cow, fmt::Write as _};

/// Returns a partition value without its escape sequences.
pub(super) fn unescaped(value: &str) -> Option<String> {
    let mut parts = value.split('%');
    let mut text = parts.next()?.to_owned();
    for part in parts {
        let (code, rest) = part.split_at_checked(2)?;
        // Only ASCII characters are escaped.
        text.push(char::from(u8::from_str_radix(code, 16).ok()?));
        text.push_str(rest);
    }
    Some(text)
}

/// Returns the name of a partition value's folder.
pub(super) fn partition_value<'a>(value: &'a str, null: &'a str, url_encode: bool) -> Cow<'a, str> {
    if value.is_empty() {
        return Cow::Borrowed(null);
    }
    if !url_encode || !value.contains(is_escaped) {
        return Cow::Borrowed(value);
    }
    let mut encoded = String::with_capacity(value.len() + 8);
    for character in value.chars() {
        if is_escaped(character) {
            let _ = write!(encoded, "%{:02X}", u32::from(character));
        } else {
            encoded.push(character);
        }
    }
    Cow::Owned(encoded)
}

/// Returns `true` for characters that Hive, and therefore Hudi, escapes in paths. They differ from those that
/// are escaped in URLs.
pub fn is_escaped(character: char) -> bool {
    character.is_ascii_control()
        || matches!(
            character,
            '"' | '#' | '%' | '\'' | '*' | '/' | ':' | '=' | '?' | '\\' | '{' | '[' | ']' | '^'
        )
}
