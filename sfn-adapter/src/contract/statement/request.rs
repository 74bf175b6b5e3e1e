//! [`Request`]: the events of the handler `statement`.

use std::{collections::BTreeMap, fmt};

use redshift_orchestrator::Value as Bound;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    Error,
    contract::{LONGEST_POLL, VERSION, members},
    sentence::LONGEST_ID,
};

/// An event of the handler `statement`.
///
/// `Debug` prints neither SQL nor values.
#[derive(Clone, PartialEq)]
pub struct Request {
    /// The attempt of a state machine that the event belongs to. A submit requires it, or a `token`. Other
    /// actions only log it.
    pub identity: Option<Identity>,
    /// The action, with its members.
    pub action: Action,
}

/// An attempt at a step of an execution. A statement runs at most once in it.
///
/// Never include the retry count of a state (`$$.State.RetryCount`): a retry after a lost reply would run the
/// statement a second time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `execution`, `redrive`, `step` and `attempt`")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Identity {
    /// ARN of the execution: `$$.Execution.Id`.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 512)))]
    pub execution: String,
    /// Number of redrives of the execution: `$$.Execution.RedriveCount`. Default: 0.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(range(max = 4_294_967_295_u32)))]
    pub redrive: u32,
    /// Name of the step, unique in the state machine.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 200)))]
    pub step: String,
    /// Number of the attempt, starting at 1. Use a variable of the state machine that grows when the step is
    /// run again on purpose. Default: 1.
    #[serde(default = "first")]
    #[cfg_attr(feature = "schema", schemars(range(max = 4_294_967_295_u32)))]
    pub attempt: u32,
}

/// An action with its members.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Action {
    /// Submits a statement, a batch or the call of a procedure.
    Submit(Box<Submit>),
    /// Returns the status of a statement at once.
    Status(Poll),
    /// Waits for the end of a statement, within the function's remaining time, and returns its status.
    Wait(Poll),
    /// Requests the cancellation of a statement, and returns its status.
    Cancel(Cancel),
    /// Returns a page of the result of a finished statement or sub-statement.
    Result(ReadResult),
    /// Lists statements, sessions, or the objects of a database.
    List(Box<List>),
}

/// Members of the action `submit`. Exactly one of `sql`, `batch` and `call` is present.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(extend(
    "oneOf" = [
        {"required": ["sql"], "properties": {"sql": {"type": "string"}}},
        {"required": ["batch"], "properties": {"batch": {"type": "array"}}},
        {"required": ["call"], "properties": {"call": {"type": "string"}}},
    ],
    "anyOf" = [
        {"required": ["identity"], "properties": {"identity": {"type": "object"}}},
        {"required": ["token"], "properties": {"token": {"type": "string"}}},
    ],
    "if" = {"required": ["execution_mode"], "properties": {"execution_mode": {"type": "string"}}},
    "then" = {"required": ["batch"], "properties": {"batch": {"type": "array"}}},
)))]
pub struct Submit {
    /// One SQL statement. It is rejected if it consists of white space and comments.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(extend("pattern" = "\\S")))]
    pub sql: Option<String>,
    /// 1 to 40 SQL statements, run in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 40)))]
    #[cfg_attr(feature = "schema", schemars(extend("items" = {"type": "string", "pattern": "\\S"})))]
    pub batch: Option<Vec<String>>,
    /// Call of a stored procedure without the word `CALL`: `mystore.load_sales(:cycle)`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(extend(
        "pattern" = "\\S", "not" = {"type": "string", "pattern": "^\\s*[Cc][Aa][Ll][Ll](\\s|$)"},
    )))]
    pub call: Option<String>,
    /// Commit mode of a batch. Default: `transaction`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution_mode: Option<Mode>,
    /// Values of the placeholders `:name` in the SQL. Send decimals as strings, because a JSON number may
    /// lose digits.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, Scalar>,
    /// Database and user, in place of the function's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// Id of a session to run in, from the reply to an earlier submit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// Time in seconds for which the session stays open after the statement. At most 86,400.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(max = 86_400)))]
    pub session_keep_alive_seconds: Option<u32>,
    /// Name of the statement, for listing it. Default: derived from `identity`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Client token of 1 to 64 characters, in place of the token derived from `identity`. Within 8 hours, the
    /// service runs only one statement for equal tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 64)))]
    pub token: Option<String>,
    /// Task token of a state with `.waitForTaskToken`. It becomes a part of the statement's name, and the
    /// handler `callback` completes the task when the statement ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_token: Option<String>,
    /// Sends an event to EventBridge when the statement ends. Default: `true` with a task token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<bool>,
    /// Format in which the result is stored. Default: `json`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result_format: Option<ResultFormat>,
    /// Time in seconds for which the reply waits for the statement to end. Default: 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(max = 4_294_967_295_u32)))]
    pub wait_seconds: Option<u32>,
    /// First interval in seconds between two polls, at most 300. Default: 5.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 300)))]
    pub poll_seconds: Option<u32>,
}

