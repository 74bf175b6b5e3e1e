//! The handler `hudi`: takes raw files into a Hudi table, each once, and maintains the table.

mod config;
mod failure;
mod files;
mod intake;
mod profile;

use std::{future::Future, pin::pin, time::Duration};

use futures::FutureExt;
use hudi_scd::{Cancellation, Result as TableResult, Table, TableOptions};
use tokio::time::{sleep, timeout};

pub use self::{
    config::HudiConfig,
    profile::{ColumnType, DateColumn, Profile},
};
use self::{failure::failure, intake::Taker};
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

/// Time that a write needs after it acquired the table's lock, at the least.
const WRITE: Duration = Duration::from_secs(5);

/// The part of the function's memory for incoming rows. The files that are written need a multiple of it.
const MEMORY_SHARE: usize = 8;

/// Maximum number of findings in a reply.
const MAX_FINDINGS: usize = 100;

/// Takes the raw files of an event into the table, or runs a call.
///
/// Each file is taken in at most once, however often it is delivered and by however many functions at once: the
/// commit that contains its rows records its name and version ([`Table::take_in`]). Two functions write in
/// turn, because the table has a lock.
///
/// # Errors
/// An event that was delivered directly ends in an error if its files were not taken in. Of messages of SQS,
/// only those are returned to the queue. The names are those of [`Error::HUDI`].
pub async fn hudi(
    lake: &dyn Lake,
    config: &HudiConfig,
    invocation: &Invocation,
    event: &str,
) -> Result<Response, Error> {
    let desk = Desk { lake, config, invocation };
    let request = Request::parse(event)?;
    tracing::Span::current().record("action", request.action_name());
    let reply = match request {
        Request::Messages(messages) => return desk.messages(&messages).await.map(Response::Messages),
        Request::Files(files) => Reply::Upsert(desk.take_in(files, false).await?),
        Request::Call(Action::Upsert(upsert)) => {
            Reply::Upsert(desk.take_in(upsert.raw_files()?, true).await?)
        }
        Request::Call(Action::Clean(_)) => Reply::Clean(desk.with_table(clean).await?),
        Request::Call(Action::Archive(_)) => Reply::Archive(desk.with_table(archive).await?),
        Request::Call(Action::Validate(_)) => Reply::Validate(desk.with_table(validate).await?),
        Request::Call(Action::Show(_)) => Reply::Show(desk.with_table(show).await?),
    };
    Ok(Response::Reply(reply))
}

struct Desk<'a> {
    lake: &'a dyn Lake,
    config: &'a HudiConfig,
    invocation: &'a Invocation,
}

impl Desk<'_> {
    async fn take_in(&self, files: Vec<RawFile>, must_exist: bool) -> Result<Box<Upserted>, Error> {
        let cancellation = Cancellation::new();
        let work = async {
            let table = self.open(&cancellation).await?;
            let taker = Taker { lake: self.lake, config: self.config, invocation: self.invocation, table };
            // The future of a write is large and deeply nested.
            taker.take_in(files, must_exist).boxed().await
        };
        self.in_time(&cancellation, work).await.map(Box::new)
    }

    /// Takes in the files of all messages in one commit. If a file is the reason for an error, the messages are
    /// repeated one by one, and only its message returns to the queue.
    async fn messages(&self, event: &SqsEvent) -> Result<Handled, Error> {
        queue::check_ids(&event.records)?;
        let read = event.records.iter().map(|message| body(message.body.as_deref().unwrap_or_default()));
        let mut outcomes: Vec<Result<Vec<RawFile>, Error>> = read.collect();
        let all: Vec<RawFile> = outcomes.iter().flatten().flatten().cloned().collect();
        let mut upserted = Vec::new();
        let together = match all.is_empty() {
            true => Ok(()),
            false => self.take_in(all, false).await.map(|done| upserted.push(*done)),
        };
        if let Err(error) = together {
            let is_about_a_file =
                matches!(&error, Error::Hudi { name: "Hudi.InvalidInput" | "Hudi.TooLarge", .. });
            let readable = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
            let alone = is_about_a_file && readable > 1;
            if alone {
                tracing::info!(
                    error = error.name(ErrorNames::Qualified).as_ref(),
                    "messages are handled one by one"
                );
            }
            for outcome in &mut outcomes {
                let Ok(files) = outcome else { continue };
                let files = std::mem::take(files);
                let repeated = match alone {
                    true => self.take_in(files, false).await.map(|done| {
                        upserted.push(*done);
                        Vec::new()
                    }),
                    false => Err(error.again()),
                };
                *outcome = repeated;
            }
        }
        Ok(Handled { response: queue::returned(&event.records, outcomes), upserted })
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

    /// Runs work until shortly before the deadline. A write then ends in order: it sends nothing more, and
    /// releases the table's lock.
    async fn in_time<T>(
        &self,
        cancellation: &Cancellation,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let mut work = pin!(work);
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = sleep(self.invocation.remaining().saturating_sub(RELEASE)) => cancellation.cancel(),
        }
        let ended = timeout(self.invocation.remaining(), work).await;
        ended.unwrap_or_else(|_| {
            Err(Error::Hudi {
                name: Error::HUDI_DEADLINE,
                cause: "the function's time ended before the table's storage responded; invoke again with the same event, \
                        because no file is taken in twice, or set a longer timeout"
                    .to_owned(),
            })
        })
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
