//! Converts this workspace's types to the members of the service's responses.
//!
//! Members without a value are omitted. The service reports some numbers as `-1` or `0` instead, and so does
//! this module.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use redshift_orchestrator::{
    Auth, Column, Compute, Description, ExecutionMode, Field, Parameter, ResultFormat, SqlText,
    StatementSummary, SubStatement, Submitted, Target,
    catalog::{Session, Table},
};

/// Builds a JSON object member by member.
#[derive(Default)]
pub(super) struct Object(Map<String, Value>);

impl Object {
    pub(super) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    pub(super) fn with_some(self, name: &str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    fn with_time(self, name: &str, time: Option<Timestamp>) -> Self {
        self.with_some(name, time.map(seconds))
    }

    fn with_compute(self, compute: Option<&Compute>) -> Self {
        match compute {
            Some(Compute::Cluster(identifier)) => self.with("ClusterIdentifier", identifier.as_str()),
            Some(Compute::Workgroup(name)) => self.with("WorkgroupName", name.as_str()),
            None => self,
        }
    }

    fn with_target(self, target: Option<&Target>) -> Self {
        let Some(target) = target else { return self };
        let object = self.with_compute(Some(target.compute())).with("Database", target.database());
        match target.auth() {
            Auth::Iam => object,
            Auth::DatabaseUser(user) => object.with("DbUser", user.as_str()),
            Auth::Secret(arn) => object.with("SecretArn", arn.as_str()),
        }
    }

    fn with_parameters(self, parameters: &[Parameter]) -> Self {
        if parameters.is_empty() {
            return self;
        }
        let parameter = |parameter: &Parameter| json!({"name": parameter.name, "value": parameter.value});
        self.with("QueryParameters", parameters.iter().map(parameter).collect::<Vec<_>>())
    }
}

impl From<Object> for Value {
    fn from(object: Object) -> Self {
        Self::Object(object.0)
    }
}

/// Converts a time to seconds since the epoch with milliseconds, like the service.
fn seconds(time: Timestamp) -> Value {
    json!(time.as_millisecond() as f64 / 1e3)
}

fn nanoseconds(duration: Option<Duration>) -> i64 {
    duration.map_or(-1, |duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
}

fn amount(amount: Option<u64>) -> i64 {
    amount.map_or(-1, |amount| i64::try_from(amount).unwrap_or(i64::MAX))
}

fn sql(sql: Option<&SqlText>) -> Option<&str> {
    sql.map(SqlText::as_str)
}

fn format(format: ResultFormat) -> &'static str {
    match format {
        ResultFormat::Json => "JSON",
        ResultFormat::Csv => "CSV",
    }
}

fn mode(mode: ExecutionMode) -> &'static str {
    match mode {
        ExecutionMode::Transaction => "TRANSACTION",
        ExecutionMode::AutoCommit => "AUTO_COMMIT",
    }
}

/// Builds `ExecuteStatementOutput` or `BatchExecuteStatementOutput`. `described` is the source of the members
/// that only a submit with a wait returns.
pub(super) fn submitted(submitted: &Submitted, described: Option<&Description>) -> Value {
    let target = submitted.target.as_ref().or_else(|| described?.target.as_ref());
    let session = submitted.session_id.as_ref().or_else(|| described?.session_id.as_ref());
    let object = Object::default()
        .with("Id", submitted.id.as_str())
        .with_time("CreatedAt", submitted.created_at)
        .with_target(target)
        .with_some("SessionId", session.map(|id| id.as_str()));
    let object = match &submitted.database_groups[..] {
        [] => object,
        groups => object.with("DbGroups", groups),
    };
    let Some(described) = described else { return object.into() };
    object
        .with("Status", described.status.as_str())
        .with_some("RedshiftPid", described.redshift_pid)
        .with("HasResultSet", described.has_result_set)
        .into()
}