/// Members of the actions `status` and `wait`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Poll {
    /// Id of the statement, from the reply to its submit.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 200)))]
    pub id: String,
    /// Maximum time of `wait` in seconds. Default: the function's remaining time. Has no effect on `status`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(max = 4_294_967_295_u32)))]
    pub wait_seconds: Option<u32>,
    /// First interval in seconds between two polls, at most 300. Default: 5.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 300)))]
    pub poll_seconds: Option<u32>,
    /// Replies with an error that `Retry` and `Catch` match unless the statement has finished:
    /// `Statement.Running`, `Statement.Failed`, `Statement.Aborted` or `Statement.Unknown`. A state machine
    /// that polls through `Retry` adds three events to the history for each poll instead of nine. Default:
    /// `false`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub raise: bool,
}

/// Members of the action `cancel`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Cancel {
    /// Id of the statement.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 200)))]
    pub id: String,
    /// Time in seconds for which the reply waits for the statement to end. Default: 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(max = 4_294_967_295_u32)))]
    pub wait_seconds: Option<u32>,
}

/// Members of the action `result`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ReadResult {
    /// Id of the statement or sub-statement.
    #[cfg_attr(feature = "schema", schemars(length(min = 1, max = 200)))]
    pub id: String,
    /// Value of `next` on the previous page. Default: the first page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page: Option<String>,
    /// Maximum number of rows in the reply, for results in JSON. Default: one page of the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 4_294_967_295_u32)))]
    pub max_rows: Option<u32>,
}

/// Members of the action `list`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct List {
    /// Kind of the entries.
    pub of: Listed,
    /// Database and user of the connection, in place of the function's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// Database whose objects are listed, if it differs from the database of the connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// Schema: a pattern for schemas and tables (`%` and `_` are wildcards), a name for columns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// Table: a pattern for tables, a name for columns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// Prefix of the names of statements.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name_prefix: Option<String>,
    /// Status of the statements or sessions. Default: all statements, and open sessions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Value of `next` on the previous page. Default: the first page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page: Option<String>,
    /// Number of entries per page. At most 100 for statements and sessions, and 1,000 for the other kinds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 1000)))]
    pub page_size: Option<u16>,
}

/// Kind of the entries in a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Listed {
    /// Statements of the last 24 hours, newest first.
    Statements,
    /// Sessions of the last 24 hours.
    Sessions,
    /// Databases.
    Databases,
    /// Schemas of a database.
    Schemas,
    /// Tables and views of a database.
    Tables,
    /// Columns of a table.
    Columns,
}

/// Commit mode of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Mode {
    /// All statements in one transaction; any failure rolls back all of them.
    Transaction,
    /// Each statement commits on its own; a failure leaves the other statements unaffected.
    AutoCommit,
}

/// Format of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum ResultFormat {
    /// Typed fields.
    Json,
    /// Text.
    Csv,
}

