//! [`Status`]: the state of a statement in the service.

use std::{convert::Infallible, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// State of a statement in the service.
///
/// ```text
/// SUBMITTED -> PICKED -> STARTED -> FINISHED
///     |          |          |----> FAILED     the statement's own error
///     `----------`----------`----> ABORTED    cancelled, or stopped by the service
/// ```
///
/// A status that is unknown to this version becomes [`Other`](Self::Other) and counts as still running: an
/// unknown status must never end a wait.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Status {
    /// Accepted, not yet picked.
    Submitted,
    /// Picked for execution.
    Picked,
    /// Running.
    Started,
    /// Ended successfully.
    Finished,
    /// Ended with an error.
    Failed,
    /// Cancelled, or stopped by the service.
    Aborted,
    /// A status that is unknown to this version, with the service's text.
    Other(String),
}

impl Status {
    /// Returns `true` for a final status.
    pub fn is_terminal(&self) -> bool {
        matches!(self, Self::Finished | Self::Failed | Self::Aborted)
    }

    /// Returns the service's text for this status.
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
    fn an_unknown_status_keeps_its_text_and_is_not_terminal() {
        let status = Status::from("HIBERNATING");
        assert_eq!(status.as_str(), "HIBERNATING");
        assert!(!status.is_terminal());
    }

    #[test]
    fn every_known_status_survives_the_round_trip() {
        for word in ["SUBMITTED", "PICKED", "STARTED", "FINISHED", "FAILED", "ABORTED"] {
            let status = Status::from(word);
            assert!(!matches!(status, Status::Other(_)));
            assert_eq!(status.as_str(), word);
        }
    }
}
