//! [`KeyEncoding`]: the form of a record key of one field.

use std::fmt;

/// The form of a record key with one field under the complex generator, Hudi's `ComplexKeyGenEncoding`
/// (HUDI-7001, HUDI-9666). All other keys have only one form.
///
/// | form | written by Hudi |
/// |---|---|
/// | `1` | 0.14.1, 0.15.0, 1.0.0 to 1.0.2 |
/// | `id:1` | up to 0.14.0, and 1.1 and later |
///
/// A table written by releases of both kinds contains both forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyEncoding {
    /// The value: `1`.
    ValueOnly,
    /// The name of the field and the value: `id:1`.
    FieldPrefixed,
}

impl KeyEncoding {
    /// Returns the record key of a value.
    pub fn encode(self, field: &str, value: &str) -> String {
        match self {
            Self::ValueOnly => value.to_owned(),
            Self::FieldPrefixed => format!("{field}:{value}"),
        }
    }

    /// Returns the value of a record key. Returns `None` if the key does not have this form.
    pub fn decode<'a>(self, field: &str, key: &'a str) -> Option<&'a str> {
        match self {
            Self::ValueOnly => Some(key),
            Self::FieldPrefixed => key.strip_prefix(field)?.strip_prefix(':'),
        }
    }

    /// Returns the form of a stored key whose row has this value. Returns `None` if the key has neither form.
    /// A key never has both forms for the same value.
    pub fn of_stored(field: &str, value: &str, key: &str) -> Option<Self> {
        let is_of = |encoding: &Self| encoding.decode(field, key) == Some(value);
        [Self::ValueOnly, Self::FieldPrefixed].into_iter().find(is_of)
    }

    /// Parses a stored name. As in Hudi, case is ignored.
    pub fn parse(name: &str) -> Option<Self> {
        let names = [Self::ValueOnly, Self::FieldPrefixed];
        names.into_iter().find(|encoding| encoding.as_str().eq_ignore_ascii_case(name))
    }

    /// Returns the stored name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ValueOnly => "VALUE_ONLY",
            Self::FieldPrefixed => "FIELD_PREFIXED",
        }
    }
}

impl fmt::Display for KeyEncoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_of_a_stored_key_follows_from_the_value_of_its_row() {
        let of = |value, key| KeyEncoding::of_stored("arn", value, key);
        assert_eq!(of("aws:s3:::logs", "aws:s3:::logs"), Some(KeyEncoding::ValueOnly));
        assert_eq!(of("aws:s3:::logs", "arn:aws:s3:::logs"), Some(KeyEncoding::FieldPrefixed));
        assert_eq!(of("arn:aws:s3:::logs", "arn:aws:s3:::logs"), Some(KeyEncoding::ValueOnly));
        assert_eq!(of("arn:arn:a", "arn:arn:arn:a"), Some(KeyEncoding::FieldPrefixed));
        assert_eq!(of("a", "arna"), None);
        assert_eq!(of("a", "b"), None);
    }

    #[test]
    fn the_names_are_those_of_hudi() {
        assert_eq!(KeyEncoding::parse("field_prefixed"), Some(KeyEncoding::FieldPrefixed));
        assert_eq!(KeyEncoding::parse("VALUE_ONLY"), Some(KeyEncoding::ValueOnly));
        assert_eq!(KeyEncoding::parse(""), None);
        assert_eq!(KeyEncoding::ValueOnly.encode("id", "a,b:c"), "a,b:c");
        assert_eq!(KeyEncoding::FieldPrefixed.encode("id", "a,b:c"), "id:a,b:c");
    }
}
