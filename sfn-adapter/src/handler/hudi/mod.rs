//! The handler `hudi`: takes raw files into a Hudi table, each once, and maintains the table.

mod config;
mod failure;
mod files;
mod intake;
mod profile;

use std::{future::Future, pin::pin, time::Duration};

use futures::FutureExt;
use hudi_scd::{Cancellation, Result as TableResult, Table, TableOptions};
use tokio::time::sleep;

pub use self::{
    config::HudiConfig,
    profile::{ColumnType, DateColumn, Profile},
};
use self::{
    failure::{Failure, failure},
    intake::Taker,
};
use super::queue;
use crate::{
    Error, ErrorNames, Invocation, Lake,
    contract::{
        VERSION,
        hudi::{
            Action, Archived, Cleaned, Found, Handled, RawFile, Reply, Request, Response, Shown, SqsEvent,
            Upserted, Validated, body,
        },
    },
};

/// Time before the deadline at which a write is cancelled, so that it can release the table's lock.
const RELEASE: Duration = Duration::from_secs(2);

/// Minimum time that a write needs after it has acquired the table's lock.
const WRITE: Duration = Duration::from_secs(5);

/// Divisor: incoming rows may use this share of the function's memory. Writing the files needs a multiple of
/// it.
const MEMORY_SHARE: usize = 8;

/// Maximum number of findings in a reply.
const MAX_FINDINGS: usize = 100;

/// Takes the raw files of an event into the table, or runs a call.
///
/// Each file is taken in at most once, even if it is delivered several times, and to several functions at
/// once: the commit that contains its rows also records its name and version ([`Table::take_in`]). The table
/// has a lock, so only one function writes at a time.
///
/// # Errors
/// For an event that was delivered directly, the handler fails if the files were not taken in. For messages
/// of SQS, only the failed messages are returned to the queue. The error names are listed in [`Error::HUDI`].
pub async fn hudi(
    lake: &dyn Lake,
    config: &HudiConfig,
    invocation: &Invocation,
    event: &str,
) -> Result<Response, Error> {
    let request = Request::parse(event)?;
    tracing::Span::current().record("action", request.action_name());
    let handled = handle(Desk { lake, config, invocation }, request).await;
    handled.map_err(|error| match error {
        Error::Hudi { name: Error::HUDI_DEADLINE, cause } => {
            Error::Hudi { name: Error::HUDI_DEADLINE, cause: format!("table {}: {cause}", config.table) }
        }
        other => other,
    })
}

async fn handle(desk: Desk<'_>, request: Request) -> Result<Response, Error> {
    let reply = match request {
        Request::Messages(messages) => return desk.messages(&messages).await.map(Response::Messages),
        Request::Files(files) => {
            let (files, refused) = files::nameable(files);
            let upserted = desk.take_in(files, false).await?;
            if let Some(error) = refused {
                return Err(error);
            }
            Reply::Upsert(upserted)
        }
        Request::Call(Action::Upsert(upsert)) => {
            let (files, refused) = files::nameable(upsert.raw_files()?);
            if let Some(error) = refused {
                return Err(error);
            }
            Reply::Upsert(desk.take_in(files, true).await?)
        }
        Request::Call(Action::Clean(_)) => Reply::Clean(desk.with_table(clean).await?),
        Request::Call(Action::Archive(_)) => Reply::Archive(desk.with_table(archive).await?),
        Request::Call(Action::Validate(_)) => Reply::Validate(desk.with_table(validate).await?),
        Request::Call(Action::Show(_)) => Reply::Show(desk.with_table(show).await?),
    };
    Ok(Response::Reply(reply))
}

/// The files of a message.
struct Message {
    files: Vec<RawFile>,
    /// The error of a file that cannot be read.
    refused: Option<Error>,
}

struct Desk<'a> {
    lake: &'a dyn Lake,
    config: &'a HudiConfig,
    invocation: &'a Invocation,
}