/// A database and the authentication for its statements, as in a pipeline file. Exactly one of `cluster` and
/// `workgroup` is present.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `cluster` or `workgroup`, and `database`")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(extend(
    "oneOf" = [
        {"required": ["cluster"], "properties": {"cluster": {"type": "string"}}},
        {"required": ["workgroup"], "properties": {"workgroup": {"type": "string"}}},
    ],
    "if" = {"required": ["database_user"], "properties": {"database_user": {"type": "string"}}},
    "then" = {
        "required": ["cluster"],
        "properties": {"cluster": {"type": "string"}, "secret": {"type": "null"}},
    },
)))]
pub struct Target {
    /// Identifier of a provisioned cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Name of a serverless workgroup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workgroup: Option<String>,
    /// Name of the database.
    pub database: String,
    /// Database user for temporary credentials; clusters only. Default: the function's IAM identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database_user: Option<String>,
    /// ARN of the secret that contains the credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// Value of a parameter. The database casts it to the type that the SQL requires. `null` is SQL's NULL.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "must be a string, a number, true, false or null")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Scalar {
    /// NULL.
    Null,
    /// A boolean.
    Boolean(bool),
    /// A number.
    Number(serde_json::Number),
    /// A string.
    Text(String),
}

fn first() -> u32 {
    1
}

/// Maximum time in seconds for which the service keeps a session open.
const KEEP_ALIVE: u32 = 86_400;

/// Maximum lengths of `execution` and `step` in characters. They are part of the statement's name.
const LONGEST: [usize; 2] = [512, 200];

impl Identity {
    /// Rejects names that are empty, which would make different attempts equal, or too long.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let members = [("execution", &self.execution), ("step", &self.step)];
        for ((name, text), longest) in members.into_iter().zip(LONGEST) {
            if !(1..=longest).contains(&text.chars().count()) {
                return Err(Error::BadInput(format!(
                    "`{name}` of `identity` must have 1 to {longest} characters"
                )));
            }
        }
        Ok(())
    }
}

impl Request {
    /// Parses an event.
    ///
    /// # Errors
    /// Returns [`Error::BadInput`] if the event is not a JSON object, has another version, has an unknown
    /// action or member, or lacks a member. The message names the member and quotes no value.
    pub fn parse(event: &str) -> Result<Self, Error> {
        let mut event = members::object(event)?;
        members::take_version(&mut event)?;
        let identity = match event.remove("identity") {
            None | Some(Value::Null) => None,
            Some(identity) => Some(members::read::<Identity>("identity", identity)?),
        };
        identity.as_ref().map_or(Ok(()), Identity::check)?;
        let action = Action::read(event)?;
        action.check()?;
        Ok(Self { identity, action })
    }
}

impl Action {
    fn read(mut event: Map<String, Value>) -> Result<Self, Error> {
        const KNOWN: &str = "use `submit`, `status`, `wait`, `cancel`, `result` or `list`";
        let action = event.remove("action");
        let event = Value::Object(event);
        match action.as_ref().map(Value::as_str) {
            None => Err(Error::BadInput(format!("the event lacks the member `action`; {KNOWN}"))),
            Some(Some("submit")) => members::read("", event).map(Self::Submit),
            Some(Some("status")) => members::read("", event).map(Self::Status),
            Some(Some("wait")) => members::read("", event).map(Self::Wait),
            Some(Some("cancel")) => members::read("", event).map(Self::Cancel),
            Some(Some("result")) => members::read("", event).map(Self::Result),
            Some(Some("list")) => members::read("", event).map(Self::List),
            Some(_) => Err(Error::BadInput(format!("`action` of the event has an unknown value; {KNOWN}"))),
        }
    }

    /// Returns the id of the statement that the action is about.
    fn id(&self) -> Option<&str> {
        match self {
            Self::Submit(_) | Self::List(_) => None,
            Self::Status(poll) | Self::Wait(poll) => Some(&poll.id),
            Self::Cancel(cancel) => Some(&cancel.id),
            Self::Result(read) => Some(&read.id),
        }
    }

