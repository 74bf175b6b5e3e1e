//! Stores the records of statements in tables of the database.
//!
//! ```text
//! statement     one row for each submit: the statement, its status and its outcome
//! part          one row for each SQL text that has ended (a single statement has one text, a batch several)
//! result_page   the rows of results as JSON, one page per row
//! client_token  the statement that was submitted with a token, and the token's expiry
//! version       the version of these tables
//! ```
//!
//! The outcome of a statement is written in the same transaction as its effect, so that both are committed or
//! neither is.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio_postgres::{Row, types::Type};

use super::{dialect, errors, link::Link};
use crate::{
    Limits,
    backend::Admission,
    machine::later,
    record::{Part, Record, StatementOutcome},
    table::Table,
};
use redshift_orchestrator::{
    Auth, ClientToken, Column, Compute, Error, ErrorKind, ExecutionMode, Field, Result, ResultFormat,
    SessionId, Statement, StatementFilter, StatementId, Status, Target,
    catalog::{Session, SessionStatus},
};

/// Version of the tables.
const VERSION: i32 = 1;

/// Key of the advisory lock that is held while the tables are created.
const MAKING: i64 = 0x7265_6473_6869_6674;

/// Time from the end of a statement until its record is deleted.
const KEEP_EXPIRED: jiff::SignedDuration = jiff::SignedDuration::from_hours(7 * 24);

/// Access to the tables in one schema.
#[derive(Clone, Debug)]
pub(super) struct Records {
    name: String,
    /// Quoted name.
    schema: String,
    pub(super) limits: Limits,
}

/// Outcome of claiming a statement.
pub(super) enum Ownership {
    /// This connection runs the statement, for the `attempt`th time. `outside` is the part, counted from 0,
    /// that an interrupted attempt was running outside a transaction.
    Ours { attempt: i32, outside: Option<usize>, cancelled: bool, ended: Vec<(usize, Part)> },
    /// The statement has ended.
    Ended(Box<Record>),
    /// Another connection runs the statement.
    Elsewhere,
    /// The record does not exist.
    Gone,
}

