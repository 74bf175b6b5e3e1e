//! [`Reply`]: the replies of the handler `statement`.

use std::time::Duration;

use redshift_orchestrator::{Description, Error as ServiceError, FailureKind, Status, SubStatement};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    contract::{LONGEST_CAUSE, VERSION, next_poll},
    sentence::{LONGEST_ID, cut},
};

/// A reply of the handler `statement`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Reply {
    /// Reply to `submit`, `status`, `wait` and `cancel`.
    State(Box<State>),
    /// Reply to `result`.
    Result(ResultPage),
    /// Reply to `list`.
    List(Listing),
}

/// State of a statement. Every member is always present, so that any path of a state machine can refer to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct State {
    /// Version of the contract.
    pub version: u32,
    /// Id of the statement.
    pub id: String,
    /// Status in the service: `SUBMITTED`, `PICKED`, `STARTED`, `FINISHED`, `FAILED`, `ABORTED`, or a status
    /// that is newer than this version. `EXPIRED` if the service has deleted the record.
    pub status: String,
    /// The status as a state machine uses it in a choice.
    pub outcome: Outcome,
    /// `true` if the status is final.
    pub terminal: bool,
    /// Error name for a `Fail` state (`ErrorPath`): `Statement.Failed`, `Statement.Aborted` or
    /// `Statement.Unknown`. `null` while the statement runs and after it has finished.
    pub error: Option<String>,
    /// Text for a `Fail` state (`CausePath`): the database's error text, or the reason why the outcome is
    /// unknown. Present whenever `error` is.
    pub cause: Option<String>,
    /// Reason for the failure, by its name in pipeline files, such as `serialization-conflict`. It determines
    /// whether the step is attempted again. `null` unless the statement failed or was aborted.
    pub failure: Option<FailureKind>,
    /// Execution time in the database in seconds. 0 until the service reports it.
    pub seconds: f64,
    /// Number of rows in the result, or of rows that the statement affected.
    pub rows: Option<u64>,
    /// `true` if there is a result to read.
    pub has_result: bool,
    /// Id of the session, if it is kept open.
    pub session: Option<String>,
    /// Pause in whole seconds before the next poll, for `SecondsPath`: half of the statement's age, at least
    /// the first interval and at most 300.
    pub next_poll_seconds: u32,
    /// The statements of a batch, in order.
    pub statements: Vec<SubState>,
    /// The time since the submit, for the metrics alone.
    #[serde(skip)]
    pub age: Duration,
}

/// The status of a statement as a state machine uses it in a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Outcome {
    /// Not yet ended. Poll again.
    Running,
    /// `FINISHED`.
    Succeeded,
    /// `FAILED`.
    Failed,
    /// `ABORTED`: cancelled, or stopped by the service.
    Aborted,
    /// The record has expired, or the status is newer than this version. Look up the effect of the statement
    /// before you run it again.
    Unknown,
}

/// State of one statement of a batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SubState {
    /// Id for reading its result: the id of the batch, followed by `:1`, `:2`, and so on.
    pub id: String,
    /// Status in the service.
    pub status: String,
    /// The database's error text, if the statement failed.
    pub cause: Option<String>,
    /// Execution time in the database in seconds.
    pub seconds: f64,
    /// Number of rows in the result, or of rows that the statement affected.
    pub rows: Option<u64>,
    /// `true` if there is a result to read.
    pub has_result: bool,
}

/// A page of a result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ResultPage {
    /// Version of the contract.
    pub version: u32,
    /// Id of the statement.
    pub id: String,
    /// The columns in order.
    pub columns: Vec<Column>,
    /// The rows in order, one value per column: `null`, a boolean, a number, a string, or bytes in Base64.
    /// `null` if the result is stored as CSV.
    pub rows: Option<Vec<Vec<Value>>>,
    /// A part of the result as CSV. `null` if the result is stored as JSON.
    pub csv: Option<String>,
    /// Number of rows in the complete result, if the service returned it.
    pub total_rows: Option<u64>,
    /// Value of `page` for the next page. `null` on the last page.
    pub next: Option<String>,
}

