//! The contract of the handler `glue`, version 1: runs of jobs, tables in the catalog, and exclusions of crawlers.

use std::{collections::BTreeMap, time::Duration};

use hudi_scd::glue::{SyncOptions, SyncReport, crawler::Exclusion};
use redshift_orchestrator::{
    glue::{JobOutcome, JobRun, JobRunState},
    task::TaskOutcomeKind,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use super::statement::Identity;
use crate::{
    Error,
    contract::{LONGEST_CAUSE, VERSION, members, next_poll},
    sentence::cut,
};

/// An event of the handler, with its members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Action {
    /// Starts a run of a job, at most once for each identity.
    Start(Start),
    /// Returns the state of a run.
    Status(Status),
    /// Requests the end of a run, and returns its state.
    Stop(Stop),
    /// Registers a Hudi table in the catalog, or updates its entry to the table's state.
    Sync(Sync),
    /// Excludes Hudi tables from a crawler.
    Exclude(Exclude),
}

/// Members of the action `start`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Start {
    /// The attempt of a state machine that the run belongs to.
    pub identity: Identity,
    /// Name of the job.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub job: String,
    /// Arguments of the run, in place of the job's own. Names begin with `--`. Glue logs them, so do not put
    /// secrets in them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub arguments: BTreeMap<String, String>,
}

/// Members of the action `status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Status {
    /// Name of the job.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub job: String,
    /// Id of the run, from the reply to its start.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub run: String,
    /// Replies with an error that `Retry` and `Catch` match unless the run has succeeded: `Glue.Running`,
    /// `Glue.Failed`, `Glue.Stopped` or `Glue.TimedOut`. Default: `false`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub raise: bool,
}

/// Members of the action `stop`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Stop {
    /// Name of the job.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub job: String,
    /// Id of the run, from the reply to its start.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub run: String,
}

/// Members of the action `sync`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Sync {
    /// URL of the table, such as `s3://lake/clean/customer`.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub table: String,
    /// Name of the database in the catalog. It is created if it is missing.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub database: String,
    /// Name of the table in the catalog. Default: the table's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Options of Hudi's own sync, by name, such as `hoodie.datasource.hive_sync.support_timestamp`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
    /// Replaces a table of the same name that another tool created. Default: `false`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub takeover: bool,
}

/// Members of the action `exclude`. Exactly one of `tables` and `database` is present.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(extend("oneOf" = [
    {"required": ["tables"], "properties": {"tables": {"type": "array"}}},
    {"required": ["database"], "properties": {"database": {"type": "string"}}},
])))]
pub struct Exclude {
    /// Name of the crawler.
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub crawler: String,
    /// URLs of the tables' folders.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub tables: Option<Vec<String>>,
    /// Database of the catalog. All its Hudi tables are excluded.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
    pub database: Option<String>,
    /// Maximum time in seconds to wait for the end of the crawler's run, because Glue refuses to change a
    /// running crawler. The wait ends earlier if the function's time is over. Default: 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(max = 4_294_967_295_u32)))]
    pub wait_seconds: Option<u32>,
}

/// The tables of an [`Exclude`].
pub(crate) enum Selected<'a> {
    Urls(&'a [String]),
    Database(&'a str),
}

impl Exclude {
    pub(crate) fn selected(&self) -> Result<Selected<'_>, Error> {
        match (&self.tables, &self.database) {
            (Some(urls), None) if !urls.is_empty() => Ok(Selected::Urls(urls)),
            (None, Some(database)) if !database.is_empty() => Ok(Selected::Database(database)),
            _ => Err(Error::BadInput(
                "send either `tables`, a list of URLs, or `database`, whose Hudi tables are excluded"
                    .to_owned(),
            )),
        }
    }
}

/// Reply of the handler.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Reply {
    /// A run was started, or found.
    Start(RunState),
    /// The state of a run.
    Status(RunState),
    /// The state of a run after the request to stop it.
    Stop(RunState),
    /// The catalog matches the table.
    Sync(Synced),
    /// The crawler excludes the tables.
    Exclude(Excluded),
}

