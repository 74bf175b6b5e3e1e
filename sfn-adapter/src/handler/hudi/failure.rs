//! Converts errors of the table to names and sentences.

use hudi_scd::{Error as TableError, ErrorKind};

use crate::{
    Error,
    sentence::{LONGEST, cut, in_words, places},
};

/// Entries of an error's context that a sentence contains, with their wording.
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

/// The reason why files were not taken in.
#[derive(Debug)]
pub(super) enum Failure {
    /// A raw file caused the error, so events without it may succeed.
    OfFile(Error),
    /// The table, the function or its deadline caused the error.
    Other(Error),
}

impl Failure {
    pub(super) fn is_about_a_file(&self) -> bool {
        matches!(self, Self::OfFile(_))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::OfFile(error) | Failure::Other(error) => error,
        }
    }
}

/// Converts an error of the table. `renamed` maps the path of a local copy to the URL of its raw file.
pub(super) fn failure(error: &TableError, renamed: impl Fn(&str) -> Option<String>) -> Error {
    let places = places(PLACES.map(|(name, word)| {
        let value = error.context(name);
        // The table counts rows from 0. Messages count them from 1.
        let number = value.filter(|_| word == "row").and_then(|row| row.parse::<u64>().ok());
        let number = number.map(|row| (row + 1).to_string());
        (word, number.or_else(|| value.map(|value| renamed(value).unwrap_or_else(|| cut(value, 300)))))
    }));
    let (name, remedy) = named(error.kind());
    // The hint in an error about files is meant for users of the program hudi-scd.
    let hint = error.context("hint").filter(|_| error.kind() != ErrorKind::InvalidInput);
    let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
    let because = std::error::Error::source(error).filter(|_| error.kind() != ErrorKind::Conflict);
    let because =
        because.map(|cause| format!(": {}", cut(&in_words(&cause.to_string()), 300))).unwrap_or_default();
    let message = cut(&in_words(error.message()), LONGEST);
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
        ErrorKind::Unsupported => ("Hudi.Unsupported", "use Spark for this table"),
        ErrorKind::Corrupt => ("Hudi.Corrupt", "run the action validate"),
        ErrorKind::Conflict => ("Hudi.Conflict", "nothing was written, so invoke again with the same event"),
        ErrorKind::Storage => ("Hudi.Storage", "nothing is visible, so invoke again with the same event"),
        ErrorKind::Cancelled => {
            (Error::HUDI_DEADLINE, "nothing is visible, so invoke again with the same event")
        }
        ErrorKind::Unknown { .. } => {
            ("Hudi.Unknown", "invoke again with the same event, because no file is taken in twice")
        }
        _ => ("Hudi.Other", "inspect the table with `hudi-scd show`"),
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
    fn rows_are_counted_from_1_like_lines() {
        for name in ["row", "row of the file"] {
            let error = TableError::new(ErrorKind::InvalidInput, "no").with_context(name, 0);
            assert!(failure(&error, |_| None).to_string().starts_with("no (row 1); "));
        }
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
