//! Parses the columns of a table in a hand-written file: `create --schema FILE`.
//!
//! | form | example |
//! |---|---|
//! | Avro | `{"type":"record","name":"r","fields":[{"name":"id","type":"long"}]}` |
//! | Spark as JSON (`df.schema.json()`) | `{"type":"struct","fields":[{"name":"id","type":"long"}]}` |
//! | Spark as text | `id bigint, name string COMMENT 'as on the invoice', balance decimal(10,2), tags array<string>` |
//!
//! The table stores the documentation of columns: `doc` in Avro, `comment` in Spark's metadata, `COMMENT` in
//! text.
//!
//! Types of the last two forms: boolean, int, bigint, float, double, decimal(p,s), string, binary, date,
//! timestamp (an instant), timestamp_ntz (a local time, which a new table stores as an instant in UTC),
//! array, map with string keys, struct. Also accepted are integer, long and Arrow's names.

use std::{iter::Peekable, path::Path, str::CharIndices, sync::Arc};

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use hudi_scd::{Error, ErrorKind, Result, schema};
use serde_json::Value;

/// Reads the schema in a file.
///
/// # Errors
/// [`ErrorKind::InvalidInput`], naming the file and the cause.
pub(super) fn read(path: &Path) -> Result<SchemaRef> {
    let text = std::fs::read_to_string(path).map_err(|cause| {
        invalid("the schema cannot be read").with_context("file", path.display()).with_source(cause)
    })?;
    parse(&text).map_err(|error| error.with_context("file", path.display()))
}

fn parse(text: &str) -> Result<SchemaRef> {
    let said = said(text.trim())?;
    Ok(schema::documented(&*schema::canonical(&said)?, &said))
}

fn said(text: &str) -> Result<SchemaRef> {
    if !text.starts_with(['{', '[', '"']) {
        return Ok(Arc::new(Schema::new(Words::new(text).columns()?)));
    }
    let value: Value = serde_json::from_str(text)
        .map_err(|cause| invalid("the schema is neither JSON nor a list of columns").with_source(cause))?;
    if value.get("type").and_then(Value::as_str) == Some("record") {
        return schema::from_avro(text);
    }
    match value.get("fields") {
        Some(fields) => Ok(Arc::new(Schema::new(json_fields(fields)?))),
        None => Err(invalid("the schema has no fields").with_context(
            "hint",
            r#"write {"fields":[{"name":"id","type":"bigint"}]}, an Avro record, or id bigint"#,
        )),
    }
}

fn json_fields(fields: &Value) -> Result<Fields> {
    let field = |field: &Value| -> Result<Arc<Field>> {
        let name = field.get("name").and_then(Value::as_str);
        let name = name.ok_or_else(|| invalid("a field has no name").with_context("field", field))?;
        let data_type =
            field.get("type").ok_or_else(|| invalid("a field has no type").with_context("column", name))?;
        let data_type = json_type(data_type).map_err(|error| error.with_context("column", name))?;
        let comment = field.get("metadata").and_then(|metadata| metadata.get("comment")?.as_str());
        Ok(column(name, data_type, comment))
    };
    let fields = fields.as_array().ok_or_else(|| invalid("the fields of a schema are not an array"))?;
    fields.iter().map(field).collect()
}

fn column(name: &str, data_type: DataType, comment: Option<&str>) -> Arc<Field> {
    let metadata = comment.map(schema::doc).unwrap_or_default();
    Arc::new(Field::new(name, data_type, true).with_metadata(metadata))
}

fn json_type(value: &Value) -> Result<DataType> {
    if let Some(text) = value.as_str() {
        return Words::new(text).only_type();
    }
    let part = |name: &str| value.get(name).ok_or_else(|| invalid(format!("a type lacks {name}")));
    match value.get("type").and_then(Value::as_str) {
        Some("array") => Ok(schema::list_of(json_type(part("elementType")?)?)),
        Some("map") => {
            if json_type(part("keyType")?)? != DataType::Utf8 {
                return Err(invalid("a Hudi table supports only maps with text keys"));
            }
            Ok(schema::map_of(json_type(part("valueType")?)?, true))
        }
        Some("struct") => Ok(DataType::Struct(json_fields(part("fields")?)?)),
        _ => Err(invalid("there is no such type").with_context("type", value)),
    }
}

/// Text that contains types, parsed from left to right.
struct Words<'a> {
    text: &'a str,
    rest: Peekable<CharIndices<'a>>,
}

