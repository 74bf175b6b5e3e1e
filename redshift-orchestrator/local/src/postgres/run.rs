//! Runs statements on a connection: in a transaction that also records the outcome, or outside a transaction
//! if the SQL does not allow one.

use std::time::Duration;

use futures::{StreamExt, pin_mut};
use tokio::time::Instant;
use tokio_postgres::error::{DbError, Severity};

use super::{
    Notice, Postgres, bind,
    dialect::{self, Case},
    errors, fields,
    fields::Raw,
    link::{AS_IN_THE_SERVICE, Lease, Link},
    records::{Ownership, Records},
    words::{copies_through_the_connection, transaction_control},
};
use crate::{
    backend::{Job, Report},
    record::{Part, StatementOutcome},
    table::Table,
};
use redshift_orchestrator::{ExecutionMode, Result, Status, Target, sql::outside_transaction};

/// Maximum number of attempts at a statement that is interrupted each time because the process or the
/// database stops. Without a maximum, a statement that crashes the server would do so forever.
const MAX_ATTEMPTS: i32 = 5;

/// Outcome of one run of SQL.
pub(super) enum SqlEnd {
    Finished(Part, Option<Table>),
    Failed(Failure),
}

/// Reason why SQL failed.
pub(super) enum Failure {
    /// The server returned an error.
    Server(Box<DbError>),
    /// This executor rejected the SQL. Contains the error text.
    Refused(String),
    /// The connection was lost; the effects are unknown.
    Lost,
}

/// Outcome of one attempt to run a statement.
pub(super) enum Attempt {
    Ended(StatementOutcome),
    /// Another process runs the statement.
    Elsewhere,
    /// The record may have changed, so the attempt must be repeated.
    Again,
    /// The server closed the connection with an error. The outcome must be written on another connection.
    Broken(StatementOutcome),
}