    /// Rejects numbers and ids outside of the ranges in the JSON Schema.
    fn check(&self) -> Result<(), Error> {
        let poll_seconds = |value: Option<u32>| match value {
            Some(seconds) if !(1..=LONGEST_POLL).contains(&seconds) => {
                Err(Error::BadInput(format!("`poll_seconds` of the event must be 1 to {LONGEST_POLL}")))
            }
            _ => Ok(()),
        };
        if self.id().is_some_and(|id| !(1..=LONGEST_ID).contains(&id.chars().count())) {
            return Err(Error::BadInput(format!("`id` of the event must have 1 to {LONGEST_ID} characters")));
        }
        match self {
            Self::Submit(submit)
                if submit.session_keep_alive_seconds.is_some_and(|time| time > KEEP_ALIVE) =>
            {
                Err(Error::BadInput(
                    "`session_keep_alive_seconds` of the event must be 0 to 86,400".to_owned(),
                ))
            }
            Self::Submit(submit) => poll_seconds(submit.poll_seconds),
            Self::Status(poll) | Self::Wait(poll) => poll_seconds(poll.poll_seconds),
            Self::Result(read) if read.max_rows == Some(0) => {
                Err(Error::BadInput("`max_rows` of the event must be at least 1".to_owned()))
            }
            Self::Result(_) => Ok(()),
            Self::List(list) if list.page_size.is_some_and(|size| !(1..=1_000).contains(&size)) => {
                Err(Error::BadInput("`page_size` of the event must be 1 to 1,000".to_owned()))
            }
            Self::List(_) | Self::Cancel(_) => Ok(()),
        }
    }

    /// Returns the name of the action.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Submit(_) => "submit",
            Self::Status(_) => "status",
            Self::Wait(_) => "wait",
            Self::Cancel(_) => "cancel",
            Self::Result(_) => "result",
            Self::List(_) => "list",
        }
    }
}

/// Writes the event in the form that `parse` reads.
impl Serialize for Request {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Event<'a> {
            version: u32,
            #[serde(skip_serializing_if = "Option::is_none")]
            identity: Option<&'a Identity>,
            #[serde(flatten)]
            action: &'a Action,
        }
        let event = Event { version: VERSION, identity: self.identity.as_ref(), action: &self.action };
        event.serialize(serializer)
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.action.name();
        f.debug_struct("Request").field("action", &name).field("identity", &self.identity).finish()
    }
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Action").field(&self.name()).finish()
    }
}

impl fmt::Debug for Submit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Submit").field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut target = f.debug_struct("Target");
        target.field("cluster", &self.cluster).field("workgroup", &self.workgroup);
        target.field("database", &self.database).finish_non_exhaustive()
    }
}

impl fmt::Debug for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scalar(..)")
    }
}

impl From<&Scalar> for Bound {
    fn from(scalar: &Scalar) -> Self {
        match scalar {
            Scalar::Null => Self::NULL,
            Scalar::Boolean(value) => Self::from(*value),
            Scalar::Number(value) => Self::from(value.to_string()),
            Scalar::Text(value) => Self::from(value),
        }
    }
}

impl Submit {
    /// Returns the statement without its name and its client token.
    ///
    /// # Errors
    /// Returns [`Error::BadInput`] unless exactly one of `sql`, `batch` and `call` is present, and if the
    /// statement violates a rule of the service.
    pub fn statement(&self) -> Result<redshift_orchestrator::Statement, Error> {
        use redshift_orchestrator::{ExecutionMode, SessionId, Statement};
        let mut statement = match (&self.sql, &self.batch, &self.call) {
            (Some(sql), None, None) if is_empty_sql(sql) => {
                return Err(Error::BadInput("`sql` is empty; send a statement".to_owned()));
            }
            (Some(sql), None, None) => Statement::sql(sql),
            (None, Some(batch), None) => Statement::batch(check_batch(batch)?),
            (None, None, Some(call)) => Statement::sql(call_of(call)?),
            _ => {
                let text = "a submit must have exactly one of `sql`, `batch` and `call`";
                return Err(Error::BadInput(text.to_owned()));
            }
        };
        if let Some(mode) = self.execution_mode {
            if self.batch.is_none() {
                let text = "only a submit with `batch` may have an `execution_mode`";
                return Err(Error::BadInput(text.to_owned()));
            }
            statement = statement.with_execution_mode(match mode {
                Mode::Transaction => ExecutionMode::Transaction,
                Mode::AutoCommit => ExecutionMode::AutoCommit,
            });
        }
        for (name, value) in &self.parameters {
            statement = statement.bind(name, value);
        }
        if let Some(target) = &self.target {
            statement = statement.with_target(target.resolve()?);
        }
        if let Some(session) = &self.session {
            statement = statement.in_session(SessionId::new(session));
        }
        if let Some(seconds) = self.session_keep_alive_seconds {
            statement = statement.with_session_keep_alive(std::time::Duration::from_secs(u64::from(seconds)));
        }
        if self.result_format == Some(ResultFormat::Csv) {
            statement = statement.with_result_format(redshift_orchestrator::ResultFormat::Csv);
        }
        let statement = statement.with_event(self.event.unwrap_or(self.task_token.is_some()));
        statement.check().map_err(|error| Error::BadInput(crate::sentence::reason(&error)))?;
        Ok(statement)
    }
}

