//! Deserializes a row with serde.

use std::fmt;

use serde::{
    Deserializer,
    de::{
        DeserializeOwned, DeserializeSeed, Error as _, IntoDeserializer, MapAccess, SeqAccess, Unexpected,
        Visitor,
        value::{SeqDeserializer, StrDeserializer},
    },
};

use super::{Column, Field};

/// Deserializes one row as a value of `T`.
pub(super) fn from_row<T: DeserializeOwned>(columns: &[Column], fields: &[Field]) -> Result<T, RowError> {
    if columns.len() != fields.len() {
        let message = format!("the row has {} values for {} columns", fields.len(), columns.len());
        return Err(RowError::Other(message));
    }
    T::deserialize(Row { columns, fields }).map_err(|error| match error {
        RowError::NoColumn(wanted) => no_column(wanted, columns),
        error => error,
    })
}

/// Returns the error for a missing column. It names the existing columns, because SQL folds names to lower
/// case and the fields of a struct may be spelled differently.
fn no_column(wanted: &str, columns: &[Column]) -> RowError {
    let names: Vec<_> = columns.iter().map(|column| column.name.as_str()).collect();
    let alike = names.iter().find(|name| {
        let plain = |name: &str| name.replace('_', "").to_lowercase();
        plain(name) == plain(wanted)
    });
    RowError::Other(match alike {
        Some(name) => {
            format!("there is no column `{wanted}`, but there is `{name}`; use #[serde(rename = \"{name}\")]")
        }
        None => format!("there is no column `{wanted}`; the result has `{}`", names.join("`, `")),
    })
}

/// Reason why a row cannot be deserialized as `T`.
#[derive(Debug)]
pub(super) enum RowError {
    /// The type has a field without a corresponding column.
    NoColumn(&'static str),
    Other(String),
}

impl fmt::Display for RowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoColumn(name) => write!(f, "there is no column `{name}`"),
            Self::Other(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for RowError {}

impl serde::de::Error for RowError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Other(message.to_string())
    }

    fn missing_field(name: &'static str) -> Self {
        Self::NoColumn(name)
    }
}

impl RowError {
    fn in_column(self, column: &Column) -> Self {
        Self::Other(format!("column `{}` ({}): {self}", column.name, column.type_name))
    }
}

/// Deserializer of a row, as a map with the column names as keys, as a sequence in column order, or, for a
/// row with one column, as its value.
struct Row<'a> {
    columns: &'a [Column],
    fields: &'a [Field],
}

impl<'a> Row<'a> {
    fn only(&self) -> Result<Value<'a>, RowError> {
        match (self.columns, self.fields) {
            ([column], [field]) => Ok(Value { column, field }),
            _ => Err(RowError::Other(format!(
                "a single value was expected, but the row has {}; use a struct or a tuple",
                self.fields.len()
            ))),
        }
    }
}

/// Defines methods that deserialize the only value of a row.
macro_rules! of_the_only_value {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RowError> {
            self.only()?.$method(visitor)
        })*
    };
}

