//! [`Predicate`]: a condition on the columns of a row.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, Scalar, StringArray},
    compute::{
        CastOptions, and_kleene, cast_with_options, is_null,
        kernels::cmp::{eq, gt, gt_eq, lt, lt_eq},
        not, or_kleene,
    },
    datatypes::{DataType, Schema},
    error::ArrowError,
};

use crate::{Error, ErrorKind, Result, base_file::OpenFile};

/// A condition on the columns of a row, for [`Query::with_predicate`](crate::Query::with_predicate).
///
/// It follows SQL's logic: a comparison with a null is neither true nor false, and a row is selected if the
/// whole predicate is true. Values are converted to the type of the column. For example, a string can be
/// compared with a date, a timestamp or a decimal.
///
/// ```
/// use hudi_scd::Predicate;
///
/// let recent = Predicate::at_least("updated_at", "2026-01-01T00:00:00Z");
/// let open = Predicate::is_in("status", ["new", "paid"]).or(Predicate::is_null("status"));
/// let predicate = recent.and(open).and(Predicate::equal("customer_id", 7).not());
/// # let _ = predicate;
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Predicate(Node);

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Compare(String, Comparison, Value),
    IsIn(String, Vec<Value>),
    IsNull(String),
    And(Vec<Predicate>),
    Or(Vec<Predicate>),
    Not(Box<Predicate>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

/// A value of a [`Predicate`]: a number, a boolean or a string.
#[derive(Clone, Debug, PartialEq)]
pub struct Value(Inner);

#[derive(Clone, Debug, PartialEq)]
enum Inner {
    Boolean(bool),
    Integer(i64),
    Float(f64),
    Text(String),
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self(Inner::Boolean(value))
    }
}

impl From<i32> for Value {
    fn from(value: i32) -> Self {
        Self(Inner::Integer(value.into()))
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self(Inner::Integer(value))
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self(Inner::Float(value))
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self(Inner::Text(value.to_owned()))
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self(Inner::Text(value))
    }
}

impl Value {
    /// Returns the value as an array of one element with the type of a column.
    fn typed(&self, column: &str, data_type: &DataType) -> Result<ArrayRef> {
        let (value, is_number): (ArrayRef, bool) = match &self.0 {
            Inner::Boolean(value) => (Arc::new(BooleanArray::from(vec![*value])), false),
            Inner::Integer(value) => (Arc::new(Int64Array::from(vec![*value])), true),
            Inner::Float(value) => (Arc::new(Float64Array::from(vec![*value])), true),
            Inner::Text(value) => (Arc::new(StringArray::from(vec![value.as_str()])), false),
        };
        let unfit = || {
            Error::new(ErrorKind::InvalidInput, "a value of the predicate is not one of the column's type")
                .with_context("column", column)
                .with_context("type", data_type)
        };
        let is_kind = match &self.0 {
            Inner::Boolean(_) => *data_type == DataType::Boolean,
            Inner::Integer(_) | Inner::Float(_) => data_type.is_numeric(),
            Inner::Text(_) => !data_type.is_nested(),
        };
        if !is_kind {
            return Err(unfit());
        }
        let options = CastOptions { safe: false, ..CastOptions::default() };
        let cast = |value: &ArrayRef, to: &DataType| {
            cast_with_options(value, to, &options).map_err(|cause| unfit().with_source(cause))
        };
        let typed = cast(&value, data_type)?;
        // A cast to integers drops the fraction.
        if is_number && cast(&typed, value.data_type())?.to_data() != value.to_data() {
            return Err(unfit());
        }
        Ok(typed)
    }
}

impl Predicate {
    /// Selects rows whose column has this value.
    pub fn equal(column: impl Into<String>, value: impl Into<Value>) -> Self {
        Self::compare(column, Comparison::Equal, value)
    }

    /// Selects rows whose column is less than this value.
    pub fn less(column: impl Into<String>, value: impl Into<Value>) -> Self {
        Self::compare(column, Comparison::Less, value)
    }

