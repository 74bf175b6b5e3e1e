//! Converts between the types of this crate and those of the SDK. A value that the service omits, or replaces
//! with its marker for "no value" (`-1` or `0`), becomes `None`. A text that the SDK does not know is kept.

use std::time::Duration;

use aws_sdk_redshiftdata::{
    operation::{
        batch_execute_statement::{
            BatchExecuteStatementOutput, builders::BatchExecuteStatementFluentBuilder,
        },
        describe_statement::DescribeStatementOutput,
        execute_statement::{ExecuteStatementOutput, builders::ExecuteStatementFluentBuilder},
        get_statement_result::GetStatementResultOutput,
        get_statement_result_v2::GetStatementResultV2Output,
        list_statements::ListStatementsOutput,
    },
    primitives::DateTime,
    types::{
        ColumnMetadata, ExecutionMode as SdkExecutionMode, Field as SdkField, QueryRecords,
        ResultFormatString, SqlParameter, StatementData, StatementStatusString, StatusString,
        SubStatementData,
    },
};
use jiff::Timestamp;

use super::CSV_PAGE;
use crate::{
    Auth, Column, Compute, Description, Error, ErrorKind, ExecutionMode, Field, PageData, PageToken,
    Parameter, Result, ResultFormat, ResultPage, SessionId, SqlText, Statement, StatementId, StatementPage,
    StatementSummary, Status, SubStatement, Submitted, Target, WaitTime,
};

/// Fills in the request for a single statement.
pub(super) fn execute(
    request: ExecuteStatementFluentBuilder,
    statement: &Statement,
    target: &Target,
    wait: Option<WaitTime>,
) -> Result<ExecuteStatementFluentBuilder> {
    let fields = TargetFields::of(statement, target);
    Ok(request
        .set_sql(statement.sqls().first().cloned())
        .set_cluster_identifier(fields.cluster)
        .set_workgroup_name(fields.workgroup)
        .set_database(fields.database)
        .set_db_user(fields.db_user)
        .set_secret_arn(fields.secret_arn)
        .set_session_id(fields.session_id)
        .set_session_keep_alive_seconds(keep_alive(statement)?)
        .set_parameters(parameters(statement)?)
        .set_statement_name(statement.name().map(str::to_owned))
        .set_client_token(statement.client_token().map(|token| token.as_str().to_owned()))
        .set_with_event(statement.event().then_some(true))
        .set_result_format(result_format(statement))
        .set_wait_time_seconds(wait_seconds(wait)))
}

/// Fills in the request for a batch.
pub(super) fn batch(
    request: BatchExecuteStatementFluentBuilder,
    statement: &Statement,
    target: &Target,
    wait: Option<WaitTime>,
) -> Result<BatchExecuteStatementFluentBuilder> {
    let fields = TargetFields::of(statement, target);
    Ok(request
        .set_sqls(Some(statement.sqls().to_vec()))
        .set_cluster_identifier(fields.cluster)
        .set_workgroup_name(fields.workgroup)
        .set_database(fields.database)
        .set_db_user(fields.db_user)
        .set_secret_arn(fields.secret_arn)
        .set_session_id(fields.session_id)
        .set_session_keep_alive_seconds(keep_alive(statement)?)
        .set_parameters(parameters(statement)?)
        .set_statement_name(statement.name().map(str::to_owned))
        .set_client_token(statement.client_token().map(|token| token.as_str().to_owned()))
        .set_with_event(statement.event().then_some(true))
        .set_result_format(result_format(statement))
        .set_execution_mode(match statement.execution_mode() {
            Some(ExecutionMode::AutoCommit) => Some(SdkExecutionMode::AutoCommit),
            // The service's default is not sent, because some endpoints do not know this member.
            Some(ExecutionMode::Transaction) | None => None,
        })
        .set_wait_time_seconds(wait_seconds(wait)))
}

/// Members of a request that determine where the statement runs: a session or a target. The service rejects a
/// request with both.
#[derive(Default)]
pub(super) struct TargetFields {
    pub(super) cluster: Option<String>,
    pub(super) workgroup: Option<String>,
    database: Option<String>,
    pub(super) db_user: Option<String>,
    pub(super) secret_arn: Option<String>,
    session_id: Option<String>,
}

impl TargetFields {
    fn of(statement: &Statement, target: &Target) -> Self {
        if let Some(session) = statement.session() {
            return Self { session_id: Some(session.as_str().to_owned()), ..Self::default() };
        }
        Self::at(statement.target().unwrap_or(target))
    }

