//! [`Column`]: a builder of an Arrow array from the cells of a text file.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{
        ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float32Builder,
        Float64Builder, Int32Builder, Int64Array, Int64Builder, ListArray, MapArray, NullArray,
        NullBufferBuilder, StringBuilder, StructArray,
    },
    buffer::OffsetBuffer,
    compute::cast,
    datatypes::{DataType, FieldRef, Fields, TimeUnit},
    error::ArrowError,
};
use serde_json::value::RawValue;

use super::cell::{Cell, Refusal};

/// A column that has one of a table's types.
pub(super) enum Column {
    /// A number of NULLs, and no other values.
    Nothing(usize),
    Boolean(BooleanBuilder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    Float32(Float32Builder),
    Float64(Float64Builder),
    Decimal(Decimal128Builder, u8, i8),
    Text(StringBuilder),
    Binary(BinaryBuilder),
    Date(Date32Builder),
    Timestamp(Int64Builder, TimeUnit, Option<Arc<str>>),
    List {
        item: FieldRef,
        values: Box<Column>,
        lengths: Vec<usize>,
        nulls: NullBufferBuilder,
    },
    Map {
        entries: FieldRef,
        keys: StringBuilder,
        values: Box<Column>,
        lengths: Vec<usize>,
        nulls: NullBufferBuilder,
    },
    Struct {
        fields: Fields,
        columns: Vec<Column>,
        rows: usize,
        nulls: NullBufferBuilder,
    },
}

impl Column {
    /// Creates a column of a type that tables support.
    pub(super) fn new(data_type: &DataType) -> Result<Self, Refusal> {
        let nulls = || NullBufferBuilder::new(0);
        Ok(match data_type {
            DataType::Null => Self::Nothing(0),
            DataType::Boolean => Self::Boolean(BooleanBuilder::new()),
            DataType::Int32 => Self::Int32(Int32Builder::new()),
            DataType::Int64 => Self::Int64(Int64Builder::new()),
            DataType::Float32 => Self::Float32(Float32Builder::new()),
            DataType::Float64 => Self::Float64(Float64Builder::new()),
            DataType::Decimal128(precision, scale) => {
                let builder = Decimal128Builder::new().with_data_type(data_type.clone());
                Self::Decimal(builder, *precision, *scale)
            }
            DataType::Utf8 => Self::Text(StringBuilder::new()),
            DataType::Binary => Self::Binary(BinaryBuilder::new()),
            DataType::Date32 => Self::Date(Date32Builder::new()),
            DataType::Timestamp(unit, zone) => Self::Timestamp(Int64Builder::new(), *unit, zone.clone()),
            DataType::List(item) => Self::List {
                item: item.clone(),
                values: Box::new(Self::new(item.data_type())?),
                lengths: Vec::new(),
                nulls: nulls(),
            },
            DataType::Map(entries, _) => {
                let value = match entries.data_type() {
                    DataType::Struct(entry) if entry.len() == 2 => entry[1].data_type(),
                    other => return Err(format!("a map of {other} cannot be read from text")),
                };
                Self::Map {
                    entries: entries.clone(),
                    keys: StringBuilder::new(),
                    values: Box::new(Self::new(value)?),
                    lengths: Vec::new(),
                    nulls: nulls(),
                }
            }
            DataType::Struct(fields) => Self::Struct {
                columns: fields.iter().map(|field| Self::new(field.data_type())).collect::<Result<_, _>>()?,
                fields: fields.clone(),
                rows: 0,
                nulls: nulls(),
            },
            other => return Err(format!("values of the type {other} cannot be read from text")),
        })
    }

    pub(super) fn append(&mut self, cell: &Cell<'_>) -> Result<(), Refusal> {
        if matches!(cell, Cell::Null) {
            self.append_null();
            return Ok(());
        }
        match self {
            Self::Nothing(_) => return Err("a value in a column that had no values".to_owned()),
            Self::Boolean(builder) => builder.append_value(cell.boolean()?),
            Self::Int32(builder) => {
                let number = cell.integer()?;
                let narrow =
                    i32::try_from(number).map_err(|_| format!("{number} is too large for 32 bits"))?;
                builder.append_value(narrow);
            }
            Self::Int64(builder) => builder.append_value(cell.integer()?),
            Self::Float32(builder) => builder.append_value(cell.float()?),
            Self::Float64(builder) => builder.append_value(cell.float()?),
            Self::Decimal(builder, precision, scale) => {
                builder.append_value(cell.decimal(*precision, *scale)?)
            }
            Self::Text(builder) => builder.append_value(cell.text()?),
            Self::Binary(builder) => builder.append_value(cell.binary()?),
            Self::Date(builder) => builder.append_value(cell.date()?),
            Self::Timestamp(builder, unit, zone) => {
                builder.append_value(cell.timestamp(*unit, zone.is_some())?);
            }
            Self::List { values, lengths, nulls, .. } => {
                let items: Vec<&RawValue> = nested(cell, "an array")?;
                for item in &items {
                    values.append(&Cell::of_json(item)?)?;
                }
                lengths.push(items.len());
                nulls.append_non_null();
            }
            Self::Map { keys, values, lengths, nulls, .. } => {
                let entries: BTreeMap<String, &RawValue> = nested(cell, "an object")?;
                for (key, value) in &entries {
                    keys.append_value(key);
                    values.append(&Cell::of_json(value)?)?;
                }
                lengths.push(entries.len());
                nulls.append_non_null();
            }
            Self::Struct { fields, columns, rows, nulls } => {
                let mut members: BTreeMap<String, &RawValue> = nested(cell, "an object")?;
                for (field, column) in fields.iter().zip(columns) {
                    let named = |refusal| format!("{}: {refusal}", field.name());
                    let member = members.remove(field.name());
                    let member = member.map_or(Ok(Cell::Null), Cell::of_json);
                    column.append(&member.map_err(named)?).map_err(named)?;
                }
                if let Some(extra) = members.keys().next() {
                    return Err(format!("{extra}: there is no such field in the column"));
                }
                *rows += 1;
                nulls.append_non_null();
            }
        }
        Ok(())
    }

