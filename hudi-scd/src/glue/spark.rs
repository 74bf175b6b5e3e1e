//! The table parameters from which Spark learns the schema, byte for byte as Hudi's sync writes them.

use std::collections::BTreeMap;

use arrow::datatypes::{DataType, Field, Schema};

use crate::Result;

/// The prefix of the parameters that hold the schema.
pub(super) const PREFIX: &str = "spark.sql.sources.schema.";

/// Returns the parameters for a table with these columns; `partitions` come last. The text is cut into parts
/// of `part` UTF-16 units, because the catalog limits a parameter's length.
pub(super) fn parameters(
    columns: &[&Field],
    partitions: &[&Field],
    part: usize,
) -> Result<BTreeMap<String, String>> {
    let fields = columns.iter().chain(partitions).map(|field| (*field).clone()).collect::<Vec<_>>();
    let mut json = String::new();
    write_struct(&mut json, Schema::new(fields).fields())?;
    let mut found = BTreeMap::from([("spark.sql.sources.provider".to_owned(), "hudi".to_owned())]);
    let parts = cut(&json, part);
    found.insert(format!("{PREFIX}numParts"), parts.len().to_string());
    found.extend(parts.into_iter().enumerate().map(|(n, text)| (format!("{PREFIX}part.{n}"), text)));
    if !partitions.is_empty() {
        found.insert(format!("{PREFIX}numPartCols"), partitions.len().to_string());
        let names = partitions.iter().enumerate();
        found.extend(names.map(|(n, field)| (format!("{PREFIX}partCol.{n}"), field.name().clone())));
    }
    Ok(found)
}

/// Cuts text every `length` UTF-16 units, as Java counts them. A pair of surrogates stays together.
fn cut(text: &str, length: usize) -> Vec<String> {
    let (mut parts, mut units) = (vec![String::new()], 0);
    for c in text.chars() {
        if units + c.len_utf16() > length && units > 0 {
            parts.push(String::new());
            units = 0;
        }
        units += c.len_utf16();
        if let Some(last) = parts.last_mut() {
            last.push(c);
        }
    }
    parts
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn write_struct<'a>(
    json: &mut String,
    fields: impl IntoIterator<Item = &'a std::sync::Arc<Field>>,
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
        // Hudi writes one blank here and nowhere else; parameters are compared as text.
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

fn unsupported(field: &Field) -> crate::Error {
    crate::Error::new(crate::ErrorKind::Unsupported, "Spark has no type for the column")
        .with_context("column", field.name())
        .with_context("type", field.data_type())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_by_utf16_units_and_never_inside_a_character() {
        assert_eq!(cut("abcde", 2), ["ab", "cd", "e"]);
        assert_eq!(cut("a\u{1f600}b", 2), ["a", "\u{1f600}", "b"]);
        assert_eq!(cut("", 4), [""]);
    }
}