/// State of a run. Every member is always present, so that any path of a state machine can refer to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RunState {
    /// Version of the contract.
    pub version: u32,
    /// Name of the job.
    pub job: String,
    /// Id of the run; `null` if it is unknown.
    pub run: Option<String>,
    /// State in the service, such as `RUNNING`; `null` in the reply to `start`.
    pub state: Option<String>,
    /// The state as a state machine uses it in a choice.
    pub outcome: Outcome,
    /// `true` if the state is final.
    pub terminal: bool,
    /// Error name for a `Fail` state (`ErrorPath`): `Glue.Failed`, `Glue.Stopped`, `Glue.TimedOut` or
    /// `Glue.Unknown`. `null` while the run lasts and after it has succeeded.
    pub error: Option<String>,
    /// Text for a `Fail` state (`CausePath`). Present whenever `error` is.
    pub cause: Option<String>,
    /// Duration of the run so far in seconds. 0 until the service reports it.
    pub seconds: f64,
    /// A link to the error log, or the name of the log. `null` until Glue has described the run, whose job may
    /// have log groups of its own.
    pub log: Option<String>,
    /// Pause in whole seconds before the next poll, for `SecondsPath`: half of `seconds`, at least 15 and at
    /// most 300.
    pub next_poll_seconds: u32,
}

/// The state of a run as a state machine uses it in a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Outcome {
    /// Not yet ended. Poll again.
    Running,
    /// `SUCCEEDED`.
    Succeeded,
    /// `FAILED`, `ERROR` or `EXPIRED`.
    Failed,
    /// `STOPPED` by a request.
    Stopped,
    /// `TIMEOUT`: ended by the job's own timeout.
    TimedOut,
    /// It is not known whether the run was started. It is not started again until an operator has resolved
    /// this.
    Unknown,
}

/// Reply to `sync`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Synced {
    /// Version of the contract.
    pub version: u32,
    /// The table in the catalog, `database.table`.
    pub table: String,
    /// `true` if the catalog was changed.
    pub changed: bool,
    /// `true` if the table was created in the catalog.
    pub created: bool,
    /// The changes of the table's description, one sentence each. At most 100.
    pub changes: Vec<String>,
    /// Number of created partitions.
    pub partitions_created: u64,
    /// Number of updated partitions.
    pub partitions_updated: u64,
    /// Number of dropped partitions.
    pub partitions_dropped: u64,
}

/// Reply to `exclude`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Excluded {
    /// Version of the contract.
    pub version: u32,
    /// Name of the crawler.
    pub crawler: String,
    /// The added patterns, each with the path of its target.
    pub added: Vec<Pattern>,
    /// The tables that the crawler still reads because no pattern excludes them, one sentence each.
    pub left: Vec<String>,
    /// Time in seconds spent waiting for the end of the crawler's run.
    pub waited_seconds: f64,
}

/// An exclusion pattern.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Pattern {
    /// Path of the crawler's target.
    pub target: String,
    /// The pattern, relative to the path.
    pub pattern: String,
}

/// Maximum number of sentences in a reply.
const MAX_CHANGES: usize = 100;

/// Shortest pause between two polls in seconds.
const FIRST_PAUSE: u32 = 15;

impl Action {
    /// Parses an event.
    ///
    /// # Errors
    /// Returns [`Error::BadInput`] if the event is not a JSON object, has another version, has an unknown
    /// action or member, or lacks a member. The message names the member and quotes no value.
    pub fn parse(event: &str) -> Result<Self, Error> {
        let mut event = members::object(event)?;
        members::take_version(&mut event)?;
        let action = Self::read(event)?;
        action.check()?;
        Ok(action)
    }

    /// Reads each action without its tag. With the tag, serde's messages would not name members.
    fn read(mut event: Map<String, Value>) -> Result<Self, Error> {
        const KNOWN: &str = "use `start`, `status`, `stop`, `sync` or `exclude`";
        let action = event.remove("action");
        let event = Value::Object(event);
        match action.as_ref().map(Value::as_str) {
            None => Err(Error::BadInput(format!("the event lacks the member `action`; {KNOWN}"))),
            Some(Some("start")) => members::read("", event).map(Self::Start),
            Some(Some("status")) => members::read("", event).map(Self::Status),
            Some(Some("stop")) => members::read("", event).map(Self::Stop),
            Some(Some("sync")) => members::read("", event).map(Self::Sync),
            Some(Some("exclude")) => members::read("", event).map(Self::Exclude),
            Some(_) => Err(Error::BadInput(format!("`action` of the event has an unknown value; {KNOWN}"))),
        }
    }