impl<'a> Words<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, rest: text.char_indices().peekable() }
    }

    /// Parses `name type, name type`. Each type may be followed by `NOT NULL` (but every column of a Hudi
    /// table is nullable) or a comment.
    fn columns(mut self) -> Result<Fields> {
        let mut fields = Vec::new();
        loop {
            let name = self.word()?;
            let data_type = self.data_type().map_err(|error| error.with_context("column", name))?;
            fields.push(column(name, data_type, self.comment()?.as_deref()));
            if self.peek().is_none() {
                return Ok(fields.into());
            }
            self.expect(',')?;
            if self.peek().is_none() {
                return Ok(fields.into());
            }
        }
    }

    fn only_type(mut self) -> Result<DataType> {
        let data_type = self.data_type()?;
        match self.peek() {
            None => Ok(data_type),
            Some(_) => Err(self.wrong("the end of the type")),
        }
    }

    fn data_type(&mut self) -> Result<DataType> {
        let word = self.word()?.to_ascii_lowercase();
        Ok(match word.as_str() {
            "boolean" | "bool" => DataType::Boolean,
            "tinyint" | "byte" | "smallint" | "short" | "int" | "integer" | "int8" | "int16" | "int32" => {
                DataType::Int32
            }
            "bigint" | "long" | "int64" => DataType::Int64,
            "float" | "real" | "float32" => DataType::Float32,
            "double" | "float64" => DataType::Float64,
            "string" | "text" | "utf8" | "varchar" | "char" => {
                if self.peek() == Some('(') {
                    self.numbers()?;
                }
                DataType::Utf8
            }
            "binary" | "bytes" => DataType::Binary,
            "date" | "date32" => DataType::Date32,
            "timestamp" | "timestamp_ltz" => {
                DataType::Timestamp(TimeUnit::Microsecond, Some(schema::UTC.into()))
            }
            "timestamp_ntz" | "local_timestamp" => DataType::Timestamp(TimeUnit::Microsecond, None),
            "decimal" | "numeric" | "dec" | "decimal128" => {
                let numbers = if self.peek() == Some('(') { self.numbers()? } else { vec![10, 0] };
                match numbers.as_slice() {
                    [precision @ 1..=38] => DataType::Decimal128(*precision, 0),
                    [precision @ 1..=38, scale] if scale <= precision => {
                        DataType::Decimal128(*precision, scale.cast_signed())
                    }
                    _ => return Err(invalid("a decimal has a precision of 1 to 38 and a scale up to that")),
                }
            }
            "array" => {
                self.expect('<')?;
                let item = self.data_type()?;
                self.expect('>')?;
                schema::list_of(item)
            }
            "map" => {
                self.expect('<')?;
                if self.data_type()? != DataType::Utf8 {
                    return Err(invalid("a Hudi table supports only maps with text keys"));
                }
                self.expect(',')?;
                let value = self.data_type()?;
                self.expect('>')?;
                schema::map_of(value, true)
            }
            "struct" => DataType::Struct(self.members()?),
            _ => return Err(invalid("there is no such type").with_context("type", word)),
        })
    }

    fn members(&mut self) -> Result<Fields> {
        self.expect('<')?;
        let mut fields = Vec::new();
        loop {
            let name = self.word()?;
            if self.peek() == Some(':') {
                self.expect(':')?;
            }
            let data_type = self.data_type().map_err(|error| error.with_context("field", name))?;
            fields.push(column(name, data_type, self.comment()?.as_deref()));
            if self.peek() == Some('>') {
                self.expect('>')?;
                return Ok(fields.into());
            }
            self.expect(',')?;
        }
    }

    fn numbers(&mut self) -> Result<Vec<u8>> {
        self.expect('(')?;
        let mut numbers = Vec::new();
        loop {
            let word = self.word()?;
            numbers
                .push(word.parse().map_err(|_| invalid("not a small number").with_context("number", word))?);
            if self.peek() == Some(')') {
                self.expect(')')?;
                return Ok(numbers);
            }
            self.expect(',')?;
        }
    }

    /// Parses the text after a type: `NOT NULL`, which is ignored, and `COMMENT 'text'`.
    fn comment(&mut self) -> Result<Option<String>> {
        let mut comment = None;
        while self.peek().is_some_and(|next| next.is_alphabetic()) {
            let word = self.word()?;
            match word.to_ascii_lowercase().as_str() {
                "not" | "null" => {}
                "comment" => comment = Some(self.quoted()?),
                _ => {
                    return Err(invalid("a comma is missing between columns").with_context("before", word));
                }
            }
        }
        Ok(comment)
    }

    /// Parses quoted text. A backslash or a second quote escapes a quote.
    fn quoted(&mut self) -> Result<String> {
        let quote = match self.peek() {
            Some(quote @ ('\'' | '"')) => quote,
            _ => return Err(self.wrong("quoted text")),
        };
        self.rest.next();
        let mut text = String::new();
        while let Some((_, next)) = self.rest.next() {
            match next {
                '\\' => text.extend(self.rest.next().map(|(_, next)| next)),
                next if next != quote => text.push(next),
                _ if self.rest.next_if(|(_, next)| *next == quote).is_some() => text.push(quote),
                _ => return Ok(text),
            }
        }
        Err(self.wrong("the quote that ends the comment"))
    }

    fn peek(&mut self) -> Option<char> {
        while self.rest.next_if(|(_, next)| next.is_whitespace()).is_some() {}
        self.rest.peek().map(|(_, next)| *next)
    }

    fn word(&mut self) -> Result<&'a str> {
        let quoted = self.peek() == Some('`') && self.rest.next().is_some();
        let start = self.rest.peek().map_or(self.text.len(), |(at, _)| *at);
        let belongs = |next: char| if quoted { next != '`' } else { next.is_alphanumeric() || next == '_' };
        while self.rest.next_if(|(_, next)| belongs(*next)).is_some() {}
        let end = self.rest.peek().map_or(self.text.len(), |(at, _)| *at);
        if quoted {
            self.expect('`')?;
        }
        if start == end { Err(self.wrong("a word")) } else { Ok(&self.text[start..end]) }
    }

    fn expect(&mut self, wanted: char) -> Result<()> {
        if self.peek() == Some(wanted) {
            self.rest.next();
            return Ok(());
        }
        Err(self.wrong(&format!("{wanted:?}")))
    }

    fn wrong(&mut self, wanted: &str) -> Error {
        let at = self.peek().map_or_else(|| "the end".to_owned(), |next| format!("{next:?}"));
        let place = self.rest.peek().map_or(self.text.len(), |(at, _)| *at);
        invalid("the schema cannot be read")
            .with_context("expected", wanted)
            .with_context("found", at)
            .with_context("after", self.text[..place].trim_end())
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_columns_in_every_form() {
        let text = "id bigint NOT NULL, name string, money decimal(10,2), at timestamp,\n tags array<string>, m map<string,int>, s struct<a:int,`b`: date>";
        let spark = r#"{"type":"struct","fields":[
            {"name":"id","type":"long","nullable":false,"metadata":{}},{"name":"name","type":"string"},
            {"name":"money","type":"decimal(10,2)"},{"name":"at","type":"timestamp"},
            {"name":"tags","type":{"type":"array","elementType":"string","containsNull":true}},
            {"name":"m","type":{"type":"map","keyType":"string","valueType":"integer"}},
            {"name":"s","type":{"type":"struct","fields":[{"name":"a","type":"int"},{"name":"b","type":"date"}]}}]}"#;
        let columns = parse(text).unwrap();
        assert_eq!(parse(spark).unwrap(), columns);
        let avro = schema::to_avro(&columns, "t").unwrap();
        assert_eq!(parse(&avro).unwrap(), columns);
    }

    #[test]
    fn what_is_said_of_columns_is_kept_in_every_form() {
        let text =
            r#"id bigint NOT NULL COMMENT 'it''s the "key"', s struct<a: int COMMENT 'inside'>, v string"#;
        let columns = parse(text).unwrap();
        let spark = r#"{"type":"struct","fields":[
            {"name":"id","type":"long","metadata":{"comment":"it's the \"key\""}},
            {"name":"s","type":{"type":"struct","fields":[{"name":"a","type":"int","metadata":{"comment":"inside"}}]}},
            {"name":"v","type":"string","metadata":{}}]}"#;
        assert_eq!(parse(spark).unwrap(), columns);
        let avro = schema::to_avro(&columns, "t").unwrap();
        assert!(
            avro.contains(r#"{"name":"id","type":["null","long"],"doc":"it's the \"key\"","default":null}"#),
            "{avro}"
        );
        assert!(avro.contains(r#""doc":"inside""#), "{avro}");
        assert_eq!(parse(&avro).unwrap(), columns);
        assert!(parse("id bigint COMMENT 'never ends").is_err());
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, said) in [
            ("id", "a word"),
            ("id bigint name string", "comma"),
            ("id bigserial", "no such type"),
            ("id decimal(40,2)", "precision"),
            ("m map<int,int>", "text keys"),
            ("{\"type\":\"enum\"}", "no fields"),
            ("{", "JSON"),
            ("", "a word"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
