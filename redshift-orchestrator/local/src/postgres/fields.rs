//! Converts PostgreSQL's binary values to the service's fields. Integers, floats and booleans are typed. All
//! other values become text, without loss of precision.

use std::{collections::BTreeMap, fmt::Write};

use jiff::{civil, tz::Offset};
use tokio_postgres::{
    Statement,
    types::{FromSql, Kind, Type},
};

use super::link::Link;
use redshift_orchestrator::{Column, Field};

/// Returns the service's description of the columns of a prepared statement. Fails if a result cannot contain
/// the type of a column.
pub(super) fn columns(statement: &Statement) -> Result<Vec<Column>, String> {
    let column = |column: &tokio_postgres::Column| {
        let kind = base(column.type_());
        if !can_print(kind) {
            return Err(format!(
                "ERROR: column \"{}\" has the type {}, which a result cannot contain; cast it to text",
                column.name(),
                column.type_()
            ));
        }
        let mut described = Column::new(column.name(), name(kind.name()));
        (described.precision, described.scale) = measures(kind);
        let modifier = column.type_modifier();
        if modifier >= 4 {
            // PostgreSQL stores the type's value plus 4 in `atttypmod`.
            let modifier = (modifier - 4) as u32;
            match *kind {
                Type::NUMERIC => {
                    described.precision = Some(modifier >> 16);
                    described.scale = Some(modifier & 0x7ff);
                }
                Type::VARCHAR | Type::BPCHAR => described.precision = Some(modifier),
                _ => {}
            }
        }
        Ok(described)
    };
    statement.columns().iter().map(column).collect()
}

/// Returns the service's name of a PostgreSQL type. Redshift treats `text` as `varchar` and calls binary data
/// `varbyte`.
pub(super) fn name(type_name: &str) -> &str {
    match type_name {
        "text" | "unknown" => "varchar",
        "bytea" => "varbyte",
        _ => type_name,
    }
}

/// Returns the precision and scale that the JDBC driver reports to the service for types without a modifier.
fn measures(kind: &Type) -> (Option<u32>, Option<u32>) {
    let (precision, scale) = match *kind {
        Type::BOOL => (1, 0),
        Type::INT2 => (5, 0),
        Type::INT4 | Type::OID => (10, 0),
        Type::INT8 => (19, 0),
        Type::FLOAT4 => (8, 8),
        Type::FLOAT8 => (17, 17),
        Type::DATE => (13, 0),
        Type::TIME => (15, 6),
        Type::TIMETZ => (21, 6),
        Type::TIMESTAMP => (29, 6),
        Type::TIMESTAMPTZ => (35, 6),
        // The precision of a text is its maximum length.
        Type::TEXT | Type::VARCHAR | Type::UNKNOWN => (65_535, 0),
        _ => return (None, None),
    };
    (Some(precision), Some(scale))
}

/// Adds each result column's table, schema and nullability, if the column comes from a table.
pub(super) async fn add_origins(
    link: &Link,
    statement: &Statement,
    columns: &mut [Column],
) -> Result<(), tokio_postgres::Error> {
    const SQL: &str = "SELECT attrelid, attnum, attnotnull, relname::text, nspname::text FROM pg_catalog.pg_attribute
        JOIN pg_catalog.pg_class ON pg_class.oid = attrelid JOIN pg_catalog.pg_namespace ON pg_namespace.oid = relnamespace
        WHERE attrelid = ANY ($1)";
    let tables: Vec<u32> = statement.columns().iter().filter_map(tokio_postgres::Column::table_oid).collect();
    if tables.is_empty() {
        return Ok(());
    }
    let mut origins = BTreeMap::new();
    for row in link.query_typed(SQL, &[(&tables, Type::OID_ARRAY)]).await? {
        let place: (u32, i16) = (row.try_get(0)?, row.try_get(1)?);
        let origin: (bool, String, String) = (row.try_get(2)?, row.try_get(3)?, row.try_get(4)?);
        origins.insert(place, origin);
    }
    for (column, described) in statement.columns().iter().zip(columns) {
        let place = column.table_oid().zip(column.column_id());
        if let Some((not_null, table, schema)) = place.and_then(|place| origins.get(&place)) {
            described.nullable = Some(!not_null);
            described.table = Some(table.clone());
            described.schema = Some(schema.clone());
        }
    }
    Ok(())
}

/// Returns the base type of a domain.
fn base(kind: &Type) -> &Type {
    match kind.kind() {
        Kind::Domain(inner) => base(inner),
        _ => kind,
    }
}

