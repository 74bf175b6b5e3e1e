//! [`Flaw`]: adds flaws to the orchestrator with decorators, to check that the judge finds them.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use redshift_orchestrator::{
    ClientToken, Description, Error, ErrorKind, PageToken, Result, ResultPage, Statement, StatementExecutor,
    StatementFilter, StatementId, StatementPage, Status, Submitted, Target, WaitTime,
    journal::{Journal, Record, RunEntry},
};
use tokio::time::{sleep, timeout};

use super::{coverage::Condition, disk::Disk, network::Process};
use crate::intercept::Intercept;

/// Flaw of the orchestrator, of a layer or of a journal. Each flaw breaks a promise, and the judge must
/// report which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Each submit has a new client token, as for clients that leave the token to the SDK.
    FreshTokens,
    /// The journal loses its records when a process ends.
    ForgetfulJournal,
    /// A statement with an unknown outcome counts as never run, and is submitted again.
    ResubmitsUnknown,
    /// A statement that has started counts as finished.
    HastyReader,
    /// After one failed request, the outcome of the statement is unknown.
    Impatient,
    /// Tokens do not depend on the pipeline, and responses are not checked.
    TokensWithoutPipeline,
    /// Tokens depend on neither compute nor database, and responses are not checked.
    TokensWithoutTarget,
    /// Statement names do not contain the pipeline, and listed statements are not checked.
    NamesWithoutPipeline,
    /// A repeated submit that was queued until its token expired is sent.
    IgnoresDeadlines,
    /// Time in the queue of a layer counts as time without a response.
    CountsQueues,
    /// A listing is cut off after 60 s.
    CutsListings,
    /// Opening a run reads every run in the journal.
    ReadsEveryRun,
    /// Pruning removes unfinished runs.
    PrunesUnfinished,
    /// A journal that failed once fails until the process ends.
    NeverRecovers,
    /// A journal that failed once loses its records when its storage recovers.
    LosesRecords,
    /// Permits of uncertain submits are not released.
    KeepsPermits,
    /// A renewal extends a lease that was released.
    RenewsReleasedLeases,
    /// The clock is set back by two hours with each restart.
    StepsBack,
    /// A wait ends when credentials expire.
    CredentialsAreFinal,
    /// A rejected repetition counts as proof that the first submit had no effect.
    LastRefusalCounts,
    /// If a statement still runs a minute after its cancel, its outcome is unknown.
    SlowCancelsUnknown,
    /// A cancel is not sent.
    ForgetsCancels,
    /// A statement that finishes after its cancel was accepted is reported as aborted.
    CancelsAlwaysWork,
}

impl Flaw {
    /// All flaws, each with the verdicts that are correct. If a statement is reported wrongly, its step may
    /// also be run again, so two verdicts can be correct.
    pub(crate) const ALL: [(Self, &'static [&'static str]); 23] = [
        (Self::FreshTokens, &["DOUBLED"]),
        (Self::ForgetfulJournal, &["DOUBLED"]),
        (Self::ResubmitsUnknown, &["DOUBLED"]),
        (Self::HastyReader, &["LOST"]),
        (Self::Impatient, &["UNJUSTIFIED"]),
        (Self::TokensWithoutPipeline, &["LOST"]),
        (Self::TokensWithoutTarget, &["LOST"]),
        (Self::NamesWithoutPipeline, &["LOST"]),
        (Self::IgnoresDeadlines, &["DOUBLED"]),
        (Self::CountsQueues, &["UNJUSTIFIED"]),
        (Self::CutsListings, &["UNJUSTIFIED"]),
        (Self::ReadsEveryRun, &["COSTLY"]),
        (Self::PrunesUnfinished, &["LOST"]),
        (Self::NeverRecovers, &["STUCK"]),
        (Self::LosesRecords, &["LOST"]),
        (Self::KeepsPermits, &["STUCK"]),
        (Self::RenewsReleasedLeases, &["LOCKED"]),
        (Self::StepsBack, &["DOUBLED"]),
        (Self::CredentialsAreFinal, &["UNJUSTIFIED"]),
        (Self::LastRefusalCounts, &["LOST", "DOUBLED"]),
        (Self::SlowCancelsUnknown, &["UNJUSTIFIED"]),
        (Self::ForgetsCancels, &["UNCANCELLED"]),
        (Self::CancelsAlwaysWork, &["LOST", "DOUBLED"]),
    ];

    fn is_unchecked(self) -> bool {
        matches!(self, Self::TokensWithoutPipeline | Self::TokensWithoutTarget | Self::NamesWithoutPipeline)
    }
}