type Params<'a> = &'a [(&'a (dyn tokio_postgres::types::ToSql + Sync), Type)];

impl Records {
    /// Checks the name of the schema. Fails if it contains characters other than letters, digits and `_`.
    pub(super) fn new(name: &str, limits: Limits) -> Result<Self> {
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return Err(Error::new(
                ErrorKind::Invalid,
                "the name of the schema for records may contain only letters, digits and _",
            )
            .with_context("schema", name));
        }
        Ok(Self { name: name.to_owned(), schema: format!("\"{name}\""), limits })
    }

    /// Returns the name of the schema.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the quoted name of the schema.
    pub(super) fn schema(&self) -> &str {
        &self.schema
    }

    /// Replaces `~` in `sql` by the schema.
    fn sql(&self, sql: &str) -> String {
        sql.replace('~', &self.schema)
    }

    async fn execute(&self, link: &Link, sql: &str, params: Params<'_>) -> Result<u64> {
        link.execute_typed(&self.sql(sql), params).await.map_err(errors::records)
    }

    async fn query(&self, link: &Link, sql: &str, params: Params<'_>) -> Result<Vec<Row>> {
        link.query_typed(&self.sql(sql), params).await.map_err(errors::records)
    }

    /// Creates the tables if they do not exist.
    pub(super) async fn create(&self, link: &Link, now: Timestamp) -> Result<()> {
        // One process creates the tables while the others wait for the lock.
        self.query(link, "SELECT pg_advisory_lock($1)", &[(&MAKING, Type::INT8)]).await?;
        let exists = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)";
        let there: bool = one(&self.query(link, exists, &[(&self.name, Type::TEXT)]).await?, 0)?;
        if !there {
            link.batch_execute(&self.sql(TABLES)).await.map_err(errors::records)?;
        }
        self.create_functions(link).await?;
        self.query(link, "SELECT pg_advisory_unlock($1)", &[(&MAKING, Type::INT8)]).await?;
        let version: i32 = one(&self.query(link, "SELECT version FROM ~.version", &[]).await?, 0)?;
        if version != VERSION {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "the records in schema {} have version {version}, but this program supports version {VERSION}; use another schema (`with_schema`), or the program that created them",
                    self.schema
                ),
            ));
        }
        self.widen(link).await?;
        self.clean(link, now).await
    }

    /// Returns a seed that is different for each start on the database. Otherwise a second process with the
    /// same seed would draw ids that are already recorded. Uses up one record number.
    pub(super) async fn seed_of_start(&self, link: &Link, seed: u64) -> Result<u64> {
        let sql = "SELECT nextval(pg_get_serial_sequence('~.statement', 'number'))";
        let number: i64 = one(&self.query(link, sql, &[]).await?, 0)?;
        // The factor spreads the numbers, so that neighbouring seeds do not meet.
        Ok(seed ^ number.unsigned_abs().wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    /// Deletes expired tokens, results and records.
    pub(super) async fn clean(&self, link: &Link, now: Timestamp) -> Result<()> {
        let (now, old) = (now, now.saturating_sub(KEEP_EXPIRED).unwrap_or(Timestamp::MIN));
        let (tokens, results) = (
            "DELETE FROM ~.client_token WHERE expires_at <= $1",
            "DELETE FROM ~.result_page WHERE statement_id IN (SELECT id FROM ~.statement WHERE ended_at < $1)",
        );
        let forgotten = self.oldest(now);
        self.execute(link, tokens, &[(&now, Type::TIMESTAMPTZ)]).await?;
        self.execute(link, results, &[(&forgotten, Type::TIMESTAMPTZ)]).await?;
        self.execute(link, "DELETE FROM ~.statement WHERE ended_at < $1", &[(&old, Type::TIMESTAMPTZ)])
            .await?;
        Ok(())
    }

    /// Returns the time before which a statement must have ended for its record to have expired.
    fn oldest(&self, now: Timestamp) -> Timestamp {
        now.checked_sub(self.limits.record_retention).unwrap_or(Timestamp::MIN)
    }

    /// Adds the column and the index that an earlier version of the tables lacks.
    async fn widen(&self, link: &Link) -> Result<()> {
        const THERE: &str = "SELECT EXISTS (SELECT FROM pg_attribute
            WHERE attrelid = '~.statement'::regclass AND attname = 'keep_alive_us' AND NOT attisdropped)";
        // The column is checked first, because ALTER TABLE would wait for all writers of the table even if
        // the column exists.
        if !one::<bool>(&self.query(link, THERE, &[]).await?, 0)? {
            let add = "ALTER TABLE ~.statement ADD COLUMN IF NOT EXISTS keep_alive_us bigint";
            self.execute(link, add, &[]).await?;
        }
        let there = "SELECT to_regclass('~.statement_name') IS NOT NULL";
        if !one::<bool>(&self.query(link, there, &[]).await?, 0)? {
            self.execute(link, NAME_INDEX, &[]).await?;
        }
        Ok(())
    }

    /// Creates the functions that translated SQL calls, unless this version of them exists. The version is a
    /// digest in the comment on the schema.
    async fn create_functions(&self, link: &Link) -> Result<()> {
        let digest = Sha256::digest(dialect::LIBRARY);
        let print: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let comment = format!("statements of the local Redshift Data API, functions {print}");
        let found = "SELECT obj_description('~'::regnamespace, 'pg_namespace')";
        if one::<Option<String>>(&self.query(link, found, &[]).await?, 0)? != Some(comment.clone()) {
            let sql = format!(
                "BEGIN; {DROP_FUNCTIONS}; {}; GRANT USAGE ON SCHEMA ~ TO PUBLIC; COMMENT ON SCHEMA ~ IS '{comment}'; COMMIT",
                dialect::LIBRARY
            );
            link.batch_execute(&self.sql(&sql)).await.map_err(errors::records)?;
        }
        Ok(())
    }

    /// Records a new statement, unless its client token belongs to another one. A single SQL statement writes
    /// both the token and the record, so that neither exists without the other.
    pub(super) async fn admit(&self, link: &Link, record: &Record) -> Result<Admission> {
        const INSERT: &str = "
            WITH token AS (
                INSERT INTO ~.client_token AS known (token, statement_id, expires_at) SELECT $2, $1, $4 WHERE $2 IS NOT NULL
                ON CONFLICT (token) DO UPDATE SET statement_id = $1, expires_at = $4 WHERE known.expires_at <= $3
                RETURNING token)
            INSERT INTO ~.statement (id, client_token, created_at, updated_at, name, sqls, execution_mode, parameters, result_format, with_event, target, session_id, keep_alive_us, status)
            SELECT $1, $2, $3, $3, $5, $6, $7, $8, $9, $10, $11, $12, $13, 'SUBMITTED'
            WHERE $2 IS NULL OR EXISTS (SELECT FROM token)";
        let statement = &record.statement;
        let token = statement.client_token().map(ClientToken::as_str);
        let expires = later(record.created_at, self.limits.token_retention);
        let (mode, format) = (statement.execution_mode().map(word), word(statement.result_format()));
        let parameters =
            json(&statement.parameters().iter().map(|p| (&p.name, &p.value)).collect::<Vec<_>>())?;
        let target = statement.target().map(|target| json(&StoredTarget::from(target))).transpose()?;
        let inserted = self
            .execute(
                link,
                INSERT,
                &[
                    (&record.id.as_str(), Type::TEXT),
                    (&token, Type::TEXT),
                    (&record.created_at, Type::TIMESTAMPTZ),
                    (&expires, Type::TIMESTAMPTZ),
                    (&statement.name(), Type::TEXT),
                    (&statement.sqls(), Type::TEXT_ARRAY),
                    (&mode, Type::TEXT),
                    (&parameters, Type::TEXT),
                    (&format, Type::TEXT),
                    (&statement.event(), Type::BOOL),
                    (&target, Type::TEXT),
                    (&statement.session().map(SessionId::as_str), Type::TEXT),
                    (&statement.session_keep_alive().map(micros), Type::INT8),
                ],
            )
            .await?;
        if inserted == 1 {
            return Ok(Admission::New);
        }
        let known = self
            .query(link, "SELECT statement_id FROM ~.client_token WHERE token = $1", &[(&token, Type::TEXT)])
            .await?;
        Ok(Admission::Known(StatementId::new(one::<String>(&known, 0)?)))
    }

    /// Claims a statement for this connection, until the connection is reset or closed.
    pub(super) async fn claim(&self, link: &Link, id: &StatementId, now: Timestamp) -> Result<Ownership> {
        // The advisory lock keeps a second process from starting the same statement. Even without the lock, a
        // statement could not take effect twice: its outcome is written in the transaction of its effect, and
        // only if no outcome exists yet.
        const CLAIM: &str = "
            UPDATE ~.statement SET status = 'STARTED', attempts = attempts + 1, pid = pg_backend_pid(), updated_at = $2
            WHERE id = $1 AND ended_at IS NULL
              AND pg_try_advisory_lock('~'::regnamespace::oid::int, number::int)
            RETURNING attempts, outside, cancel_requested";
        let claimed =
            self.query(link, CLAIM, &[(&id.as_str(), Type::TEXT), (&now, Type::TIMESTAMPTZ)]).await?;
        if claimed.is_empty() {
            return Ok(match self.load(link, id).await? {
                None => Ownership::Gone,
                Some(record) if record.status.is_terminal() => Ownership::Ended(Box::new(record)),
                Some(_) => Ownership::Elsewhere,
            });
        }
        let outside: Option<i32> = one(&claimed, 1)?;
        Ok(Ownership::Ours {
            attempt: one(&claimed, 0)?,
            outside: outside.and_then(|part| usize::try_from(part).ok()),
            cancelled: one(&claimed, 2)?,
            ended: self.parts(link, id).await?,
        })
    }

    /// Returns `true` if a process keeps the session open, that is, if its connection holds the session's
    /// lock. If this query acquires the lock instead, the next reset of this connection releases it.
    pub(super) async fn session_lives(&self, link: &Link, id: &SessionId) -> Result<bool> {
        let sql = "SELECT pg_try_advisory_lock(hashtextextended($1, 0))";
        Ok(!one::<bool>(&self.query(link, sql, &[(&id.as_str(), Type::TEXT)]).await?, 0)?)
    }

    /// Records that a part is about to run outside a transaction. Returns `false` if the statement has ended
    /// or if another attempt has already recorded that.
    pub(super) async fn leave_transaction(&self, link: &Link, id: &StatementId, part: usize) -> Result<bool> {
        let sql = "UPDATE ~.statement SET outside = $2 WHERE id = $1 AND ended_at IS NULL AND outside IS DISTINCT FROM $2";
        Ok(self.execute(link, sql, &[(&id.as_str(), Type::TEXT), (&(part as i32), Type::INT4)]).await? == 1)
    }

    /// Writes the outcome of a part and its result. Fails if an outcome already exists.
    pub(super) async fn end_part(
        &self,
        link: &Link,
        id: &StatementId,
        index: usize,
        part: &Part,
        result: Option<&Table>,
    ) -> Result<()> {
        const PART: &str = "INSERT INTO ~.part (statement_id, part, status, error, duration_us, rows, size, has_result_set, columns)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
        let columns = result
            .map(|table| json(&table.columns.iter().map(StoredColumn::from).collect::<Vec<_>>()))
            .transpose()?;
        let (id, index) = (id.as_str(), index as i32);
        self.execute(
            link,
            PART,
            &[
                (&id, Type::TEXT),
                (&index, Type::INT4),
                (&part.status.as_str(), Type::TEXT),
                (&part.error, Type::TEXT),
                (&part.duration.map(micros), Type::INT8),
                (&part.rows.map(|rows| rows as i64), Type::INT8),
                (&part.size.map(|size| size as i64), Type::INT8),
                (&part.has_result_set, Type::BOOL),
                (&columns, Type::TEXT),
            ],
        )
        .await?;
        let Some(result) = result else { return Ok(()) };
        for (page, rows) in (0_i32..).zip(result.rows.chunks(self.limits.rows_per_page.max(1))) {
            let rows = json(
                &rows.iter().map(|row| row.iter().map(Stored::from).collect()).collect::<Vec<Vec<_>>>(),
            )?;
            self.execute(
                link,
                "INSERT INTO ~.result_page (statement_id, part, page, rows) VALUES ($1, $2, $3, $4)",
                &[(&id, Type::TEXT), (&index, Type::INT4), (&page, Type::INT4), (&rows, Type::TEXT)],
            )
            .await?;
        }
        Ok(())
    }

    /// Writes the outcome of a statement. Returns `false` if the statement had already ended. The caller must
    /// then roll back the transaction.
    pub(super) async fn end(
        &self,
        link: &Link,
        id: &StatementId,
        outcome: &StatementOutcome,
        now: Timestamp,
    ) -> Result<bool> {
        const END: &str =
            "UPDATE ~.statement SET status = $2, error = $3, duration_us = $4, updated_at = $5, ended_at = $5
            WHERE id = $1 AND ended_at IS NULL";
        let ended = self
            .execute(
                link,
                END,
                &[
                    (&id.as_str(), Type::TEXT),
                    (&outcome.status.as_str(), Type::TEXT),
                    (&outcome.error, Type::TEXT),
                    (&outcome.duration.map(micros), Type::INT8),
                    (&now, Type::TIMESTAMPTZ),
                ],
            )
            .await?;
        Ok(ended == 1)
    }

    /// Records a cancel request and interrupts the connection that runs the statement. Returns `false` if the
    /// statement has ended.
    pub(super) async fn cancel(&self, link: &Link, id: &StatementId) -> Result<bool> {
        const CANCEL: &str = "
            WITH asked AS (UPDATE ~.statement SET cancel_requested = true WHERE id = $1 AND ended_at IS NULL RETURNING number)
            SELECT (SELECT bool_or(pg_cancel_backend(pid)) FROM pg_locks
                    WHERE locktype = 'advisory' AND granted AND objsubid = 2
                      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                      AND classid = '~'::regnamespace AND objid::bigint = number)
            FROM asked";
        Ok(!self.query(link, CANCEL, &[(&id.as_str(), Type::TEXT)]).await?.is_empty())
    }

    /// Cancels a statement that has not started. Returns `false` if it has started.
    pub(super) async fn cancel_queued(&self, link: &Link, id: &StatementId) -> Result<bool> {
        let sql = "UPDATE ~.statement SET cancel_requested = true WHERE id = $1 AND status = 'SUBMITTED'";
        Ok(self.execute(link, sql, &[(&id.as_str(), Type::TEXT)]).await? == 1)
    }

    /// Returns the record of one statement.
    pub(super) async fn load(&self, link: &Link, id: &StatementId) -> Result<Option<Record>> {
        let sql = format!("{SELECT} WHERE id = $1");
        let Some(row) = self.query(link, &sql, &[(&id.as_str(), Type::TEXT)]).await?.pop() else {
            return Ok(None);
        };
        let mut record = record(&row)?;
        for (index, part) in self.parts(link, id).await? {
            take_part(&mut record, index, part);
        }
        Ok(Some(record))
    }

    /// Returns all unexpired records in submit order.
    pub(super) async fn load_all(&self, link: &Link, now: Timestamp) -> Result<Vec<Record>> {
        const LIVE: &str = "ended_at IS NULL OR ended_at > $1";
        let since = self.oldest(now);
        let params: Params<'_> = &[(&since, Type::TIMESTAMPTZ)];
        let rows = self.query(link, &format!("{SELECT} WHERE {LIVE} ORDER BY number"), params).await?;
        let mut records = rows.iter().map(record).collect::<Result<Vec<_>>>()?;
        let places: std::collections::HashMap<_, _> = records
            .iter()
            .enumerate()
            .map(|(place, record)| (record.id.as_str().to_owned(), place))
            .collect();
        let parts = format!("{PARTS} WHERE statement_id IN (SELECT id FROM ~.statement WHERE {LIVE})");
        for row in self.query(link, &parts, params).await? {
            let id: String = column(&row, 0)?;
            if let Some(place) = places.get(&id) {
                let (index, part) = part(&row)?;
                take_part(&mut records[*place], index, part);
            }
        }
        Ok(records)
    }

    /// Returns a page of records, newest first, each with its number and without its parts. A filter for
    /// `SUBMITTED`, `PICKED` or `STARTED` returns every statement that has not ended, because only the
    /// process that runs a statement knows which of these it is in.
    pub(super) async fn list(
        &self,
        link: &Link,
        filter: &StatementFilter,
        before: u64,
        count: usize,
        since: Timestamp,
    ) -> Result<Vec<(u64, Record)>> {
        const LIST: &str = "
            WHERE number < $1 AND (ended_at IS NULL OR ended_at > $2)
              AND ($3::text IS NULL OR starts_with(name, $3))
              AND ($4::text IS NULL OR status = $4) AND (NOT $5 OR ended_at IS NULL)
              AND ($6::text IS NULL OR target::json ->> 'cluster' = $6)
              AND ($7::text IS NULL OR target::json ->> 'workgroup' = $7)
              AND ($8::text IS NULL OR target::json ->> 'database' = $8)
            ORDER BY number DESC LIMIT $9";
        let before = i64::try_from(before).unwrap_or(i64::MAX);
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let status = filter.status.as_ref();
        let ended = status.filter(|status| status.is_terminal()).map(Status::as_str);
        let runs = status.is_some_and(|status| !status.is_terminal());
        let (cluster, workgroup) = match &filter.compute {
            Some(Compute::Cluster(name)) => (Some(name.as_str()), None),
            Some(Compute::Workgroup(name)) => (None, Some(name.as_str())),
            None => (None, None),
        };
        let params: Params<'_> = &[
            (&before, Type::INT8),
            (&since, Type::TIMESTAMPTZ),
            (&filter.name_prefix, Type::TEXT),
            (&ended, Type::TEXT),
            (&runs, Type::BOOL),
            (&cluster, Type::TEXT),
            (&workgroup, Type::TEXT),
            (&filter.database, Type::TEXT),
            (&count, Type::INT8),
        ];
        let rows = self.query(link, &format!("{SELECT}{LIST}"), params).await?;
        let numbered = |row: &Row| Ok((column::<i64>(row, 16)?.unsigned_abs(), record(row)?));
        rows.iter().map(numbered).collect()
    }

    /// Returns the sessions of the last 24 hours, derived from their statements. A session whose lock is not
    /// held is reported as closed. Its time of closing is not recorded, so the end of its last statement is
    /// reported instead.
    pub(super) async fn sessions(&self, link: &Link, now: Timestamp) -> Result<Vec<Session>> {
        const SESSIONS: &str = "
            SELECT session_id, min(created_at), max(updated_at),
                (array_agg(target ORDER BY number))[1],
                (array_agg(keep_alive_us ORDER BY number DESC) FILTER (WHERE keep_alive_us IS NOT NULL))[1],
                (array_agg(id ORDER BY number DESC) FILTER (WHERE ended_at IS NULL))[1],
                EXISTS (SELECT FROM pg_locks
                    WHERE locktype = 'advisory' AND granted AND objsubid = 1
                      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                      AND ((classid::bigint << 32) | objid::bigint) = hashtextextended(session_id, 0))
            FROM ~.statement WHERE session_id IS NOT NULL GROUP BY session_id HAVING max(updated_at) > $1";
        let since = now.saturating_sub(jiff::SignedDuration::from_hours(24)).unwrap_or(Timestamp::MIN);
        let rows = self.query(link, SESSIONS, &[(&since, Type::TIMESTAMPTZ)]).await?;
        rows.iter().map(session).collect()
    }

    async fn parts(&self, link: &Link, id: &StatementId) -> Result<Vec<(usize, Part)>> {
        let sql = format!("{PARTS} WHERE statement_id = $1");
        let rows = self.query(link, &sql, &[(&id.as_str(), Type::TEXT)]).await?;
        rows.iter().map(part).collect()
    }

    /// Returns one page of a result: the columns, the rows, the total number of rows, and `true` if another
    /// page follows. A page that does not exist has no rows.
    pub(super) async fn page(
        &self,
        link: &Link,
        id: &StatementId,
        part: usize,
        page: usize,
    ) -> Result<Option<(Vec<Column>, Vec<Vec<Field>>, u64, bool)>> {
        let sql = "SELECT part.columns, part.rows, page.rows, EXISTS (SELECT FROM ~.result_page AS next
                WHERE next.statement_id = part.statement_id AND next.part = part.part AND next.page::bigint = $3::bigint + 1)
            FROM ~.part AS part
            LEFT JOIN ~.result_page AS page ON page.statement_id = part.statement_id AND page.part = part.part AND page.page = $3
            WHERE part.statement_id = $1 AND part.part = $2 AND part.has_result_set";
        let (part, page) = (part as i32, i32::try_from(page).unwrap_or(i32::MAX));
        let params: Params<'_> = &[(&id.as_str(), Type::TEXT), (&part, Type::INT4), (&page, Type::INT4)];
        let Some(row) = self.query(link, sql, params).await?.pop() else { return Ok(None) };
        let (columns, total, rows): (String, i64, Option<String>) =
            (column(&row, 0)?, column(&row, 1)?, column(&row, 2)?);
        let columns: Vec<StoredColumn> = from_json(&columns)?;
        let rows: Vec<Vec<Stored>> = rows.as_deref().map(from_json).transpose()?.unwrap_or_default();
        let rows = rows.into_iter().map(|row| row.into_iter().map(Field::from).collect()).collect();
        Ok(Some((columns.into_iter().map(Column::from).collect(), rows, total as u64, column(&row, 3)?)))
    }
}

