//! Renders the type of a column. The catalog and Redshift share this code. Only their type names differ.

use arrow::datatypes::DataType;

/// The names in a type system whose nested types are written `array<…>`, `map<…,…>` and `struct<name:…>`.
pub(super) trait TypeNames {
    /// The reason why a type has no name.
    type Refusal;

    /// Returns the name of a scalar type.
    fn scalar(&self, data_type: &DataType) -> Result<String, Self::Refusal>;

    /// Returns the name of the type of a map's keys, which are strings.
    fn map_key(&self) -> &'static str;

    /// Returns the name of a field of a struct.
    fn field(&self, name: &str) -> Result<String, Self::Refusal>;

    /// Returns the reason why a map without a key and a value has no name.
    fn no_map(&self, data_type: &DataType) -> Self::Refusal;
}

/// Writes the name of a type.
pub(super) fn write_type<N: TypeNames>(
    text: &mut String,
    data_type: &DataType,
    names: &N,
) -> Result<(), N::Refusal> {
    match data_type {
        DataType::List(item) => {
            text.push_str("array<");
            write_type(text, item.data_type(), names)?;
            text.push('>');
        }
        DataType::Map(entries, _) => {
            let DataType::Struct(pair) = entries.data_type() else { return Err(names.no_map(data_type)) };
            let [_, value] = pair.as_ref() else { return Err(names.no_map(data_type)) };
            text.push_str("map<");
            text.push_str(names.map_key());
            text.push(',');
            write_type(text, value.data_type(), names)?;
            text.push('>');
        }
        DataType::Struct(fields) => {
            text.push_str("struct<");
            for (index, field) in fields.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                text.push_str(&names.field(field.name())?);
                text.push(':');
                write_type(text, field.data_type(), names)?;
            }
            text.push('>');
        }
        scalar => text.push_str(&names.scalar(scalar)?),
    }
    Ok(())
}