fn check_batch(batch: &[String]) -> Result<&[String], Error> {
    let most = redshift_orchestrator::MAX_BATCH;
    match batch.len() {
        0 => Err(Error::BadInput("`batch` is empty; send at least one SQL statement".to_owned())),
        count if count > most => Err(Error::BadInput(format!(
            "`batch` has {count} SQL statements, but the service accepts at most {most}; submit them as several batches"
        ))),
        _ => match batch.iter().position(|sql| is_empty_sql(sql)) {
            Some(number) => {
                Err(Error::BadInput(format!("`batch[{number}]` is empty; send a statement, or remove it")))
            }
            None => Ok(batch),
        },
    }
}

/// Returns `true` for white space, comments and semicolons.
fn is_empty_sql(sql: &str) -> bool {
    let mut rest = sql;
    loop {
        rest = rest.trim_start_matches(|character: char| character.is_whitespace() || character == ';');
        if let Some(comment) = rest.strip_prefix("--") {
            rest = comment.split_once('\n').map_or("", |(_, rest)| rest);
        } else if let Some(comment) = rest.strip_prefix("/*") {
            rest = after_comment(comment);
        } else {
            return rest.is_empty();
        }
    }
}

/// Returns the text after a comment that has begun. Comments can be nested.
fn after_comment(mut rest: &str) -> &str {
    let mut depth = 1;
    while depth > 0 {
        let end = rest.find("*/");
        match rest.find("/*").filter(|begin| end.is_none_or(|end| *begin < end)) {
            Some(begin) => (rest, depth) = (&rest[begin + 2..], depth + 1),
            None => (rest, depth) = (end.map_or("", |end| &rest[end + 2..]), depth - 1),
        }
        if rest.is_empty() {
            return rest;
        }
    }
    rest
}

fn call_of(call: &str) -> Result<String, Error> {
    let first = call.split_whitespace().next().unwrap_or_default();
    match (first, call.contains('(')) {
        ("", _) => Err(Error::BadInput("`call` is empty; send the text that follows `CALL`".to_owned())),
        (first, _) if first.eq_ignore_ascii_case("CALL") => {
            Err(Error::BadInput("`call` is written without the word `CALL`; remove it".to_owned()))
        }
        (_, true) => Ok(format!("CALL {call}")),
        (_, false) => Ok(format!("CALL {call}()")),
    }
}

