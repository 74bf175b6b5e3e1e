//! Documentation of columns: `doc` in Avro. (Spark with Hudi 0.15 and 1.0 does not show it.)

use std::{collections::HashMap, sync::Arc};

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};

/// The metadata key under which an Arrow field or schema stores its documentation. A new table stores the
/// documentation of its schema, and every commit repeats it.
pub const DOC: &str = "doc";

/// Returns metadata with this documentation.
pub fn doc(text: impl Into<String>) -> HashMap<String, String> {
    HashMap::from([(DOC.to_owned(), text.into())])
}

/// Returns the documentation in the metadata of a field or schema, if there is any.
pub(super) fn doc_of(metadata: &HashMap<String, String>) -> Option<&str> {
    metadata.get(DOC).map(String::as_str).filter(|text| !text.is_empty())
}

/// Returns `schema` with the documentation of another schema's columns of the same names, and of their nested
/// fields.
pub fn documented(schema: &Schema, words: &Schema) -> SchemaRef {
    let metadata = doc_of(words.metadata()).map(doc).unwrap_or_default();
    Arc::new(Schema::new_with_metadata(fields(schema.fields(), words.fields()), metadata))
}

fn fields(schema: &Fields, words: &Fields) -> Fields {
    let found = |name: &str| words.find(name).map(|(_, field)| field.as_ref());
    schema.iter().map(|of| found(of.name()).map_or_else(|| of.clone(), |words| field(of, words))).collect()
}

fn field(of: &FieldRef, words: &Field) -> FieldRef {
    let data_type = inside(of.data_type(), words.data_type());
    let metadata = doc_of(words.metadata()).map(doc).unwrap_or_default();
    Arc::new(of.as_ref().clone().with_data_type(data_type).with_metadata(metadata))
}

fn inside(of: &DataType, words: &DataType) -> DataType {
    use DataType as T;
    match (of, words) {
        (T::Struct(of), T::Struct(words)) => T::Struct(fields(of, words)),
        (T::List(of), T::List(words) | T::LargeList(words) | T::FixedSizeList(words, _)) => {
            T::List(part(of, words))
        }
        (T::Map(entries, sorted), T::Map(words, _)) => match (entries.data_type(), words.data_type()) {
            (T::Struct(of), T::Struct(words)) if of.len() == 2 && words.len() == 2 => {
                let entry = T::Struct([of[0].clone(), part(&of[1], &words[1])].into_iter().collect());
                T::Map(Arc::new(entries.as_ref().clone().with_data_type(entry)), *sorted)
            }
            _ => of.clone(),
        },
        _ => of.clone(),
    }
}

/// The items of a list and the values of a map have no documentation themselves.
fn part(of: &FieldRef, words: &Field) -> FieldRef {
    Arc::new(of.as_ref().clone().with_data_type(inside(of.data_type(), words.data_type())))
}
