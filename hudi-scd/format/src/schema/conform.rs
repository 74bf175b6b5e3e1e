//! Converts a batch, or rows of a base file, to the schema of a table.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, AsArray, ListArray, MapArray, RecordBatch, RecordBatchOptions, StructArray,
        make_array, new_null_array,
    },
    buffer::NullBuffer,
    compute::{CastOptions, cast, cast_with_options},
    datatypes::{
        DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit, TimestampMicrosecondType,
        TimestampNanosecondType,
    },
};

use super::{
    canonical_type,
    evolve::{holds, incompatible, map_value},
    invalid, join,
};
use crate::{Error, ErrorKind, Result, key};

const EXACT: CastOptions<'static> =
    CastOptions { safe: false, format_options: arrow::util::display::FormatOptions::new() };

/// Converts the batch to `schema`: columns in its order, widened to its types, with nulls for missing
/// columns.
///
/// # Errors
/// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) if a column of the batch is not in the schema,
/// cannot be converted without loss, or contains a null that the schema does not allow. The error names the
/// column.
pub fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    Origin::Batch.conform(batch, schema)
}

/// Converts rows of a base file to `schema`. A base file may be older than the schema: columns and nested
/// fields that were dropped later are left out, and values of columns that Hudi promoted later are converted.
/// In addition to the wider types of [`conform`], Hudi 0.14.1 and later promote numbers to text, and text and
/// bytes to each other. Times of day become numbers, and enums are stored as bytes.
///
/// # Errors
/// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if a column has another type in the file.
/// Otherwise as [`conform`].
pub fn conform_stored(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    Origin::BaseFile.conform(rows, schema)
}

/// The origin of rows. It determines how they may differ from the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Batch,
    BaseFile,
}

impl Origin {
    fn conform(self, batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
        let (have, rows) = (batch.schema_ref().fields(), batch.num_rows());
        if have == schema.fields() {
            return batch.clone().with_schema(schema.clone()).map_err(impossible);
        }
        let columns = self.columns(have, batch.columns(), schema.fields(), rows, "")?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(schema.clone(), columns, &options).map_err(impossible)
    }

    fn columns(
        self,
        have: &Fields,
        columns: &[ArrayRef],
        want: &Fields,
        rows: usize,
        path: &str,
    ) -> Result<Vec<ArrayRef>> {
        let extra = have.iter().find(|field| want.find(field.name()).is_none());
        if let (Self::Batch, Some(extra)) = (self, extra) {
            return Err(invalid("batch has a column that the table lacks")
                .with_context("column", join(path, extra.name())));
        }
        want.iter()
            .map(|field| {
                let path = join(path, field.name());
                let column = match have.find(field.name()) {
                    Some((index, _)) => self.array(&columns[index], field.data_type(), &path)?,
                    None => new_null_array(field.data_type(), rows),
                };
                if !field.is_nullable() && column.logical_null_count() > 0 {
                    return Err(
                        invalid("column has a null where the table allows none").with_context("column", path)
                    );
                }
                Ok(column)
            })
            .collect()
    }

    fn array(self, array: &ArrayRef, want: &DataType, path: &str) -> Result<ArrayRef> {
        if array.data_type() == want {
            return Ok(array.clone());
        }
        if *array.data_type() == DataType::Null {
            return Ok(new_null_array(want, array.len()));
        }
        match (array.data_type(), want) {
            (DataType::Struct(have), DataType::Struct(fields)) => {
                let array = array.as_struct();
                let columns = self.columns(have, array.columns(), fields, array.len(), path)?;
                StructArray::try_new_with_length(fields.clone(), columns, array.nulls().cloned(), array.len())
                    .map(|array| Arc::new(array) as ArrayRef)
                    .map_err(impossible)
            }
            (DataType::List(_), DataType::List(item)) => self.list(array.as_list(), item, path),
            (DataType::LargeList(have) | DataType::FixedSizeList(have, _), DataType::List(item)) => {
                let plain = cast_with_options(array, &DataType::List(have.clone()), &EXACT);
                let plain = plain.map_err(|e| self.unfit(array.data_type(), want, path).with_source(e))?;
                self.list(plain.as_list(), item, path)
            }
            (DataType::Map(..), DataType::Map(entries, ordered)) => {
                let array = array.as_map();
                let (DataType::Struct(fields), Some(value_type)) = (entries.data_type(), map_value(want))
                else {
                    return Err(self.unfit(array.data_type(), want, path));
                };
                let keys = self.array(array.keys(), &DataType::Utf8, &join(path, super::KEY))?;
                let values = self.array(array.values(), value_type, &join(path, super::VALUE))?;
                let pairs = StructArray::try_new(fields.clone(), vec![keys, values], None);
                pairs
                    .and_then(|pairs| {
                        MapArray::try_new(
                            entries.clone(),
                            array.offsets().clone(),
                            pairs,
                            array.nulls().cloned(),
                            *ordered,
                        )
                    })
                    .map(|map| Arc::new(map) as ArrayRef)
                    .map_err(impossible)
            }
            (have, want) if self == Self::BaseFile && is_stored_form(have, want) => {
                self.read_form(array, want, path)
            }
            (have, want) => self.leaf(array, have, want, path),
        }
    }