/// Executor with a flaw between the layers and the network.
#[derive(Debug)]
pub(super) struct Below {
    pub(super) process: Arc<Process>,
    pub(super) pipeline: String,
    pub(super) flaw: Option<Flaw>,
}

impl Below {
    /// Returns the part of a statement name that consists of run, step and attempt.
    fn key<'a>(&self, name: &'a str) -> &'a str {
        let key = name.strip_prefix(&self.pipeline).unwrap_or(name).trim_start_matches('/');
        key.split(' ').next().unwrap_or(key)
    }

    fn misread(&self, flaw: Flaw, answer: Result<Description>) -> Result<Description> {
        let denied = || Err(Error::new(ErrorKind::Denied, "access denied"));
        let mut seen = match answer {
            Err(error)
                if flaw == Flaw::CredentialsAreFinal && error.kind() == ErrorKind::CredentialsExpired =>
            {
                return denied();
            }
            answer => answer?,
        };
        let cancelled_for = self.process.submits.cancelled_for(&seen.id);
        match flaw {
            Flaw::HastyReader if seen.status == Status::Started => seen.status = Status::Finished,
            Flaw::SlowCancelsUnknown if cancelled_for >= Some(MINUTE) && !seen.status.is_terminal() => {
                return denied();
            }
            Flaw::CancelsAlwaysWork if cancelled_for.is_some() && seen.status == Status::Finished => {
                seen.status = Status::Aborted;
            }
            _ if flaw.is_unchecked() => (seen.created_at, seen.target) = (None, None),
            _ => {}
        }
        Ok(seen)
    }

    fn flawed(&self, flaw: Flaw, statement: Statement) -> Result<Statement> {
        let name = statement.name().unwrap_or_default().to_owned();
        let key = self.key(&name);
        Ok(match flaw {
            Flaw::FreshTokens => {
                let token = self.process.fate.draw(|draw| format!("{:032x}", draw.u128(..)));
                statement.with_client_token(ClientToken::new(token)?)
            }
            Flaw::TokensWithoutPipeline => {
                let target = self.process.target().map(|target| target.to_string()).unwrap_or_default();
                statement.with_client_token(ClientToken::new(format!("{key} {target}"))?)
            }
            Flaw::TokensWithoutTarget => {
                let token = ClientToken::new(format!("{key} {}", self.pipeline))?;
                statement.with_client_token(token)
            }
            Flaw::NamesWithoutPipeline => {
                self.process.network().alias(key.to_owned(), name.clone());
                statement.with_name(key)
            }
            _ => statement,
        })
    }
}

#[async_trait]
impl StatementExecutor for Below {
    async fn submit(&self, statement: &Statement, wait: Option<WaitTime>) -> Result<Submitted> {
        let Some(flaw) = self.flaw else { return self.process.submit(statement, wait).await };
        let mut submitted = self.process.submit(&self.flawed(flaw, statement.clone())?, wait).await?;
        if flaw.is_unchecked() {
            (submitted.created_at, submitted.target) = (None, None);
        }
        Ok(submitted)
    }

    async fn describe(&self, id: &StatementId, wait: Option<WaitTime>) -> Result<Description> {
        let answer = self.process.describe(id, wait).await;
        match self.flaw {
            Some(flaw) => self.misread(flaw, answer),
            None => answer,
        }
    }

    async fn cancel(&self, id: &StatementId) -> Result<bool> {
        self.process.cancel(id).await
    }

    async fn result(&self, id: &StatementId, page: Option<PageToken>) -> Result<ResultPage> {
        self.process.result(id, page).await
    }

    async fn list(&self, filter: &StatementFilter, page: Option<PageToken>) -> Result<StatementPage> {
        match self.flaw {
            Some(Flaw::NamesWithoutPipeline) => {
                let name = filter.name_prefix.clone().unwrap_or_default();
                let mut page = self
                    .process
                    .list(&StatementFilter::default().with_name_prefix(self.key(&name)), page)
                    .await?;
                for statement in &mut page.statements {
                    (statement.name, statement.created_at) = (Some(name.clone()), None);
                }
                Ok(page)
            }
            // The layer above releases permits after a listing, so it receives an error.
            Some(Flaw::KeepsPermits) => Err(Error::new(ErrorKind::Unsupported, "no listing here")),
            _ => self.process.list(filter, page).await,
        }
    }

    fn target(&self) -> Option<Target> {
        self.process.target()
    }
}

/// Executor with a flaw between the orchestrator and the layers.
#[derive(Debug)]
pub(super) struct Above {
    pub(super) inner: Arc<dyn StatementExecutor>,
    pub(super) process: Arc<Process>,
    pub(super) flaw: Flaw,
}

/// Pause before a submit is repeated.
const REPETITION: Duration = Duration::from_secs(2);
const MINUTE: Duration = Duration::from_secs(60);