const TABLES: &str = "
BEGIN;
CREATE SCHEMA ~;
CREATE TABLE ~.version (version int NOT NULL);
INSERT INTO ~.version VALUES (1);
CREATE TABLE ~.statement (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id text NOT NULL UNIQUE,
    name text,
    client_token text,
    sqls text[] NOT NULL,
    execution_mode text,
    parameters text NOT NULL,
    result_format text NOT NULL,
    with_event boolean NOT NULL,
    target text,
    session_id text,
    keep_alive_us bigint,
    status text NOT NULL,
    error text,
    pid int,
    attempts int NOT NULL DEFAULT 0,
    outside int,
    cancel_requested boolean NOT NULL DEFAULT false,
    duration_us bigint,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    ended_at timestamptz);
CREATE INDEX statement_name ON ~.statement (name text_pattern_ops);
COMMENT ON COLUMN ~.statement.outside IS 'the part (from 0) that last ran outside a transaction';
CREATE TABLE ~.part (
    statement_id text NOT NULL REFERENCES ~.statement (id) ON DELETE CASCADE,
    part int NOT NULL,
    status text NOT NULL,
    error text,
    duration_us bigint,
    rows bigint,
    size bigint,
    has_result_set boolean NOT NULL,
    columns text,
    PRIMARY KEY (statement_id, part));
