//! Parsing of scripts and faults from TOML.

use std::time::Duration;

use jiff::SignedDuration;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error as _},
};

use super::{Fault, Faults, Latency, Limits, Operation, Script, ScriptedExecution};
use redshift_orchestrator::{
    Column, Error, ErrorKind, Field, Result,
    catalog::Table,
    toml_text::{self, line},
};

impl Script {
    /// Parses a script from TOML. Every key is optional. Durations are written like `90s`, `1m 30s` or
    /// `100ms`.
    ///
    /// ```
    /// use redshift_data_local::Script;
    ///
    /// let script = Script::from_toml(r#"
    /// concurrency = 4                       # maximum number of running statements
    /// latency = { submitted = "100ms", picked = "50ms" }
    /// limits = { active_statements = 200, rows_per_page = 100 }
    /// otherwise = { takes = "10ms" }
    ///
    /// [[statement]]                         # the first entry whose text occurs in the SQL applies
    /// contains = "CALL load_sales"
    /// takes = "1m 30s"
    /// rows = 17                             # number of affected rows
    ///
    /// [[statement]]
    /// contains = "CALL load_items"
    /// runs = [                              # the first run, then all later runs
    ///     { takes = "2s", fails = "ERROR: 1023 Serializable isolation violation on table" },
    ///     { takes = "3s" },
    /// ]
    ///
    /// [[statement]]
    /// contains = "SELECT"
    /// columns = [{ name = "id", type = "int4" }, { name = "price", type = "numeric", precision = 10, scale = 2 }]
    /// result = [[1, "9.90"], [2, { null = true }]]
    ///
    /// [[table]]                             # a table that the catalog lists
    /// schema = "mystore"
    /// name = "fact_sales"
    /// columns = [{ name = "id", type = "int4", nullable = false }]
    /// "#)?;
    /// # let _ = script;
    /// # Ok::<(), redshift_orchestrator::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Definition`], with the line and the problem.
    pub fn from_toml(text: &str) -> Result<Self> {
        read::<ScriptFile>(text)?.into_script()
    }
}

impl Faults {
    /// Parses faults from TOML.
    ///
    /// ```
    /// use redshift_data_local::Faults;
    ///
    /// let faults = Faults::from_toml(r#"
    /// seed = 42
    ///
    /// [[fault]]
    /// operation = "ExecuteStatement"        # also applies to batches; default: all operations
    /// fault = "lost reply"
    /// rate = 0.05                           # share of requests with this fault
    ///
    /// [[fault]]
    /// fault = "delay"
    /// delay = "200ms"
    /// rate = 0.5
    /// "#)?;
    /// # let _ = faults;
    /// # Ok::<(), redshift_orchestrator::Error>(())
    /// ```
    ///
    /// The faults are `dropped connection`, `lost request`, `lost reply`, `throttle`, `wrapped throttle`,
    /// `internal error`, `expiry` (of the record of the requested statement) and `delay`.
    ///
    /// # Errors
    /// [`ErrorKind::Definition`], with the line and the problem.
    pub fn from_toml(text: &str) -> Result<Self> {
        let file: FaultsFile = read(text)?;
        let mut entries = file.fault.into_iter();
        let faults = entries.try_fold(Self::seeded(file.seed), |faults, entry| entry.add_to(faults))?;
        match faults.overdone() {
            Some(operation) => Err(Error::new(
                ErrorKind::Definition,
                format!("the fault rates of {} add up to more than 1", operation.as_str()),
            )),
            None => Ok(faults),
        }
    }
}

