//! `history` of a key, `lookup` of facts.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, RecordBatch, StringArray, StructArray, new_null_array},
    compute::{concat_batches, interleave},
    datatypes::{DataType, Field, FieldRef, Schema, SchemaRef},
};
use hudi_scd::{
    Error, ErrorKind, KeyChange, KeyVersion, Query, Result, Table, TableOptions,
    input::{Input, Purpose, one_row},
    scd::{At, Dimension, Scd2Table},
};

use crate::{
    Context,
    args::{History, Lookup},
    failure::Failure,
    output::RowWriter,
    progress::Progress,
};

pub(super) async fn history(context: Context, args: History) -> Result<(), Failure> {
    let (location, table) = super::open(context, &args.target.table, TableOptions::new()).await?;
    let found = async {
        let _wheel = Progress::wheel(context, "searching");
        if !table.is_history() {
            return versions(&table, &args.key).await;
        }
        let history = Scd2Table::of(table)?;
        let columns = key_columns(&*history.table().schema().await?, history.definition().keys())?;
        let mut none = None;
        for key in readings(&args.key, &columns)? {
            let rows = history.history(&key).await?;
            if rows.num_rows() > 0 {
                return Ok(rows);
            }
            none = Some(rows);
        }
        none.ok_or_else(|| unreadable(&args.key))
    };
    let rows = found.await.map_err(|error| Failure::from(error).of(&location))?;
    if rows.num_rows() == 0 && !context.json {
        eprintln!("hudi-scd: {location}: the key {} is unknown", args.key);
    }
    let mut writer = RowWriter::new(&args.rows, context.json, rows.schema())?;
    writer.write(&rows)?;
    writer.finish()
}

/// Reads the versions of a key in the retained commits: instant, change, and the row after it.
///
/// The key is parsed like a value in an input file. If that fails, it is used as the stored key.
async fn versions(table: &Table, key: &str) -> Result<RecordBatch> {
    let schema = table.schema().await?;
    let fields = table.record_key_fields();
    let read = readings(key, &key_columns(&schema, fields)?);
    for values in read.iter().flatten() {
        let versions = table.history_of(values).await?;
        if !versions.is_empty() {
            return as_rows(&schema, &versions);
        }
    }
    let mut versions = table.history(key).await?;
    if let (true, [field]) = (versions.is_empty(), fields) {
        // The key of a single column may be stored with or without the column's name, because Hudi's releases
        // differ.
        let other = match key.strip_prefix(&format!("{field}:")) {
            Some(value) => value.to_owned(),
            None => format!("{field}:{key}"),
        };
        versions = table.history(&other).await?;
    }
    if versions.is_empty() {
        read?;
    }
    as_rows(&schema, &versions)
}

fn key_columns(schema: &Schema, keys: &[String]) -> Result<SchemaRef> {
    let columns = keys.iter().map(|key| schema.field_with_name(key).cloned());
    let columns = columns.collect::<Result<Vec<Field>, _>>().map_err(|cause| {
        Error::new(ErrorKind::Corrupt, "the table lacks a column of its key").with_source(cause)
    })?;
    Ok(Arc::new(Schema::new(columns)))
}

/// Returns the possible meanings of a key, each as a row of the key columns. The value of a single column may
/// begin with the column's own name. Then there are two meanings: first the whole text, and second the text
/// after the name.
fn readings(key: &str, columns: &SchemaRef) -> Result<Vec<RecordBatch>> {
    let names: Vec<String> = columns.fields().iter().map(|field| field.name().clone()).collect();
    let values = split_key(key, &names)?;
    let mut texts = vec![values];
    if names.len() == 1 && texts[0] != [key] {
        texts.insert(0, vec![key]);
    }
    let read: Vec<Result<RecordBatch>> =
        texts.iter().map(|values| one_row(columns.clone(), values)).collect();
    if read.iter().any(Result::is_ok) {
        return Ok(read.into_iter().filter_map(Result::ok).collect());
    }
    let refused = read.into_iter().find_map(Result::err).unwrap_or_else(|| unreadable(key));
    Err(refused.with_context("key", key))
}

fn unreadable(key: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, "the key cannot be read").with_context("key", key)
}

