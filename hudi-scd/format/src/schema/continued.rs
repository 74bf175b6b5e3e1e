//! Updates an existing Avro schema, and preserves the parts that other writers recorded in it.

use arrow::datatypes::{DataType, Field, Fields, Schema};
use serde_json::value::RawValue;

use super::{avro, canonical, evolve::map_value, from_avro, is_meta_column, to_avro};
use crate::{Result, members::Members};

/// Returns the Avro form of `schema`, based on the previous Avro schema `old`. Names, docs, aliases, defaults
/// and properties of columns and of nested records are preserved. Widened columns get the wider type, and new
/// columns are added at the end.
///
/// # Errors
/// As [`to_avro`].
pub fn continued(old: Option<&str>, schema: &Schema, table_name: &str) -> Result<String> {
    let Some(old) = old else { return to_avro(schema, table_name) };
    if says(old, schema) {
        return Ok(old.to_owned());
    }
    let text = from_avro(old).ok().and_then(|said| record(old, said.fields(), schema.fields()));
    match text {
        Some(text) if says(&text, schema) => Ok(text),
        // A column refers by name to a type whose definition was in a column that is now gone.
        _ => to_avro(schema, table_name),
    }
}

/// Returns the Avro schema with the five meta columns in front, as in footers.
pub fn with_meta_columns(text: &str, table_name: &str) -> Result<String> {
    let meta = super::with_meta_columns(&Schema::empty());
    let meta = to_avro(&meta, table_name)?;
    let inside = |text: &str| -> Option<String> {
        let fields = Members::parse(text).ok()?.get("fields")?.get().trim().to_owned();
        Some(fields.strip_prefix('[')?.strip_suffix(']')?.trim().to_owned())
    };
    let joined = inside(&meta).zip(inside(text)).and_then(|(meta, data)| {
        let fields = if data.is_empty() { meta } else { format!("{meta},{data}") };
        Some(object(&Members::parse(text).ok()?, "fields", &format!("[{fields}]")))
    });
    match joined {
        Some(joined) => Ok(joined),
        None => to_avro(&super::with_meta_columns(&*from_avro(text)?), table_name),
    }
}

/// Returns `true` if an Avro schema declares exactly these columns.
fn says(text: &str, schema: &Schema) -> bool {
    from_avro(text).is_ok_and(|said| {
        said.fields().len() == schema.fields().len() && canonical(&said).is_ok_and(|said| *said == *schema)
    })
}

/// Returns the object with a new value for one of its members.
fn object(members: &Members<'_>, name: &str, value: &str) -> String {
    let parts = members.0.iter().map(|(known, raw)| {
        let value = if known == name { value } else { raw.get() };
        format!("{}:{value}", avro::quoted(known))
    });
    format!("{{{}}}", parts.collect::<Vec<_>>().join(","))
}

/// Changes a record from `was` to `is`.
fn record(old: &str, was: &Fields, is: &Fields) -> Option<String> {
    let members = Members::parse(old).ok()?;
    let old_fields: Vec<&RawValue> = serde_json::from_str(members.get("fields")?.get()).ok()?;
    let name = members.text("name")?;
    let full = match members.text("namespace") {
        Some(space) if !name.contains('.') => format!("{space}.{name}"),
        _ => name,
    };
    let mut fields = Vec::with_capacity(is.len());
    for field in is.iter().filter(|field| !is_meta_column(field.name())) {
        let index = was.iter().position(|known| known.name() == field.name());
        fields.push(match index {
            Some(index) => column(old_fields.get(index)?.get(), &was[index], field)?,
            None => {
                let mut out = String::new();
                avro::write_field(&mut out, field, &full).ok()?;
                out
            }
        });
    }
    Some(object(&members, "fields", &format!("[{}]", fields.join(","))))
}

fn column(old: &str, was: &Field, is: &Field) -> Option<String> {
    let members = Members::parse(old).ok()?;
    let kept = changed(members.get("type")?.get(), was.data_type(), is.data_type(), is.name())?;
    Some(object(&members, "type", &kept))
}

/// Changes a type from `was` to `is`.
fn changed(old: &str, was: &DataType, is: &DataType, name: &str) -> Option<String> {
    if same(was, is) {
        return Some(old.to_owned());
    }
    if let Ok(branches) = serde_json::from_str::<Vec<&RawValue>>(old) {
        let branch = |raw: &&RawValue| match raw.get().trim() {
            null @ "\"null\"" => Some(null.to_owned()),
            one => changed(one, was, is, name),
        };
        return Some(format!("[{}]", branches.iter().map(branch).collect::<Option<Vec<_>>>()?.join(",")));
    }
    let inner = |key: &str, was: &DataType, is: &DataType| {
        let members = Members::parse(old).ok()?;
        let value = changed(members.get(key)?.get(), was, is, name)?;
        Some(object(&members, key, &value))
    };
    match (was, is) {
        (DataType::Struct(was), DataType::Struct(is)) => record(old, was, is),
        (DataType::List(was), DataType::List(is)) => inner("items", was.data_type(), is.data_type()),
        (DataType::Map(..), DataType::Map(..)) => inner("values", map_value(was)?, map_value(is)?),
        _ => {
            let mut out = String::new();
            avro::write_type(&mut out, is, false, name, "").ok()?;
            Some(out)
        }
    }
}

