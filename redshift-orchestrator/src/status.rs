//! [`Status`]: where a statement is on its way.

use std::{convert::Infallible, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Where a statement is on its way through the service.
///
/// ```text
/// SUBMITTED -> PICKED -> STARTED -> FINISHED
///     |          |          |----> FAILED     the statement's own error
///     `----------`----------`----> ABORTED    cancelled, or stopped by the service
/// ```
///
/// A text that this version does not know is kept in [`Other`](Self::Other) and counts as still running: a statement is
/// never reported as ended because of a word that nobody has explained.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Status {
    /// Accepted, not looked at yet.
    Submitted,
    /// Chosen to be run.
    Picked,
    /// Running.
    Started,
    /// Ended well.
    Finished,
    /// Ended with an error.
    Failed,
    /// Ended by a cancellation.
    Aborted,
    /// A status that this version does not know, as the service wrote it.
    Other(String),
}

impl Status {
    /// Whether a statement in this status stays in it.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Finished | Self::Failed | Self::Aborted)
    }

    /// The service's word for it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Submitted => "SUBMITTED",
            Self::Picked => "PICKED",
            Self::Started => "STARTED",
            Self::Finished => "FINISHED",
            Self::Failed => "FAILED",
            Self::Aborted => "ABORTED",
            Self::Other(text) => text,
        }
    }
}

impl From<&str> for Status {
    fn from(text: &str) -> Self {
        match text {
            "SUBMITTED" => Self::Submitted,
            "PICKED" => Self::Picked,
            "STARTED" => Self::Started,
            "FINISHED" => Self::Finished,
            "FAILED" => Self::Failed,
            "ABORTED" => Self::Aborted,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl FromStr for Status {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(text.into())
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for Status {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Status {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from(String::deserialize(deserializer)?.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_words_it_does_not_know_and_goes_on_waiting() {
        let status = Status::from("HIBERNATING");
        assert_eq!(status.as_str(), "HIBERNATING");
        assert!(!status.is_terminal());
    }

    #[test]
    fn every_known_word_survives_the_round_trip() {
        for word in ["SUBMITTED", "PICKED", "STARTED", "FINISHED", "FAILED", "ABORTED"] {
            let status = Status::from(word);
            assert!(!matches!(status, Status::Other(_)));
            assert_eq!(status.as_str(), word);
        }
    }
}
