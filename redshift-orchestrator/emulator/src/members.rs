//! [`Members`]: the members of a request, parsed and validated like in the service.

use std::{fmt, ops::RangeInclusive};

use serde::Deserialize;

use super::{operation::Operation, refusal::Refusal};

/// The request members of all operations. A member name has the same type in every operation, so one
/// structure can parse all requests. As in the service, `null` counts as absent and unknown members are
/// ignored. `Debug` is not implemented, because it would print SQL and parameter values.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Members {
    pub(super) client_token: Option<String>,
    pub(super) cluster_identifier: Option<String>,
    pub(super) connected_database: Option<String>,
    pub(super) database: Option<String>,
    pub(super) db_user: Option<String>,
    pub(super) execution_mode: Option<String>,
    pub(super) id: Option<String>,
    pub(super) max_results: Option<i64>,
    pub(super) next_token: Option<String>,
    pub(super) parameters: Option<Vec<Member>>,
    pub(super) result_format: Option<String>,
    pub(super) role_level: Option<bool>,
    pub(super) schema: Option<String>,
    pub(super) schema_pattern: Option<String>,
    pub(super) secret_arn: Option<String>,
    pub(super) session_id: Option<String>,
    pub(super) session_keep_alive_seconds: Option<i64>,
    pub(super) sql: Option<String>,
    pub(super) sqls: Option<Vec<String>>,
    pub(super) statement_name: Option<String>,
    pub(super) status: Option<String>,
    pub(super) table: Option<String>,
    pub(super) table_pattern: Option<String>,
    pub(super) wait_time_seconds: Option<i64>,
    pub(super) with_event: Option<bool>,
    pub(super) workgroup_name: Option<String>,
}

/// An entry of `Parameters`.
#[derive(Default, Deserialize)]
pub(super) struct Member {
    pub(super) name: Option<String>,
    pub(super) value: Option<String>,
}

impl Members {
    /// Parses and validates the members of a request for `operation`.
    pub(super) fn read(operation: Operation, body: &[u8]) -> Result<Self, Refusal> {
        // The body may be empty if the request has no members.
        let body = if body.is_empty() { b"{}" } else { body };
        let members: Self = serde_json::from_slice(body).map_err(|error| {
            // The service does not report the position. The emulator does, to help with requests written by
            // hand.
            let place = format!("line {}, column {}", error.line(), error.column());
            let what = if error.is_data() {
                "a member has a type that the service's model does not allow"
            } else {
                "the body is not valid JSON"
            };
            Refusal::exception("SerializationException", format!("{what} ({place})"))
        })?;
        members.check(operation)?;
        Ok(members)
    }

    /// Checks the constraints in the service's model (botocore 1.44,
    /// `redshift-data/2019-12-20/service-2.json`).
    fn check(&self, operation: Operation) -> Result<(), Refusal> {
        use Operation as O;
        let mut broken = Broken::default();
        match operation {
            O::ExecuteStatement => broken.required("sql", &self.sql),
            O::BatchExecuteStatement => {
                broken.required("sqls", &self.sqls);
                broken.length("sqls", self.sqls.as_ref().map(Vec::len), 1..=40);
                broken.one_of("executionMode", &self.execution_mode, &["TRANSACTION", "AUTO_COMMIT"]);
            }
            O::DescribeStatement | O::CancelStatement | O::GetStatementResult | O::GetStatementResultV2 => {
                broken.required("id", &self.id);
                broken.pattern("id", &self.id, UUID, is_uuid);
            }
            O::ListStatements => {
                broken.text("statementName", &self.statement_name, 0..=2048);
                broken.one_of("status", &self.status, &STATUSES);
                broken.range("maxResults", self.max_results, 0..=100);
            }
            O::ListSessions => {
                broken.pattern("sessionId", &self.session_id, UUID, is_uuid);
                broken.one_of("status", &self.status, &["AVAILABLE", "BUSY", "CLOSED"]);
                broken.range("maxResults", self.max_results, 0..=100);
            }
            // The model of botocore 1.43 still required the database.
            O::ListDatabases => broken.range("maxResults", self.max_results, 0..=1000),
            O::ListSchemas | O::ListTables | O::DescribeTable => {
                broken.required("database", &self.database);
                broken.range("maxResults", self.max_results, 0..=1000);
            }
        }
        if operation.submits() {
            self.check_submit(&mut broken);
        }
        if !matches!(
            operation,
            O::DescribeStatement | O::CancelStatement | O::GetStatementResult | O::GetStatementResultV2
        ) {
            broken.text("clusterIdentifier", &self.cluster_identifier, 1..=63);
            broken.pattern("clusterIdentifier", &self.cluster_identifier, CLUSTER, is_cluster);
            broken.text("workgroupName", &self.workgroup_name, 3..=128);
            broken.pattern("workgroupName", &self.workgroup_name, WORKGROUP, is_workgroup);
        }
        if !operation.connects() {
            broken.range("waitTimeSeconds", self.wait_time_seconds, 1..=30);
        }
        broken.refuse()?;
        self.check_together(operation)
    }

