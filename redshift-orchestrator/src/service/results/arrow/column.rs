//! Converts result columns to Arrow columns.

use arrow_array::{
    ArrayRef,
    builder::{
        ArrayBuilder, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float32Builder,
        Float64Builder, Int16Builder, Int32Builder, Int64Builder, StringBuilder, Time64MicrosecondBuilder,
        TimestampMicrosecondBuilder,
    },
};
use arrow_schema::{DataType, TimeUnit};

use super::value;
use crate::{Column, Field};

/// Returns the Arrow type for a column, from the type name of the database. Types without an Arrow
/// equivalent, types unknown to this version, and decimals of unknown precision become text.
pub(super) fn data_type(column: &Column) -> DataType {
    match column.type_name.to_ascii_lowercase().as_str() {
        "bool" | "boolean" => DataType::Boolean,
        "int2" | "smallint" => DataType::Int16,
        "int4" | "integer" | "int" => DataType::Int32,
        "int8" | "bigint" | "oid" => DataType::Int64,
        "float4" | "real" => DataType::Float32,
        "float8" | "double precision" => DataType::Float64,
        "numeric" | "decimal" => match (column.precision, column.scale.unwrap_or(0)) {
            (Some(precision @ 1..=38), scale) if scale <= precision => {
                DataType::Decimal128(precision as u8, scale as i8)
            }
            _ => DataType::Utf8,
        },
        "date" => DataType::Date32,
        "time" | "time without time zone" => DataType::Time64(TimeUnit::Microsecond),
        "timestamp" | "timestamp without time zone" => DataType::Timestamp(TimeUnit::Microsecond, None),
        "timestamptz" | "timestamp with time zone" => {
            DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
        }
        "varbyte" | "varbinary" | "binary varying" | "bytea" => DataType::Binary,
        _ => DataType::Utf8,
    }
}

/// Builder for the values of one column in the current batch.
#[derive(Debug)]
pub(super) enum Builder {
    Boolean(BooleanBuilder),
    Int16(Int16Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    Float32(Float32Builder),
    Float64(Float64Builder),
    Decimal(Decimal128Builder, u8, i8),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    /// The flag is `true` for a type with a time zone.
    Timestamp(TimestampMicrosecondBuilder, bool),
    Binary(BinaryBuilder),
    Text(StringBuilder),
}

/// Applies an expression to the builder of any variant.
macro_rules! each {
    ($this:expr, $builder:ident => $done:expr) => {
        match $this {
            Builder::Boolean($builder) => $done,
            Builder::Int16($builder) => $done,
            Builder::Int32($builder) => $done,
            Builder::Int64($builder) => $done,
            Builder::Float32($builder) => $done,
            Builder::Float64($builder) => $done,
            Builder::Decimal($builder, ..) => $done,
            Builder::Date($builder) => $done,
            Builder::Time($builder) => $done,
            Builder::Timestamp($builder, _) => $done,
            Builder::Binary($builder) => $done,
            Builder::Text($builder) => $done,
        }
    };
}

impl Builder {
    /// Creates a builder for one of the types that [`data_type`] returns; `None` for other types.
    pub(super) fn new(data_type: &DataType) -> Option<Self> {
        Some(match data_type {
            DataType::Boolean => Self::Boolean(BooleanBuilder::new()),
            DataType::Int16 => Self::Int16(Int16Builder::new()),
            DataType::Int32 => Self::Int32(Int32Builder::new()),
            DataType::Int64 => Self::Int64(Int64Builder::new()),
            DataType::Float32 => Self::Float32(Float32Builder::new()),
            DataType::Float64 => Self::Float64(Float64Builder::new()),
            DataType::Decimal128(precision, scale) => Self::Decimal(
                Decimal128Builder::new().with_precision_and_scale(*precision, *scale).ok()?,
                *precision,
                *scale,
            ),
            DataType::Date32 => Self::Date(Date32Builder::new()),
            DataType::Time64(TimeUnit::Microsecond) => Self::Time(Time64MicrosecondBuilder::new()),
            DataType::Timestamp(TimeUnit::Microsecond, zone) => Self::Timestamp(
                TimestampMicrosecondBuilder::new().with_data_type(data_type.clone()),
                zone.is_some(),
            ),
            DataType::Binary => Self::Binary(BinaryBuilder::new()),
            DataType::Utf8 => Self::Text(StringBuilder::new()),
            _ => return None,
        })
    }