/// A column of a result or a table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Column {
    /// Name.
    pub name: String,
    /// Type in the database, such as `int4`, `numeric` or `varchar`.
    #[serde(rename = "type")]
    pub type_name: String,
}

/// A page of a listing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Listing {
    /// Version of the contract.
    pub version: u32,
    /// The entries: strings for databases and schemas, and otherwise objects.
    pub entries: Vec<Value>,
    /// Value of `page` for the next page. `null` on the last page.
    pub next: Option<String>,
}

/// Maximum length of the cause of one statement of a batch.
const LONGEST_SUB_CAUSE: usize = 500;

/// First interval between two polls in seconds, if the event does not set it.
const FIRST_PAUSE: u32 = 5;

impl State {
    /// Creates the state of a statement that was submitted just now.
    pub fn submitted(submitted: &redshift_orchestrator::Submitted) -> Self {
        let status = submitted.status.clone().unwrap_or(Status::Submitted);
        let mut description = Description::new(submitted.id.clone(), status);
        description.session_id = submitted.session_id.clone();
        Self::described(&description)
    }

    /// Creates the state from a description.
    pub fn described(description: &Description) -> Self {
        let outcome = Outcome::of(&description.status);
        let cause = cause(description, outcome);
        Self {
            version: VERSION,
            id: description.id.to_string(),
            status: description.status.to_string(),
            outcome,
            terminal: description.status.is_terminal(),
            error: outcome.error_name().map(str::to_owned),
            failure: match outcome {
                Outcome::Failed => Some(FailureKind::from_error_text(cause.as_deref().unwrap_or_default())),
                Outcome::Aborted => Some(FailureKind::Aborted),
                Outcome::Running | Outcome::Succeeded | Outcome::Unknown => None,
            },
            cause,
            seconds: seconds(description.execution_time),
            rows: description.result_rows,
            has_result: description.has_result_set,
            session: description.session_id.as_ref().map(ToString::to_string),
            next_poll_seconds: FIRST_PAUSE,
            statements: description.sub_statements.iter().map(SubState::described).collect(),
            age: Duration::ZERO,
        }
    }

    /// Creates the state of a statement whose record the service has deleted.
    pub fn expired(id: &str, error: &ServiceError) -> Self {
        let description = Description::new(
            redshift_orchestrator::StatementId::new(id),
            Status::Other("EXPIRED".to_owned()),
        );
        let cause = format!(
            "the service has deleted the record of statement {}, which it does after 24 hours, so its outcome is unknown; \
             look in SYS_QUERY_HISTORY before running it again ({})",
            cut(id, LONGEST_ID),
            error.message()
        );
        Self { terminal: true, cause: Some(cut(&cause, LONGEST_CAUSE)), ..Self::described(&description) }
    }

    /// Sets the age, and the pause before the next poll that follows from it.
    #[must_use]
    pub fn with_age(mut self, age: Duration, first: Option<u32>) -> Self {
        self.age = age;
        self.next_poll_seconds = next_poll(age, first.unwrap_or(FIRST_PAUSE));
        self
    }
}

impl Outcome {
    /// Returns the outcome for a status.
    pub fn of(status: &Status) -> Self {
        match status {
            Status::Submitted | Status::Picked | Status::Started => Self::Running,
            Status::Finished => Self::Succeeded,
            Status::Failed => Self::Failed,
            Status::Aborted => Self::Aborted,
            _ => Self::Unknown,
        }
    }

    /// Returns the error name of an outcome that is not a success.
    pub fn error_name(self) -> Option<&'static str> {
        match self {
            Self::Running | Self::Succeeded => None,
            Self::Failed => Some("Statement.Failed"),
            Self::Aborted => Some("Statement.Aborted"),
            Self::Unknown => Some("Statement.Unknown"),
        }
    }
}