CREATE TABLE ~.result_page (
    statement_id text NOT NULL,
    part int NOT NULL,
    page int NOT NULL,
    rows text NOT NULL,
    PRIMARY KEY (statement_id, part, page),
    FOREIGN KEY (statement_id, part) REFERENCES ~.part (statement_id, part) ON DELETE CASCADE);
CREATE TABLE ~.client_token (token text PRIMARY KEY, statement_id text NOT NULL, expires_at timestamptz NOT NULL);
COMMIT";

/// Index for listings by name prefix.
const NAME_INDEX: &str = "CREATE INDEX IF NOT EXISTS statement_name ON ~.statement (name text_pattern_ops)";

/// Drops the functions and views of another version, because PostgreSQL cannot replace a function that has
/// other parameter names, or a view that has other columns. Objects that a user's view depends on are kept,
/// and replaced if possible. Views are dropped before aggregates, and aggregates before the functions that
/// they depend on.
const DROP_FUNCTIONS: &str = "
DO $drop$
DECLARE old record;
BEGIN
    FOR old IN
        SELECT 0 AS place, 'VIEW ' || oid::regclass AS what FROM pg_class WHERE relnamespace = '~'::regnamespace AND relkind = 'v'
        UNION ALL
        SELECT CASE prokind WHEN 'a' THEN 1 ELSE 2 END, 'ROUTINE ' || oid::regprocedure FROM pg_proc WHERE pronamespace = '~'::regnamespace
        ORDER BY place
    LOOP
        BEGIN
            EXECUTE 'DROP ' || old.what;
        EXCEPTION WHEN dependent_objects_still_exist THEN NULL;
        END;
    END LOOP;