impl<'de> Deserializer<'de> for Row<'_> {
    type Error = RowError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RowError> {
        self.deserialize_map(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RowError> {
        visitor.visit_map(Walk { row: self, at: 0 })
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RowError> {
        visitor.visit_seq(Walk { row: self, at: 0 })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, RowError> {
        if length != self.fields.len() {
            let message = format!("{length} values were expected, but the row has {}", self.fields.len());
            return Err(RowError::Other(message));
        }
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, RowError> {
        self.deserialize_tuple(length, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, RowError> {
        self.deserialize_map(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, RowError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, RowError> {
        self.only()?.deserialize_enum(name, variants, visitor)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RowError> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, RowError> {
        visitor.visit_unit()
    }

    of_the_only_value! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128 deserialize_u8
        deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128 deserialize_f32 deserialize_f64 deserialize_char
        deserialize_str deserialize_string deserialize_bytes deserialize_byte_buf deserialize_option
        deserialize_identifier
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RowError> {
        visitor.visit_unit()
    }
}

/// Iterator over the columns of a row.
struct Walk<'a> {
    row: Row<'a>,
    at: usize,
}

impl<'a> Walk<'a> {
    fn value(&mut self) -> Option<Value<'a>> {
        let value = Value { column: self.row.columns.get(self.at)?, field: self.row.fields.get(self.at)? };
        self.at += 1;
        Some(value)
    }
}

impl<'de> MapAccess<'de> for Walk<'_> {
    type Error = RowError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, RowError> {
        let Some(column) = self.row.columns.get(self.at) else { return Ok(None) };
        let name: StrDeserializer<'_, RowError> = column.name.as_str().into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, RowError> {
        let value = self.value().ok_or_else(|| RowError::custom("the row has fewer values than columns"))?;
        let column = value.column;
        seed.deserialize(value).map_err(|error| error.in_column(column))
    }
}

impl<'de> SeqAccess<'de> for Walk<'_> {
    type Error = RowError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, RowError> {
        let Some(value) = self.value() else { return Ok(None) };
        let column = value.column;
        seed.deserialize(value).map(Some).map_err(|error| error.in_column(column))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.row.fields.len() - self.at)
    }
}

/// Deserializer of one value of a row.
#[derive(Clone, Copy)]
struct Value<'a> {
    column: &'a Column,
    field: &'a Field,
}

impl Value<'_> {
    fn unexpected(&self) -> Unexpected<'_> {
        match self.field {
            Field::Null => Unexpected::Other("NULL"),
            Field::Boolean(value) => Unexpected::Bool(*value),
            Field::Long(value) => Unexpected::Signed(*value),
            Field::Double(value) => Unexpected::Float(*value),
            Field::String(value) => Unexpected::Str(value),
            Field::Blob(value) => Unexpected::Bytes(value),
        }
    }

    fn visit<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RowError> {
        match self.field {
            Field::Null => visitor.visit_unit(),
            Field::Boolean(value) => visitor.visit_bool(*value),
            Field::Long(value) => visitor.visit_i64(*value),
            Field::Double(value) => visitor.visit_f64(*value),
            Field::String(value) => visitor.visit_str(value),
            Field::Blob(value) => visitor.visit_bytes(value),
        }
    }
}

/// Defines methods that deserialize a number. A number that arrives as text, such as a decimal, is parsed
/// exactly or rejected.
macro_rules! numbers {
    ($($method:ident $visit:ident $type:ty)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RowError> {
            match self.field {
                Field::String(text) => match text.parse::<$type>() {
                    Ok(number) => visitor.$visit(number),
                    Err(_) => Err(RowError::invalid_value(self.unexpected(), &concat!("a number (", stringify!($type), ")"))),
                },
                Field::Null => Err(RowError::invalid_type(self.unexpected(), &visitor)),
                _ => self.visit(visitor),
            }
        })*
    };
}

