//! [`MessageSource`]: messages that stored procedures raise while they run (`RAISE NOTICE` and others).

use std::{convert::Infallible, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::{
    sync::Mutex,
    time::{Instant, sleep, timeout},
};

use crate::{
    Description, Result, SqlText, Statement, StatementExecutor, StatementExecutorExt, StatementId, Status,
    WaitTime,
    sql::{Token, tokens},
};

/// Source of the messages that statements raise while they run.
///
/// An orchestrator [with such a source](crate::Orchestrator::with_messages) passes new messages to its
/// observer as [`ProgressEvent::Message`](crate::ProgressEvent::Message).
#[async_trait]
pub trait MessageSource: fmt::Debug + Send + Sync {
    /// Returns all messages that a statement has raised so far, in order. `last` is `true` for the final
    /// call, after the statement has ended.
    ///
    /// # Errors
    /// An error is logged and has no other effect, because no outcome depends on messages.
    async fn messages(&self, id: &StatementId, last: bool) -> Result<Vec<Message>>;

    /// Returns the interval between two reads for one statement.
    fn interval(&self) -> Duration;
}

/// Message of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// Level: `NOTICE`, `WARNING`, `INFO`, and others.
    pub level: String,
    /// Text of the message.
    pub text: String,
}

impl Message {
    /// Creates a message.
    pub fn new(level: impl Into<String>, text: impl Into<String>) -> Self {
        Self { level: level.into(), text: text.into() }
    }
}

/// Maximum time for which the outcome of a statement is delayed to report its last messages first.
const ENDING_DELAY: Duration = Duration::from_secs(1);
/// Maximum time for reading the last messages. If reading takes longer than [`ENDING_DELAY`], the messages
/// are reported after the outcome.
const LAST_READ: Duration = Duration::from_secs(30);

/// Waits for `outcome`, and reports the statement's messages until then.
///
/// A separate task reads the last messages. This function waits for the task for at most a second. The task
/// continues after that, as long as the process runs.
pub(crate) async fn reporting<T>(
    source: Arc<dyn MessageSource>,
    id: StatementId,
    report: impl Fn(&Message) + Send + Sync + 'static,
    outcome: impl Future<Output = T>,
) -> T {
    let interval = source.interval();
    let mut reader = Reader { source, id, report, reported: 0 };
    let ended = {
        let reading = async {
            loop {
                sleep(interval).await;
                reader.read(false).await;
            }
        };
        let (mut outcome, mut reading) = (std::pin::pin!(outcome), std::pin::pin!(reading));
        tokio::select! {
            biased;
            ended = &mut outcome => ended,
            never = &mut reading => unreached(never),
        }
    };
    let last = tokio::spawn(async move { timeout(LAST_READ, reader.read(true)).await });
    let _ = timeout(ENDING_DELAY, last).await;
    ended
}

fn unreached<T>(never: Infallible) -> T {
    match never {}
}

/// Reads the messages of one statement, and reports each message once.
struct Reader<F> {
    source: Arc<dyn MessageSource>,
    id: StatementId,
    report: F,
    reported: usize,
}

impl<F: Fn(&Message)> Reader<F> {
    async fn read(&mut self, last: bool) {
        match self.source.messages(&self.id, last).await {
            Ok(messages) => {
                messages.iter().skip(self.reported).for_each(&self.report);
                self.reported = messages.len().max(self.reported);
            }
            Err(error) => tracing::debug!(%error, statement_id = %self.id, "messages could not be read"),
        }
    }
}

/// Reads the messages of stored procedures on Amazon Redshift from the system view `SYS_PROCEDURE_MESSAGES`.
///
/// Each read submits a short query. Messages are therefore read only for procedure calls, at most every 15
/// seconds for each statement and every 5 seconds in total, and once more at the end. Note that these queries
/// keep a serverless workgroup from pausing.
#[derive(Clone, Debug)]
pub struct ProcedureMessages {
    executor: Arc<dyn StatementExecutor>,
    interval: Duration,
    gate: Arc<Mutex<Option<Instant>>>,
}

/// Minimum time between two queries, even for different statements.
const SPACING: Duration = Duration::from_secs(5);

impl ProcedureMessages {
    /// Creates a source that reads through this executor.
    pub fn new(executor: Arc<dyn StatementExecutor>) -> Self {
        Self { executor, interval: Duration::from_secs(15), gate: Arc::default() }
    }

    /// Sets the interval between two reads for one statement. Default: 15 seconds.
    #[must_use]
    pub fn with_interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    async fn read(&self, about: &Description) -> Result<Vec<Message>> {
        let select = "SELECT log_level, message FROM sys_procedure_messages WHERE";
        let order = "ORDER BY record_time, line_number";
        let statement = match (&about.query_uuid, about.redshift_query_id) {
            (Some(uuid), _) => {
                Statement::sql(format!("{select} query_uuid = :uuid {order}")).with_parameter("uuid", uuid)
            }
            (None, Some(id)) if id > 0 => Statement::sql(format!("{select} query_id = {id} {order}")),
            _ => return Ok(Vec::new()),
        };
        let statement = statement.with_name("redshift-orchestrator messages");
        let submitted = self.executor.submit(&statement, Some(WaitTime::MAX)).await?;
        let status = match submitted.status {
            Some(status) if status.is_terminal() => status,
            _ => self.executor.describe(&submitted.id, Some(WaitTime::MAX)).await?.status,
        };
        if status != Status::Finished {
            return Ok(Vec::new());
        }
        let rows: Vec<(Option<String>, Option<String>)> = self.executor.rows(&submitted.id).await?;
        let message = |(level, text): (Option<String>, Option<String>)| {
            Message::new(level.unwrap_or_default().trim(), text.unwrap_or_default())
        };
        Ok(rows.into_iter().map(message).collect())
    }
}

#[async_trait]
impl MessageSource for ProcedureMessages {
    async fn messages(&self, id: &StatementId, last: bool) -> Result<Vec<Message>> {
        let mut gate = match last {
            true => self.gate.lock().await,
            false => match self.gate.try_lock() {
                Ok(gate) if gate.is_none_or(|read| read.elapsed() >= SPACING) => gate,
                // Skip this read. The messages are part of a later read.
                _ => return Ok(Vec::new()),
            },
        };
        let about = self.executor.describe(id, None).await?;
        if !calls(&about) {
            return Ok(Vec::new());
        }
        let messages = self.read(&about).await;
        *gate = Some(Instant::now());
        messages
    }

    fn interval(&self) -> Duration {
        self.interval
    }
}

/// Returns `true` if the statement, or one statement of a batch, calls a procedure. Also returns `true` if
/// the description contains no SQL.
fn calls(about: &Description) -> bool {
    let texts = about.sql.iter().chain(about.sub_statements.iter().filter_map(|sub| sub.sql.as_ref()));
    let mut texts = texts.map(SqlText::as_str).peekable();
    let is_call = |sql: &str| {
        let first = tokens(sql).find(|token| !matches!(token, Token::Blank(_)));
        matches!(first, Some(Token::Word(word)) if word.eq_ignore_ascii_case("call"))
    };
    texts.peek().is_none() || texts.any(is_call)
}

#[async_trait]
impl<M: MessageSource + ?Sized> MessageSource for Arc<M> {
    async fn messages(&self, id: &StatementId, last: bool) -> Result<Vec<Message>> {
        (**self).messages(id, last).await
    }

    fn interval(&self) -> Duration {
        (**self).interval()
    }
}