/// Returns `true` if two types are equal except for nullability.
fn same(was: &DataType, is: &DataType) -> bool {
    let alone =
        |data_type: &DataType| canonical(&Schema::new(vec![Field::new("c", data_type.clone(), true)])).ok();
    alone(was).zip(alone(is)).is_some_and(|(was, is)| was == is)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{list_of, reconcile};

    const FOREIGN: &str = r#"{ "type":"record", "name":"Customer", "namespace":"com.acme", "doc":"who buys", "fields":[
        {"name":"id","type":"long","doc":"the key","owner":"crm"},
        {"name":"n","type":["null","int"],"default":null,"aliases":["number"]},
        {"name":"lines","type":{"type":"array","items":{"type":"record","name":"Line","doc":"a line","fields":[
            {"name":"sku","type":"string","doc":"what","default":"?"},{"name":"qty","type":"int"}]}}},
        {"name":"tier","type":"string","default":"none"}]}"#;

    fn known() -> Schema {
        canonical(&from_avro(FOREIGN).unwrap()).unwrap().as_ref().clone()
    }

    #[test]
    fn a_text_that_says_all_stays_letter_by_letter() {
        assert_eq!(continued(Some(FOREIGN), &known(), "t").unwrap(), FOREIGN);
        assert_eq!(continued(None, &known(), "t").unwrap(), to_avro(&known(), "t").unwrap());
    }

    #[test]
    fn what_is_said_of_columns_outlives_evolution() {
        let line = vec![
            Field::new("sku", DataType::Utf8, true),
            Field::new("qty", DataType::Int64, true),
            Field::new("note", DataType::Utf8, true),
        ];
        let batch = Schema::new(vec![
            Field::new("id", DataType::Int64, true),
            Field::new("n", DataType::Int64, true),
            Field::new("lines", list_of(DataType::Struct(line.into())), true),
            Field::new("tier", DataType::Utf8, true),
            Field::new("since", DataType::Date32, true),
        ]);
        let evolved = reconcile(&known(), &batch).unwrap();
        let text = continued(Some(FOREIGN), &evolved, "t").unwrap();
        let expected = concat!(
            r#"{"type":"record","name":"Customer","namespace":"com.acme","doc":"who buys","fields":["#,
            r#"{"name":"id","type":"long","doc":"the key","owner":"crm"},"#,
            r#"{"name":"n","type":["null","long"],"default":null,"aliases":["number"]},"#,
            r#"{"name":"lines","type":{"type":"array","items":{"type":"record","name":"Line","doc":"a line","fields":["#,
            r#"{"name":"sku","type":"string","doc":"what","default":"?"},{"name":"qty","type":"long"},"#,
            r#"{"name":"note","type":["null","string"],"default":null}]}}},"#,
            r#"{"name":"tier","type":"string","default":"none"},"#,
            r#"{"name":"since","type":["null",{"type":"int","logicalType":"date"}],"default":null}]}"#,
        );
        assert_eq!(text, expected);
        assert_eq!(canonical(&from_avro(&text).unwrap()).unwrap(), evolved);
    }

    #[test]
    fn a_reference_to_a_type_that_is_gone_is_not_left_behind() {
        let old = r#"{"type":"record","name":"r","fields":[
            {"name":"a","type":{"type":"fixed","name":"money","size":3,"logicalType":"decimal","precision":5,"scale":2}},
            {"name":"b","type":"money","doc":"kept if possible"}]}"#;
        let schema = |a: DataType| {
            Schema::new(vec![Field::new("a", a, true), Field::new("b", DataType::Decimal128(5, 2), true)])
        };
        assert_eq!(continued(Some(old), &schema(DataType::Decimal128(5, 2)), "t").unwrap(), old);
        let other = schema(DataType::Decimal128(9, 2));
        assert_eq!(continued(Some(old), &other, "t").unwrap(), to_avro(&other, "t").unwrap());
    }

    #[test]
    fn footers_have_the_meta_columns_in_front() {
        let text = with_meta_columns(FOREIGN, "t").unwrap();
        let names: Vec<_> = from_avro(&text).unwrap().fields().iter().map(|f| f.name().clone()).collect();
        assert_eq!(
            names[..6],
            [
                "_hoodie_commit_time",
                "_hoodie_commit_seqno",
                "_hoodie_record_key",
                "_hoodie_partition_path",
                "_hoodie_file_name",
                "id"
            ]
        );
        assert!(text.contains(r#""doc":"the key","owner":"crm""#));
        let ours = to_avro(&known(), "t").unwrap();
        let stored = super::super::with_meta_columns(&known());
        assert_eq!(with_meta_columns(&ours, "t").unwrap(), to_avro(&stored, "t").unwrap());
    }
}
