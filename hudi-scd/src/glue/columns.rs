//! Names of column types in the catalog, and the changes of a type after which files stay readable.

use arrow::datatypes::{DataType, Field};

use super::types::{TypeNames, write_type};
use crate::{Error, ErrorKind, Result};

/// Returns the catalog's type for a column. A timestamp is `bigint` (microseconds since the epoch), unless
/// `timestamps` is set.
///
/// # Errors
/// [`ErrorKind::Unsupported`], naming the column, if the catalog has no such type.
pub(super) fn hive_type(field: &Field, timestamps: bool) -> Result<String> {
    let mut text = String::new();
    write_type(&mut text, field.data_type(), &CatalogNames { timestamps }).map_err(|unknown| {
        Error::new(ErrorKind::Unsupported, "the Glue catalog has no type for the column")
            .with_context("column", field.name())
            .with_context("type", unknown)
    })?;
    Ok(text)
}

/// The names of types in the catalog.
struct CatalogNames {
    timestamps: bool,
}

impl TypeNames for CatalogNames {
    /// The type for which there is no name.
    type Refusal = DataType;

    fn scalar(&self, data_type: &DataType) -> Result<String, DataType> {
        Ok(match data_type {
            DataType::Boolean => "boolean",
            DataType::Int8 | DataType::Int16 | DataType::Int32 => "int",
            DataType::Int64 => "bigint",
            DataType::Float32 => "float",
            DataType::Float64 => "double",
            DataType::Decimal128(precision, scale) => return Ok(format!("decimal({precision},{scale})")),
            DataType::Utf8 | DataType::LargeUtf8 => "string",
            DataType::Binary | DataType::LargeBinary | DataType::FixedSizeBinary(_) => "binary",
            DataType::Date32 => "date",
            DataType::Timestamp(..) if self.timestamps => "timestamp",
            DataType::Timestamp(..) => "bigint",
            other => return Err(other.clone()),
        }
        .to_owned())
    }

    fn map_key(&self) -> &'static str {
        "string"
    }

    fn field(&self, name: &str) -> Result<String, DataType> {
        Ok(name.to_lowercase().replace('-', "_"))
    }

    fn no_map(&self, data_type: &DataType) -> DataType {
        data_type.clone()
    }
}

/// Returns a type without spaces, backticks and capitals, for comparisons.
pub(super) fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace() && *c != '`').flat_map(char::to_lowercase).collect()
}

/// Returns `true` if files with a column of type `old` stay readable after the catalog declares `new`.
pub(super) fn widens(old: &str, new: &str) -> bool {
    match (Hive::parse(&plain(old)), Hive::parse(&plain(new))) {
        (Some(old), Some(new)) => old.widens_to(&new),
        _ => false,
    }
}

/// A parsed type of the catalog.
#[derive(Debug, PartialEq, Eq)]
enum Hive<'a> {
    Scalar(&'a str),
    Decimal { precision: u8, scale: u8 },
    Array(Box<Self>),
    Map(Box<Self>, Box<Self>),
    Struct(Vec<(&'a str, Self)>),
}

impl<'a> Hive<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (parsed, rest) = Self::prefix(text, 0)?;
        rest.is_empty().then_some(parsed)
    }

    /// Parses the type at the beginning of the text. `depth` limits the recursion, because the text comes
    /// from other tools.
    fn prefix(text: &'a str, depth: usize) -> Option<(Self, &'a str)> {
        if depth > 64 {
            return None;
        }
        let end = text.find(['<', '>', ',', '(', ':']).unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        match (name, rest.chars().next()) {
            ("", _) => None,
            ("array", Some('<')) => {
                let (item, rest) = Self::prefix(&rest[1..], depth + 1)?;
                Some((Self::Array(Box::new(item)), rest.strip_prefix('>')?))
            }
            ("map", Some('<')) => {
                let (key, rest) = Self::prefix(&rest[1..], depth + 1)?;
                let (value, rest) = Self::prefix(rest.strip_prefix(',')?, depth + 1)?;
                Some((Self::Map(Box::new(key), Box::new(value)), rest.strip_prefix('>')?))
            }
            ("struct", Some('<')) => {
                let mut fields = Vec::new();
                let mut rest = &rest[1..];
                loop {
                    let (name, after) = rest.split_once(':')?;
                    let (kind, after) = Self::prefix(after, depth + 1)?;
                    fields.push((name, kind));
                    match after.strip_prefix(',') {
                        Some(next) => rest = next,
                        None => return Some((Self::Struct(fields), after.strip_prefix('>')?)),
                    }
                }
            }
            ("decimal", Some('(')) => {
                let (digits, rest) = rest[1..].split_once(')')?;
                let (precision, scale) = digits.split_once(',').unwrap_or((digits, "0"));
                Some((Self::Decimal { precision: precision.parse().ok()?, scale: scale.parse().ok()? }, rest))
            }
            // Other tools write `char(10)` and `varchar(10)`.
            (_, Some('(')) => {
                let close = rest.find(')')?;
                Some((Self::Scalar(&text[..end + close + 1]), &rest[close + 1..]))
            }
            _ => Some((Self::Scalar(name), rest)),
        }
    }

    fn widens_to(&self, new: &Self) -> bool {
        match (self, new) {
            (Self::Scalar(old), Self::Scalar(new)) => {
                old == new || matches!((*old, *new), ("int", "bigint") | ("float", "double"))
            }
            (
                Self::Decimal { precision, scale },
                Self::Decimal { precision: new_precision, scale: new_scale },
            ) => {
                let (whole, new_whole) =
                    (precision.checked_sub(*scale), new_precision.checked_sub(*new_scale));
                scale <= new_scale && matches!((whole, new_whole), (Some(old), Some(new)) if old <= new)
            }
            (Self::Array(old), Self::Array(new)) => old.widens_to(new),
            (Self::Map(key, value), Self::Map(new_key, new_value)) => {
                key == new_key && value.widens_to(new_value)
            }
            // Readers match fields by name. A field that a file lacks is read as null.
            (Self::Struct(old), Self::Struct(new)) => old.iter().all(|(name, kind)| {
                new.iter().any(|(new_name, new_kind)| new_name == name && kind.widens_to(new_kind))
            }),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("int", "bigint", true)]
    #[case("bigint", "int", false)]
    #[case("float", "double", true)]
    #[case("string", "int", false)]
    #[case("bigint", "timestamp", false)]
    #[case("decimal(15,2)", "decimal(20,4)", true)]
    #[case("decimal(15,2)", "decimal(15,4)", false)]
    #[case("decimal(10,2)", "double", false)]
    #[case("struct<a:int>", "STRUCT<a: bigint, b:string>", true)]
    #[case("struct<a:int,b:string>", "struct<a:int>", false)]
    #[case("array<struct<x:int>>", "array<struct<x:bigint,y:date>>", true)]
    #[case("map<string,float>", "map<string,double>", true)]
    #[case("map<string,int>", "map<int,int>", false)]
    #[case("varchar(10)", "varchar(20)", false)]
    #[case("array<int", "array<int", false)]
    #[case("decimal(2,5)", "decimal(3,6)", false)]
    fn a_type_may_only_become_wider(#[case] old: &str, #[case] new: &str, #[case] safe: bool) {
        assert_eq!(widens(old, new), safe);
    }

    #[test]
    fn text_of_any_depth_is_parsed_without_overflow() {
        assert!(!widens(&"array<".repeat(100_000), "int"));
    }
}