impl Postgres {
    /// Runs a statement to its end. Returns `None` if another process runs it.
    pub(super) async fn take_to_end(&self, job: &Job<'_>) -> Option<StatementOutcome> {
        let mut verdict = None;
        loop {
            let mut lease = self.pool.next_worker().await;
            if let Ok(link) = lease.link() {
                self.running_notices().insert(job.id.clone(), link.notices());
            }
            let attempt = self.attempt(job, &lease, verdict.take()).await;
            self.running_notices().remove(job.id);
            if let Ok(link) = lease.link() {
                self.keep_notices(job, link.take_notices());
            }
            // Each statement runs in a fresh session, as in the service: the reset removes settings,
            // temporary tables and locks. A connection with a pending cancel request may receive it late, so
            // it is discarded.
            let keep = attempt.as_ref().is_ok_and(|attempt| !matches!(attempt, Attempt::Broken(_)))
                && (self.pool.is_single() || !job.is_cancelled());
            if !keep || !self.reset(job, &lease).await {
                lease.discard();
            }
            drop(lease);
            match attempt {
                Ok(Attempt::Ended(outcome)) => return Some(outcome),
                Ok(Attempt::Elsewhere) => return None,
                Ok(Attempt::Again) => {}
                Ok(Attempt::Broken(outcome)) => verdict = Some(outcome),
                Err(error) => {
                    tracing::warn!(statement_id = %job.id, %error, "a statement was interrupted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// Resets the session of the connection. Returns `false` on failure.
    async fn reset(&self, job: &Job<'_>, lease: &Lease) -> bool {
        let Ok(link) = lease.link() else { return false };
        let reset = link.batch_execute("DISCARD ALL").await.is_ok();
        self.keep_notices(job, link.take_notices());
        reset
    }

    pub(super) fn keep_notices(&self, job: &Job<'_>, notices: Vec<Notice>) {
        if !notices.is_empty() {
            self.notices().entry(job.id.clone()).or_default().extend(notices);
        }
    }

    /// Makes one attempt to run a statement. `verdict` is an outcome that could not be written on an earlier
    /// connection.
    async fn attempt(
        &self,
        job: &Job<'_>,
        lease: &Lease,
        verdict: Option<StatementOutcome>,
    ) -> Result<Attempt> {
        let link = lease.link()?;
        let mut parts = (job.parts)();
        let session = job.statement.session();
        let held = session.and_then(|session| self.sessions().get(session).cloned());
        if let (Some(session), None) = (session, &held)
            && self.records.session_lives(link, session).await?
        {
            // Another process keeps the session open and runs the session's statements.
            return Ok(match self.records.load(link, job.id).await? {
                Some(record) if record.status.is_terminal() => Attempt::Ended(record.into()),
                _ => Attempt::Elsewhere,
            });
        }
        match self.records.claim(link, job.id, self.clock.now()).await? {
            Ownership::Ended(record) => {
                return Ok(Attempt::Ended((*record).into()));
            }
            Ownership::Elsewhere => {
                // An earlier cancel request may have arrived between two SQL texts, where it has no effect.
                // Repeat it.
                if job.is_cancelled() {
                    self.records.cancel(link, job.id).await?;
                }
                return Ok(Attempt::Elsewhere);
            }
            Ownership::Gone => {
                return Ok(Attempt::Ended(StatementOutcome::failed(
                    parts,
                    "ERROR: the record of the statement was removed from the database",
                    None,
                )));
            }
            Ownership::Ours { attempt, outside, cancelled, ended } => {
                // The records contain the parts that were committed. Work of other parts that this process
                // reported as finished was rolled back.
                parts.fill(Part::new(Status::Submitted));
                for (index, part) in ended {
                    if let Some(slot) = parts.get_mut(index) {
                        *slot = part;
                    }
                }
                if cancelled {
                    return self.end(link, job, StatementOutcome::aborted(parts, None)).await;
                }
                if let Some(index) = outside
                    && parts.get(index).is_some_and(|part| !part.status.is_terminal())
                {
                    return self
                        .end(link, job, StatementOutcome::failed(parts, INTERRUPTED_OUTSIDE, None))
                        .await;
                }
                if let Some(outcome) = verdict {
                    return self.end(link, job, outcome).await;
                }
                let at_its_end = parts.iter().all(|part| part.status.is_terminal());
                if attempt > MAX_ATTEMPTS && !at_its_end {
                    let text = format!(
                        "ERROR: interrupted {MAX_ATTEMPTS} times because the executor or the database stopped; each time, uncommitted work was rolled back"
                    );
                    return self.end(link, job, StatementOutcome::failed(parts, text, None)).await;
                }
            }
        }
        let database = job.statement.target().map(Target::database);
        if let Some(text) = database.and_then(|name| self.missing_database(name)) {
            return self.end(link, job, StatementOutcome::failed(parts, text, None)).await;
        }
        let started = link.query_typed(&format!("SELECT pg_backend_pid(), {AS_IN_THE_SERVICE}"), &[]).await;
        let pid = started.ok().and_then(|rows| rows.first().and_then(|row| row.try_get::<_, i32>(0).ok()));
        for (index, part) in parts.iter().enumerate() {
            (job.report)(Report::Part(index, part.clone()));
        }
        (job.report)(Report::Started(pid.map(i64::from)));
        match (session, held) {
            (None, _) => {}
            (Some(_), Some(held)) => return self.in_session(link, &held, job, parts).await,
            (Some(session), None) => {
                let text = format!(
                    "ERROR: the connection of session {session} was lost; its uncommitted work was rolled back"
                );
                return self.end(link, job, StatementOutcome::failed(parts, text, None)).await;
            }
        }
        self.run_on(link, job, parts).await
    }

    /// Runs the statement on a connection that is not in a transaction. The outcome of each part is recorded
    /// in the transaction that runs the part.
    pub(super) async fn run_on(&self, link: &Link, job: &Job<'_>, parts: Vec<Part>) -> Result<Attempt> {
        match job.statement.execution_mode() {
            Some(ExecutionMode::AutoCommit) => self.one_by_one(link, job, parts).await,
            _ => self.all_or_nothing(link, job, parts).await,
        }
    }

    /// Runs all SQL texts in one transaction, which also records the outcome.
    async fn all_or_nothing(&self, link: &Link, job: &Job<'_>, mut parts: Vec<Part>) -> Result<Attempt> {
        let begin = Instant::now();
        let mode = job.statement.execution_mode();
        let is_batch = mode.is_some();
        // The batch is one transaction, so the exception handlers of procedures must not commit.
        let head = if is_batch { "BEGIN; SET LOCAL redshift.handled = 1" } else { "BEGIN" };
        link.batch_execute(head).await.map_err(errors::records)?;
        let mut results = Vec::new();
        for (index, sql) in job.statement.sqls().iter().enumerate() {
            (job.report)(Report::Part(index, Part::new(Status::Started)));
            match self.run_sql(link, job, sql).await {
                SqlEnd::Finished(part, result) => {
                    job.report_uncommitted(index, &part);
                    parts[index] = part;
                    results.push(result);
                }
                SqlEnd::Failed(Failure::Lost) => return Err(lost()),
                SqlEnd::Failed(failure) if failure.is_fatal() => {
                    return Ok(Attempt::Broken(fail(parts, index, mode, &failure, begin.elapsed())));
                }
                SqlEnd::Failed(failure) => {
                    if link.batch_execute("ROLLBACK").await.is_err() {
                        // Closing the connection also rolls back. An embedded engine can be in this state
                        // after an `EXCEPTION` block.
                        let outcome = fail(parts, index, mode, &failure, begin.elapsed());
                        return Ok(Attempt::Broken(outcome));
                    }
                    if let Failure::Server(error) = &failure
                        && errors::wants_no_transaction(error)
                        && !is_batch
                    {
                        return self.outside(link, job, parts, begin).await;
                    }
                    let outcome = fail(parts, index, mode, &failure, begin.elapsed());
                    return self.end(link, job, outcome).await;
                }
            }
        }
        let outcome = StatementOutcome::of_parts(parts, is_batch, Some(begin.elapsed()));
        let sealed = async {
            self.write_end(link, job, &outcome, &results).await?;
            link.batch_execute("COMMIT").await.map_err(errors::records)
        };
        match sealed.await {
            Ok(()) => Ok(Attempt::Ended(outcome)),
            Err(error) => {
                // A deferred constraint failed, or the statement made the transaction read-only or changed
                // its role. In each case the statement fails.
                let failure = errors::refusal(error)?;
                link.batch_execute("ROLLBACK").await.map_err(errors::records)?;
                let last = job.statement.sqls().len() - 1;
                let outcome = fail(outcome.parts, last, mode, &Failure::Server(failure), begin.elapsed());
                self.end(link, job, outcome).await
            }
        }
    }

    /// Runs each SQL text in a separate transaction, which also records the part's outcome. Skips parts that
    /// an earlier process completed.
    async fn one_by_one(&self, link: &Link, job: &Job<'_>, mut parts: Vec<Part>) -> Result<Attempt> {
        let begin = Instant::now();
        for (index, sql) in job.statement.sqls().iter().enumerate() {
            if parts[index].status.is_terminal() {
                continue;
            }
            if job.is_cancelled() {
                return self.end(link, job, StatementOutcome::aborted(parts, Some(begin.elapsed()))).await;
            }
            (job.report)(Report::Part(index, Part::new(Status::Started)));
            let started = Instant::now();
            link.batch_execute("BEGIN").await.map_err(errors::records)?;
            let notices = link.notice_count();
            let mut ran = self.run_sql(link, job, sql).await;
            let mut in_transaction = true;
            if !matches!(ran, SqlEnd::Finished(..)) {
                if let SqlEnd::Failed(Failure::Lost) = ran {
                    return Err(lost());
                }
                link.batch_execute("ROLLBACK").await.map_err(errors::records)?;
                in_transaction = false;
                if let SqlEnd::Failed(Failure::Server(error)) = &ran
                    && errors::wants_no_transaction(error)
                {
                    if !self.records.leave_transaction(link, job.id, index).await? {
                        return Ok(Attempt::Again);
                    }
                    link.runs_again(notices);
                    ran = self.run_sql(link, job, sql).await;
                    if let SqlEnd::Failed(Failure::Lost) = ran {
                        return Err(lost());
                    }
                }
            }
            let (part, result) = match ran {
                SqlEnd::Finished(part, result) => (part, result),
                SqlEnd::Failed(failure) if is_abort(&failure) => {
                    return self
                        .end(link, job, StatementOutcome::aborted(parts, Some(begin.elapsed())))
                        .await;
                }
                SqlEnd::Failed(failure) => (failed_part(&failure, started.elapsed()), None),
            };
            if !in_transaction {
                link.batch_execute("BEGIN").await.map_err(errors::records)?;
            }
            let part = self.seal_part(link, job, index, part, result).await?;
            parts[index] = part.clone();
            (job.report)(Report::Part(index, part));
        }
        self.end(link, job, StatementOutcome::of_parts(parts, true, Some(begin.elapsed()))).await
    }

    /// Records the outcome of a part and commits. If the server rejects either, the part fails.
    async fn seal_part(
        &self,
        link: &Link,
        job: &Job<'_>,
        index: usize,
        part: Part,
        result: Option<Table>,
    ) -> Result<Part> {
        let sealed = async {
            self.records.end_part(link, job.id, index, &part, result.as_ref()).await?;
            link.batch_execute("COMMIT").await.map_err(errors::records)
        };
        let Err(error) = sealed.await else { return Ok(part) };
        let failed =
            failed_part(&Failure::Server(errors::refusal(error)?), part.duration.unwrap_or_default());
        link.batch_execute("ROLLBACK").await.map_err(errors::records)?;
        self.records.end_part(link, job.id, index, &failed, None).await?;
        Ok(failed)
    }

    /// Runs a statement that commits by itself or cannot run in a transaction. The outcome is recorded
    /// afterwards. If the process stops before that, the statement is later reported as interrupted.
    async fn outside(
        &self,
        link: &Link,
        job: &Job<'_>,
        mut parts: Vec<Part>,
        begin: Instant,
    ) -> Result<Attempt> {
        if !self.records.leave_transaction(link, job.id, 0).await? {
            return Ok(Attempt::Again);
        }
        let Some(sql) = job.statement.sqls().first() else { return Ok(Attempt::Again) };
        link.runs_again(0);
        match self.run_sql(link, job, sql).await {
            SqlEnd::Finished(part, result) => {
                parts[0] = part;
                let outcome = StatementOutcome::of_parts(parts, false, Some(begin.elapsed()));
                link.batch_execute("BEGIN").await.map_err(errors::records)?;
                self.write_end(link, job, &outcome, &[result]).await?;
                self.commit(link, outcome).await
            }
            SqlEnd::Failed(Failure::Lost) => Err(lost()),
            SqlEnd::Failed(failure) => {
                let outcome = fail(parts, 0, None, &failure, begin.elapsed());
                self.end(link, job, outcome).await
            }
        }
    }

    /// Writes the outcome of a statement that had no effect, or whose effect is already committed.
    async fn end(&self, link: &Link, job: &Job<'_>, outcome: StatementOutcome) -> Result<Attempt> {
        link.batch_execute("BEGIN").await.map_err(errors::records)?;
        let parts = self.records.load(link, job.id).await?.map(|record| record.parts).unwrap_or_default();
        for (index, part) in outcome.parts.iter().enumerate() {
            let written = parts.get(index).is_some_and(|part| part.status.is_terminal());
            if !written && part.status.is_terminal() {
                self.records.end_part(link, job.id, index, part, None).await?;
            }
        }
        if !self.records.end(link, job.id, &outcome, self.clock.now()).await? {
            link.batch_execute("ROLLBACK").await.map_err(errors::records)?;
            return Ok(Attempt::Again);
        }
        self.commit(link, outcome).await
    }

    pub(super) async fn write_end(
        &self,
        link: &Link,
        job: &Job<'_>,
        outcome: &StatementOutcome,
        results: &[Option<Table>],
    ) -> Result<()> {
        for (index, part) in outcome.parts.iter().enumerate() {
            let result = results.get(index).and_then(Option::as_ref).filter(|_| part.has_result_set);
            self.records.end_part(link, job.id, index, part, result).await?;
        }
        match self.records.end(link, job.id, outcome, self.clock.now()).await? {
            true => Ok(()),
            // Dropping the connection rolls back this transaction.
            false => Err(lost()),
        }
    }

    pub(super) async fn commit(&self, link: &Link, outcome: StatementOutcome) -> Result<Attempt> {
        link.batch_execute("COMMIT").await.map_err(errors::records)?;
        Ok(Attempt::Ended(outcome))
    }

    /// Runs one SQL text. After the statement is cancelled, sends cancel requests to the server.
    pub(super) async fn run_sql(&self, link: &Link, job: &Job<'_>, sql: &str) -> SqlEnd {
        // In a session, the caller may control transactions, except in a batch that is itself one
        // transaction.
        let is_transaction = job.statement.execution_mode() == Some(ExecutionMode::Transaction);
        if (job.statement.session().is_none() || is_transaction)
            && let Some(word) = transaction_control(sql)
        {
            return SqlEnd::Failed(Failure::Refused(format!(
                "ERROR: {word} cannot be submitted: a single statement or batch runs in one transaction\n  Hint: submit it in a session (SessionKeepAliveSeconds), as a single statement or in a batch with the execution mode AUTO_COMMIT"
            )));
        }
        if is_transaction && let Some(command) = outside_transaction(sql) {
            return SqlEnd::Failed(Failure::Refused(format!(
                "ERROR: {command} cannot run inside a transaction block [SQLSTATE 25001]"
            )));
        }
        if copies_through_the_connection(sql) {
            let text =
                "ERROR: COPY FROM STDIN and TO STDOUT cannot be submitted: the Data API has no data streams";
            return SqlEnd::Failed(Failure::Refused(text.to_owned()));
        }
        let token = link.cancel_token();
        let cancelling = async {
            job.cancelled().await;
            Link::keep_cancelling(token).await
        };
        let begin = Instant::now();
        tokio::select! {
            biased;
            ran = fetch(link, job, sql, &self.records) => match ran {
                Ok((mut part, result)) => {
                    part.duration = Some(begin.elapsed());
                    SqlEnd::Finished(part, result)
                }
                Err(failure) => SqlEnd::Failed(failure),
            },
            never = cancelling => match never {},
        }
    }
}

/// Returns the treatment of quoted names that the session has selected.
async fn case_of_names(link: &Link, sql: &str) -> Case {
    if !Case::matters(sql) {
        return Case::Folded;
    }
    // The query fails in a failed transaction and on a closed connection. The statement itself then also
    // fails.
    let rows = link.query_typed(Case::QUERY, &[]).await.unwrap_or_default();
    match rows.first().and_then(|row| row.try_get(0).ok().flatten()) {
        Some(true) => Case::Kept,
        _ => Case::Folded,
    }
}

/// Translates and runs SQL, and reads its rows.
async fn fetch(
    link: &Link,
    job: &Job<'_>,
    sql: &str,
    records: &Records,
) -> Result<(Part, Option<Table>), Failure> {
    let case = case_of_names(link, sql).await;
    let sql = dialect::translate(sql, records.schema(), case).map_err(Failure::Refused)?;
    let bound = bind::bind(&sql, job.statement.parameters());
    let prepared = link.prepare(&bound.sql).await.map_err(Failure::from)?;
    if prepared.params().len() != bound.values.len() {
        let text = format!(
            "ERROR: the SQL has {} numbered parameters; use named parameters such as `:name`",
            prepared.params().len()
        );
        return Err(Failure::Refused(text));
    }
    let mut columns = fields::columns(&prepared).map_err(Failure::Refused)?;
    fields::add_origins(link, &prepared, &mut columns).await.map_err(Failure::from)?;
    let rows = link.query_raw(&prepared, &bound.values).await.map_err(Failure::from)?;
    pin_mut!(rows);
    let mut table = Table { columns, rows: Vec::new() };
    let mut size = 0;
    while let Some(row) = rows.next().await {
        let row = row.map_err(Failure::from)?;
        let row_size = row.raw_size_bytes() as u64;
        size += row_size;
        let limits = &records.limits;
        if let Some(refused) = limits.refuse_row(row_size).or_else(|| limits.refuse_result(size)) {
            return Err(Failure::Refused(refused));
        }
        let field = |(index, column): (usize, &tokio_postgres::Column)| {
            let raw: Raw<'_> = row.try_get(index).map_err(Failure::from)?;
            raw.field(column.type_()).ok_or_else(|| {
                Failure::Refused(format!(
                    "ERROR: column \"{}\" has a value that a result cannot contain; cast it to text",
                    column.name()
                ))
            })
        };
        table.rows.push(row.columns().iter().enumerate().map(field).collect::<Result<_, _>>()?);
    }
    let mut part = Part::new(Status::Finished);
    part.rows = rows.rows_affected();
    if table.columns.is_empty() {
        return Ok((part, None));
    }
    part.rows = Some(table.rows.len() as u64);
    part.size = Some(table.size());
    part.has_result_set = true;
    Ok((part, Some(table)))
}

impl Failure {
    /// Returns `true` if the server closed the connection with this error.
    pub(super) fn is_fatal(&self) -> bool {
        matches!(self, Self::Server(error) if matches!(error.parsed_severity(), Some(Severity::Fatal | Severity::Panic)))
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(refusal) => Self::Server(Box::new(refusal.clone())),
            None if error.is_closed() => Self::Lost,
            // A value that cannot be encoded or decoded is an error of the statement. Any other error means
            // that the connection was lost.
            None => match std::error::Error::source(&error) {
                Some(source) if source.downcast_ref::<std::io::Error>().is_none() => {
                    Self::Refused(format!("ERROR: {error}: {source}"))
                }
                _ => Self::Lost,
            },
        }
    }
}

const INTERRUPTED_OUTSIDE: &str = "ERROR: interrupted while it ran outside a transaction (it commits by itself, or cannot run in one): committed work is kept, uncommitted work was rolled back; the statement may have completed";

/// Returns the outcome of a statement whose part `index` failed or was cancelled, so that the later parts do
/// not run. In a batch that is one transaction, the earlier parts keep their status but lose their results.
pub(super) fn fail(
    mut parts: Vec<Part>,
    index: usize,
    mode: Option<ExecutionMode>,
    failure: &Failure,
    duration: Duration,
) -> StatementOutcome {
    if mode == Some(ExecutionMode::Transaction) {
        parts[..index].iter_mut().for_each(Part::remove_result);
    }
    if is_abort(failure) {
        for part in &mut parts[index..] {
            *part = Part::new(Status::Aborted);
        }
        return StatementOutcome::aborted(parts, Some(duration));
    }
    parts[index] = failed_part(failure, duration);
    for later in &mut parts[index + 1..] {
        *later = Part::new(Status::Aborted);
    }
    StatementOutcome::of_parts(parts, mode.is_some(), Some(duration))
}

pub(super) fn failed_part(failure: &Failure, duration: Duration) -> Part {
    let mut part = Part::new(Status::Failed);
    part.duration = Some(duration);
    part.error = Some(match failure {
        Failure::Server(error) if errors::wants_no_transaction(error) => {
            format!(
                "{}\n  Hint: submit it as a single statement, or in a batch with the execution mode AUTO_COMMIT",
                errors::text(error)
            )
        }
        Failure::Server(error) => errors::text(error),
        Failure::Refused(text) => text.clone(),
        Failure::Lost => "ERROR: the connection to the database was lost".to_owned(),
    });
    part
}

pub(super) fn is_abort(failure: &Failure) -> bool {
    matches!(failure, Failure::Server(error) if errors::is_cancel(error))
}

pub(super) fn lost() -> redshift_orchestrator::Error {
    redshift_orchestrator::Error::new(
        redshift_orchestrator::ErrorKind::Disconnected,
        "the connection to the database was lost",
    )
}