    pub(super) fn at(target: &Target) -> Self {
        let (cluster, workgroup) = compute(Some(target.compute()));
        let (db_user, secret_arn) = match target.auth() {
            Auth::Iam => (None, None),
            Auth::DatabaseUser(user) => (Some(user.clone()), None),
            Auth::Secret(arn) => (None, Some(arn.clone())),
        };
        let database = Some(target.database().to_owned());
        Self { cluster, workgroup, database, db_user, secret_arn, session_id: None }
    }
}

/// Returns the cluster and the workgroup. At most one of them is set.
pub(super) fn compute(compute: Option<&Compute>) -> (Option<String>, Option<String>) {
    match compute {
        Some(Compute::Cluster(identifier)) => (Some(identifier.clone()), None),
        Some(Compute::Workgroup(name)) => (None, Some(name.clone())),
        None => (None, None),
    }
}

/// Returns the cluster or workgroup, if the response contains one.
pub(super) fn one_compute(cluster: Option<String>, workgroup: Option<String>) -> Option<Compute> {
    text(cluster).map(Compute::Cluster).or_else(|| text(workgroup).map(Compute::Workgroup))
}

pub(super) fn seconds(seconds: Option<i32>) -> Option<Duration> {
    u64::try_from(seconds?).ok().map(Duration::from_secs)
}

pub(super) fn wait_seconds(wait: Option<WaitTime>) -> Option<i32> {
    wait.map(|wait| wait.seconds().into())
}

/// Returns the keep-alive time in whole seconds, rounded up so that the session does not end too early.
fn keep_alive(statement: &Statement) -> Result<Option<i32>> {
    let Some(idle) = statement.session_keep_alive() else { return Ok(None) };
    let seconds = idle.as_secs() + u64::from(idle.subsec_nanos() > 0);
    i32::try_from(seconds).map(Some).map_err(|_| {
        Error::new(ErrorKind::Invalid, "a session can be kept open for at most 24 hours")
            .with_context("session_keep_alive_seconds", seconds)
    })
}

/// Returns `None` if there are no parameters, because the service rejects an empty list.
fn parameters(statement: &Statement) -> Result<Option<Vec<SqlParameter>>> {
    if statement.parameters().is_empty() {
        return Ok(None);
    }
    let convert = |parameter: &crate::Parameter| {
        SqlParameter::builder().name(&parameter.name).value(&parameter.value).build().map_err(|source| {
            Error::new(ErrorKind::Invalid, "a parameter needs a name and a value")
                .with_context("parameter", &parameter.name)
                .with_source(source)
        })
    };
    statement.parameters().iter().map(convert).collect::<Result<_>>().map(Some)
}

fn result_format(statement: &Statement) -> Option<ResultFormatString> {
    match statement.result_format() {
        ResultFormat::Json => None,
        ResultFormat::Csv => Some(ResultFormatString::Csv),
    }
}

pub(super) fn status_filter(status: Option<&Status>) -> StatusString {
    status.map_or(StatusString::All, |status| StatusString::from(status.as_str()))
}

/// Converts the response to a submit. This is a macro, because the responses of the two operations have the
/// same members but unrelated types.
macro_rules! submitted {
    ($operation:literal, $output:ident) => {{
        let mut submitted = Submitted::new(accepted($operation, $output.id)?);
        submitted.status = $output.status.map(|status| Status::from(status.as_str()));
        submitted.redshift_pid = $output.redshift_pid.and_then(number);
        submitted.has_result_set = $output.has_result_set;
        submitted.session_id = session($output.session_id);
        submitted.target = target(
            $output.cluster_identifier,
            $output.workgroup_name,
            $output.database,
            $output.db_user,
            $output.secret_arn,
        );
        submitted.database_groups = $output.db_groups.unwrap_or_default();
        submitted.created_at = timestamp($output.created_at);
        Ok(submitted)
    }};
}

/// Converts the response for a single statement.
pub(super) fn executed(output: ExecuteStatementOutput) -> Result<Submitted> {
    submitted!("ExecuteStatement", output)
}

/// Converts the response for a batch.
pub(super) fn batch_executed(output: BatchExecuteStatementOutput) -> Result<Submitted> {
    submitted!("BatchExecuteStatement", output)
}

fn accepted(operation: &'static str, id: Option<String>) -> Result<StatementId> {
    text(id).map(StatementId::new).ok_or_else(|| {
        // The statement was accepted, but its id is unknown, as after a lost response.
        Error::new(ErrorKind::Disconnected, "the service accepted a statement but did not return its id")
            .with_context("operation", operation)
    })
}

