//! Substitution of `${name}`, the parameters of a run, in the texts of a pipeline.

use std::collections::BTreeMap;

/// Returns the names that occur as `${name}` in a text, in order.
pub(super) fn mentioned(text: &str) -> impl Iterator<Item = &str> {
    pieces(text).filter_map(|piece| match piece {
        Piece::Name(name) => Some(name),
        Piece::Text(_) => None,
    })
}

/// Returns the text with each `${name}` replaced, or the first name that has no value.
pub(super) fn replace<'a>(text: &'a str, values: &BTreeMap<String, String>) -> Result<String, &'a str> {
    let mut replaced = String::with_capacity(text.len());
    for piece in pieces(text) {
        match piece {
            Piece::Text(text) => replaced.push_str(text),
            Piece::Name(name) => replaced.push_str(values.get(name).ok_or(name)?),
        }
    }
    Ok(replaced)
}

/// Returns `true` for a value that is allowed in the SQL itself: a word, a number, a date, a qualified name.
/// Other values belong in the value of a placeholder, which the service keeps separate from the SQL.
pub(super) fn is_plain(value: &str) -> bool {
    !value.is_empty()
        && !value.contains("--")
        && value.chars().all(|character| character.is_ascii_alphanumeric() || "_.-".contains(character))
}

enum Piece<'a> {
    Text(&'a str),
    Name(&'a str),
}

fn pieces(text: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let open = rest.find("${").filter(|open| rest[*open..].contains('}'));
        let (piece, end) = match open {
            Some(0) => {
                let close = rest.find('}').unwrap_or(rest.len() - 1);
                (Piece::Name(&rest[2..close]), close + 1)
            }
            Some(open) => (Piece::Text(&rest[..open]), open),
            None => (Piece::Text(rest), rest.len()),
        };
        rest = &rest[end..];
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_what_is_known_and_names_what_is_not() {
        let values = BTreeMap::from([("cycle".to_owned(), "7".to_owned())]);
        assert_eq!(replace("a ${cycle} b ${cycle}", &values), Ok("a 7 b 7".to_owned()));
        assert_eq!(replace("${day}", &values), Err("day"));
        assert_eq!(replace("$cycle ${open", &values), Ok("$cycle ${open".to_owned()));
        assert_eq!(mentioned("${a}${b} $c").collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn only_plain_values_may_stand_in_sql() {
        for plain in ["7", "mystore.sales", "2026-11-23", "stage_1"] {
            assert!(is_plain(plain), "{plain}");
        }
        for other in ["", "a b", "'x'", "1;DROP", "1--", "x)"] {
            assert!(!is_plain(other), "{other}");
        }
    }
}