    /// Rejects empty names. The service would reject them with a less specific message.
    fn check(&self) -> Result<(), Error> {
        let names: Vec<(&str, &str)> = match self {
            Self::Start(start) => {
                start.identity.check()?;
                vec![("job", &start.job)]
            }
            Self::Status(status) => vec![("job", &status.job), ("run", &status.run)],
            Self::Stop(stop) => vec![("job", &stop.job), ("run", &stop.run)],
            Self::Sync(sync) => vec![("table", &sync.table), ("database", &sync.database)],
            Self::Exclude(exclude) => {
                exclude.selected()?;
                vec![("crawler", &exclude.crawler)]
            }
        };
        match names.into_iter().find(|(_, value)| value.is_empty()) {
            Some((name, _)) => Err(Error::BadInput(format!("`{name}` of the event is empty; send its name"))),
            None => Ok(()),
        }
    }

    /// Returns the name of the action.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Start(_) => "start",
            Self::Status(_) => "status",
            Self::Stop(_) => "stop",
            Self::Sync(_) => "sync",
            Self::Exclude(_) => "exclude",
        }
    }
}

impl Sync {
    /// Returns the options of the sync.
    ///
    /// # Errors
    /// Returns [`Error::BadInput`] for an option of Hudi's sync that is unknown, has no meaning here, or has an
    /// invalid value.
    pub fn options(&self) -> Result<SyncOptions, Error> {
        let mut options = SyncOptions::new(&self.database, &self.table).with_takeover(self.takeover);
        if let Some(name) = &self.name {
            options = options.with_table(name);
        }
        for (name, value) in &self.options {
            let set = options.with_hudi_option(name, value);
            options =
                set.map_err(|error| Error::BadInput(format!("`options` of the event: {}", error.message())))?;
        }
        Ok(options)
    }
}

impl Outcome {
    fn of(state: &JobRunState) -> Self {
        match state {
            JobRunState::Succeeded => Self::Succeeded,
            JobRunState::Failed | JobRunState::Error | JobRunState::Expired => Self::Failed,
            JobRunState::Stopped => Self::Stopped,
            JobRunState::Timeout => Self::TimedOut,
            _ => Self::Running,
        }
    }

    /// Returns the name for `ErrorEquals`; `None` for a run that succeeded.
    pub fn error_name(self) -> Option<&'static str> {
        match self {
            Self::Succeeded => None,
            Self::Running => Some("Glue.Running"),
            Self::Failed => Some("Glue.Failed"),
            Self::Stopped => Some("Glue.Stopped"),
            Self::TimedOut => Some("Glue.TimedOut"),
            Self::Unknown => Some("Glue.Unknown"),
        }
    }
}

impl RunState {
    /// Creates the state of a run that was started or found just now, and that Glue has not described.
    pub fn started(job: &str, run: &str) -> Self {
        Self::new(job, (Some(run.to_owned()), None, None), Outcome::Running, None, "")
    }

    /// Creates the state of a run from the service's description.
    pub fn described(job: &str, run: &JobRun, region: Option<&str>) -> Self {
        let outcome = Outcome::of(&run.state);
        let cause = run.error.as_deref().unwrap_or("Glue gives no reason; see the log");
        let ids = (Some(run.id.clone()), Some(run.state.to_string()), Some(run.log(region)));
        Self::new(job, ids, outcome, run.execution_time, &format!("{}: {cause}", run.state))
    }

    /// Creates the state of an attempt whose outcome is recorded or unknown.
    pub fn over(outcome: &JobOutcome) -> Self {
        let (end, cause) = match &outcome.kind {
            TaskOutcomeKind::Finished => (Outcome::Succeeded, String::new()),
            TaskOutcomeKind::Failed { error } => (Outcome::Failed, error.clone()),
            TaskOutcomeKind::Aborted { error } => (Outcome::Stopped, error.clone()),
            TaskOutcomeKind::TimedOut { .. } => {
                (Outcome::TimedOut, "the run was stopped after its timeout".to_owned())
            }
            TaskOutcomeKind::Unknown { reason, manual_check } => {
                (Outcome::Unknown, format!("{reason}; {manual_check}"))
            }
            _ => (Outcome::Unknown, outcome.to_string()),
        };
        let ids =
            (outcome.run_id.clone(), outcome.state.as_ref().map(ToString::to_string), outcome.log.clone());
        Self::new(&outcome.job, ids, end, outcome.execution_time, &cause)
    }

    /// Creates a state. `ids` contains the run's id, its state in Glue, and its log. A state with an error
    /// name has a cause.
    fn new(
        job: &str,
        ids: (Option<String>, Option<String>, Option<String>),
        outcome: Outcome,
        time: Option<Duration>,
        cause: &str,
    ) -> Self {
        let (run, state, log) = ids;
        let terminal = outcome != Outcome::Running;
        let error = outcome.error_name().filter(|_| terminal).map(str::to_owned);
        let time = time.unwrap_or_default();
        Self {
            version: VERSION,
            job: job.to_owned(),
            run,
            state,
            outcome,
            terminal,
            cause: error.is_some().then(|| cut(cause, LONGEST_CAUSE)),
            error,
            seconds: time.as_secs_f64(),
            log,
            next_poll_seconds: next_poll(time, FIRST_PAUSE),
        }
    }
}