fn as_rows(schema: &SchemaRef, versions: &[KeyVersion]) -> Result<RecordBatch> {
    let impossible =
        |cause| Error::new(ErrorKind::Corrupt, "versions of a key have different schemas").with_source(cause);
    let instants = versions.iter().map(|version| version.instant.to_string());
    let changes = versions.iter().map(|version| match version.change {
        KeyChange::Written(_) => "written",
        KeyChange::Deleted => "deleted",
    });
    let data_type = DataType::Struct(schema.fields().clone());
    let rows = versions.iter().map(|version| -> ArrayRef {
        match &version.change {
            KeyChange::Written(row) => Arc::new(StructArray::from(row.clone())),
            KeyChange::Deleted => new_null_array(&data_type, 1),
        }
    });
    let rows: Vec<ArrayRef> = rows.collect();
    let parts: Vec<&dyn arrow::array::Array> = rows.iter().map(AsRef::as_ref).collect();
    let places: Vec<(usize, usize)> = (0..parts.len()).map(|part| (part, 0)).collect();
    let rows = if parts.is_empty() {
        new_null_array(&data_type, 0)
    } else {
        interleave(&parts, &places).map_err(impossible)?
    };
    let instants: ArrayRef = Arc::new(StringArray::from_iter_values(instants));
    let changes: ArrayRef = Arc::new(StringArray::from_iter_values(changes));
    RecordBatch::try_from_iter_with_nullable([
        ("instant", instants, false),
        ("change", changes, false),
        ("row", rows, true),
    ])
    .map_err(impossible)
}

/// Splits a key in Hudi's form: the value of one column, or `a:1,b:2` for several columns. A value ends
/// before the name of the next column.
fn split_key<'a>(key: &'a str, fields: &[String]) -> Result<Vec<&'a str>> {
    if let [field] = fields {
        return Ok(vec![key.strip_prefix(&format!("{field}:")).unwrap_or(key)]);
    }
    let mut values = Vec::with_capacity(fields.len());
    let mut rest = Some(key);
    for (index, field) in fields.iter().enumerate() {
        let value = rest.and_then(|rest| rest.strip_prefix(field.as_str())?.strip_prefix(':'));
        let Some(value) = value else { break };
        let end = fields.get(index + 1).and_then(|next| value.find(&format!(",{next}:")));
        values.push(end.map_or(value, |end| &value[..end]));
        rest = end.map(|end| &value[end + 1..]);
    }
    if values.len() == fields.len() {
        return Ok(values);
    }
    let example = fields.iter().map(|field| format!("{field}:VALUE")).collect::<Vec<_>>().join(",");
    Err(Error::new(
        ErrorKind::InvalidInput,
        "the key does not name the columns of the record key in their order",
    )
    .with_context("key", key)
    .with_context("hint", format!("write {example}")))
}

pub(super) async fn lookup(context: Context, args: Lookup) -> Result<(), Failure> {
    let (location, table) = super::open(context, &args.target.table, TableOptions::new()).await?;
    let (columns, keys): (Vec<&str>, Vec<&str>) =
        args.on.iter().map(|(column, key)| (column.as_str(), key.as_str())).unzip();
    let facts = Input::open(&args.facts)?;
    let named = |error: Error| Failure::from(error).of(&location);
    let (dimension, types) = {
        let _wheel = Progress::wheel(context, "indexing");
        dimension(&table, &columns, &keys, args.at.as_deref()).await.map_err(named)?
    };
    let dimension = dimension.with_prefix(&args.prefix);
    let at = args.at.as_deref().map_or(At::Latest, At::Column);
    let progress = Progress::bytes(context, facts.bytes(), "looking up");
    let add = |bytes| progress.add(bytes);
    let look_up = |facts: &RecordBatch| -> Result<RecordBatch, Failure> {
        let found = dimension.lookup(facts, &columns, at).map_err(named)?;
        Ok(with_matched(&found.rows, Arc::new(found.matched))?)
    };
    let mut writer: Option<RowWriter> = None;
    let check = |schema: &Schema| has_all(schema, &args.on, args.at.as_deref());
    for batch in facts.batches(&types, Purpose::Itself, check, &add) {
        let found = look_up(&batch?)?;
        let writer = match &mut writer {
            Some(writer) => writer,
            none => none.insert(RowWriter::new(&args.rows, context.json, found.schema())?),
        };
        writer.write(&found)?;
    }
    match writer {
        Some(writer) => writer.finish(),
        // There are no facts. Their columns are printed anyway.
        None => {
            let mut fields = facts.schema(&types)?.fields().to_vec();
            let others =
                types.fields().iter().filter(|field| !fields.iter().any(|f| f.name() == field.name()));
            let others: Vec<FieldRef> = others.cloned().collect();
            fields.extend(others);
            let columns = Schema::new(fields);
            let found = look_up(&RecordBatch::new_empty(Arc::new(columns)))?;
            RowWriter::new(&args.rows, context.json, found.schema())?.finish()
        }
    }
}