/// Returns the target, if the response contains all its required members.
fn target(
    cluster: Option<String>,
    workgroup: Option<String>,
    database: Option<String>,
    db_user: Option<String>,
    secret_arn: Option<String>,
) -> Option<Target> {
    let database = text(database)?;
    let target = match one_compute(cluster, workgroup)? {
        Compute::Cluster(identifier) => Target::cluster(identifier, database),
        Compute::Workgroup(name) => Target::workgroup(name, database),
    };
    Some(match (text(secret_arn), text(db_user)) {
        (Some(arn), _) => target.with_secret(arn),
        (None, Some(user)) => target.with_database_user(user),
        (None, None) => target,
    })
}

/// Converts the response to a describe request.
pub(super) fn description(output: DescribeStatementOutput) -> Description {
    let status = status(output.status.as_ref().map(StatusString::as_str));
    let ended = status.is_terminal();
    let sub_statements: Vec<_> =
        output.sub_statements.unwrap_or_default().into_iter().map(sub_statement).collect();
    let mut description = Description::new(StatementId::new(output.id), status);
    description.error = text(output.error);
    description.execution_time = duration(output.duration, ended);
    description.result_rows = amount(output.result_rows, ended);
    description.result_size = amount(output.result_size, ended);
    description.has_result_set = output.has_result_set.unwrap_or(false);
    description.redshift_pid = number(output.redshift_pid);
    description.redshift_query_id = number(output.redshift_query_id);
    description.query_uuid = text(output.redshift_query_uuid);
    description.session_id = session(output.session_id);
    description.created_at = timestamp(output.created_at);
    description.updated_at = timestamp(output.updated_at);
    description.execution_mode = match output.execution_mode {
        Some(SdkExecutionMode::AutoCommit) => Some(ExecutionMode::AutoCommit),
        Some(SdkExecutionMode::Transaction) => Some(ExecutionMode::Transaction),
        Some(_) => None,
        None => (!sub_statements.is_empty()).then_some(ExecutionMode::Transaction),
    };
    description.target = target(
        output.cluster_identifier,
        output.workgroup_name,
        output.database,
        output.db_user,
        output.secret_arn,
    );
    description.sql = text(output.query_string).map(SqlText::new);
    description.parameters = sent_parameters(output.query_parameters);
    description.result_format = format(output.result_format.as_ref());
    description.sub_statements = sub_statements;
    description
}

fn sub_statement(data: SubStatementData) -> SubStatement {
    let status = status(data.status.as_ref().map(StatementStatusString::as_str));
    let ended = status.is_terminal();
    let mut sub = SubStatement::new(StatementId::new(data.id), status);
    sub.error = text(data.error);
    sub.execution_time = duration(data.duration, ended);
    sub.result_rows = amount(data.result_rows, ended);
    sub.result_size = amount(data.result_size, ended);
    sub.has_result_set = data.has_result_set.unwrap_or(false);
    sub.redshift_query_id = number(data.redshift_query_id);
    sub.query_uuid = text(data.redshift_query_uuid);
    sub.created_at = timestamp(data.created_at);
    sub.updated_at = timestamp(data.updated_at);
    sub.sql = text(data.query_string).map(SqlText::new);
    sub
}

/// Converts a page of typed fields.
pub(super) fn json_page(output: GetStatementResultOutput) -> Result<ResultPage> {
    let rows = output
        .records
        .into_iter()
        .map(|row| row.into_iter().map(field).collect::<Result<Vec<_>>>())
        .collect::<Result<_>>()?;
    let mut page = ResultPage::new(columns(output.column_metadata), PageData::Records(rows));
    page.total_rows = amount(output.total_num_rows, true);
    page.next = output.next_token.filter(|token| !token.is_empty()).map(PageToken::new);
    Ok(page)
}

/// Converts a page of CSV text.
pub(super) fn csv_page(output: GetStatementResultV2Output) -> Result<ResultPage> {
    let piece = |record| match record {
        QueryRecords::CsvRecords(text) => Ok(text),
        _ => Err(unknown("a kind of record")),
    };
    let pieces = output.records.into_iter().map(piece).collect::<Result<_>>()?;
    let mut page = ResultPage::new(columns(output.column_metadata), PageData::Csv(pieces));
    page.total_rows = amount(output.total_num_rows, true);
    let next = output.next_token.filter(|token| !token.is_empty());
    page.next = next.map(|token| PageToken::new(format!("{CSV_PAGE}{token}")));
    Ok(page)
}

