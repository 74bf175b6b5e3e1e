//! Reads pipelines from TOML and JSON, which use the same keys. Errors contain the line, the step and a
//! remedy.

use std::{fs, path::Path};

use super::{builder::PipelineBuilder, definition::Definition, source::Source};
use crate::{
    Error, ErrorKind, Result,
    pipeline::{Pipeline, model::suggest},
    toml_text::{self, Malformed},
};

impl Pipeline {
    /// Reads a pipeline from a TOML text. Steps with `file` need [`from_toml_file`](Self::from_toml_file).
    ///
    /// # Errors
    /// Returns [`ErrorKind::Definition`] with the line, the step, the problem and a remedy.
    pub fn from_toml(text: &str) -> Result<Self> {
        read(text, Format::Toml, None)
    }

    /// Reads a pipeline from a JSON text, which has the same keys as TOML.
    ///
    /// # Errors
    /// Returns the errors of [`from_toml`](Self::from_toml).
    pub fn from_json(text: &str) -> Result<Self> {
        read(text, Format::Json, None)
    }

    /// Reads a pipeline from a TOML file. Paths of SQL files are relative to its directory.
    ///
    /// # Errors
    /// Returns the errors of [`from_toml`](Self::from_toml), and an error if a file cannot be read.
    pub fn from_toml_file(path: impl AsRef<Path>) -> Result<Self> {
        read_file(path.as_ref(), Format::Toml)
    }

    /// Reads a pipeline from a JSON file. Paths of SQL files are relative to its directory.
    ///
    /// # Errors
    /// Returns the errors of [`from_toml_file`](Self::from_toml_file).
    pub fn from_json_file(path: impl AsRef<Path>) -> Result<Self> {
        read_file(path.as_ref(), Format::Json)
    }
}

#[derive(Clone, Copy)]
enum Format {
    Toml,
    Json,
}

fn read_file(path: &Path, format: Format) -> Result<Pipeline> {
    fs::read_to_string(path)
        .map_err(|error| {
            Error::new(ErrorKind::Definition, "the pipeline file cannot be read").with_source(error)
        })
        .and_then(|text| read(without_mark(&text), format, path.parent()))
        .map_err(|error| error.with_context("file", path.display()))
}

fn read(text: &str, format: Format, directory: Option<&Path>) -> Result<Pipeline> {
    let source = || match format {
        Format::Toml => Source::toml(text),
        Format::Json => Source::json(text),
    };
    let definition: Result<Definition, Malformed> = match format {
        Format::Toml => toml_text::read(text),
        Format::Json => serde_json::from_str(text).map_err(|error| {
            let mut message = error.to_string();
            // The position is reported separately.
            message.truncate(message.rfind(" at line ").unwrap_or(message.len()));
            Malformed { message, offset: Some(offset_of(text, error.line(), error.column())) }
        }),
    };
    let definition = definition.map_err(|mut wrong| {
        let begin = text.trim_start().chars().next();
        match format {
            Format::Toml if begin == Some('{') => {
                wrong
                    .message
                    .push_str("; this looks like JSON, but the name of the file does not end in `.json`");
            }
            Format::Json if begin != Some('{') => {
                wrong.message.push_str("; a file whose name ends in `.json` must be JSON and begin with `{`");
            }
            _ => {}
        }
        malformed(&source(), wrong)
    })?;
    definition.build(directory).and_then(PipelineBuilder::checked).map_err(|problem| {
        let line = source().line_of(&problem);
        let error = problem.into_error();
        match line {
            Some(line) => error.with_context("line", line),
            None => error,
        }
    })
}

/// Removes the byte order mark that some editors write at the beginning of a file.
pub(super) fn without_mark(text: &str) -> &str {
    text.strip_prefix('\u{feff}').unwrap_or(text)
}

/// Converts an error of the TOML or JSON parser.
fn malformed(source: &Source<'_>, Malformed { message, offset }: Malformed) -> Error {
    let message = without_value(&message.replace('\n', " "));
    let message = message.replace("expected usize", WHOLE).replace("expected u32", WHOLE);
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let hint = match quoted.split_first() {
        Some((wrong, known)) if message.starts_with("unknown ") => {
            suggest::close(wrong, known.iter().copied())
        }
        _ => of_another_type(&message).to_owned(),
    };
    let error = Error::new(ErrorKind::Definition, format!("{message}{hint}"));
    let Some(offset) = offset else { return error };
    let error = match source.step_around(offset) {
        Some(step) => error.with_context("step", step),
        None => error,
    };
    error.with_context("line", source.line(offset))
}

/// Description of an integer type for authors of pipeline files.
const WHOLE: &str = "expected a whole number that is not negative";

/// Returns a hint for a value of the wrong type.
fn of_another_type(message: &str) -> &'static str {
    if !message.starts_with("invalid type") {
        ""
    } else if message.ends_with("expected a sequence") {
        "; write a list: `[\"…\"]`"
    } else if message.ends_with("expected a string") {
        "; write it in quotes"
    } else {
        ""
    }
}

/// Removes the invalid value from a message, because the value may be SQL.
fn without_value(message: &str) -> String {
    const KIND: &str = "string \"";
    match (message.find(KIND), message.rfind("\", expected")) {
        (Some(begin), Some(end)) if message.starts_with("invalid ") && begin < end => {
            format!("{}string{}", &message[..begin], &message[end + 1..])
        }
        _ => message.to_owned(),
    }
}

fn offset_of(text: &str, line: usize, column: usize) -> usize {
    let begin: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    // serde_json's column is a number of bytes and can be inside a character.
    text.floor_char_boundary(begin + column.saturating_sub(1))
}
