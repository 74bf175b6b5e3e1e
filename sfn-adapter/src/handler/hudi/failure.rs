//! Errors of the table as names and sentences.

use hudi_scd::{Error as TableError, ErrorKind};

use crate::{Error, sentence::cut};

/// Maximum length of a quoted message in characters.
const LONGEST: usize = 1_000;

/// The entries of an error's context that a sentence names, with their words.
const PLACES: [(&str, &str); 14] = [
    ("file", "file"),
    ("line", "line"),
    ("row of the file", "row"),
    ("row", "row"),
    ("column", "column"),
    ("type", "type"),
    ("elsewhere", "elsewhere"),
    ("property", "property"),
    ("instant", "instant"),
    ("owner", "owner"),
    ("bucket", "bucket"),
    ("path", "path"),
    ("url", "url"),
    ("option", "option"),
];

/// Converts an error of the table. `renamed` returns the URL of a raw file for its local copy.
pub(super) fn failure(error: &TableError, renamed: impl Fn(&str) -> Option<String>) -> Error {
    let places = PLACES.iter().filter_map(|(name, word)| {
        let value = error.context(name)?;
        let value = renamed(value).unwrap_or_else(|| cut(value, 300));
        Some(format!("{word} {value}"))
    });
    let places: Vec<_> = places.collect();
    let places = if places.is_empty() { String::new() } else { format!(" ({})", places.join(", ")) };
    let (name, remedy) = named(error.kind());
    // The hint of an error about files is for the program hudi-scd.
    let hint = error.context("hint").filter(|_| error.kind() != ErrorKind::InvalidInput);
    let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
    let because = std::error::Error::source(error).filter(|_| error.kind() != ErrorKind::Conflict);
    let because = because.map(|cause| format!(": {}", cut(&cause.to_string(), 300))).unwrap_or_default();
    let message = cut(error.message(), LONGEST);
    Error::Hudi { name, cause: format!("{message}{places}{because}; {remedy}{hint}") }
}

fn named(kind: ErrorKind) -> (&'static str, &'static str) {
    match kind {
        ErrorKind::InvalidInput => {
            ("Hudi.InvalidInput", "nothing was written, so correct the file or HUDI_PROFILE")
        }
        ErrorKind::InvalidDefinition => ("Hudi.InvalidDefinition", "correct the function's environment"),
        ErrorKind::NotFound => {
            ("Hudi.NotFound", "check HUDI_TABLE, or create the table with `hudi-scd create`")
        }
        ErrorKind::Unsupported => ("Hudi.Unsupported", "maintain this table with Spark"),
        ErrorKind::Corrupt => ("Hudi.Corrupt", "run the action validate"),
        ErrorKind::Conflict => ("Hudi.Conflict", "nothing was written, so invoke again with the same event"),
        ErrorKind::Storage => ("Hudi.Storage", "nothing is visible, so invoke again with the same event"),
        ErrorKind::Cancelled => {
            (Error::HUDI_DEADLINE, "nothing is visible, so invoke again with the same event")
        }
        ErrorKind::Unknown { .. } => {
            ("Hudi.Unknown", "invoke again with the same event, because no file is taken in twice")
        }
        _ => ("Hudi.Other", "look at the table with `hudi-scd show`"),
    }
}

#[cfg(test)]
mod tests {
    use crate::ErrorNames;

    use super::*;

    #[test]
    fn places_are_words_and_local_copies_have_the_names_of_their_files() {
        let error = TableError::new(ErrorKind::InvalidInput, "\"x\" is not a date such as 2025-03-01")
            .with_context("file", "local/000001.csv")
            .with_context("line", 3)
            .with_context("column", "birth_date")
            .with_context("hint", "define it with --schema");
        let renamed = |path: &str| path.ends_with("000001.csv").then(|| "s3://raw/c.csv".to_owned());
        let error = failure(&error, renamed);
        assert_eq!(error.name(ErrorNames::Qualified), "Hudi.InvalidInput");
        assert_eq!(
            error.to_string(),
            "\"x\" is not a date such as 2025-03-01 (file s3://raw/c.csv, line 3, column birth_date); nothing was written, \
             so correct the file or HUDI_PROFILE"
        );
    }

    #[test]
    fn every_kind_has_a_name_of_the_list() {
        let instant = "20261128063002123".parse().unwrap();
        for kind in [
            ErrorKind::InvalidInput,
            ErrorKind::InvalidDefinition,
            ErrorKind::NotFound,
            ErrorKind::AlreadyExists,
            ErrorKind::Unsupported,
            ErrorKind::OutsideRetention,
            ErrorKind::Corrupt,
            ErrorKind::Conflict,
            ErrorKind::Storage,
            ErrorKind::Cancelled,
            ErrorKind::Unknown { instant },
        ] {
            let name =
                failure(&TableError::new(kind, "m"), |_| None).name(ErrorNames::Qualified).into_owned();
            assert!(ErrorNames::Qualified.all().contains(&name), "{name}");
        }
    }
}