fn can_print(kind: &Type) -> bool {
    match kind.kind() {
        Kind::Enum(_) => true,
        Kind::Array(element) => can_print(base(element)) && *base(element) != Type::BYTEA,
        _ => matches!(
            *kind,
            Type::BOOL
                | Type::INT2
                | Type::INT4
                | Type::INT8
                | Type::OID
                | Type::FLOAT4
                | Type::FLOAT8
                | Type::NUMERIC
                | Type::TEXT
                | Type::VARCHAR
                | Type::BPCHAR
                | Type::NAME
                | Type::CHAR
                | Type::UNKNOWN
                | Type::JSON
                | Type::JSONB
                | Type::XML
                | Type::UUID
                | Type::BYTEA
                | Type::DATE
                | Type::TIME
                | Type::TIMETZ
                | Type::TIMESTAMP
                | Type::TIMESTAMPTZ
                | Type::INTERVAL
                | Type::VOID
                | Type::REFCURSOR
                | Type::REGPROC
                | Type::REGCLASS
                | Type::REGTYPE
        ),
    }
}

/// A value of any type in the server's binary format.
pub(super) struct Raw<'a>(Option<&'a [u8]>);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(Some(raw)))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(None))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

impl Raw<'_> {
    /// Returns the field, or `None` if the bytes do not match the type.
    pub(super) fn field(&self, kind: &Type) -> Option<Field> {
        let Some(bytes) = self.0 else { return Some(Field::Null) };
        let kind = base(kind);
        Some(match *kind {
            Type::BOOL => Field::Boolean(*bytes.first()? != 0),
            Type::INT2 => Field::Long(i16::from_be_bytes(bytes.try_into().ok()?).into()),
            Type::INT4 => Field::Long(i32::from_be_bytes(bytes.try_into().ok()?).into()),
            Type::INT8 => Field::Long(i64::from_be_bytes(bytes.try_into().ok()?)),
            Type::OID | Type::REGPROC | Type::REGCLASS | Type::REGTYPE => {
                Field::Long(u32::from_be_bytes(bytes.try_into().ok()?).into())
            }
            Type::FLOAT4 => Field::Double(widen(f32::from_be_bytes(bytes.try_into().ok()?))),
            Type::FLOAT8 => Field::Double(f64::from_be_bytes(bytes.try_into().ok()?)),
            Type::BYTEA => Field::Blob(bytes.to_vec()),
            Type::VOID => Field::Null,
            _ => Field::String(print(kind, bytes)?),
        })
    }
}

/// Converts to the double with the same decimal digits, so that 0.1 remains 0.1. The service parses the text
/// that its driver prints.
fn widen(value: f32) -> f64 {
    value.to_string().parse().unwrap_or_else(|_| value.into())
}

/// Formats a value like the server's text output.
fn print(kind: &Type, bytes: &[u8]) -> Option<String> {
    if let Kind::Array(element) = kind.kind() {
        return array(base(element), bytes);
    }
    Some(match *kind {
        Type::BOOL => if *bytes.first()? != 0 { "t" } else { "f" }.to_owned(),
        Type::INT2 => i16::from_be_bytes(bytes.try_into().ok()?).to_string(),
        Type::INT4 => i32::from_be_bytes(bytes.try_into().ok()?).to_string(),
        Type::INT8 => i64::from_be_bytes(bytes.try_into().ok()?).to_string(),
        Type::OID => u32::from_be_bytes(bytes.try_into().ok()?).to_string(),
        Type::FLOAT4 => f32::from_be_bytes(bytes.try_into().ok()?).to_string(),
        Type::FLOAT8 => f64::from_be_bytes(bytes.try_into().ok()?).to_string(),
        Type::NUMERIC => numeric(bytes)?,
        Type::JSONB => String::from_utf8(bytes.get(1..)?.to_vec()).ok()?,
        Type::UUID => uuid::Uuid::from_slice(bytes).ok()?.to_string(),
        Type::DATE => date(i32::from_be_bytes(bytes.try_into().ok()?)),
        Type::TIME => time(i64::from_be_bytes(bytes.try_into().ok()?)),
        Type::TIMETZ => {
            let (time_of_day, west) = bytes.split_at_checked(8)?;
            let offset = Offset::from_seconds(-i32::from_be_bytes(west.try_into().ok()?)).ok()?;
            format!("{}{}", time(i64::from_be_bytes(time_of_day.try_into().ok()?)), zone(offset))
        }
        Type::TIMESTAMP => timestamp(i64::from_be_bytes(bytes.try_into().ok()?), ""),
        // The session's time zone is UTC, as in the service.
        Type::TIMESTAMPTZ => timestamp(i64::from_be_bytes(bytes.try_into().ok()?), "+00"),
        Type::INTERVAL => interval(bytes)?,
        _ => String::from_utf8(bytes.to_vec()).ok()?,
    })
}

