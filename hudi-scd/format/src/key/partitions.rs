//! [`Partitions`]: the partition paths of rows, and the values in a path.

use std::collections::HashMap;

use arrow::array::{Array, RecordBatch};

use super::{
    escape::{partition_value, unescaped},
    generator::FolderForm,
    text::{as_text, invalid},
};
use crate::{
    Error, ErrorKind, Result,
    properties::{NULL_PARTITION, OLD_NULL_PARTITION, TableProperties},
};

/// The partition path of each row, as an index into the distinct paths.
#[derive(Debug, Default)]
pub struct Partitions {
    /// The distinct paths.
    pub paths: Vec<String>,
    /// The index in `paths` of each row's path.
    pub row_to_path: Vec<u32>,
}

impl Partitions {
    /// Computes the partition paths of rows.
    pub fn of(batch: &RecordBatch, table: &TableProperties) -> Result<Self> {
        if table.partition_fields.is_empty() {
            return Ok(Self { paths: vec![String::new()], row_to_path: vec![0; batch.num_rows()] });
        }
        let columns = table
            .partition_fields
            .iter()
            .zip(&table.folder_forms)
            .map(|(field, form)| {
                let column = batch.column_by_name(field).ok_or_else(|| {
                    invalid("the batch lacks a partition column").with_context("column", field)
                })?;
                match (form, &table.timestamp_key) {
                    (FolderForm::Text, _) => as_text(column, field),
                    (FolderForm::Time, Some(key)) => key.values(column, field),
                    _ => Err(Error::new(
                        ErrorKind::Unsupported,
                        "the table does not record the form of its partition folders",
                    )
                    .with_context("column", field)),
                }
            })
            .collect::<Result<Vec<_>>>()?;
        let mut partitions = Self { paths: Vec::new(), row_to_path: Vec::with_capacity(batch.num_rows()) };
        let mut known: HashMap<String, u32> = HashMap::new();
        let mut path = String::new();
        for row in 0..batch.num_rows() {
            path.clear();
            for (field, column) in table.partition_fields.iter().zip(&columns) {
                if !path.is_empty() {
                    path.push('/');
                }
                if table.hive_style {
                    path.push_str(field);
                    path.push('=');
                }
                let value = if column.is_valid(row) { column.value(row) } else { "" };
                path.push_str(&partition_value(value, table.version.null_partition(), table.url_encode));
            }
            let id = match known.get(path.as_str()) {
                Some(id) => *id,
                None => {
                    check_path(&path, table)?;
                    let id = partitions.paths.len() as u32;
                    partitions.paths.push(path.clone());
                    known.insert(path.clone(), id);
                    id
                }
            };
            partitions.row_to_path.push(id);
        }
        Ok(partitions)
    }

    /// Returns the partition path of a row.
    pub fn path(&self, row: usize) -> &str {
        &self.paths[self.row_to_path[row] as usize]
    }
}

/// Returns the values that a partition path represents, one per partition field. A value is `None` if the
/// path does not determine it: in the folder of null and empty values, if the name is not the field's, if the
/// number of folders differs, or if the form is not [`FolderForm::Text`].
pub fn partition_values(path: &str, table: &TableProperties) -> Vec<Option<String>> {
    let values = folder_values(path, table).into_iter().zip(&table.folder_forms);
    let determined = |(value, form): (Option<String>, &FolderForm)| {
        // The string `default` gives the same folder name as null.
        value.filter(|value| *form == FolderForm::Text && value != OLD_NULL_PARTITION)
    };
    values.map(determined).collect()
}

/// Returns the text of each partition field in a partition path, in any form. It is `None` in the folder of
/// null and empty values, in a folder whose name is not the field's, and if the number of folders differs.
pub fn folder_values(path: &str, table: &TableProperties) -> Vec<Option<String>> {
    let fields = &table.partition_fields;
    let parts: Vec<&str> = if fields.len() == 1 { vec![path] } else { path.split('/').collect() };
    if parts.len() != fields.len() {
        return vec![None; fields.len()];
    }
    let value = |(part, field): (&str, &String)| {
        let value = match table.hive_style {
            true => part.strip_prefix(field.as_str())?.strip_prefix('=')?,
            false => part,
        };
        match value {
            NULL_PARTITION => None,
            value if table.url_encode => unescaped(value),
            value => Some(value.to_owned()),
        }
    };
    parts.into_iter().zip(fields).map(value).collect()
}

/// Checks that every storage can hold a partition path, and that every reader can split it.
fn check_path(path: &str, table: &TableProperties) -> Result<()> {
    let refused = |message: &str| {
        invalid(message).with_context("partition", path).with_context("hint", "URL encode partition paths")
    };
    if path.contains(':') || path.chars().any(|character| character.is_ascii_control()) {
        return Err(refused("a partition value contains a character that Hadoop cannot store"));
    }
    let fields = table.partition_fields.len();
    if fields > 1 && path.split('/').count() != fields {
        return Err(refused(
            "a partition value contains a slash, which readers cannot tell from the next field",
        ));
    }
    if path.split('/').any(|part| matches!(part, "" | "." | "..") || part.starts_with(".hoodie")) {
        return Err(refused("a partition value is not a valid folder name"));
    }
    Ok(())
}
