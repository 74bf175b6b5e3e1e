//! Running a statement in a kept session.

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
    ExecutionMode, Result, Status,
    local::{
        backend::{Job, Report},
        record::{Ending, Part},
    },
};

impl Postgres {
    /// In a kept session, which the caller may have put into a transaction of his own.
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
            // A request to stop may still be on its way. It is to meet this, and not the session's next statement.
            let _ = session.batch_execute("SELECT pg_sleep(0.1)").await;
        }
        self.keep_notices(job, session.take_notices());
        if !session.is_closed() {
            return attempt;
        }
        if let Some(id) = job.statement.session() {
            self.sessions().remove(id);
        }
        // Its end is on record together with its effect, or there is none of either: the record tells.
        Ok(attempt.unwrap_or(Attempt::Again))
    }

    /// Whether the statement runs in a transaction that is the caller's, or begins or ends one.
    async fn in_callers_transaction(&self, session: &Link, job: &Job<'_>) -> Result<bool> {
        let may_control = job.statement.execution_mode() != Some(ExecutionMode::Transaction);
        if may_control && job.statement.sqls().iter().any(|sql| transaction_control(sql).is_some()) {
            return Ok(true);
        }
        // Outside of a transaction a simple query is one of its own, which begins with it. (Of the extended protocol each message is a
        // statement of its own.)
        match session.simple_query("SELECT transaction_timestamp() <> statement_timestamp()").await {
            Ok(answer) => Ok(answer.iter().any(|message| match message {
                SimpleQueryMessage::Row(row) => row.get(0) == Some("t"),
                _ => false,
            })),
            Err(error) if error.code() == Some(&SqlState::IN_FAILED_SQL_TRANSACTION) => Ok(true),
            Err(error) => Err(errors::records(error)),
        }
    }

    /// In a transaction of the caller's, which may span several statements. So an end cannot be part of it, but for that of its `COMMIT`.
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
        // What the session loses with its connection was not committed, unless the statement itself may have done that.
        let may_commit =
            mode.is_some() || job.statement.sqls().iter().any(|sql| transaction_control(sql).is_some());
        if may_commit && !sealed && !self.records.leave_transaction(link, job.id, 0).await? {
            return Ok(Attempt::Again);
        }
        let atomic = mode == Some(ExecutionMode::Transaction);
        let mut results = vec![None; parts.len()];
        let mut ending = None;
        for (index, sql) in job.statement.sqls().iter().enumerate() {
            (job.report)(Report::Part(index, Part::new(Status::Started)));
            let started = Instant::now();
            match self.run_sql(session, job, sql).await {
                SqlEnd::Finished(part, result) => (parts[index], results[index]) = (part, result),
                SqlEnd::Failed(Failure::Lost) => return Err(lost()),
                SqlEnd::Failed(failure) if mode == Some(ExecutionMode::AutoCommit) && !is_abort(&failure) => {
                    parts[index] = failed_part(&failure, started.elapsed());
                }
                SqlEnd::Failed(failure) => {
                    // The server ends the connection after it said so, which may be noticed late.
                    if failure.is_fatal()
                        && let Some(id) = job.statement.session()
                    {
                        self.sessions().remove(id);
                    }
                    ending = Some(fail(parts.clone(), index, mode.is_some(), &failure, begin.elapsed()));
                    if atomic {
                        // A connection that is gone has rolled back.
                        let _ = session.batch_execute("ROLLBACK").await;
                    }
                    break;
                }
            }
        }
        let finished = ending.is_none();
        let mut ending =
            ending.unwrap_or_else(|| Ending::of_parts(parts, mode.is_some(), Some(begin.elapsed())));
        if sealed && finished {
            return Ok(Attempt::Ended(ending));
        }
        if atomic
            && finished
            && let Err(error) = session.batch_execute("COMMIT").await
        {
            let last = ending.parts.len() - 1;
            ending = fail(ending.parts, last, true, &Failure::from(error), begin.elapsed());
        }
        link.batch_execute("BEGIN").await.map_err(errors::records)?;
        self.write_end(link, job, &ending, &results).await?;
        self.commit(link, ending).await
    }

    /// Writes the end of a `COMMIT` in the transaction that it is to commit. `false`: that transaction takes no more, and is as it was.
    async fn seal(&self, session: &Link, job: &Job<'_>, parts: &[Part]) -> Result<bool> {
        if session.batch_execute("SAVEPOINT redshift_data_local").await.is_err() {
            return Ok(false);
        }
        let finished = vec![Part::new(Status::Finished); parts.len()];
        let ending = Ending::of_parts(finished, false, Some(Duration::ZERO));
        let written = self.write_end(session, job, &ending, &[]).await;
        let end = match written {
            Ok(()) => "RELEASE redshift_data_local",
            // A transaction that is read-only, or another role's.
            Err(_) => "ROLLBACK TO redshift_data_local; RELEASE redshift_data_local",
        };
        session.batch_execute(end).await.map_err(errors::records)?;
        Ok(written.is_ok())
    }
}