/// Builds `DescribeStatementResponse`.
pub(super) fn description(description: &Description) -> Value {
    let object = Object::default()
        .with("Id", description.id.as_str())
        .with_target(description.target.as_ref())
        .with("Duration", nanoseconds(description.execution_time))
        .with_some("Error", description.error.as_deref())
        .with("Status", description.status.as_str())
        .with_time("CreatedAt", description.created_at)
        .with_time("UpdatedAt", description.updated_at)
        .with("RedshiftPid", description.redshift_pid.unwrap_or(0))
        .with("HasResultSet", description.has_result_set)
        .with_some("QueryString", sql(description.sql.as_ref()))
        .with("ResultRows", amount(description.result_rows))
        .with("ResultSize", amount(description.result_size))
        .with("RedshiftQueryId", description.redshift_query_id.unwrap_or(0))
        .with_some("RedshiftQueryUuid", description.query_uuid.as_deref())
        .with_parameters(&description.parameters)
        .with("ResultFormat", format(description.result_format.unwrap_or_default()))
        .with_some("SessionId", description.session_id.as_ref().map(|id| id.as_str()))
        .with_some("ExecutionMode", description.execution_mode.map(mode));
    match &description.sub_statements[..] {
        [] => object.into(),
        subs => object.with("SubStatements", subs.iter().map(sub_statement).collect::<Vec<_>>()).into(),
    }
}

fn sub_statement(sub: &SubStatement) -> Value {
    Object::default()
        .with("Id", sub.id.as_str())
        .with("Duration", nanoseconds(sub.execution_time))
        .with_some("Error", sub.error.as_deref())
        .with("Status", sub.status.as_str())
        .with_time("CreatedAt", sub.created_at)
        .with_time("UpdatedAt", sub.updated_at)
        .with_some("QueryString", sql(sub.sql.as_ref()))
        .with("ResultRows", amount(sub.result_rows))
        .with("ResultSize", amount(sub.result_size))
        .with("RedshiftQueryId", sub.redshift_query_id.unwrap_or(0))
        .with_some("RedshiftQueryUuid", sub.query_uuid.as_deref())
        .with("HasResultSet", sub.has_result_set)
        .into()
}

/// Builds `StatementData`.
pub(super) fn summary(summary: &StatementSummary) -> Value {
    let object = Object::default()
        .with("Id", summary.id.as_str())
        .with("Status", summary.status.as_str())
        .with_some("StatementName", summary.name.as_deref())
        .with_time("CreatedAt", summary.created_at)
        .with_time("UpdatedAt", summary.updated_at)
        .with_parameters(&summary.parameters)
        .with("IsBatchStatement", summary.is_batch)
        .with("ResultFormat", format(summary.result_format.unwrap_or_default()))
        .with_some("SessionId", summary.session_id.as_ref().map(|id| id.as_str()))
        .with_some("SecretArn", summary.secret_arn.as_deref());
    if summary.is_batch {
        let sqls: Vec<_> = summary.sqls.iter().map(SqlText::as_str).collect();
        object.with("QueryStrings", sqls).into()
    } else {
        object.with_some("QueryString", sql(summary.sqls.first())).into()
    }
}

/// Builds `SessionData`.
pub(super) fn session(session: &Session) -> Value {
    Object::default()
        .with("SessionId", session.id.as_str())
        .with("Status", session.status.as_str())
        .with_time("CreatedAt", Some(session.created_at))
        .with_time("UpdatedAt", session.updated_at)
        .with_some("Database", session.database.as_deref())
        .with_some("DbUser", session.database_user.as_deref())
        .with_compute(session.compute.as_ref())
        .with_some("SessionAliveSeconds", session.keep_alive.map(|idle| idle.as_secs()))
        .with_time("SessionTtl", session.expires_at)
        .with_some("CurrentStatementId", session.current_statement.as_ref().map(|id| id.as_str()))
        .into()
}

/// Builds `TableMember`. In the service's model, its member names begin with a lower-case letter.
pub(super) fn table(table: &Table) -> Value {
    json!({"name": table.name, "type": table.kind, "schema": table.schema})
}