END $drop$";

const SELECT: &str =
    "SELECT id, name, client_token, sqls, execution_mode, parameters, result_format, with_event,
    status, error, pid, duration_us, created_at, updated_at, target, session_id, number FROM ~.statement";

const PARTS: &str =
    "SELECT statement_id, part, status, error, duration_us, rows, size, has_result_set FROM ~.part";

fn record(row: &Row) -> Result<Record> {
    let sqls: Vec<String> = column(row, 3)?;
    let mode: Option<String> = column(row, 4)?;
    let mut statement = match (mode, sqls.as_slice()) {
        (None, [sql]) => Statement::sql(sql),
        (None, _) => return Err(damaged("a single statement must have exactly one SQL text")),
        (Some(mode), _) => {
            Statement::batch(sqls.clone()).with_execution_mode(from_word::<ExecutionMode>(&mode)?)
        }
    };
    for (name, value) in from_json::<Vec<(String, String)>>(&column::<String>(row, 5)?)? {
        statement = statement.with_parameter(name, value);
    }
    if let Some(name) = column::<Option<String>>(row, 1)? {
        statement = statement.with_name(name);
    }
    if let Some(token) = column::<Option<String>>(row, 2)? {
        statement = statement.with_client_token(ClientToken::new(token)?);
    }
    statement = statement
        .with_result_format(from_word::<ResultFormat>(&column::<String>(row, 6)?)?)
        .with_event(column(row, 7)?);
    if let Some(target) = column::<Option<String>>(row, 14)? {
        statement = statement.with_target(from_json::<StoredTarget>(&target)?.into());
    }
    if let Some(session) = column::<Option<String>>(row, 15)? {
        statement = statement.in_session(SessionId::new(session));
    }
    let mut record = Record::new(StatementId::new(column::<String>(row, 0)?), statement, column(row, 12)?);
    record.status = Status::from(column::<String>(row, 8)?.as_str());
    record.error = column(row, 9)?;
    record.pid = column::<Option<i32>>(row, 10)?.map(i64::from);
    record.duration = column::<Option<i64>>(row, 11)?.map(from_micros);
    record.updated_at = column(row, 13)?;
    if record.status.is_terminal() {
        for part in &mut record.parts {
            *part = Part::new(Status::Aborted);
        }
    }
    Ok(record)
}

