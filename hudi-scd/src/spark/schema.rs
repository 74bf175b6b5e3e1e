//! Columns in Spark's JSON format.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field};

use crate::{Error, ErrorKind, Result};

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Writes columns as Spark's `StructType`, in the same way as Hudi's sync. Hudi leaves a blank in lists and
/// maps, and nowhere else.
pub(crate) fn write_struct<'a>(
    json: &mut String,
    fields: impl IntoIterator<Item = &'a Arc<Field>>,
) -> Result<()> {
    json.push_str("{\"type\":\"struct\",\"fields\":[");
    for (index, field) in fields.into_iter().enumerate() {
        if index > 0 {
            json.push(',');
        }
        json.push_str("{\"name\":");
        json.push_str(&quoted(field.name()));
        json.push_str(",\"type\":");
        write_type(json, field)?;
        json.push_str(&format!(",\"nullable\":{},\"metadata\":{{}}}}", field.is_nullable()));
    }
    json.push_str("]}");
    Ok(())
}

fn write_type(json: &mut String, field: &Field) -> Result<()> {
    let scalar = match field.data_type() {
        DataType::Boolean => "boolean",
        DataType::Int8 | DataType::Int16 | DataType::Int32 => "integer",
        DataType::Int64 => "long",
        DataType::Float32 => "float",
        DataType::Float64 => "double",
        DataType::Utf8 | DataType::LargeUtf8 => "string",
        DataType::Binary | DataType::LargeBinary | DataType::FixedSizeBinary(_) => "binary",
        DataType::Date32 => "date",
        DataType::Timestamp(..) => "timestamp",
        DataType::Decimal128(precision, scale) => {
            json.push_str(&format!("\"decimal({precision},{scale})\""));
            return Ok(());
        }
        DataType::Struct(fields) => return write_struct(json, fields),
        // Hudi writes one blank here and nowhere else. Parameters are compared as text.
        DataType::List(item) => {
            json.push_str("{\"type\":\"array\", \"elementType\":");
            write_type(json, item)?;
            json.push_str(&format!(",\"containsNull\":{}}}", item.is_nullable()));
            return Ok(());
        }
        DataType::Map(entries, _) => {
            if let DataType::Struct(pair) = entries.data_type()
                && let [_, value] = pair.as_ref()
            {
                json.push_str("{\"type\":\"map\", \"keyType\":\"string\",\"valueType\":");
                write_type(json, value)?;
                json.push_str(&format!(",\"valueContainsNull\":{}}}", value.is_nullable()));
                return Ok(());
            }
            return Err(unsupported(field));
        }
        _ => return Err(unsupported(field)),
    };
    json.push_str(&quoted(scalar));
    Ok(())
}

fn unsupported(field: &Field) -> Error {
    Error::new(ErrorKind::Unsupported, "Spark has no type for the column")
        .with_context("column", field.name())
        .with_context("type", field.data_type())
}