impl From<&SyncReport> for Synced {
    fn from(report: &SyncReport) -> Self {
        Self {
            version: VERSION,
            table: report.table.clone(),
            changed: !report.is_unchanged(),
            created: report.created,
            changes: report.changes.iter().take(MAX_CHANGES).map(|text| cut(text, 500)).collect(),
            partitions_created: report.partitions_created as u64,
            partitions_updated: report.partitions_updated as u64,
            partitions_dropped: report.partitions_dropped as u64,
        }
    }
}

impl From<&Exclusion> for Excluded {
    fn from(exclusion: &Exclusion) -> Self {
        let pattern = |(target, pattern): &(String, String)| Pattern {
            target: target.clone(),
            pattern: pattern.clone(),
        };
        Self {
            version: VERSION,
            crawler: exclusion.crawler.clone(),
            added: exclusion.added.iter().map(pattern).collect(),
            left: exclusion.left.iter().map(ToString::to_string).collect(),
            waited_seconds: exclusion.waited.as_secs_f64(),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case(json!({ "action": "stop", "version": 2 }), "`version` of the event is not supported; this function supports version 1")]
    #[case(json!({ "version": 1 }), "the event lacks the member `action`; use `start`, `status`, `stop`, `sync` or `exclude`")]
    #[case(json!({ "version": 1, "action": "drop" }), "`action` of the event has an unknown value; use `start`, `status`, `stop`, `sync` or `exclude`")]
    #[case(json!({ "version": 1, "action": "start", "job": "x" }), "the event lacks the member `identity`; add it")]
    #[case(json!({ "version": 1, "action": "start", "job": "x", "identity": { "execution": "", "step": "s" } }), "`execution` of `identity` must have 1 to 512 characters")]
    #[case(json!({ "version": 1, "action": "status", "job": "x" }), "the event lacks the member `run`; add it")]
    #[case(json!({ "version": 1, "action": "status", "job": "", "run": "jr_1" }), "`job` of the event is empty; send its name")]
    #[case(json!({ "version": 1, "action": "stop", "job": "x", "run": "jr_1", "raise": true }), "the event has no member `raise`; use `job` or `run`")]
    fn events_are_explained(#[case] event: Value, #[case] message: &str) {
        assert_eq!(Action::parse(&event.to_string()).unwrap_err().to_string(), message);
    }

    #[test]
    fn an_option_that_makes_no_sense_is_named() {
        let event = json!({
            "version": 1, "action": "sync", "table": "s3://lake/customer", "database": "clean",
            "options": { "hoodie.datasource.hive_sync.support_timestamp": "yes" },
        });
        let Action::Sync(sync) = Action::parse(&event.to_string()).unwrap() else { panic!() };
        let message = sync.options().unwrap_err().to_string();
        assert!(message.contains("support_timestamp"), "{message}");
    }

    #[rstest]
    #[case("SUCCEEDED", Outcome::Succeeded, None)]
    #[case("FAILED", Outcome::Failed, Some("Glue.Failed"))]
    #[case("ERROR", Outcome::Failed, Some("Glue.Failed"))]
    #[case("EXPIRED", Outcome::Failed, Some("Glue.Failed"))]
    #[case("STOPPED", Outcome::Stopped, Some("Glue.Stopped"))]
    #[case("TIMEOUT", Outcome::TimedOut, Some("Glue.TimedOut"))]
    #[case("STOPPING", Outcome::Running, None)]
    #[case("WAITING", Outcome::Running, None)]
    #[case("NEWER", Outcome::Running, None)]
    fn each_state_has_an_outcome(#[case] state: &str, #[case] outcome: Outcome, #[case] error: Option<&str>) {
        let described = RunState::described("clean", &JobRun::new("jr_1", state.into()), None);
        assert_eq!((described.outcome, described.error.as_deref()), (outcome, error));
        assert_eq!(described.cause.is_some(), error.is_some());
        assert_eq!(described.terminal, outcome != Outcome::Running);
    }

    #[test]
    fn pauses_grow_with_the_run() {
        assert_eq!(
            [0, 30, 100, 7_200].map(|age| next_poll(Duration::from_secs(age), FIRST_PAUSE)),
            [15, 15, 50, 300]
        );
    }
}