fn columns(metadata: Option<Vec<ColumnMetadata>>) -> Vec<Column> {
    metadata.unwrap_or_default().into_iter().map(column).collect()
}

pub(super) fn column(data: ColumnMetadata) -> Column {
    let name = text(data.label).or(text(data.name)).unwrap_or_default();
    let mut column = Column::new(name, data.type_name.unwrap_or_default());
    column.precision = u32::try_from(data.precision).ok().filter(|precision| *precision > 0);
    column.scale = u32::try_from(data.scale).ok();
    column.length = u32::try_from(data.length).ok().filter(|length| *length > 0);
    column.schema = text(data.schema_name);
    column.table = text(data.table_name);
    column.default = text(data.column_default);
    // JDBC constants: `columnNoNulls`, `columnNullable`, `columnNullableUnknown`.
    column.nullable = match data.nullable {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    };
    column
}

fn field(field: SdkField) -> Result<Field> {
    match field {
        SdkField::IsNull(_) => Ok(Field::Null),
        SdkField::BooleanValue(value) => Ok(Field::Boolean(value)),
        SdkField::LongValue(value) => Ok(Field::Long(value)),
        SdkField::DoubleValue(value) => Ok(Field::Double(value)),
        SdkField::StringValue(value) => Ok(Field::String(value)),
        SdkField::BlobValue(value) => Ok(Field::Blob(value.into_inner())),
        _ => Err(unknown("a kind of field")),
    }
}

fn unknown(what: &str) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        format!(
            "the result has {what} that this version of the SDK does not know; update aws-sdk-redshiftdata"
        ),
    )
}

/// Converts the response to a list request.
pub(super) fn statement_page(output: ListStatementsOutput) -> StatementPage {
    StatementPage {
        statements: output.statements.into_iter().map(summary).collect(),
        next: output.next_token.filter(|token| !token.is_empty()).map(PageToken::new),
    }
}

fn summary(data: StatementData) -> StatementSummary {
    let status = status(data.status.as_ref().map(StatusString::as_str));
    let mut summary = StatementSummary::new(StatementId::new(data.id), status);
    summary.name = text(data.statement_name);
    summary.created_at = timestamp(data.created_at);
    summary.updated_at = timestamp(data.updated_at);
    summary.is_batch = data.is_batch_statement.unwrap_or(false);
    summary.result_format = format(data.result_format.as_ref());
    summary.session_id = session(data.session_id);
    let sqls = data.query_strings.filter(|sqls| !sqls.is_empty());
    let sqls = sqls.unwrap_or_else(|| text(data.query_string).into_iter().collect());
    summary.sqls = sqls.into_iter().map(SqlText::new).collect();
    summary.parameters = sent_parameters(data.query_parameters);
    summary.secret_arn = text(data.secret_arn);
    summary
}

fn sent_parameters(parameters: Option<Vec<SqlParameter>>) -> Vec<Parameter> {
    let parameters = parameters.unwrap_or_default().into_iter();
    parameters.map(|parameter| Parameter::new(parameter.name, parameter.value)).collect()
}

/// Returns `None` also for a format that is unknown to this version. Responses spell the format in upper or
/// lower case.
pub(super) fn format(format: Option<&ResultFormatString>) -> Option<ResultFormat> {
    match format?.as_str().to_ascii_uppercase().as_str() {
        "JSON" => Some(ResultFormat::Json),
        "CSV" => Some(ResultFormat::Csv),
        _ => None,
    }
}

/// Converts a status. A missing status becomes an unknown one, because the statement may still be running.
fn status(word: Option<&str>) -> Status {
    Status::from(word.unwrap_or("UNKNOWN"))
}

pub(super) fn text(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn session(id: Option<String>) -> Option<SessionId> {
    text(id).map(SessionId::new)
}

fn number(number: i64) -> Option<i64> {
    (number > 0).then_some(number)
}

/// Converts an amount. `-1` means that the service has no value. For a running statement, `0` is the SDK's
/// default for a missing member.
fn amount(amount: i64, ended: bool) -> Option<u64> {
    u64::try_from(amount).ok().filter(|amount| ended || *amount > 0)
}

fn duration(nanoseconds: i64, ended: bool) -> Option<Duration> {
    amount(nanoseconds, ended).map(Duration::from_nanos)
}

pub(super) fn timestamp(time: Option<DateTime>) -> Option<Timestamp> {
    let time = time?;
    Timestamp::new(time.secs(), i32::try_from(time.subsec_nanos()).ok()?).ok()
}