    fn check_submit(&self, broken: &mut Broken) {
        broken.text("clientToken", &self.client_token, 1..=64);
        broken.text("statementName", &self.statement_name, 0..=2048);
        broken.one_of("resultFormat", &self.result_format, &["JSON", "CSV"]);
        broken.pattern("sessionId", &self.session_id, UUID, is_uuid);
        broken.range("sessionKeepAliveSeconds", self.session_keep_alive_seconds, 0..=86_400);
        broken.length("parameters", self.parameters.as_ref().map(Vec::len), 1..=usize::MAX);
        for (number, Member { name, value }) in (1..).zip(self.parameters.iter().flatten()) {
            let at = |member: &str| format!("parameters.{number}.member.{member}");
            broken.required(at("name"), name);
            broken.pattern(at("name"), name, "^[0-9a-zA-Z_]+$", is_word);
            broken.required(at("value"), value);
            broken.text(at("value"), value, 1..=usize::MAX);
        }
    }

    /// Checks the rules that involve several members. The service documents them outside its model.
    fn check_together(&self, operation: Operation) -> Result<(), Refusal> {
        let (cluster, workgroup) = (self.cluster_identifier.is_some(), self.workgroup_name.is_some());
        let session = self.session_id.is_some();
        let refuse = |text: &str| Err(Refusal::validation(text));
        if cluster && workgroup {
            return refuse("Only one of ClusterIdentifier and WorkgroupName can be specified.");
        }
        if operation.submits() {
            if session && (cluster || workgroup) {
                return refuse(
                    "SessionId can't be specified together with ClusterIdentifier or WorkgroupName.",
                );
            }
            if !session && !cluster && !workgroup {
                return refuse("One of ClusterIdentifier, WorkgroupName and SessionId must be specified.");
            }
            if !session && self.database.as_deref().unwrap_or_default().is_empty() {
                return refuse("Database must be specified, unless the statement runs in a session.");
            }
        }
        let filtered = cluster || workgroup || self.database.is_some() || self.status.is_some();
        if operation == Operation::ListSessions && session && filtered {
            return refuse(
                "SessionId can't be specified together with Status, ClusterIdentifier, WorkgroupName or Database.",
            );
        }
        if operation.is_metadata() && !cluster && !workgroup {
            return refuse("One of ClusterIdentifier and WorkgroupName must be specified.");
        }
        Ok(())
    }
}

const STATUSES: [&str; 7] = ["SUBMITTED", "PICKED", "STARTED", "FINISHED", "ABORTED", "FAILED", "ALL"];

const UUID: &str = r"^[a-z0-9]{8}(-[a-z0-9]{4}){3}-[a-z0-9]{12}(:\d{0,2})?$";
const CLUSTER: &str = "^[a-z][a-z0-9]*(-[a-z0-9]+)*$";
const WORKGROUP: &str = r"^([a-z0-9-]{3,63}|arn:(aws(-[a-z]+)*):redshift-serverless:([a-z]{2}(-gov|(-iso[a-z]?))?|eusc-[a-z]+)-[a-z]+-\d{1}:\d{12}:workgroup/([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[a-z0-9-]{1,63}/[a-z0-9-]{1,63}))$";

fn is_lower(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

fn is_uuid(text: &str) -> bool {
    let (uuid, number) = text.split_once(':').unwrap_or((text, ""));
    let lengths = uuid.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12])
        && uuid.split('-').all(is_lower)
        && number.len() <= 2
        && number.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_cluster(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.split('-').all(|piece| !piece.is_empty() && is_lower(piece))
}

