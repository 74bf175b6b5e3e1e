//! The table parameters that contain the schema for Spark, byte for byte as Hudi's sync writes them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use arrow::datatypes::{Field, Schema};

use crate::{Result, spark::write_struct};

/// The prefix of the parameters that contain the schema.
pub(super) const PREFIX: &str = "spark.sql.sources.schema.";
/// The parameter by which Spark finds its reader.
pub(super) const PROVIDER: &str = "spark.sql.sources.provider";

/// Returns the parameters for a table with these columns. `partitions` come last. The schema is split into
/// parts of `length` UTF-16 units, because the catalog limits the length of a parameter.
pub(super) fn parameters(
    columns: &[&Field],
    partitions: &[&Field],
    length: usize,
) -> Result<BTreeMap<String, String>> {
    let fields = columns.iter().chain(partitions).map(|field| (*field).clone()).collect::<Vec<_>>();
    let mut json = String::new();
    write_struct(&mut json, Schema::new(fields).fields())?;
    let mut found = BTreeMap::from([(PROVIDER.to_owned(), "hudi".to_owned())]);
    let parts = cut(&json, length);
    found.insert(num_parts(), parts.len().to_string());
    found.extend(parts.into_iter().enumerate().map(|(n, text)| (part(n), text)));
    if !partitions.is_empty() {
        found.insert(format!("{PREFIX}numPartCols"), partitions.len().to_string());
        let names = partitions.iter().enumerate();
        found.extend(names.map(|(n, field)| (format!("{PREFIX}partCol.{n}"), field.name().clone())));
    }
    Ok(found)
}

/// Returns the names of the parameters by which `known` describes the schema, if it is the schema of `wanted`
/// and differs only in the nullability of list items.
///
/// Unless Hadoop's configuration sets `parquet.avro.write-old-list-structure` to `false`, Hudi's sync
/// declares the same for every list, regardless of the column: 0.15.0 declares that it has no nulls, and
/// 1.0.2 that it may have some. Without this comparison, both syncs would update the table in each of their
/// turns.
pub(super) fn equal_but_for_nulls_in_lists(
    known: &HashMap<String, String>,
    wanted: &BTreeMap<String, String>,
) -> Option<BTreeSet<String>> {
    let plain = |text: String| text.replace("\"containsNull\":false", "\"containsNull\":true");
    let [found, new] = [joined(|name| known.get(name)), joined(|name| wanted.get(name))];
    let (found, new) = (found?, new?);
    if found == new || plain(found) != plain(new) {
        return None;
    }
    Some(parts(|name| known.get(name))?.chain([num_parts()]).collect())
}

/// Returns `true` for a parameter by which a table describes its schema.
pub(super) fn describes_schema(name: &str) -> bool {
    name == num_parts() || name.starts_with(&format!("{PREFIX}part."))
}

fn part(number: usize) -> String {
    format!("{PREFIX}part.{number}")
}

fn num_parts() -> String {
    format!("{PREFIX}numParts")
}

/// Returns the names of the parts of a schema.
fn parts<'a>(parameter: impl Fn(&str) -> Option<&'a String>) -> Option<impl Iterator<Item = String>> {
    let count: usize = parameter(&num_parts())?.parse().ok()?;
    Some((0..count).map(part))
}

/// Joins the parts of a schema.
fn joined<'a>(parameter: impl Fn(&str) -> Option<&'a String>) -> Option<String> {
    parts(&parameter)?.map(|name| parameter(&name).map(String::as_str)).collect()
}

/// Splits text every `length` UTF-16 units, which Java counts. Surrogate pairs are not split.
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