impl Target {
    /// Returns the target in the form that an executor needs.
    ///
    /// # Errors
    /// Returns [`Error::BadInput`] unless exactly one of `cluster` and `workgroup` is present, and if the
    /// authentication settings contradict each other.
    pub fn resolve(&self) -> Result<redshift_orchestrator::Target, Error> {
        use redshift_orchestrator::Target;
        let wrong = |text: &str| Err(Error::BadInput(text.to_owned()));
        let target = match (&self.cluster, &self.workgroup) {
            (Some(cluster), None) => Target::cluster(cluster, &self.database),
            (None, Some(workgroup)) => Target::workgroup(workgroup, &self.database),
            _ => return wrong("`target` must have exactly one of `cluster` and `workgroup`"),
        };
        Ok(match (&self.database_user, &self.secret) {
            (None, None) => target,
            (None, Some(secret)) => target.with_secret(secret),
            (Some(_), None) if self.cluster.is_none() => {
                return wrong("`database_user` of `target` needs a `cluster`; use `secret` with a workgroup");
            }
            (Some(user), None) => target.with_database_user(user),
            (Some(_), Some(_)) => {
                return wrong("`target` must have at most one of `database_user` and `secret`");
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case(json!({ "action": "status", "id": "q-1", "poll_seconds": 0 }), "`poll_seconds` of the event must be 1 to 300")]
    #[case(json!({ "action": "submit", "sql": "x", "poll_seconds": 0 }), "`poll_seconds` of the event must be 1 to 300")]
    #[case(json!({ "action": "result", "id": "q-1", "max_rows": 0 }), "`max_rows` of the event must be at least 1")]
    #[case(json!({ "action": "list", "of": "tables", "page_size": 0 }), "`page_size` of the event must be 1 to 1,000")]
    #[case(json!({ "action": "list", "of": "tables", "page_size": 5000 }), "`page_size` of the event must be 1 to 1,000")]
    fn numbers_outside_of_the_schema_are_refused(#[case] mut event: Value, #[case] expected: &str) {
        event["version"] = json!(1.0);
        assert_eq!(Request::parse(&event.to_string()).unwrap_err().to_string(), expected);
    }

    fn problem(event: Value) -> String {
        match Request::parse(&event.to_string()) {
            Err(Error::BadInput(message)) => message,
            other => panic!("{other:?}"),
        }
    }

    fn submit(members: Value) -> Submit {
        let mut event = json!({ "version": 1, "action": "submit" });
        event.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        match Request::parse(&event.to_string()).unwrap().action {
            Action::Submit(submit) => *submit,
            other => panic!("{other:?}"),
        }
    }

    #[rstest]
    #[case(json!({}), "the event lacks the member `version`; send 1")]
    #[case(json!({ "version": 2, "action": "status", "id": "a" }),
        "`version` of the event is not supported; this function supports version 1")]
    #[case(json!({ "version": "1" }), "`version` of the event is not supported; this function supports version 1")]
    #[case(json!({ "version": 1 }),
        "the event lacks the member `action`; use `submit`, `status`, `wait`, `cancel`, `result` or `list`")]
    #[case(json!({ "version": 1, "action": "drop" }),
        "`action` of the event has an unknown value; use `submit`, `status`, `wait`, `cancel`, `result` or `list`")]
    #[case(json!({ "version": 1, "action": "status" }), "the event lacks the member `id`; add it")]
    #[case(json!({ "version": 1, "action": "status", "id": "" }), "`id` of the event must have 1 to 200 characters")]
    #[case(json!({ "version": 1, "action": "cancel", "id": "x".repeat(201) }),
        "`id` of the event must have 1 to 200 characters")]
    #[case(json!({ "version": 1, "action": "submit", "sql": "x", "session_keep_alive_seconds": 999_999 }),
        "`session_keep_alive_seconds` of the event must be 0 to 86,400")]
    #[case(json!({ "version": 1, "action": "status", "id": 7 }), "`id` of the event must be a string")]
    #[case(json!({ "version": 1, "action": "status", "id": "a", "Result": {} }),
        "the event has no member `Result`; use `id`, `wait_seconds`, `poll_seconds`, `raise`")]
    #[case(json!({ "version": 1, "action": "status", "id": "a", "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk": 1 }),
        "the event has no member `kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk…`; use `id`, `wait_seconds`, `poll_seconds`, `raise`")]
    #[case(json!({ "version": 1, "action": "wait", "id": "a", "wait_seconds": -1 }),
        "`wait_seconds` of the event must be a whole number of 0 to 4,294,967,295")]
    #[case(json!({ "version": 1, "action": "wait", "id": "a", "wait_seconds": 1_u64 << 32 }),
        "`wait_seconds` of the event must be a whole number of 0 to 4,294,967,295")]
    #[case(json!({ "version": 1, "action": "wait", "id": "a", "poll_seconds": 301 }),
        "`poll_seconds` of the event must be 1 to 300")]
    #[case(json!({ "version": 1, "action": "wait", "id": "a", "raise": "yes" }),
        "`raise` of the event must be true or false")]
    #[case(json!({ "version": 1, "action": "submit", "sql": ["SELECT 'classified'"] }),
        "`sql` of the event must be a string")]
    #[case(json!({ "version": 1, "action": "submit", "batch": "SELECT 'classified'" }),
        "`batch` of the event must be a list")]
    #[case(json!({ "version": 1, "action": "submit", "batch": [1] }), "`batch[0]` of the event must be a string")]
    #[case(json!({ "version": 1, "action": "submit", "parameters": { "day": [1] } }),
        "`parameters.day` of the event must be a string, a number, true, false or null")]
    #[case(json!({ "version": 1, "action": "submit", "execution_mode": "classified" }),
        "`execution_mode` of the event has an unknown value; use `transaction` or `auto-commit`")]
    #[case(json!({ "version": 1, "action": "submit", "target": { "cluster": "dwh" } }),
        "`target` of the event lacks the member `database`; add it")]
    #[case(json!({ "version": 1, "action": "submit", "target": { "cluster": "dwh", "database": "d", "user": "u" } }),
        "`target` of the event has no member `user`; use `cluster`, `workgroup`, `database`, `database_user`, `secret`")]
    #[case(json!({ "version": 1, "action": "submit", "target": "dwh" }),
        "`target` of the event must be an object with `cluster` or `workgroup`, and `database`")]
    #[case(json!({ "version": 1, "action": "list", "of": "views" }),
        "`of` of the event has an unknown value; use `statements`, `sessions`, `databases`, `schemas`, `tables`, `columns`")]
    #[case(json!({ "version": 1, "action": "status", "id": "a", "identity": { "execution": "e", "step": "s", "retry": 1 } }),
        "`identity` has no member `retry`; use `execution`, `redrive`, `step`, `attempt`")]
    #[case(json!({ "version": 1, "action": "status", "id": "a", "identity": { "execution": "e" } }),
        "`identity` lacks the member `step`; add it")]
    #[case(json!({ "version": 1, "action": "status", "id": "a", "identity": { "execution": "e", "step": "s", "attempt": "x" } }),
        "`attempt` of `identity` must be a whole number of 0 to 4,294,967,295")]
    #[case(json!({ "version": 1, "action": "status", "id": "a", "identity": { "execution": "", "step": "s" } }),
        "`execution` of `identity` must have 1 to 512 characters")]
    #[case(json!({ "version": 1, "action": "status", "id": "a", "identity": { "execution": "e", "step": "s".repeat(201) } }),
        "`step` of `identity` must have 1 to 200 characters")]
    #[case(json!([]), "the event is a list; send a JSON object")]
    #[case(json!(null), "the event is null; send a JSON object")]
    fn what_is_wrong_is_said_in_one_sentence(#[case] event: Value, #[case] message: &str) {
        assert_eq!(problem(event), message);
    }

    #[rstest]
    #[case("")]
    #[case("{")]
    #[case(r#"{"version":1,"action":"\ud800"}"#)]
    #[case(r#"{"version":1e400}"#)]
    fn what_is_not_json_is_said_so(#[case] event: &str) {
        let Err(Error::BadInput(message)) = Request::parse(event) else { panic!("{event} was accepted") };
        assert!(message.starts_with("the event is not valid JSON: "), "{message}");
        assert!(message.ends_with("; send a JSON object"), "{message}");
    }

    #[test]
    fn deep_nesting_is_refused_and_not_a_crash() {
        let deep = format!(r#"{{"version":1,"action":{}{}}}"#, "[".repeat(5_000), "]".repeat(5_000));
        assert!(matches!(Request::parse(&deep), Err(Error::BadInput(_))));
    }

    #[test]
    fn null_is_the_same_as_a_missing_member() {
        let event = json!({ "version": 1, "action": "submit", "identity": null, "sql": "SELECT 1", "batch": null,
            "name": null, "target": null, "wait_seconds": null });
        let request = Request::parse(&event.to_string()).unwrap();
        assert_eq!(request.identity, None);
        let Action::Submit(submit) = request.action else { panic!() };
        assert_eq!(submit.statement().unwrap().sqls(), ["SELECT 1"]);
    }

    #[test]
    fn a_statement_has_the_members_of_the_event() {
        let statement = submit(json!({
            "call": "load_sales(:day, :note, :full, :coupon)",
            "parameters": { "day": 7, "note": "", "full": true, "coupon": null },
            "session_keep_alive_seconds": 60, "result_format": "csv",
            "target": { "workgroup": "analytics", "database": "mystore", "secret": "arn:s" },
        }))
        .statement()
        .unwrap();
        assert_eq!(statement.sqls(), ["CALL load_sales(:day, '', :full, NULL)"]);
        let values: Vec<_> =
            statement.parameters().iter().map(|p| (p.name.as_str(), p.value.as_str())).collect();
        assert_eq!(values, [("day", "7"), ("full", "true")]);
        assert_eq!(statement.target().unwrap().to_string(), "workgroup/analytics/mystore");
        assert_eq!(statement.session_keep_alive(), Some(std::time::Duration::from_secs(60)));
        assert!(!statement.event());
        assert!(submit(json!({ "sql": "SELECT 1", "task_token": "t" })).statement().unwrap().event());
    }

    #[rstest]
    #[case(json!({}), "a submit must have exactly one of `sql`, `batch` and `call`")]
    #[case(json!({ "sql": "SELECT 1", "call": "load" }), "a submit must have exactly one of `sql`, `batch` and `call`")]
    #[case(json!({ "sql": "SELECT 1", "execution_mode": "transaction" }),
        "only a submit with `batch` may have an `execution_mode`")]
    #[case(json!({ "sql": "" }), "`sql` is empty; send a statement")]
    #[case(json!({ "sql": " \n;" }), "`sql` is empty; send a statement")]
    #[case(json!({ "sql": "-- load\n/* a /* nested */ one */ ; --" }), "`sql` is empty; send a statement")]
    #[case(json!({ "sql": "/* open" }), "`sql` is empty; send a statement")]
    #[case(json!({ "batch": ["SELECT 1", "-- nothing"] }), "`batch[1]` is empty; send a statement, or remove it")]
    #[case(json!({ "batch": [] }), "`batch` is empty; send at least one SQL statement")]
    #[case(json!({ "batch": vec!["SELECT 1"; 41] }),
        "`batch` has 41 SQL statements, but the service accepts at most 40; submit them as several batches")]
    #[case(json!({ "call": "CALL load()" }), "`call` is written without the word `CALL`; remove it")]
    #[case(json!({ "call": " " }), "`call` is empty; send the text that follows `CALL`")]
    #[case(json!({ "sql": "SELECT 1", "target": { "database": "d" } }),
        "`target` must have exactly one of `cluster` and `workgroup`")]
    #[case(json!({ "sql": "SELECT 1", "target": { "database": "d", "workgroup": "w", "database_user": "u" } }),
        "`database_user` of `target` needs a `cluster`; use `secret` with a workgroup")]
    fn a_contradiction_is_explained(#[case] members: Value, #[case] message: &str) {
        assert!(matches!(submit(members).statement(), Err(Error::BadInput(text)) if text == message));
    }

    #[test]
    fn debug_prints_neither_sql_nor_values() {
        let event = json!({ "version": 1, "action": "submit", "sql": "SELECT 'classified'",
            "parameters": { "who": "alice" }, "target": { "cluster": "c", "database": "d", "secret": "arn:hush" } });
        let request = Request::parse(&event.to_string()).unwrap();
        let Action::Submit(submit) = &request.action else { panic!() };
        let printed = format!("{request:?} {submit:?} {:?} {:?}", submit.target, submit.parameters);
        for private in ["classified", "alice", "hush"] {
            assert!(!printed.contains(private), "{printed}");
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let event = json!({ "version": 1, "action": "submit", "sql": "SELECT :day", "parameters": { "day": 7 },
            "identity": { "execution": "arn", "redrive": 1, "step": "sales", "attempt": 2 } });
        let request = Request::parse(&event.to_string()).unwrap();
        assert_eq!(serde_json::to_value(&request).unwrap(), event);
    }
}