fn session(row: &Row) -> Result<Session> {
    let current = column::<Option<String>>(row, 5)?.map(StatementId::new);
    let status = match (column(row, 6)?, &current) {
        (false, _) => SessionStatus::Closed,
        (true, Some(_)) => SessionStatus::Busy,
        (true, None) => SessionStatus::Available,
    };
    let keep_alive = column::<Option<i64>>(row, 4)?.map(from_micros);
    let updated_at: Timestamp = column(row, 2)?;
    let mut session = Session::new(SessionId::new(column::<String>(row, 0)?), status, column(row, 1)?);
    session.updated_at = Some(updated_at);
    session.keep_alive = keep_alive;
    session.expires_at = match session.status {
        SessionStatus::Closed => Some(updated_at),
        _ => keep_alive.map(|idle| later(updated_at, idle)),
    };
    session.current_statement = current.filter(|_| session.status == SessionStatus::Busy);
    if let Some(target) = column::<Option<String>>(row, 3)? {
        let target = Target::from(from_json::<StoredTarget>(&target)?);
        session.compute = Some(target.compute().clone());
        session.database = Some(target.database().to_owned());
        session.database_user = match target.auth() {
            Auth::DatabaseUser(user) => Some(user.clone()),
            _ => None,
        };
    }
    Ok(session)
}