impl Desk<'_> {
    async fn take_in(&self, files: Vec<RawFile>, must_exist: bool) -> Result<Box<Upserted>, Failure> {
        if files.is_empty() {
            let name = self.config.table.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
            return Ok(Box::new(Upserted::nothing(name, 0)));
        }
        let cancellation = Cancellation::new();
        let work = async {
            let table = self.open(&cancellation).await?;
            let taker = Taker { lake: self.lake, config: self.config, invocation: self.invocation, table };
            // The future of a write is large and deeply nested.
            taker.take_in(files, must_exist).boxed().await
        };
        self.in_time(&cancellation, work).await.map(Box::new)
    }

    /// Takes in the files of all messages in one commit. If one file causes an error, the messages are
    /// repeated one by one, and only the message with that file returns to the queue.
    async fn messages(&self, event: &SqsEvent) -> Result<Handled, Error> {
        queue::check_ids(&event.records)?;
        let read = event.records.iter().map(|message| body(message.body.as_deref().unwrap_or_default()));
        let mut messages: Vec<Result<Message, Error>> = read
            .map(|files| files.map(files::nameable).map(|(files, refused)| Message { files, refused }))
            .collect();
        let all: Vec<RawFile> = messages.iter().flatten().flat_map(|message| message.files.clone()).collect();
        let mut upserted = Vec::new();
        let together = match all.is_empty() {
            true => Ok(()),
            false => self.take_in(all, false).await.map(|done| upserted.push(*done)),
        };
        if let Err(failure) = together {
            let with_files = messages.iter().flatten().filter(|message| !message.files.is_empty());
            let alone = failure.is_about_a_file() && with_files.count() > 1;
            let error = Error::from(failure);
            if alone {
                tracing::info!(
                    error = error.name(ErrorNames::Qualified).as_ref(),
                    "messages are handled one by one"
                );
            }
            for message in &mut messages {
                let Ok(Message { files, .. }) = message else { continue };
                if files.is_empty() {
                    continue;
                }
                let files = std::mem::take(files);
                let repeated = match alone {
                    true => self.take_in(files, false).await.map(|done| upserted.push(*done)),
                    false => Err(error.again().into()),
                };
                if let Err(failure) = repeated {
                    *message = Err(failure.into());
                }
            }
        }
        let outcome = |message: Result<Message, Error>| message?.refused.map_or(Ok(()), Err);
        let response = queue::returned(&event.records, messages.into_iter().map(outcome));
        Ok(Handled { response, upserted })
    }

    async fn open(&self, cancellation: &Cancellation) -> Result<Table, Error> {
        let options = TableOptions::new()
            .with_cancellation(cancellation.clone())
            .with_lock_wait(self.invocation.remaining().saturating_sub(RELEASE + WRITE))
            .with_lease_times(self.config.lease_times())
            .with_memory_budget(self.config.memory / MEMORY_SHARE);
        self.lake.table(options).await.map_err(|error| failure(&error, |_| None))
    }

    /// Opens the table, and runs a call on it.
    async fn with_table<T, F>(&self, run: impl FnOnce(Table) -> F) -> Result<T, Error>
    where
        F: Future<Output = TableResult<T>>,
    {
        let cancellation = Cancellation::new();
        let work = async {
            let table = self.open(&cancellation).await?;
            Box::pin(run(table)).await.map_err(|error| failure(&error, |_| None))
        };
        self.in_time(&cancellation, work).await
    }

    /// Runs work until shortly before the deadline. Then a write is cancelled in an orderly way: it sends no
    /// further requests and releases the table's lock.
    async fn in_time<T, E: From<Error>>(
        &self,
        cancellation: &Cancellation,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let mut work = pin!(work);
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = sleep(self.invocation.remaining().saturating_sub(RELEASE)) => cancellation.cancel(),
        }
        let late = || {
            Error::Hudi {
            name: Error::HUDI_DEADLINE,
            cause: "the function's time ended before the storage responded; invoke again with the same event, because no \
                    file is taken in twice, or set a longer timeout"
                .to_owned(),
        }
        };
        self.invocation.before_deadline(late, work).await
    }
}

async fn clean(table: Table) -> TableResult<Cleaned> {
    let cleaned = table.clean().await?;
    Ok(Cleaned {
        version: VERSION,
        table: table.name().to_owned(),
        instant: cleaned.as_ref().map(|cleaned| cleaned.instant.to_string()),
        files: cleaned.map_or(0, |cleaned| cleaned.files),
    })
}

async fn archive(table: Table) -> TableResult<Archived> {
    let archived = table.archive().await?;
    Ok(Archived {
        version: VERSION,
        table: table.name().to_owned(),
        actions: archived.as_ref().map_or(0, |archived| archived.actions),
        file: archived.map(|archived| archived.file),
    })
}

async fn validate(table: Table) -> TableResult<Validated> {
    let findings = table.validate().await?;
    let found = |finding: &hudi_scd::Finding| Found {
        invariant: finding.invariant.to_string(),
        subject: finding.subject.clone(),
        detail: finding.detail.clone(),
    };
    Ok(Validated {
        version: VERSION,
        table: table.name().to_owned(),
        valid: findings.is_empty(),
        count: findings.len() as u64,
        findings: findings.iter().take(MAX_FINDINGS).map(found).collect(),
    })
}

async fn show(table: Table) -> TableResult<Shown> {
    let (groups, timeline) = (table.file_groups().await?, table.timeline().await?);
    let versions = groups.iter().flat_map(|group| &group.versions);
    Ok(Shown {
        version: VERSION,
        table: table.name().to_owned(),
        format: table.version().number().into(),
        scd: if table.is_history() { 2 } else { 1 },
        record_key: table.record_key_fields().to_vec(),
        ordering_field: table.ordering_field().map(str::to_owned),
        partition_fields: table.partition_fields().to_vec(),
        latest: timeline.latest_commit().map(|instant| instant.to_string()),
        commits: timeline.completed_commits().count() as u64,
        file_groups: groups.len() as u64,
        bytes: versions.map(|version| version.bytes).sum(),
    })
}