fn read<T: DeserializeOwned>(text: &str) -> Result<T> {
    toml_text::read(text).map_err(|malformed| {
        let error = Error::new(ErrorKind::Definition, malformed.message);
        match malformed.offset {
            Some(offset) => error.with_context("line", line(text, offset)),
            None => error,
        }
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScriptFile {
    concurrency: Option<usize>,
    #[serde(default)]
    latency: DwellFile,
    #[serde(default)]
    limits: LimitsFile,
    otherwise: Option<RunFile>,
    #[serde(default)]
    statement: Vec<RuleFile>,
    #[serde(default)]
    table: Vec<TableFile>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct DwellFile {
    #[serde(deserialize_with = "duration")]
    submitted: Duration,
    #[serde(deserialize_with = "duration")]
    picked: Duration,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LimitsFile {
    active_statements: Option<usize>,
    active_sessions: Option<usize>,
    waiters_per_statement: Option<usize>,
    sql_bytes: Option<usize>,
    result_bytes: Option<u64>,
    row_bytes: Option<u64>,
    rows_per_page: Option<usize>,
    #[serde(deserialize_with = "optional_duration")]
    token_retention: Option<Duration>,
    #[serde(deserialize_with = "optional_duration")]
    record_retention: Option<Duration>,
    expired_records: Option<usize>,
}

/// The keys of a run are listed here again, because serde cannot combine `deny_unknown_fields` with
/// `flatten`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleFile {
    contains: String,
    runs: Option<Vec<RunFile>>,
    #[serde(default, deserialize_with = "optional_duration")]
    takes: Option<Duration>,
    fails: Option<String>,
    rows: Option<u64>,
    columns: Option<Vec<ColumnFile>>,
    result: Option<Vec<Vec<FieldFile>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RunFile {
    #[serde(default, deserialize_with = "optional_duration")]
    takes: Option<Duration>,
    fails: Option<String>,
    rows: Option<u64>,
    columns: Option<Vec<ColumnFile>>,
    result: Option<Vec<Vec<FieldFile>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TableFile {
    schema: String,
    name: String,
    kind: Option<String>,
    #[serde(default)]
    columns: Vec<ColumnFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ColumnFile {
    name: String,
    r#type: String,
    precision: Option<u32>,
    scale: Option<u32>,
    length: Option<u32>,
    nullable: Option<bool>,
    default: Option<String>,
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "a value must be a number, a boolean, a text, { null = true } or { bytes = [0, 255] }"
)]
enum FieldFile {
    Boolean(bool),
    Long(i64),
    Double(f64),
    String(String),
    Null {
        #[serde(rename = "null")]
        _null: bool,
    },
    Blob {
        bytes: Vec<u8>,
    },
}

impl ScriptFile {
    fn into_script(self) -> Result<Script> {
        let mut script = Script::new()
            .with_limits(self.limits.into_limits())
            .with_latency(Latency { submitted: self.latency.submitted, picked: self.latency.picked });
        if let Some(statements) = self.concurrency {
            script = script.with_concurrency(statements);
        }
        if let Some(run) = self.otherwise {
            script = script.otherwise(run.into_run("otherwise")?);
        }
        for rule in self.statement {
            let (contains, runs) = rule.into_runs()?;
            script = script.on_each(contains, runs);
        }
        for table in self.table {
            let kind = table.kind.unwrap_or_else(|| "TABLE".to_owned());
            let columns = table.columns.into_iter().map(ColumnFile::into_column);
            script = script.with_table(Table::new(table.schema, table.name).with_kind(kind), columns);
        }
        Ok(script)
    }
}

impl LimitsFile {
    fn into_limits(self) -> Limits {
        let usual = Limits::default();
        Limits {
            active_statements: self.active_statements.unwrap_or(usual.active_statements),
            active_sessions: self.active_sessions.unwrap_or(usual.active_sessions),
            waiters_per_statement: self.waiters_per_statement.unwrap_or(usual.waiters_per_statement),
            sql_bytes: self.sql_bytes.unwrap_or(usual.sql_bytes),
            result_bytes: self.result_bytes.unwrap_or(usual.result_bytes),
            row_bytes: self.row_bytes.unwrap_or(usual.row_bytes),
            rows_per_page: self.rows_per_page.unwrap_or(usual.rows_per_page),
            token_retention: self.token_retention.unwrap_or(usual.token_retention),
            record_retention: self.record_retention.unwrap_or(usual.record_retention),
            expired_records: self.expired_records.unwrap_or(usual.expired_records),
        }
    }
}

impl RuleFile {
    fn into_runs(self) -> Result<(String, Vec<ScriptedExecution>)> {
        let Self { contains, runs, takes, fails, rows, columns, result } = self;
        let alone = RunFile { takes, fails, rows, columns, result };
        let refuse = |text| Err(Error::new(ErrorKind::Definition, text).with_context("contains", &contains));
        let runs = match runs {
            None => vec![alone.into_run(&contains)?],
            Some(_) if !alone.is_empty() => {
                return refuse(
                    "a statement has either `runs` or the keys of a single run, in addition to `contains`",
                );
            }
            Some(runs) if runs.is_empty() => {
                return refuse("`runs` is empty; remove it, or add a run");
            }
            Some(runs) => runs.into_iter().map(|run| run.into_run(&contains)).collect::<Result<_>>()?,
        };
        Ok((contains, runs))
    }
}

impl RunFile {
    fn is_empty(&self) -> bool {
        self.takes.is_none()
            && self.fails.is_none()
            && self.rows.is_none()
            && self.columns.is_none()
            && self.result.is_none()
    }

    fn into_run(self, of: &str) -> Result<ScriptedExecution> {
        let takes = self.takes.unwrap_or_default();
        let refuse = |text| Err(Error::new(ErrorKind::Definition, text).with_context("statement", of));
        let mut run = match &self.fails {
            Some(_) if self.rows.is_some() || self.columns.is_some() || self.result.is_some() => {
                return refuse("a run that fails can have neither rows nor a result");
            }
            Some(error) => return Ok(ScriptedExecution::failed(takes, error)),
            None => ScriptedExecution::finished(takes),
        };
        if let Some(rows) = self.rows {
            run = run.with_affected_rows(rows);
        }
        match (self.columns, self.result) {
            (None, None) => Ok(run),
            (None, Some(_)) => refuse("a result needs `columns`"),
            (Some(columns), result) => {
                let rows: Vec<Vec<_>> = result
                    .unwrap_or_default()
                    .into_iter()
                    .map(|row| row.into_iter().map(Field::from).collect())
                    .collect();
                if rows.iter().any(|row| row.len() != columns.len()) {
                    return refuse("a row of the result does not have one value for each column");
                }
                Ok(run.with_result(columns.into_iter().map(ColumnFile::into_column).collect(), rows))
            }
        }
    }
}

impl ColumnFile {
    fn into_column(self) -> Column {
        let mut column = Column::new(self.name, self.r#type);
        column.precision = self.precision;
        column.scale = self.scale;
        column.length = self.length;
        column.nullable = self.nullable;
        column.default = self.default;
        column
    }
}

impl From<FieldFile> for Field {
    fn from(field: FieldFile) -> Self {
        match field {
            FieldFile::Boolean(value) => Self::Boolean(value),
            FieldFile::Long(value) => Self::Long(value),
            FieldFile::Double(value) => Self::Double(value),
            FieldFile::String(value) => Self::String(value),
            FieldFile::Null { .. } => Self::Null,
            FieldFile::Blob { bytes } => Self::Blob(bytes),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FaultsFile {
    #[serde(default)]
    seed: u64,
    #[serde(default)]
    fault: Vec<FaultFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FaultFile {
    operation: Option<String>,
    fault: String,
    rate: f64,
    #[serde(default, deserialize_with = "optional_duration")]
    delay: Option<Duration>,
}

impl FaultFile {
    fn add_to(self, faults: Faults) -> Result<Faults> {
        let refuse = |text: String| Err(Error::new(ErrorKind::Definition, text));
        let fault = match (self.fault.as_str(), self.delay) {
            ("delay", Some(delay)) => Fault::Delay(delay),
            ("delay", None) => {
                return refuse("the fault `delay` needs a key `delay`, such as \"200ms\"".to_owned());
            }
            (_, Some(_)) => return refuse("only the fault `delay` has a key `delay`".to_owned()),
            ("dropped connection", None) => Fault::DroppedConnection,
            ("lost request", None) => Fault::LostRequest,
            ("lost reply", None) => Fault::LostReply,
            ("throttle", None) => Fault::Throttle,
            ("wrapped throttle", None) => Fault::WrappedThrottle,
            ("internal error", None) => Fault::InternalError,
            ("expiry", None) => Fault::Expiry,
            (other, None) => {
                return refuse(format!(
                    "there is no fault `{other}`; use one of `dropped connection`, `lost request`, `lost reply`, `throttle`, `wrapped throttle`, `internal error`, `expiry` or `delay`"
                ));
            }
        };
        if !(0.0..=1.0).contains(&self.rate) {
            return refuse(format!("a rate must be from 0 to 1, not {}", self.rate));
        }
        let Some(name) = self.operation else { return Ok(faults.with_everywhere(fault, self.rate)) };
        match Operation::ALL.into_iter().find(|operation| operation.as_str() == name) {
            Some(operation) if !operation.meets(fault) => {
                refuse(format!("`{name}` is not about one statement, so it cannot have the fault `expiry`"))
            }
            Some(operation) => Ok(faults.with(operation, fault, self.rate)),
            None => {
                let names = Operation::ALL.map(Operation::as_str).join(", ");
                refuse(format!("faults cannot be injected into `{name}`; use one of {names}"))
            }
        }
    }
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let duration = text.parse::<SignedDuration>().ok().and_then(|duration| Duration::try_from(duration).ok());
    duration.ok_or_else(|| {
        D::Error::custom(format!("`{text}` is not a valid duration; write it like \"90s\" or \"1m 30s\""))
    })
}

fn optional_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        Script::from_toml(text).unwrap_err().to_string()
    }

    #[test]
    fn an_error_names_the_position_and_the_way_out() {
        assert_eq!(
            refused("concurrency = 2\n[[statement]]\ncontains = 'x'\ntakes = 'long'\n"),
            "pipeline definition: `long` is not a valid duration; write it like \"90s\" or \"1m 30s\" { line: 4 }"
        );
        assert!(refused("[[statement]]\ncontains = 'x'\ntake = '1s'").contains("unknown field `take`"));
        assert!(refused("[[statement]]\ncontains = 'x'\nresult = [[1]]").contains("needs `columns`"));
        assert!(
            refused("[[statement]]\ncontains = 'x'\ntakes = '1s'\nruns = [{}]").contains("either `runs`")
        );
        let faults = |text| Faults::from_toml(text).unwrap_err().to_string();
        assert!(faults("[[fault]]\nfault = 'flood'\nrate = 0.1").contains("there is no fault `flood`"));
        assert!(faults("[[fault]]\nfault = 'throttle'\nrate = 10").contains("from 0 to 1"));
        let twice = "[[fault]]\nfault = 'throttle'\nrate = 0.6\n[[fault]]\nfault = 'lost reply'\nrate = 0.6\noperation = 'ListTables'";
        assert!(faults(twice).contains("fault rates of ListTables add up to more than 1"));
        let expiry = "[[fault]]\nfault = 'expiry'\nrate = 0.1\noperation = 'ListTables'";
        assert!(faults(expiry).contains("is not about one statement"));
        assert!(
            faults("[[fault]]\nfault = 'throttle'\nrate = 0.1\noperation = 'BatchExecuteStatement'")
                .contains("cannot be injected")
        );
    }

    #[test]
    fn an_empty_text_is_the_default_script() {
        let usual = format!("{:?}", Script::new());
        assert_eq!(format!("{:?}", Script::from_toml("").unwrap()), usual);
    }
}