    pub(super) fn is_text(&self) -> bool {
        matches!(self, Self::Text(_))
    }

    /// Appends a value given as text. If the text is not valid for the type, returns `None` and appends
    /// nothing.
    pub(super) fn append_text(&mut self, text: &str) -> Option<()> {
        match self {
            Self::Boolean(builder) => builder.append_value(value::boolean(text)?),
            Self::Int16(builder) => builder.append_value(text.parse().ok()?),
            Self::Int32(builder) => builder.append_value(text.parse().ok()?),
            Self::Int64(builder) => builder.append_value(text.parse().ok()?),
            Self::Float32(builder) => builder.append_value(text.parse().ok()?),
            Self::Float64(builder) => builder.append_value(text.parse().ok()?),
            Self::Decimal(builder, precision, scale) => {
                builder.append_value(value::decimal(text, *precision, *scale)?);
            }
            Self::Date(builder) => builder.append_value(value::date(text)?),
            Self::Time(builder) => builder.append_value(value::time(text)?),
            Self::Timestamp(builder, has_zone) => builder.append_value(value::timestamp(text, *has_zone)?),
            Self::Binary(builder) => builder.append_value(value::bytes(text)?),
            Self::Text(builder) => builder.append_value(text),
        }
        Some(())
    }

    /// Appends a field of a JSON result. If the field does not fit the type, returns `None` and appends
    /// nothing.
    pub(super) fn append(&mut self, field: &Field) -> Option<()> {
        match (&mut *self, field) {
            (_, Field::Null) => self.append_null(),
            (_, Field::String(text)) => return self.append_text(text),
            (Self::Boolean(builder), Field::Boolean(value)) => builder.append_value(*value),
            (Self::Int16(builder), Field::Long(value)) => builder.append_value((*value).try_into().ok()?),
            (Self::Int32(builder), Field::Long(value)) => builder.append_value((*value).try_into().ok()?),
            (Self::Int64(builder), Field::Long(value)) => builder.append_value(*value),
            // A `float4` arrives as a double that has exactly its value, so the conversion is exact.
            (Self::Float32(builder), Field::Double(value)) => builder.append_value(*value as f32),
            (Self::Float64(builder), Field::Double(value)) => builder.append_value(*value),
            (Self::Binary(builder), Field::Blob(bytes)) => builder.append_value(bytes),
            (_, Field::Long(value)) => return self.append_text(&value.to_string()),
            (Self::Text(builder), Field::Boolean(value)) => builder.append_value(value.to_string()),
            (Self::Text(builder), Field::Double(value)) => builder.append_value(value.to_string()),
            _ => return None,
        }
        Some(())
    }

    pub(super) fn append_null(&mut self) {
        each!(self, builder => builder.append_null());
    }

    /// Returns the human-readable name of the value type.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Boolean(_) => "boolean".into(),
            Self::Int16(_) => "16-bit integer".into(),
            Self::Int32(_) => "32-bit integer".into(),
            Self::Int64(_) => "64-bit integer".into(),
            Self::Float32(_) | Self::Float64(_) => "number".into(),
            Self::Decimal(_, precision, scale) => format!("decimal({precision}, {scale})"),
            Self::Date(_) => "date".into(),
            Self::Time(_) => "time of day".into(),
            Self::Timestamp(_, false) => "timestamp".into(),
            Self::Timestamp(_, true) => "timestamp with an offset from UTC".into(),
            Self::Binary(_) => "bytes in hexadecimal digits".into(),
            Self::Text(_) => "text".into(),
        }
    }

    /// Returns the values so far as an array.
    pub(super) fn finish(&mut self) -> ArrayRef {
        each!(self, builder => ArrayBuilder::finish(builder))
    }
}
