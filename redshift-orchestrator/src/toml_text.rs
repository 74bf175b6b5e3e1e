//! Reads TOML with error positions and a maximum depth of nesting. The parser has no maximum, so deep nesting
//! would overflow its stack.

use serde::de::DeserializeOwned;

/// Maximum depth of nesting.
const DEEPEST: usize = 64;

/// Error in a TOML text, with its offset in bytes if known.
pub struct Malformed {
    pub message: String,
    pub offset: Option<usize>,
}

/// Deserializes a TOML text.
pub fn read<T: DeserializeOwned>(toml: &str) -> Result<T, Malformed> {
    if let Some(offset) = too_deep(toml) {
        let message = "arrays and tables are nested too deeply".to_owned();
        return Err(Malformed { message, offset: Some(offset) });
    }
    toml::from_str(toml).map_err(|error| Malformed {
        message: error.message().trim().to_owned(),
        offset: error.span().map(|span| span.start),
    })
}

/// Returns the number of the line that contains the byte at `offset`, starting at 1.
pub fn line(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
}

/// Returns the offset of the first bracket, brace or dot that exceeds the maximum depth. Ignores strings and
/// comments.
pub fn too_deep(toml: &str) -> Option<usize> {
    let bytes = toml.as_bytes();
    let (mut depth, mut dots, mut at) = (0_usize, 0_usize, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            // Each part of a dotted key is a table.
            b'.' => dots += 1,
            b'\n' | b'=' | b',' => dots = 0,
            b'#' => {
                at += bytes[at..].iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len() - at);
                continue;
            }
            b'"' | b'\'' => {
                at = behind_string(bytes, at);
                continue;
            }
            _ => {}
        }
        if depth + dots > DEEPEST {
            return Some(at);
        }
        at += 1;
    }
    None
}

/// Returns the offset after the string that begins at `at`. An unclosed string ends at the end of its line or
/// of the text.
fn behind_string(bytes: &[u8], at: usize) -> usize {
    let quote = bytes[at];
    let long = bytes[at..].starts_with(&[quote; 3]);
    let mut next = at + if long { 3 } else { 1 };
    while next < bytes.len() {
        match bytes[next] {
            b'\\' if quote == b'"' => next += 1,
            b'\n' if !long => return next,
            byte if byte == quote && !long => return next + 1,
            byte if byte == quote && bytes[next..].starts_with(&[quote; 3]) => return next + 3,
            _ => {}
        }
        next += 1;
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nesting_is_counted_outside_of_strings_only() {
        for open in ["[", "{ a = ", "[{ a = ["] {
            assert!(too_deep(&format!("x = {}", open.repeat(100))).is_some(), "{open}");
        }
        assert_eq!(too_deep(&format!("x{} = 1", ".x".repeat(100))), Some(129));
        let strings = format!(
            "a = '{0}' # {0}\nb = \"\\\"{0}\"\nc = \"\"\"\n{0}\"\"\"\nd = '''\n'{0}'''",
            "[".repeat(100)
        );
        assert_eq!(too_deep(&strings), None);
        assert_eq!(too_deep(&"[[steps]]\nsql = 'a.b.c'\nretry = { on = [1.5, 2.5] }\n".repeat(100)), None);
    }
}