    /// Selects rows whose column is at most this value.
    pub fn at_most(column: impl Into<String>, value: impl Into<Value>) -> Self {
        Self::compare(column, Comparison::AtMost, value)
    }

    /// Selects rows whose column is greater than this value.
    pub fn greater(column: impl Into<String>, value: impl Into<Value>) -> Self {
        Self::compare(column, Comparison::Greater, value)
    }

    /// Selects rows whose column is at least this value.
    pub fn at_least(column: impl Into<String>, value: impl Into<Value>) -> Self {
        Self::compare(column, Comparison::AtLeast, value)
    }

    /// Selects rows whose column has one of these values.
    pub fn is_in<V: Into<Value>>(column: impl Into<String>, values: impl IntoIterator<Item = V>) -> Self {
        Self(Node::IsIn(column.into(), values.into_iter().map(Into::into).collect()))
    }

    /// Selects rows whose column is null.
    pub fn is_null(column: impl Into<String>) -> Self {
        Self(Node::IsNull(column.into()))
    }

    /// Selects rows that both predicates select.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match self.0 {
            Node::And(mut all) => {
                all.push(other);
                Self(Node::And(all))
            }
            _ => Self(Node::And(vec![self, other])),
        }
    }

    /// Selects rows that at least one of the predicates selects.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        match self.0 {
            Node::Or(mut any) => {
                any.push(other);
                Self(Node::Or(any))
            }
            _ => Self(Node::Or(vec![self, other])),
        }
    }

    /// Selects rows for which this predicate is false.
    #[must_use]
    #[allow(clippy::should_implement_trait, reason = "`and`, `or` and `not` are read together")]
    pub fn not(self) -> Self {
        Self(Node::Not(Box::new(self)))
    }

    fn compare(column: impl Into<String>, comparison: Comparison, value: impl Into<Value>) -> Self {
        Self(Node::Compare(column.into(), comparison, value.into()))
    }

    /// Returns `true` if the predicate refers to a column.
    pub(super) fn has_column(&self, name: &str) -> bool {
        match &self.0 {
            Node::Compare(column, ..) | Node::IsIn(column, _) | Node::IsNull(column) => column == name,
            Node::And(all) | Node::Or(all) => all.iter().any(|part| part.has_column(name)),
            Node::Not(part) => part.has_column(name),
        }
    }

    /// Converts the values to the types of the columns.
    pub(super) fn typed(&self, schema: &Schema) -> Result<Typed> {
        let field = |name: &String| {
            schema.field_with_name(name).map_err(|_| {
                Error::new(ErrorKind::InvalidInput, "there is no such column").with_context("column", name)
            })
        };
        Ok(match &self.0 {
            Node::Compare(column, comparison, value) => {
                let value = value.typed(column, field(column)?.data_type())?;
                Typed::Compare(column.clone(), *comparison, value)
            }
            Node::IsIn(column, values) => {
                let data_type = field(column)?.data_type();
                let compare = |value: &Value| {
                    let value = value.typed(column, data_type)?;
                    Ok(Typed::Compare(column.clone(), Comparison::Equal, value))
                };
                Typed::Or(values.iter().map(compare).collect::<Result<_>>()?)
            }
            Node::IsNull(column) => {
                field(column)?;
                Typed::IsNull(column.clone())
            }
            Node::And(all) => Typed::And(all.iter().map(|part| part.typed(schema)).collect::<Result<_>>()?),
            Node::Or(any) => Typed::Or(any.iter().map(|part| part.typed(schema)).collect::<Result<_>>()?),
            Node::Not(part) => Typed::Not(Box::new(part.typed(schema)?)),
        })
    }
}

/// A predicate on the columns of one table.
#[derive(Debug)]
pub(super) enum Typed {
    Compare(String, Comparison, ArrayRef),
    IsNull(String),
    And(Vec<Typed>),
    Or(Vec<Typed>),
    Not(Box<Typed>),
}