fn part(row: &Row) -> Result<(usize, Part)> {
    let mut part = Part::new(Status::from(column::<String>(row, 2)?.as_str()));
    part.error = column(row, 3)?;
    part.duration = column::<Option<i64>>(row, 4)?.map(from_micros);
    part.rows = column::<Option<i64>>(row, 5)?.map(|rows| rows as u64);
    part.size = column::<Option<i64>>(row, 6)?.map(|size| size as u64);
    part.has_result_set = column(row, 7)?;
    Ok((column::<i32>(row, 1)? as usize, part))
}

fn take_part(record: &mut Record, index: usize, part: Part) {
    if let Some(slot) = record.parts.get_mut(index) {
        *slot = part;
    }
}

fn column<'a, T: tokio_postgres::types::FromSql<'a>>(row: &'a Row, index: usize) -> Result<T> {
    row.try_get(index).map_err(|error| damaged("a record cannot be read").with_source(error))
}

fn one<'a, T: tokio_postgres::types::FromSql<'a>>(rows: &'a [Row], index: usize) -> Result<T> {
    column(rows.first().ok_or_else(|| damaged("a row is missing"))?, index)
}

fn damaged(message: &str) -> Error {
    Error::new(ErrorKind::Other, format!("the records of the local executor are damaged: {message}"))
}