/// Accepts a name or an ARN. Only the general form of an ARN is checked.
fn is_workgroup(text: &str) -> bool {
    let is_name = |name: &str| name.split('-').all(is_lower);
    if !text.starts_with("arn:") {
        return text.len() <= 63 && is_name(text);
    }
    let pieces: Vec<_> = text.split(':').collect();
    let [_, partition, "redshift-serverless", region, account, resource] = pieces[..] else { return false };
    let resource = resource.strip_prefix("workgroup/").unwrap_or_default();
    partition.starts_with("aws")
        && !region.is_empty()
        && account.len() == 12
        && account.bytes().all(|byte| byte.is_ascii_digit())
        && (1..=2).contains(&resource.split('/').count())
        && resource.split('/').all(|piece| !piece.is_empty() && is_name(piece))
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Violated constraints, in the wording of AWS services.
#[derive(Default)]
struct Broken(Vec<String>);

impl Broken {
    fn add(
        &mut self,
        value: Option<&dyn fmt::Display>,
        at: impl fmt::Display,
        constraint: impl fmt::Display,
    ) {
        let value = value.map_or("null".to_owned(), |value| format!("'{value}'"));
        self.0
            .push(format!("Value {value} at '{at}' failed to satisfy constraint: Member must {constraint}"));
    }

    fn required<T>(&mut self, at: impl fmt::Display, value: &Option<T>) {
        if value.is_none() {
            self.add(None, at, "not be null");
        }
    }

    /// Checks the length of a list.
    fn length(&mut self, at: impl fmt::Display, length: Option<usize>, allowed: RangeInclusive<usize>) {
        if let Some(length) = length {
            self.outside(&format!("[{length} entries]"), at, length, allowed, "have length");
        }
    }

    /// Checks the length of a text in characters.
    fn text(&mut self, at: impl fmt::Display, value: &Option<String>, allowed: RangeInclusive<usize>) {
        if let Some(value) = value {
            self.outside(value, at, value.chars().count(), allowed, "have length");
        }
    }

    fn range(&mut self, at: impl fmt::Display, value: Option<i64>, allowed: RangeInclusive<i64>) {
        if let Some(value) = value {
            self.outside(&value, at, value, allowed, "have value");
        }
    }

    fn outside<N: PartialOrd + fmt::Display>(
        &mut self,
        value: &dyn fmt::Display,
        at: impl fmt::Display,
        measure: N,
        allowed: RangeInclusive<N>,
        what: &str,
    ) {
        if measure < *allowed.start() {
            self.add(Some(value), at, format_args!("{what} greater than or equal to {}", allowed.start()));
        } else if measure > *allowed.end() {
            self.add(Some(value), at, format_args!("{what} less than or equal to {}", allowed.end()));
        }
    }

    fn pattern(
        &mut self,
        at: impl fmt::Display,
        value: &Option<String>,
        pattern: &str,
        fits: fn(&str) -> bool,
    ) {
        if let Some(value) = value
            && !fits(value)
        {
            self.add(Some(value), at, format_args!("satisfy regular expression pattern: {pattern}"));
        }
    }

    fn one_of(&mut self, at: impl fmt::Display, value: &Option<String>, allowed: &[&str]) {
        if let Some(value) = value
            && !allowed.contains(&value.as_str())
        {
            self.add(Some(value), at, format_args!("satisfy enum value set: [{}]", allowed.join(", ")));
        }
    }

    fn refuse(self) -> Result<(), Refusal> {
        match self.0.len() {
            0 => Ok(()),
            count => {
                let errors = if count == 1 { "error" } else { "errors" };
                Err(Refusal::validation(format!(
                    "{count} validation {errors} detected: {}",
                    self.0.join("; ")
                )))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(operation: Operation, body: &str) -> String {
        Members::read(operation, body.as_bytes())
            .map(|_| "accepted".to_owned())
            .unwrap_or_else(|refusal| refusal.to_string())
    }

    #[test]
    fn lists_every_violated_constraint_in_one_response() {
        let body = r#"{"Sql": null, "ClusterIdentifier": "DWH", "Database": "dev", "WaitTimeSeconds": 31,
            "Parameters": [{"name": "a", "value": "1"}, {"name": "b-c", "value": ""}], "ResultFormat": "XML"}"#;
        assert_eq!(
            refused(Operation::ExecuteStatement, body).split("; ").collect::<Vec<_>>(),
            [
                "ValidationException: 6 validation errors detected: Value null at 'sql' failed to satisfy constraint: Member must not be null",
                "Value 'XML' at 'resultFormat' failed to satisfy constraint: Member must satisfy enum value set: [JSON, CSV]",
                "Value 'b-c' at 'parameters.2.member.name' failed to satisfy constraint: Member must satisfy regular expression pattern: ^[0-9a-zA-Z_]+$",
                "Value '' at 'parameters.2.member.value' failed to satisfy constraint: Member must have length greater than or equal to 1",
                "Value 'DWH' at 'clusterIdentifier' failed to satisfy constraint: Member must satisfy regular expression pattern: ^[a-z][a-z0-9]*(-[a-z0-9]+)*$",
                "Value '31' at 'waitTimeSeconds' failed to satisfy constraint: Member must have value less than or equal to 30",
            ]
        );
    }

    #[test]
    fn a_statement_requires_exactly_one_target() {
        let place = |members: &str| {
            refused(Operation::ExecuteStatement, &format!(r#"{{"Sql": "SELECT 1"{members}}}"#))
        };
        assert!(place("").contains("must be specified"));
        assert!(place(r#", "ClusterIdentifier": "dwh""#).contains("Database must be specified"));
        assert_eq!(place(r#", "ClusterIdentifier": "dwh", "Database": "dev""#), "accepted");
        assert!(place(r#", "ClusterIdentifier": "dwh", "WorkgroupName": "dwh""#).contains("Only one of"));
        let session = r#", "SessionId": "5a3b1c9e-0747-4bf4-b142-e8883122f766""#;
        assert_eq!(place(session), "accepted");
        assert!(place(&format!(r#"{session}, "WorkgroupName": "dwh""#)).contains("SessionId can't"));
    }

    #[test]
    fn required_members_follow_the_model() {
        use Operation as O;
        for operation in O::ALL {
            let required = match operation {
                O::ExecuteStatement => "sql",
                O::BatchExecuteStatement => "sqls",
                O::DescribeStatement | O::CancelStatement => "id",
                O::GetStatementResult | O::GetStatementResultV2 => "id",
                O::ListSchemas | O::ListTables | O::DescribeTable => "database",
                O::ListDatabases | O::ListSessions | O::ListStatements => "",
            };
            let response = refused(operation, r#"{"ClusterIdentifier": "dwh"}"#);
            match required {
                "" => assert_eq!(response, "accepted", "{operation:?}"),
                _ => assert!(
                    response.contains(&format!("1 validation error detected: Value null at '{required}'")),
                    "{operation:?}: {response}"
                ),
            }
        }
    }

    #[test]
    fn ids_and_names_follow_the_model() {
        for (text, expected) in [
            ("d9b6c0c9-0747-4bf4-b142-e8883122f766", true),
            ("d9b6c0c9-0747-4bf4-b142-e8883122f766:2", true),
            ("d9b6c0c9-0747-4bf4-b142-e8883122f766:123", false),
            ("D9b6c0c9-0747-4bf4-b142-e8883122f766", false),
            ("d9b6c0c90747-4bf4-b142-e8883122f766", false),
        ] {
            assert_eq!(is_uuid(text), expected, "{text}");
        }
        for (text, expected) in [
            ("dwh", true),
            ("my-workgroup-1", true),
            (
                "arn:aws:redshift-serverless:eu-west-1:111122223333:workgroup/d9b6c0c9-0747-4bf4-b142-e8883122f766",
                true,
            ),
            ("arn:aws:redshift:eu-west-1:111122223333:cluster/dwh", false),
            ("my_workgroup", false),
        ] {
            assert_eq!(is_workgroup(text), expected, "{text}");
        }
        assert!(is_cluster("dwh-1-a") && !is_cluster("1dwh") && !is_cluster("dwh-") && !is_cluster(""));
    }

    #[test]
    fn a_body_that_is_not_json_or_has_a_wrong_type_is_a_serialization_error() {
        assert_eq!(
            refused(Operation::ListStatements, "{"),
            "SerializationException: the body is not valid JSON (line 1, column 1)"
        );
        assert!(refused(Operation::ListStatements, r#"{"MaxResults": "ten"}"#).contains("does not allow"));
        assert_eq!(refused(Operation::ListStatements, ""), "accepted");
        assert_eq!(refused(Operation::ListStatements, r#"{"Unheard": 1, "NextToken": null}"#), "accepted");
    }

    proptest::proptest! {
        #[test]
        fn no_body_causes_a_panic(body in "[ -~äß\"{}:\\[\\],0-9]{0,80}", which in 0..12_usize) {
            let _ = Members::read(Operation::ALL[which], body.as_bytes());
        }
    }
}