/// Builds `ColumnMetadata`. In the service's model, its member names begin with a lower-case letter.
pub(super) fn column(column: &Column) -> Value {
    let family = Family::of(&column.type_name);
    Object::default()
        .with("isCaseSensitive", family == Family::Text)
        .with("isCurrency", column.type_name == "money")
        .with("isSigned", family == Family::Number)
        .with("label", column.name.as_str())
        .with("name", column.name.as_str())
        // 0, 1 and 2 are JDBC's columnNoNulls, columnNullable and columnNullableUnknown.
        .with("nullable", column.nullable.map_or(2, i32::from))
        .with("precision", column.precision.unwrap_or(0))
        .with("scale", column.scale.unwrap_or(0))
        .with("schemaName", column.schema.as_deref().unwrap_or_default())
        .with("tableName", column.table.as_deref().unwrap_or_default())
        .with("typeName", column.type_name.as_str())
        .with("length", column.length.unwrap_or(0))
        .with_some("columnDefault", column.default.as_deref())
        .into()
}

#[derive(PartialEq)]
enum Family {
    Text,
    Number,
    Other,
}

impl Family {
    fn of(type_name: &str) -> Self {
        match type_name {
            "varchar" | "bpchar" | "char" | "text" | "name" | "super" => Self::Text,
            "int2" | "int4" | "int8" | "float4" | "float8" | "numeric" | "money" => Self::Number,
            _ => Self::Other,
        }
    }
}

/// Builds the union `Field`. In the service's model, its member names begin with a lower-case letter.
pub(super) fn field(field: &Field) -> Value {
    match field {
        Field::Null => json!({"isNull": true}),
        Field::Boolean(value) => json!({ "booleanValue": value }),
        Field::Long(value) => json!({ "longValue": value }),
        // JSON has no NaN or infinities. Smithy defines these strings for them, and the SDKs parse them.
        Field::Double(value) if value.is_nan() => json!({"doubleValue": "NaN"}),
        Field::Double(value) if value.is_infinite() && *value > 0.0 => json!({"doubleValue": "Infinity"}),
        Field::Double(value) if value.is_infinite() => json!({"doubleValue": "-Infinity"}),
        Field::Double(value) => json!({ "doubleValue": value }),
        Field::String(value) => json!({ "stringValue": value }),
        Field::Blob(bytes) => json!({"blobValue": BASE64_STANDARD.encode(bytes)}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redshift_orchestrator::{StatementId, Status};

    #[test]
    fn an_absent_value_is_omitted_or_has_the_services_marker() {
        let running = Description::new(StatementId::new("id"), Status::Started);
        assert_eq!(
            description(&running),
            json!({
                "Id": "id", "Status": "STARTED", "Duration": -1, "ResultRows": -1, "ResultSize": -1,
                "RedshiftPid": 0, "RedshiftQueryId": 0, "HasResultSet": false, "ResultFormat": "JSON",
            })
        );
    }

    #[test]
    fn times_are_seconds_with_milliseconds() {
        assert_eq!(seconds("2026-11-23T06:30:00.1239Z".parse().unwrap()).to_string(), "1795415400.123");
        assert_eq!(seconds("2026-11-23T06:30:00Z".parse().unwrap()).to_string(), "1795415400.0");
    }

    #[test]
    fn a_field_has_one_of_seven_members() {
        let fields = [
            (Field::Null, json!({"isNull": true})),
            (Field::Boolean(false), json!({"booleanValue": false})),
            (Field::Long(i64::MIN), json!({"longValue": i64::MIN})),
            (Field::Double(0.1), json!({"doubleValue": 0.1})),
            (Field::Double(f64::NEG_INFINITY), json!({"doubleValue": "-Infinity"})),
            (Field::String(String::new()), json!({"stringValue": ""})),
            (Field::Blob(vec![0, 255]), json!({"blobValue": "AP8="})),
        ];
        for (value, expected) in fields {
            assert_eq!(field(&value), expected);
        }
    }
}