    fn list(self, array: &ListArray, item: &FieldRef, path: &str) -> Result<ArrayRef> {
        let values = self.array(array.values(), item.data_type(), &join(path, super::ELEMENT))?;
        ListArray::try_new(item.clone(), array.offsets().clone(), values, array.nulls().cloned())
            .map(|list| Arc::new(list) as ArrayRef)
            .map_err(impossible)
    }

    /// Converts values that are not nested to a type that can represent all of them.
    fn leaf(self, array: &ArrayRef, have: &DataType, want: &DataType, path: &str) -> Result<ArrayRef> {
        let value_type = canonical_type(have, path)?;
        if !holds(want, &value_type) {
            return Err(self.unfit(have, want, path));
        }
        let out = match (have, want) {
            // Both types count from the same epoch. A cast would look up UTC in the time zone database.
            (DataType::Timestamp(_, None), DataType::Timestamp(unit, Some(_))) => {
                cast_with_options(array, &DataType::Timestamp(*unit, None), &EXACT)
                    .and_then(|plain| plain.to_data().into_builder().data_type(want.clone()).build())
                    .map(make_array)
            }
            _ => cast_with_options(array, want, &EXACT),
        };
        let out = out.map_err(|e| self.unfit(have, want, path).with_source(e))?;
        whole_micros(array, &out, path)?;
        Ok(out)
    }

    /// Converts values from their [stored form](is_stored_form). Numbers become text as in Java's `toString`.
    fn read_form(self, array: &ArrayRef, want: &DataType, path: &str) -> Result<ArrayRef> {
        if array.data_type().is_numeric() && *want == DataType::Utf8 {
            return Ok(Arc::new(key::as_text(array, path)?));
        }
        cast_with_options(array, want, &EXACT)
            .map_err(|e| self.unfit(array.data_type(), want, path).with_source(e))
    }

    fn unfit(self, have: &DataType, want: &DataType, path: &str) -> Error {
        match self {
            Self::Batch => incompatible(want, have, path),
            Self::BaseFile => {
                let message =
                    "a column has a type in a base file that cannot be converted to the table's type";
                Error::new(ErrorKind::Unsupported, message)
                    .with_context("column", path)
                    .with_context("table", want)
                    .with_context("base file", have)
            }
        }
    }
}

/// Returns `true` if base files may have this type for values of a column that would not fit it in a batch.
fn is_stored_form(have: &DataType, want: &DataType) -> bool {
    use DataType as T;
    matches!(
        (have, want),
        (T::Int32 | T::Int64 | T::Float32 | T::Float64 | T::Binary, T::Utf8)
            | (T::Utf8, T::Binary)
            | (T::Time32(TimeUnit::Millisecond), T::Int32)
            | (T::Time64(TimeUnit::Microsecond), T::Int64)
    )
}

/// Rejects integers that lost precision in a floating-point column.
///
/// # Errors
/// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput), naming column and row.
pub fn check_exact(given: &RecordBatch, conformed: &RecordBatch) -> Result<()> {
    for (field, given) in given.schema_ref().fields().iter().zip(given.columns()) {
        let Some(kept) = conformed.column_by_name(field.name()) else { continue };
        if !given.data_type().is_integer() || !kept.data_type().is_floating() {
            continue;
        }
        let nearest = || incompatible(kept.data_type(), given.data_type(), field.name());
        // The largest 64-bit integers are rounded up beyond the range, and become null when they are cast
        // back.
        let back = cast(kept, given.data_type()).map_err(|e| nearest().with_source(e))?;
        let lost = (0..given.len()).find(|row| {
            given.is_valid(*row) && (back.is_null(*row) || back.slice(*row, 1) != given.slice(*row, 1))
        });
        if let Some(row) = lost {
            return Err(nearest().with_context("row", row));
        }
    }
    Ok(())
}