    fn append_null(&mut self) {
        match self {
            Self::Nothing(rows) => *rows += 1,
            Self::Boolean(builder) => builder.append_null(),
            Self::Int32(builder) => builder.append_null(),
            Self::Int64(builder) | Self::Timestamp(builder, ..) => builder.append_null(),
            Self::Float32(builder) => builder.append_null(),
            Self::Float64(builder) => builder.append_null(),
            Self::Decimal(builder, ..) => builder.append_null(),
            Self::Text(builder) => builder.append_null(),
            Self::Binary(builder) => builder.append_null(),
            Self::Date(builder) => builder.append_null(),
            Self::List { lengths, nulls, .. } | Self::Map { lengths, nulls, .. } => {
                lengths.push(0);
                nulls.append_null();
            }
            Self::Struct { columns, rows, nulls, .. } => {
                columns.iter_mut().for_each(Self::append_null);
                *rows += 1;
                nulls.append_null();
            }
        }
    }

    /// Returns the array and empties the column.
    pub(super) fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        Ok(match self {
            Self::Nothing(rows) => Arc::new(NullArray::new(std::mem::take(rows))),
            Self::Boolean(builder) => Arc::new(builder.finish()),
            Self::Int32(builder) => Arc::new(builder.finish()),
            Self::Int64(builder) => Arc::new(builder.finish()),
            Self::Float32(builder) => Arc::new(builder.finish()),
            Self::Float64(builder) => Arc::new(builder.finish()),
            Self::Decimal(builder, ..) => Arc::new(builder.finish()),
            Self::Text(builder) => Arc::new(builder.finish()),
            Self::Binary(builder) => Arc::new(builder.finish()),
            Self::Date(builder) => Arc::new(builder.finish()),
            Self::Timestamp(builder, unit, zone) => {
                let numbers: Int64Array = builder.finish();
                cast(&numbers, &DataType::Timestamp(*unit, zone.clone()))?
            }
            Self::List { item, values, lengths, nulls } => {
                let offsets = OffsetBuffer::from_lengths(std::mem::take(lengths));
                Arc::new(ListArray::try_new(item.clone(), offsets, values.finish()?, nulls.finish())?)
            }
            Self::Map { entries, keys, values, lengths, nulls } => {
                let offsets = OffsetBuffer::from_lengths(std::mem::take(lengths));
                let DataType::Struct(fields) = entries.data_type() else {
                    return Err(ArrowError::SchemaError("a map without entries".to_owned()));
                };
                let columns: Vec<ArrayRef> = vec![Arc::new(keys.finish()), values.finish()?];
                let pairs = StructArray::try_new(fields.clone(), columns, None)?;
                Arc::new(MapArray::try_new(entries.clone(), offsets, pairs, nulls.finish(), false)?)
            }
            Self::Struct { fields, columns, rows, nulls } => {
                let arrays = columns.iter_mut().map(Self::finish).collect::<Result<_, _>>()?;
                let length = std::mem::take(rows);
                Arc::new(StructArray::try_new_with_length(fields.clone(), arrays, nulls.finish(), length)?)
            }
        })
    }
}

/// Parses an array or an object. It may also be inside a string, the only form that CSV allows.
fn nested<'a, T: serde::Deserialize<'a>>(cell: &'a Cell<'_>, what: &str) -> Result<T, Refusal> {
    let text = match cell {
        Cell::Nested(raw) => raw.get(),
        Cell::Text(text) => text.as_ref(),
        Cell::Number(text) => text,
        Cell::Null | Cell::Bool(_) => "",
    };
    serde_json::from_str(text).map_err(|_| format!("{text:?} is not {what} in JSON"))
}