/// Checks that facts have the columns of the lookup.
fn has_all(schema: &Schema, on: &[(String, String)], at: Option<&str>) -> Result<()> {
    let mut wanted = on.iter().map(|(column, _)| column.as_str()).chain(at);
    match wanted.find(|name| schema.field_with_name(name).is_err()) {
        None => Ok(()),
        Some(name) => {
            Err(Error::new(ErrorKind::InvalidInput, "the facts have no such column")
                .with_context("column", name))
        }
    }
}

/// Reads a table as a dimension. Also returns the types of the compared columns, for parsing facts in text
/// form.
async fn dimension(
    table: &Table,
    columns: &[&str],
    keys: &[&str],
    at: Option<&str>,
) -> Result<(Dimension, Schema)> {
    let history = if table.is_history() { Some(Scd2Table::of(table.clone())?) } else { None };
    let rows = match &history {
        Some(history) => history.rows().await?,
        None => {
            let batches = table.read(Query::snapshot()).await?;
            let schema = batches.first().map_or_else(|| Arc::new(Schema::empty()), RecordBatch::schema);
            concat_batches(&schema, &batches).map_err(unfit)?
        }
    };
    let field = |name: &str, like: &str| -> Result<FieldRef> {
        let like = rows.schema_ref().field_with_name(like).map_err(|_| {
            Error::new(ErrorKind::InvalidInput, "the dimension has no such column")
                .with_context("column", like)
        })?;
        Ok(Arc::new(like.clone().with_name(name)))
    };
    let mut types =
        columns.iter().zip(keys).map(|(column, key)| field(column, key)).collect::<Result<Vec<_>>>()?;
    let dimension = match &history {
        None => Dimension::latest(&rows, keys)?,
        Some(history) => {
            let definition = history.definition();
            if let Some(at) = at {
                types.push(field(at, definition.valid_from())?);
            }
            Dimension::history(&rows, keys, definition.valid_from(), definition.valid_to())?
        }
    };
    Ok((dimension, Schema::new(types)))
}

/// The column that is false for facts without a matching row.
const MATCHED: &str = "_matched";

fn with_matched(rows: &RecordBatch, matched: ArrayRef) -> Result<RecordBatch> {
    let mut fields: Vec<FieldRef> = rows.schema_ref().fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(MATCHED, DataType::Boolean, false)));
    let columns = rows.columns().iter().cloned().chain([matched]).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(unfit)
}

fn unfit(cause: arrow::error::ArrowError) -> Error {
    Error::new(ErrorKind::InvalidInput, "facts and dimension have conflicting columns").with_source(cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_taken_apart_as_hudi_puts_it_together() {
        let fields = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(split_key("a:1,b:2", &fields(&["a", "b"])).unwrap(), ["1", "2"]);
        assert_eq!(split_key("a:x,y:z,b:", &fields(&["a", "b"])).unwrap(), ["x,y:z", ""]);
        assert_eq!(split_key("7", &fields(&["id"])).unwrap(), ["7"]);
        assert_eq!(split_key("id:7", &fields(&["id"])).unwrap(), ["7"]);
        for wrong in ["7", "b:2,a:1", "a:1", ""] {
            let error = split_key(wrong, &fields(&["a", "b"])).unwrap_err();
            assert!(error.to_string().contains("a:VALUE,b:VALUE"), "{error}");
        }
    }
}