impl<'de> Deserializer<'de> for Value<'_> {
    type Error = RowError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RowError> {
        self.visit(visitor)
    }

    numbers! {
        deserialize_i8 visit_i8 i8 deserialize_i16 visit_i16 i16 deserialize_i32 visit_i32 i32 deserialize_i64 visit_i64 i64
        deserialize_i128 visit_i128 i128 deserialize_u8 visit_u8 u8 deserialize_u16 visit_u16 u16
        deserialize_u32 visit_u32 u32 deserialize_u64 visit_u64 u64 deserialize_u128 visit_u128 u128
        deserialize_f32 visit_f32 f32 deserialize_f64 visit_f64 f64
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RowError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RowError> {
        match self.field {
            // Integers and booleans have only one text form. Floating-point numbers have several, so they are
            // rejected.
            Field::Long(value) => visitor.visit_string(value.to_string()),
            Field::Boolean(value) => visitor.visit_str(if *value { "true" } else { "false" }),
            Field::Null => {
                Err(RowError::invalid_type(self.unexpected(), &"a text; use `Option` to accept NULL"))
            }
            _ => self.visit(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RowError> {
        match self.field {
            Field::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, RowError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RowError> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RowError> {
        match self.field {
            Field::String(text) => visitor.visit_bytes(text.as_bytes()),
            _ => self.visit(visitor),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, RowError> {
        match self.field {
            Field::Blob(bytes) => visitor.visit_seq(SeqDeserializer::new(bytes.iter().copied())),
            _ => Err(RowError::invalid_type(self.unexpected(), &visitor)),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, RowError> {
        match self.field {
            Field::String(text) => visitor.visit_enum(text.as_str().into_deserializer()),
            _ => Err(RowError::invalid_type(self.unexpected(), &visitor)),
        }
    }

    serde::forward_to_deserialize_any! {
        bool char unit unit_struct tuple tuple_struct map struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    fn row<T: DeserializeOwned>(columns: &[(&str, &str)], fields: &[Field]) -> Result<T, String> {
        let columns: Vec<_> = columns.iter().map(|(name, kind)| Column::new(*name, *kind)).collect();
        from_row(&columns, fields).map_err(|error| error.to_string())
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Sale {
        ticket: i32,
        price: String,
        note: Option<String>,
        sold_on: jiff::civil::Date,
        #[serde(default)]
        returned: bool,
    }

    const SALE: [(&str, &str); 5] = [
        ("ticket", "int4"),
        ("price", "numeric"),
        ("note", "varchar"),
        ("sold_on", "date"),
        ("other", "int4"),
    ];

    fn sale(note: Field) -> [Field; 5] {
        let text = |text: &str| Field::String(text.into());
        [Field::Long(7), text("12345678901234567890.123400"), note, text("2026-11-23"), Field::Long(1)]
    }

    #[test]
    fn a_struct_reads_columns_by_name_and_decimals_exactly() {
        let read: Sale = row(&SALE, &sale(Field::Null)).unwrap();
        assert_eq!(read.price, "12345678901234567890.123400");
        assert_eq!((read.ticket, read.sold_on, read.returned), (7, jiff::civil::date(2026, 11, 23), false));
    }

    #[test]
    fn null_is_not_an_empty_text() {
        assert_eq!(row::<Sale>(&SALE, &sale(Field::Null)).unwrap().note, None);
        assert_eq!(
            row::<Sale>(&SALE, &sale(Field::String(String::new()))).unwrap().note,
            Some(String::new())
        );
        let error = row::<String>(&[("note", "varchar")], &[Field::Null]).unwrap_err();
        assert!(error.contains("NULL"), "{error}");
    }

    #[test]
    fn a_tuple_reads_columns_by_position_and_a_value_reads_a_single_column() {
        let columns = [("a", "int8"), ("b", "float8")];
        assert_eq!(row::<(u8, f64)>(&columns, &[Field::Long(1), Field::Double(0.5)]), Ok((1, 0.5)));
        assert_eq!(row::<i64>(&[("count", "int8")], &[Field::Long(42)]), Ok(42));
        assert_eq!(row::<Option<i64>>(&[("max", "int8")], &[Field::Null]), Ok(None));
        assert_eq!(row::<f64>(&[("sum", "numeric")], &[Field::String("1.25".into())]), Ok(1.25));
        assert_eq!(
            row::<u64>(&[("sum", "numeric")], &[Field::String("18446744073709551615".into())]),
            Ok(u64::MAX)
        );
    }

    #[test]
    fn a_value_that_does_not_fit_names_its_column() {
        let error = row::<(u8,)>(&[("a", "int8")], &[Field::Long(300)]).unwrap_err();
        assert!(error.starts_with("column `a` (int8): invalid value"), "{error}");
        let error = row::<(i64,)>(&[("p", "numeric")], &[Field::String("1.5".into())]).unwrap_err();
        assert!(error.contains("column `p` (numeric)") && error.contains("i64"), "{error}");
        let error = row::<(i64, i64)>(&[("a", "int8")], &[Field::Long(1)]).unwrap_err();
        assert_eq!(error, "2 values were expected, but the row has 1");
    }
}
