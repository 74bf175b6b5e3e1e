//! [`StepKey`]: what a statement is run at most once for.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, Result};

/// What a statement is run at most once for: an attempt at a step of a run.
///
/// The same key, SQL and parameters always make the same client token, also in another process and without a journal. A run
/// therefore needs a name that says which work it is (`sales-2026-11-23T06:30`), not one that is drawn anew by each process.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StepKey {
    /// The run's name.
    pub run: String,
    /// The step's name.
    pub step: String,
    /// Which attempt this is, counted from 1.
    pub attempt: u32,
    /// Which part of the step's batch, if that is too long for the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<Part>,
}

/// One of the batches that a longer one is [divided](crate::Statement::parts) into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Part {
    /// Which one, counted from 1.
    pub number: u32,
    /// How many there are.
    pub of: u32,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "part {} of {}", self.number, self.of)
    }
}

impl StepKey {
    /// The first attempt at a step of a run.
    pub fn new(run: impl Into<String>, step: impl Into<String>) -> Self {
        Self { run: run.into(), step: step.into(), attempt: 1, part: None }
    }

    /// Another attempt at the same step.
    #[must_use]
    pub fn with_attempt(mut self, attempt: u32) -> Self {
        self.attempt = attempt;
        self
    }

    /// The same attempt at a part of the step.
    pub(crate) fn with_part(&self, part: Part) -> Self {
        Self { part: Some(part), ..self.clone() }
    }

    /// The step, and which part of it: for people.
    #[cfg(feature = "progress")]
    pub(crate) fn step_and_part(&self) -> String {
        match self.part {
            Some(part) => format!("{} {part}", self.step),
            None => self.step.clone(),
        }
    }

    /// Refuses what would not fit a statement's name or a line of the journal.
    pub(crate) fn check(&self) -> Result<()> {
        for (what, text) in [("run", &self.run), ("step", &self.step)] {
            let length = text.chars().count();
            if !(1..=MAX_NAME).contains(&length) || text.chars().any(char::is_control) {
                return Err(Error::new(
                    ErrorKind::Invalid,
                    format!("the name of a {what} has 1 to {MAX_NAME} characters, none of them a control character"),
                )
                .with_context(what, text.escape_debug()));
            }
        }
        Ok(())
    }
}

/// Two of these, an attempt and a digest fit the 500 characters of a statement's name.
pub(crate) const MAX_NAME: usize = 200;

impl fmt::Display for StepKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.run, self.step, self.attempt)?;
        self.part.map_or(Ok(()), |part| write!(f, " {part}"))
    }
}