async fn within_a_minute<T>(request: impl Future<Output = Result<T>>) -> Result<T> {
    let lost = |_| Err(Error::new(ErrorKind::Disconnected, "no response in time"));
    timeout(MINUTE, request).await.unwrap_or_else(lost)
}

#[async_trait]
impl StatementExecutor for Above {
    async fn submit(&self, statement: &Statement, wait: Option<WaitTime>) -> Result<Submitted> {
        match self.flaw {
            Flaw::CountsQueues => within_a_minute(self.inner.submit(statement, wait)).await,
            Flaw::IgnoresDeadlines => {
                let (inner, statement) = (self.inner.clone(), statement.clone());
                // The orchestrator's deadline does not apply to a request in a separate task.
                let sent = tokio::spawn(async move { inner.submit(&statement, wait).await });
                sent.await.unwrap_or_else(|error| Err(Error::new(ErrorKind::Other, error.to_string())))
            }
            Flaw::LastRefusalCounts => loop {
                let answer = self.inner.submit(statement, wait).await;
                match answer {
                    Err(error) if error.kind().may_have_taken_effect() => sleep(REPETITION).await,
                    answer => break answer,
                }
            },
            _ => self.inner.submit(statement, wait).await,
        }
    }

    async fn describe(&self, id: &StatementId, wait: Option<WaitTime>) -> Result<Description> {
        self.inner.describe(id, wait).await
    }

    async fn cancel(&self, id: &StatementId) -> Result<bool> {
        if self.flaw == Flaw::ForgetsCancels {
            return Ok(true);
        }
        self.inner.cancel(id).await
    }

    async fn result(&self, id: &StatementId, page: Option<PageToken>) -> Result<ResultPage> {
        self.inner.result(id, page).await
    }

    async fn list(&self, filter: &StatementFilter, page: Option<PageToken>) -> Result<StatementPage> {
        match self.flaw {
            Flaw::CutsListings => within_a_minute(self.inner.list(filter, page)).await,
            // Bypass the layer, which releases permits after a listing.
            Flaw::KeepsPermits => self.process.list(filter, page).await,
            _ => self.inner.list(filter, page).await,
        }
    }

    fn target(&self) -> Option<Target> {
        self.inner.target()
    }
}

/// Journal with a flaw.
pub(super) struct FlawedJournal {
    pub(super) inner: Arc<dyn Journal>,
    pub(super) flaw: Flaw,
    pub(super) disk: Disk,
    pub(super) has_failed: AtomicBool,
}

impl fmt::Debug for FlawedJournal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FlawedJournal")
    }
}

#[async_trait]
impl Intercept for FlawedJournal {
    fn inner(&self) -> &dyn Journal {
        &*self.inner
    }

    async fn append(&self, record: Record) -> Result<()> {
        if self.flaw == Flaw::NeverRecovers && self.has_failed.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Journal, "an earlier record could not be written"));
        }
        let appended = self.inner.append(record.clone()).await;
        if appended.is_err() {
            self.has_failed.store(true, Ordering::Relaxed);
        } else if self.flaw == Flaw::LosesRecords && self.has_failed.swap(false, Ordering::Relaxed) {
            let mut bytes = self.disk.bytes();
            bytes.clear();
            bytes.extend(serde_json::to_vec(&record).unwrap_or_default());
            bytes.push(b'\n');
        }
        appended
    }

    async fn run_entry(&self, run: &str) -> Result<Option<RunEntry>> {
        if self.flaw == Flaw::ReadsEveryRun {
            self.inner.runs(usize::MAX, None).await?;
        }
        self.inner.run_entry(run).await
    }
}

/// Journal that the orchestrator uses. It notes which outcomes are reported as unknown, the state at that
/// time, and recoveries of the journal.
#[derive(Debug)]
pub(super) struct Witnessed {
    pub(super) inner: Arc<dyn Journal>,
    pub(super) process: Arc<Process>,
    /// `true` if the last append failed.
    pub(super) is_away: AtomicBool,
}

#[async_trait]
impl Intercept for Witnessed {
    fn inner(&self) -> &dyn Journal {
        &*self.inner
    }

    async fn append(&self, record: Record) -> Result<()> {
        let is_unknown = super::network::is_unknown(&record);
        let appended = self.inner.append(record.clone()).await;
        if self.is_away.swap(appended.is_err(), Ordering::Relaxed) && appended.is_ok() {
            self.process.played(Condition::JournalBack);
        }
        appended?;
        if !is_unknown {
            return Ok(());
        }
        if let Some(entry) = self.inner.entry(&record.key).await? {
            self.process.note_unknown(record, &entry);
        }
        Ok(())
    }
}