/// Rejects NULL in columns of `rows` that are not nullable in `declared`, and in their nested values.
///
/// # Errors
/// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput), naming the column.
pub fn check_required(rows: &RecordBatch, declared: &Schema) -> Result<()> {
    for field in declared.fields() {
        if let Some(column) = rows.column_by_name(field.name()) {
            check_values(column, field, None, field.name())?;
        }
    }
    Ok(())
}

/// Checks the values that exist. `there` masks the others, because a struct that is NULL has no values.
fn check_values(values: &ArrayRef, field: &Field, there: Option<&NullBuffer>, path: &str) -> Result<()> {
    let nulls = values.logical_nulls();
    let lacks = nulls.as_ref().is_some_and(|nulls| match there {
        _ if nulls.null_count() == 0 => false,
        Some(there) => !there.contains(nulls),
        None => true,
    });
    if lacks && !field.is_nullable() {
        return Err(invalid("NULL in a column that is not nullable in the table's schema")
            .with_context("column", path));
    }
    let there = NullBuffer::union(there, nulls.as_ref());
    match (field.data_type(), values.data_type()) {
        (DataType::Struct(fields), DataType::Struct(_)) => {
            let values = values.as_struct();
            for field in fields {
                if let Some(column) = values.column_by_name(field.name()) {
                    check_values(column, field, there.as_ref(), &join(path, field.name()))?;
                }
            }
            Ok(())
        }
        (DataType::List(item), DataType::List(_)) => {
            let items = values.as_list::<i32>();
            let (first, end) = (items.value_offsets()[0], items.value_offsets()[items.len()]);
            let items = items.values().slice(first as usize, (end - first) as usize);
            check_values(&items, item, None, &join(path, super::ELEMENT))
        }
        (DataType::Map(entries, _), DataType::Map(..)) => match entries.data_type() {
            DataType::Struct(entry) if entry.len() == 2 => {
                let map = values.as_map();
                let (first, end) = (map.value_offsets()[0], map.value_offsets()[map.len()]);
                let items = map.values().slice(first as usize, (end - first) as usize);
                check_values(&items, &entry[1], None, &join(path, super::VALUE))
            }
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

/// Accepts nanoseconds if the conversion is exact.
fn whole_micros(nanos: &ArrayRef, micros: &ArrayRef, path: &str) -> Result<()> {
    if !matches!(nanos.data_type(), DataType::Timestamp(TimeUnit::Nanosecond, _)) {
        return Ok(());
    }
    let (nanos, micros) =
        (nanos.as_primitive::<TimestampNanosecondType>(), micros.as_primitive::<TimestampMicrosecondType>());
    let lost = nanos.iter().zip(micros.iter()).position(|pair| match pair {
        (Some(nanos), Some(micros)) => micros.checked_mul(1000) != Some(nanos),
        _ => false,
    });
    match lost {
        None => Ok(()),
        Some(row) => Err(invalid("timestamp is not a whole microsecond; round it first")
            .with_context("column", path)
            .with_context("row", row)),
    }
}

fn impossible(e: arrow::error::ArrowError) -> Error {
    invalid("batch does not fit the schema of the table").with_source(e)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{canonical, list_of, map_of, reconcile};
    use arrow::array::{
        BinaryArray, DictionaryArray, FixedSizeBinaryArray, Float32Array, Float64Array, Int8Array,
        Int32Array, Int64Array, LargeListArray, MapBuilder, StringArray, StringBuilder,
        Time32MillisecondArray, Time64MicrosecondArray, TimestampNanosecondArray, TimestampSecondArray,
    };
    use arrow::buffer::OffsetBuffer;
    use arrow::datatypes::{Field, Int32Type, Schema};

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
            .unwrap()
    }

    #[test]
    fn widens_reorders_and_fills_with_nulls() {
        let schema = Arc::new(Schema::new(vec![
            Field::new("new", DataType::Utf8, true),
            Field::new("id", DataType::Int64, true),
            Field::new("name", DataType::Utf8, true),
        ]));
        let names: DictionaryArray<Int32Type> = ["a", "b", "a"].into_iter().collect();
        let narrow = batch(vec![("name", Arc::new(names)), ("id", Arc::new(Int8Array::from(vec![1, 2, 3])))]);
        let out = conform(&narrow, &schema).unwrap();
        assert_eq!(out.schema(), schema);
        assert_eq!(out.column(0).null_count(), 3);
        assert_eq!(out.column(1).as_ref(), &Int64Array::from(vec![1, 2, 3]));
        assert_eq!(out.column(2).as_ref(), &StringArray::from(vec!["a", "b", "a"]));
    }

    #[test]
    fn brings_every_accepted_type_to_the_canonical_one() {
        let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
        map.keys().append_value("k");
        map.values().append_value("v");
        map.append(true).unwrap();
        map.append(false).unwrap();
        let lists = LargeListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None]);
        let inner = StructArray::from(vec![(
            Arc::new(Field::new("s", DataType::Timestamp(TimeUnit::Second, None), true)),
            Arc::new(TimestampSecondArray::from(vec![1, 2])) as ArrayRef,
        )]);
        let all = batch(vec![
            ("m", Arc::new(map.finish())),
            ("l", Arc::new(lists)),
            ("r", Arc::new(inner)),
            ("t", Arc::new(TimestampNanosecondArray::from(vec![1_000, 2_000]).with_timezone("+02:00"))),
        ]);
        let schema = canonical(&all.schema()).unwrap();
        let out = conform(&all, &schema).unwrap();
        assert_eq!(out.schema(), schema);
        assert_eq!(out.column(3).as_primitive::<TimestampMicrosecondType>().values(), &[1, 2]);
        assert_eq!(reconcile(&schema, &all.schema()).unwrap(), schema);
        assert_eq!(conform(&out, &schema).unwrap(), out);
    }

    #[test]
    fn leaves_out_what_the_table_dropped_at_any_depth() {
        let inner = |fields: &[&str]| {
            let int = |name: &&str| Field::new(*name, DataType::Int32, true);
            DataType::Struct(fields.iter().map(int).collect())
        };
        let place = |data_type: DataType| {
            Arc::new(Schema::new(vec![
                Field::new("s", data_type.clone(), true),
                Field::new("l", list_of(data_type.clone()), true),
                Field::new("m", map_of(data_type, true), true),
            ]))
        };
        let values = |fields: &[&str]| -> ArrayRef {
            let DataType::Struct(fields) = inner(fields) else { unreachable!() };
            let columns = fields.iter().map(|_| Arc::new(Int32Array::from(vec![1, 2])) as ArrayRef);
            Arc::new(StructArray::new(fields.clone(), columns.collect(), None))
        };
        let rows = |fields: &[&str]| {
            let schema = place(inner(fields));
            let offsets = OffsetBuffer::from_lengths([2, 0]);
            let DataType::List(item) = schema.field(1).data_type() else { unreachable!() };
            let list = ListArray::new(item.clone(), offsets.clone(), values(fields), None);
            let DataType::Map(entries, _) = schema.field(2).data_type() else { unreachable!() };
            let DataType::Struct(pair) = entries.data_type() else { unreachable!() };
            let keys = Arc::new(StringArray::from(vec!["a", "b"]));
            let pairs = StructArray::new(pair.clone(), vec![keys, values(fields)], None);
            let map = MapArray::new(entries.clone(), offsets, pairs, None, false);
            RecordBatch::try_new(schema, vec![values(fields), Arc::new(list), Arc::new(map)]).unwrap()
        };
        let (stored, table) = (rows(&["a", "b"]), rows(&["b"]));
        assert_eq!(conform_stored(&stored, &table.schema()).unwrap(), table);
        let only = Arc::new(table.schema().project(&[0]).unwrap());
        assert_eq!(conform_stored(&stored, &only).unwrap(), table.project(&[0]).unwrap());
        let error = conform(&stored, &table.schema()).unwrap_err();
        assert_eq!(error.context("column"), Some("s.a"));
    }

    #[test]
    fn reads_values_of_promoted_columns_as_java_writes_them() {
        let promoted = |values: ArrayRef, want: DataType| {
            let schema = Arc::new(Schema::new(vec![Field::new("c", list_of(want), true)]));
            let item = Arc::new(Field::new(super::super::ELEMENT, values.data_type().clone(), true));
            let list = ListArray::new(item, OffsetBuffer::from_lengths([values.len()]), values, None);
            let stored = batch(vec![("c", Arc::new(list))]);
            conform(&stored, &schema).unwrap_err();
            Ok::<_, Error>(conform_stored(&stored, &schema)?.column(0).as_list::<i32>().values().clone())
        };
        let text = |texts: Vec<Option<&str>>| -> ArrayRef { Arc::new(StringArray::from(texts)) };
        let numbers = promoted(Arc::new(Int32Array::from(vec![Some(-7), None])), DataType::Utf8).unwrap();
        assert_eq!(&numbers, &text(vec![Some("-7"), None]));
        let numbers = promoted(Arc::new(Int64Array::from(vec![1 << 40])), DataType::Utf8).unwrap();
        assert_eq!(&numbers, &text(vec![Some("1099511627776")]));
        let numbers = promoted(Arc::new(Float32Array::from(vec![0.1, 1e7])), DataType::Utf8).unwrap();
        assert_eq!(&numbers, &text(vec![Some("0.1"), Some("1.0E7")]));
        let numbers = promoted(Arc::new(Float64Array::from(vec![1.5, 1e-4])), DataType::Utf8).unwrap();
        assert_eq!(&numbers, &text(vec![Some("1.5"), Some("1.0E-4")]));
        let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![&b"caf\xc3\xa9"[..]]));
        assert_eq!(&promoted(bytes.clone(), DataType::Utf8).unwrap(), &text(vec![Some("café")]));
        assert_eq!(&promoted(text(vec![Some("café")]), DataType::Binary).unwrap(), &bytes);
        let broken = promoted(Arc::new(BinaryArray::from(vec![&b"\xff"[..]])), DataType::Utf8);
        assert_eq!(broken.unwrap_err().kind(), ErrorKind::Unsupported);
        let date = batch(vec![("c", Arc::new(Int32Array::from(vec![1])))]);
        let dates = Arc::new(Schema::new(vec![Field::new("c", DataType::Date32, true)]));
        let error = conform_stored(&date, &dates).unwrap_err();
        assert_eq!((error.kind(), error.context("column")), (ErrorKind::Unsupported, Some("c")));
    }

    #[test]
    fn reads_times_of_day_as_numbers() {
        let stored = batch(vec![
            ("a", Arc::new(Time32MillisecondArray::from(vec![Some(1500), None]))),
            ("b", Arc::new(Time64MicrosecondArray::from(vec![1_500_000, 0]))),
            ("c", Arc::new(FixedSizeBinaryArray::try_from_iter([b"ab", b"cd"].into_iter()).unwrap())),
        ]);
        let types = [DataType::Int32, DataType::Int64, DataType::Binary];
        let fields = ["a", "b", "c"].into_iter().zip(types);
        let fields = fields.map(|(name, data_type)| Field::new(name, data_type, true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let out = conform_stored(&stored, &schema).unwrap();
        assert_eq!(out.column(0).as_ref(), &Int32Array::from(vec![Some(1500), None]));
        assert_eq!(out.column(1).as_ref(), &Int64Array::from(vec![1_500_000, 0]));
        assert_eq!(out.column(2).as_ref(), &BinaryArray::from(vec![&b"ab"[..], b"cd"]));
        conform(&stored, &schema).unwrap_err();
    }

    #[test]
    fn refuses_what_would_get_lost_and_names_it() {
        let micros = Arc::new(Schema::new(vec![Field::new(
            "t",
            DataType::Timestamp(TimeUnit::Microsecond, None),
            true,
        )]));
        let nanos = batch(vec![("t", Arc::new(TimestampNanosecondArray::from(vec![1_000, 1_001])))]);
        assert_eq!(conform(&nanos, &micros).unwrap_err().context("row"), Some("1"));

        let ints = Arc::new(Schema::new(vec![Field::new("t", DataType::Int32, true)]));
        let longs = batch(vec![("t", Arc::new(Int64Array::from(vec![1])))]);
        assert_eq!(conform(&longs, &ints).unwrap_err().context("batch"), Some("Int64"));

        let extra = batch(vec![
            ("t", Arc::new(Int32Array::from(vec![1]))),
            ("u", Arc::new(Int32Array::from(vec![1]))),
        ]);
        assert_eq!(conform(&extra, &ints).unwrap_err().context("column"), Some("u"));

        let required = Arc::new(Schema::new(vec![Field::new("t", DataType::Int32, false)]));
        let nulls = batch(vec![("t", Arc::new(Int32Array::from(vec![None, Some(1)])))]);
        assert_eq!(conform(&nulls, &required).unwrap_err().context("column"), Some("t"));
    }
}