/// Formats the output of `numeric_send`, which contains groups of four decimal digits, the weight of the
/// first group, the sign, and the number of digits after the point.
fn numeric(bytes: &[u8]) -> Option<String> {
    let word = |index: usize| Some(u16::from_be_bytes(bytes.get(index * 2..index * 2 + 2)?.try_into().ok()?));
    let (groups, weight, sign, scale) =
        (usize::from(word(0)?), i64::from(word(1)? as i16), word(2)?, word(3)?);
    match sign {
        0xC000 => return Some("NaN".to_owned()),
        0xD000 => return Some("Infinity".to_owned()),
        0xF000 => return Some("-Infinity".to_owned()),
        _ => {}
    }
    // Returns the group for 10000^power.
    let group = |power: i64| match usize::try_from(weight - power) {
        Ok(index) if index < groups => word(4 + index),
        _ => Some(0),
    };
    let mut text = if sign == 0x4000 { "-".to_owned() } else { String::new() };
    match weight {
        0.. => {
            let _ = write!(text, "{}", group(weight)?);
            for power in (0..weight).rev() {
                let _ = write!(text, "{:04}", group(power)?);
            }
        }
        _ => text.push('0'),
    }
    if scale > 0 {
        let mut digits = String::new();
        for power in 1..=i64::from(scale).div_euclid(4) + 1 {
            let _ = write!(digits, "{:04}", group(-power)?);
        }
        text.push('.');
        text.push_str(&digits[..usize::from(scale)]);
    }
    Some(text)
}

/// Formats days since 2000-01-01.
fn date(days: i32) -> String {
    match days {
        i32::MAX => return "infinity".to_owned(),
        i32::MIN => return "-infinity".to_owned(),
        _ => {}
    }
    let day = civil::date(2000, 1, 1)
        .checked_add(jiff::Span::new().days(i64::from(days).clamp(-4_000_000, 4_000_000)));
    // Fallback for dates outside jiff's range.
    day.map_or_else(|_| format!("{days} days after 2000-01-01"), civil_date)
}

fn civil_date(date: civil::Date) -> String {
    match date.year() {
        year @ 1.. => format!("{year:04}-{:02}-{:02}", date.month(), date.day()),
        year => format!("{:04}-{:02}-{:02} BC", 1 - year, date.month(), date.day()),
    }
}

/// Formats microseconds since midnight.
fn time(micros: i64) -> String {
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let mut text = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if fraction != 0 {
        let _ = write!(text, ".{}", format!("{fraction:06}").trim_end_matches('0'));
    }
    text
}

/// Formats microseconds since 2000-01-01 00:00.
fn timestamp(micros: i64, zone: &str) -> String {
    const DAY: i64 = 86_400_000_000;
    match micros {
        i64::MAX => return "infinity".to_owned(),
        i64::MIN => return "-infinity".to_owned(),
        _ => {}
    }
    let day = date(i32::try_from(micros.div_euclid(DAY)).unwrap_or(i32::MAX - 1));
    let time = time(micros.rem_euclid(DAY));
    match day.strip_suffix(" BC") {
        Some(day) => format!("{day} {time}{zone} BC"),
        None => format!("{day} {time}{zone}"),
    }
}

fn zone(offset: Offset) -> String {
    let seconds = offset.seconds();
    let (sign, seconds) = (if seconds < 0 { '-' } else { '+' }, seconds.abs());
    let mut text = format!("{sign}{:02}", seconds / 3600);
    if seconds % 3600 != 0 {
        let _ = write!(text, ":{:02}", seconds / 60 % 60);
    }
    text
}

/// Formats the output of `interval_send` (microseconds, days, months) in the server's default style.
fn interval(bytes: &[u8]) -> Option<String> {
    let micros = i64::from_be_bytes(bytes.get(0..8)?.try_into().ok()?);
    let days = i32::from_be_bytes(bytes.get(8..12)?.try_into().ok()?);
    let months = i32::from_be_bytes(bytes.get(12..16)?.try_into().ok()?);
    let mut parts = Vec::new();
    let mut part = |count: i32, unit: &str| {
        if count != 0 {
            parts.push(format!("{count} {unit}{}", if count == 1 { "" } else { "s" }));
        }
    };
    part(months / 12, "year");
    part(months % 12, "mon");
    part(days, "day");
    if micros != 0 || parts.is_empty() {
        let sign = if micros < 0 { "-" } else { "" };
        parts.push(format!("{sign}{}", time(micros.checked_abs()?)));
    }
    Some(parts.join(" "))
}

/// Formats the output of `array_send`, such as `{1,2,NULL}`. Returns `None` for arrays with several
/// dimensions.
fn array(element: &Type, bytes: &[u8]) -> Option<String> {
    let int = |at: usize| Some(i32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    match int(0)? {
        0 => return Some("{}".to_owned()),
        1 => {}
        _ => return None,
    }
    let (count, mut at) = (int(12)?, 20);
    let mut values = Vec::new();
    for _ in 0..count {
        let length = int(at)?;
        at += 4;
        let Ok(length) = usize::try_from(length) else {
            values.push("NULL".to_owned());
            continue;
        };
        let text = print(element, bytes.get(at..at + length)?)?;
        at += length;
        let plain = !text.is_empty()
            && !text.eq_ignore_ascii_case("null")
            && !text.contains(|c: char| c.is_whitespace() || matches!(c, '{' | '}' | ',' | '"' | '\\'));
        values.push(if plain {
            text
        } else {
            format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
        });
    }
    Some(format!("{{{}}}", values.join(",")))
}