impl Typed {
    /// Returns, for each row of a batch, `true` if the predicate selects it. Null if it is neither true nor
    /// false.
    pub(super) fn select(&self, rows: &RecordBatch) -> Result<BooleanArray> {
        let column = |name: &str| {
            rows.column_by_name(name).ok_or_else(|| {
                Error::new(ErrorKind::Corrupt, "rows lack a column of the predicate")
                    .with_context("column", name)
            })
        };
        let failed = |cause: ArrowError| {
            Error::new(ErrorKind::InvalidInput, "the predicate cannot be evaluated").with_source(cause)
        };
        let fold = |parts: &[Self], start: bool, with: fn(&BooleanArray, &BooleanArray) -> Combined| {
            let start = BooleanArray::from(vec![start; rows.num_rows()]);
            parts.iter().try_fold(start, |sum, part| with(&sum, &part.select(rows)?).map_err(failed))
        };
        match self {
            Self::Compare(name, comparison, value) => {
                let (column, value) = (column(name)?, Scalar::new(value.clone()));
                comparison.apply(column, &value).map_err(failed)
            }
            Self::IsNull(name) => is_null(column(name)?.as_ref()).map_err(failed),
            Self::And(all) => fold(all, true, and_kleene),
            Self::Or(any) => fold(any, false, or_kleene),
            Self::Not(part) => not(&part.select(rows)?).map_err(failed),
        }
    }

    /// Returns, for each row group of a file, `false` if its statistics exclude all rows.
    pub(super) fn may_select(&self, file: &OpenFile, data: &Schema) -> Vec<bool> {
        let groups = file.footer().metadata().num_row_groups();
        let fold = |parts: &[Self], start: bool, with: fn(bool, bool) -> bool| {
            parts.iter().map(|part| part.may_select(file, data)).fold(vec![start; groups], |sum, part| {
                sum.into_iter().zip(part).map(|(one, other)| with(one, other)).collect()
            })
        };
        match self {
            Self::Compare(name, comparison, value) => {
                may_match(file, data, name, *comparison, value).unwrap_or_else(|| vec![true; groups])
            }
            Self::And(all) => fold(all, true, |one, other| one && other),
            Self::Or(any) => fold(any, false, |one, other| one || other),
            Self::IsNull(_) | Self::Not(_) => vec![true; groups],
        }
    }
}

type Combined = Result<BooleanArray, ArrowError>;

impl Comparison {
    fn apply(self, column: &ArrayRef, value: &Scalar<ArrayRef>) -> Combined {
        match self {
            Self::Equal => eq(column, value),
            Self::Less => lt(column, value),
            Self::AtMost => lt_eq(column, value),
            Self::Greater => gt(column, value),
            Self::AtLeast => gt_eq(column, value),
        }
    }
}

/// Compares a value with the bounds of each row group; `None` if they are unknown.
fn may_match(
    file: &OpenFile,
    data: &Schema,
    name: &str,
    comparison: Comparison,
    value: &ArrayRef,
) -> Option<Vec<bool>> {
    // The bounds of floating-point columns exclude NaN.
    if data.field_with_name(name).ok()?.data_type().is_floating() {
        return None;
    }
    let (min, max) = file.bounds(name, value.data_type())?;
    let value = Scalar::new(value.clone());
    let possible = match comparison {
        Comparison::Equal => and_kleene(&lt_eq(&min, &value).ok()?, &gt_eq(&max, &value).ok()?).ok()?,
        Comparison::Less => lt(&min, &value).ok()?,
        Comparison::AtMost => lt_eq(&min, &value).ok()?,
        Comparison::Greater => gt(&max, &value).ok()?,
        Comparison::AtLeast => gt_eq(&max, &value).ok()?,
    };
    // A group without bounds may contain any values.
    Some(possible.iter().map(|possible| possible != Some(false)).collect())
}
