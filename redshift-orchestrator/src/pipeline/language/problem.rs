//! [`Problem`]: a mistake in a definition.

use crate::{Error, ErrorKind};

/// Problem in a definition, with its location. If the definition is in a file, the module `read` adds the
/// number of the line.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) message: String,
    /// Name of the step and its number in the definition.
    pub(super) step: Option<(String, usize)>,
    pub(super) location: Location,
}

/// Location of a problem: a key of a step or of the top level, and a text in the value of this key.
#[derive(Debug)]
pub(super) struct Location {
    /// Name of the key. `work` means the key that contains the work of the step, such as `sql`.
    pub(super) key: &'static str,
    pub(super) needle: String,
}

impl Location {
    pub(super) fn key(key: &'static str) -> Self {
        Self { key, needle: String::new() }
    }
}

impl Problem {
    pub(super) fn of_pipeline(key: &'static str, message: impl Into<String>) -> Self {
        Self { message: message.into(), step: None, location: Location::key(key) }
    }

    pub(super) fn of_parameter(name: &str, message: String) -> Self {
        Self { message, step: None, location: Location { key: "parameters", needle: name.to_owned() } }
    }

    pub(super) fn of_step(name: &str, number: usize, location: Location, message: String) -> Self {
        Self { message, step: Some((name.to_owned(), number)), location }
    }

    pub(super) fn into_error(self) -> Error {
        let error = Error::new(ErrorKind::Definition, self.message);
        match self.step {
            Some((name, _)) if !name.is_empty() => error.with_context("step", name),
            Some((_, number)) => error.with_context("step", format_args!("number {}", number + 1)),
            None => error,
        }
    }
}