fn micros(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn from_micros(micros: i64) -> std::time::Duration {
    std::time::Duration::from_micros(micros.unsigned_abs())
}

/// Returns the name that serde gives to an enum variant without fields.
fn word<T: Serialize>(value: T) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn from_word<T: for<'de> Deserialize<'de>>(word: &str) -> Result<T> {
    serde_json::from_value(word.into())
        .map_err(|error| damaged("a stored value is unknown").with_source(error))
}

fn json<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|error| Error::new(ErrorKind::Other, "a result cannot be stored").with_source(error))
}

fn from_json<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| damaged("a result cannot be read").with_source(error))
}

/// JSON form of a field. Floats are stored as text to preserve NaN and infinities, and binary data as a list
/// of numbers.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Stored {
    Null,
    Boolean(bool),
    Long(i64),
    String(String),
    Double { double: String },
    Blob { blob: Vec<u8> },
}

impl From<&Field> for Stored {
    fn from(field: &Field) -> Self {
        match field {
            Field::Null => Self::Null,
            Field::Boolean(value) => Self::Boolean(*value),
            Field::Long(value) => Self::Long(*value),
            Field::Double(value) => Self::Double { double: value.to_string() },
            Field::String(value) => Self::String(value.clone()),
            Field::Blob(value) => Self::Blob { blob: value.clone() },
        }
    }
}

impl From<Stored> for Field {
    fn from(stored: Stored) -> Self {
        match stored {
            Stored::Null => Self::Null,
            Stored::Boolean(value) => Self::Boolean(value),
            Stored::Long(value) => Self::Long(value),
            Stored::Double { double } => Self::Double(double.parse().unwrap_or(f64::NAN)),
            Stored::String(value) => Self::String(value),
            Stored::Blob { blob } => Self::Blob(blob),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct StoredColumn {
    name: String,
    type_name: String,
    precision: Option<u32>,
    scale: Option<u32>,
    nullable: Option<bool>,
    table: Option<String>,
    schema: Option<String>,
}

impl From<&Column> for StoredColumn {
    fn from(column: &Column) -> Self {
        Self {
            name: column.name.clone(),
            type_name: column.type_name.clone(),
            precision: column.precision,
            scale: column.scale,
            nullable: column.nullable,
            table: column.table.clone(),
            schema: column.schema.clone(),
        }
    }
}

impl From<StoredColumn> for Column {
    fn from(stored: StoredColumn) -> Self {
        let mut column = Self::new(stored.name, stored.type_name);
        column.precision = stored.precision;
        column.scale = stored.scale;
        column.nullable = stored.nullable;
        (column.table, column.schema) = (stored.table, stored.schema);
        column
    }
}

#[derive(Serialize, Deserialize)]
struct StoredTarget {
    cluster: Option<String>,
    workgroup: Option<String>,
    database: String,
    database_user: Option<String>,
    secret: Option<String>,
}

impl From<&Target> for StoredTarget {
    fn from(target: &Target) -> Self {
        let (cluster, workgroup) = match target.compute().clone() {
            Compute::Cluster(name) => (Some(name), None),
            Compute::Workgroup(name) => (None, Some(name)),
        };
        let (database_user, secret) = match target.auth().clone() {
            Auth::Iam => (None, None),
            Auth::DatabaseUser(user) => (Some(user), None),
            Auth::Secret(arn) => (None, Some(arn)),
        };
        Self { cluster, workgroup, database: target.database().to_owned(), database_user, secret }
    }
}

impl From<StoredTarget> for Target {
    fn from(stored: StoredTarget) -> Self {
        let target = match stored.workgroup {
            Some(name) => Self::workgroup(name, stored.database),
            None => Self::cluster(stored.cluster.unwrap_or_default(), stored.database),
        };
        match (stored.database_user, stored.secret) {
            (Some(user), _) => target.with_database_user(user),
            (None, Some(arn)) => target.with_secret(arn),
            (None, None) => target,
        }
    }
}