/// Returns the cause of an outcome that is not a success: the database's message, if there is one.
fn cause(description: &Description, outcome: Outcome) -> Option<String> {
    outcome.error_name()?;
    let own = description.error.as_deref().filter(|error| !error.trim().is_empty());
    let of_part = || {
        let failed = description.sub_statements.iter().enumerate().find_map(|(index, sub)| {
            sub.error.as_deref().filter(|error| !error.trim().is_empty()).map(|error| (index + 1, error))
        });
        failed.map(|(number, error)| format!("statement {number} of the batch: {error}"))
    };
    let text = own.map(str::to_owned).or_else(of_part).unwrap_or_else(|| match outcome {
        Outcome::Aborted => "the statement was cancelled, or stopped by the service".to_owned(),
        Outcome::Unknown => format!(
            "the service reports the status {}, which this version does not know; look up statement {} before running it again",
            description.status, description.id
        ),
        _ => format!("the database gave no reason for the failure of statement {}", description.id),
    });
    Some(cut(&text, LONGEST_CAUSE))
}

fn seconds(duration: Option<Duration>) -> f64 {
    // Milliseconds are precise enough and keep the number short.
    duration.map_or(0.0, |duration| duration.as_millis() as f64 / 1000.0)
}

impl SubState {
    fn described(sub: &SubStatement) -> Self {
        Self {
            id: sub.id.to_string(),
            status: sub.status.to_string(),
            cause: sub.error.as_deref().map(|error| cut(error, LONGEST_SUB_CAUSE)),
            seconds: seconds(sub.execution_time),
            rows: sub.result_rows,
            has_result: sub.has_result_set,
        }
    }
}

#[cfg(test)]
mod tests {
    use redshift_orchestrator::StatementId;
    use rstest::rstest;

    use super::*;

    fn state(status: &str, error: Option<&str>) -> State {
        let mut description = Description::new(StatementId::new("q-1"), Status::from(status));
        description.error = error.map(str::to_owned);
        State::described(&description)
    }

    #[rstest]
    #[case("SUBMITTED", Outcome::Running, false, None)]
    #[case("STARTED", Outcome::Running, false, None)]
    #[case("FINISHED", Outcome::Succeeded, true, None)]
    #[case("FAILED", Outcome::Failed, true, Some("Statement.Failed"))]
    #[case("ABORTED", Outcome::Aborted, true, Some("Statement.Aborted"))]
    #[case("HIBERNATING", Outcome::Unknown, false, Some("Statement.Unknown"))]
    fn a_state_machine_branches_on_the_outcome(
        #[case] status: &str,
        #[case] outcome: Outcome,
        #[case] terminal: bool,
        #[case] error: Option<&str>,
    ) {
        let state = state(status, None);
        assert_eq!((state.status.as_str(), state.outcome, state.terminal), (status, outcome, terminal));
        assert_eq!(state.error.as_deref(), error);
        assert_eq!(state.cause.is_some(), error.is_some(), "a Fail state finds a text");
    }

    #[test]
    fn the_cause_is_the_real_text_and_the_failure_decides_about_a_retry() {
        let text = "ERROR: 1023 Serializable isolation violation on table";
        let state = state("FAILED", Some(text));
        assert_eq!(state.cause.as_deref(), Some(text));
        assert_eq!(state.failure, Some(FailureKind::SerializationConflict));
    }

    #[test]
    fn a_failed_part_gives_its_batch_a_cause() {
        let mut description = Description::new(StatementId::new("q-1"), Status::Failed);
        let mut second = SubStatement::new(StatementId::new("q-1:2"), Status::Failed);
        second.error = Some("ERROR: division by zero".to_owned());
        description.sub_statements =
            vec![SubStatement::new(StatementId::new("q-1:1"), Status::Finished), second];
        let state = State::described(&description);
        assert_eq!(state.cause.as_deref(), Some("statement 2 of the batch: ERROR: division by zero"));
        assert_eq!(state.statements[1].cause.as_deref(), Some("ERROR: division by zero"));
    }

    #[test]
    fn pauses_grow_with_the_age_and_have_a_limit() {
        let pause =
            |age, first| state("STARTED", None).with_age(Duration::from_secs(age), first).next_poll_seconds;
        assert_eq!([0, 8, 20, 100, 600, 86_400].map(|age| pause(age, None)), [5, 5, 10, 50, 300, 300]);
        assert_eq!([0, 100, 600].map(|age| pause(age, Some(30))), [30, 50, 300]);
        assert_eq!([0, 3_600].map(|age| pause(age, Some(900))), [300, 300]);
        assert_eq!(pause(0, Some(0)), 1);
    }
}
