//! Runs a statement in a session.

use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::{SimpleQueryMessage, error::SqlState};

use super::{
    Postgres, errors,
    link::Link,
    run::{Attempt, Failure, SqlEnd, fail, failed_part, is_abort, lost},
    words::{commits, transaction_control},
};
use crate::{
    backend::{Job, Report},
    record::{Part, StatementOutcome},
};
use redshift_orchestrator::{ExecutionMode, Result, Status};

impl Postgres {
    /// Runs a statement in a session, which may be in a transaction that the caller began.
    pub(super) async fn in_session(
        &self,
        link: &Link,
        session: &Link,
        job: &Job<'_>,
        parts: Vec<Part>,
    ) -> Result<Attempt> {
        let attempt = match self.in_callers_transaction(session, job).await {
            Ok(true) => self.in_callers_hands(link, session, job, parts).await,
            Ok(false) => self.run_on(session, job, parts).await,
            Err(error) => Err(error),
        };
        if job.is_cancelled() {
            // A cancel request may still be in flight. This query absorbs it, so that it does not hit the
            // session's next statement.
            let _ = session.batch_execute("SELECT pg_sleep(0.1)").await;
        }
        self.keep_notices(job, session.take_notices());
        if !session.is_closed() {
            return attempt;
        }
        if let Some(id) = job.statement.session() {
            self.sessions().remove(id);
        }
        // The outcome and the effect were either both committed or both rolled back. The record shows which.
        Ok(attempt.unwrap_or(Attempt::Again))
    }

    /// Returns `true` if the statement runs in a transaction that the caller began, or if it begins or ends
    /// one.
    async fn in_callers_transaction(&self, session: &Link, job: &Job<'_>) -> Result<bool> {
        let may_control = job.statement.execution_mode() != Some(ExecutionMode::Transaction);
        if may_control && job.statement.sqls().iter().any(|sql| transaction_control(sql).is_some()) {
            return Ok(true);
        }
        // Outside a transaction, each simple query runs in a new one, so both times are equal. In the
        // extended protocol they could differ, because each message counts as a statement.
        match session.simple_query("SELECT transaction_timestamp() <> statement_timestamp()").await {
            Ok(answer) => Ok(answer.iter().any(|message| match message {
                SimpleQueryMessage::Row(row) => row.get(0) == Some("t"),
                _ => false,
            })),
            Err(error) if error.code() == Some(&SqlState::IN_FAILED_SQL_TRANSACTION) => Ok(true),
            Err(error) => Err(errors::records(error)),
        }
    }

    /// Runs a statement in a transaction that the caller began and that may span several statements. Of these
    /// statements, only the outcome of the final `COMMIT` can be recorded in the same transaction.
    async fn in_callers_hands(
        &self,
        link: &Link,
        session: &Link,
        job: &Job<'_>,
        mut parts: Vec<Part>,
    ) -> Result<Attempt> {
        let begin = Instant::now();
        let mode = job.statement.execution_mode();
        let sealed = mode.is_none()
            && job.statement.sqls().iter().all(|sql| commits(sql))
            && self.seal(session, job, &parts).await?;
        // A lost connection rolls back uncommitted work. If the statement can commit, its work may have been
        // committed, so it must not run again.
        let may_commit =
            mode.is_some() || job.statement.sqls().iter().any(|sql| transaction_control(sql).is_some());
        if may_commit && !sealed && !self.records.leave_transaction(link, job.id, 0).await? {
            return Ok(Attempt::Again);
        }
        let atomic = mode == Some(ExecutionMode::Transaction);
        let mut results = vec![None; parts.len()];
        let mut outcome = None;
        for (index, sql) in job.statement.sqls().iter().enumerate() {
            (job.report)(Report::Part(index, Part::new(Status::Started)));
            let started = Instant::now();
            match self.run_sql(session, job, sql).await {
                SqlEnd::Finished(part, result) => {
                    job.report_uncommitted(index, &part);
                    (parts[index], results[index]) = (part, result);
                }
                SqlEnd::Failed(Failure::Lost) => return Err(lost()),
                SqlEnd::Failed(failure) if mode == Some(ExecutionMode::AutoCommit) && !is_abort(&failure) => {
                    parts[index] = failed_part(&failure, started.elapsed());
                    job.report_uncommitted(index, &parts[index]);
                }
                SqlEnd::Failed(failure) => {
                    // The server closes the connection after a fatal error, which the client may not have
                    // noticed yet.
                    if failure.is_fatal()
                        && let Some(id) = job.statement.session()
                    {
                        self.sessions().remove(id);
                    }
                    outcome = Some(fail(parts.clone(), index, mode, &failure, begin.elapsed()));
                    if atomic {
                        // If the connection is closed, the server has already rolled back.
                        let _ = session.batch_execute("ROLLBACK").await;
                    }
                    break;
                }
            }
        }
        let finished = outcome.is_none();
        let mut outcome = outcome
            .unwrap_or_else(|| StatementOutcome::of_parts(parts, mode.is_some(), Some(begin.elapsed())));
        if sealed && finished {
            return Ok(Attempt::Ended(outcome));
        }
        if atomic
            && finished
            && let Err(error) = session.batch_execute("COMMIT").await
        {
            let last = outcome.parts.len() - 1;
            outcome = fail(outcome.parts, last, mode, &Failure::from(error), begin.elapsed());
        }
        link.batch_execute("BEGIN").await.map_err(errors::records)?;
        self.write_end(link, job, &outcome, &results).await?;
        self.commit(link, outcome).await
    }

    /// Writes the outcome of a `COMMIT` into the transaction that it commits. Returns `false` and leaves the
    /// transaction unchanged if the outcome cannot be written.
    async fn seal(&self, session: &Link, job: &Job<'_>, parts: &[Part]) -> Result<bool> {
        if session.batch_execute("SAVEPOINT redshift_data_local").await.is_err() {
            return Ok(false);
        }
        let finished = vec![Part::new(Status::Finished); parts.len()];
        let outcome = StatementOutcome::of_parts(finished, false, Some(Duration::ZERO));
        let written = self.write_end(session, job, &outcome, &[]).await;
        let end = match written {
            Ok(()) => "RELEASE redshift_data_local",
            // The transaction is read-only, or runs as another role.
            Err(_) => "ROLLBACK TO redshift_data_local; RELEASE redshift_data_local",
        };
        session.batch_execute(end).await.map_err(errors::records)?;
        Ok(written.is_ok())
    }
}
