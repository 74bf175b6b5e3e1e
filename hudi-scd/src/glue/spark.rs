//! The table parameters from which Spark learns the schema, byte for byte as Hudi's sync writes them.

use std::collections::BTreeMap;

use arrow::datatypes::{Field, Schema};

use crate::{Result, spark::write_struct};

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
