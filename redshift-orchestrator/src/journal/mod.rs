//! The journal: what was about to be submitted, what was, and how it ended.
//!
//! An intent is durable *before* its statement is submitted, with the client token and the name that the statement will
//! bear. Whatever is lost after that, the next process finds the intent and asks the service what became of it.
//!
//! | the process died, or lost the answer | the journal holds | the next run, within 8 h | within 24 h | after |
//! |---|---|---|---|---|
//! | before the intent was durable | nothing | submits: nothing was sent | the same | the same |
//! | before the submit was sent | intent | submits with the same token: the service runs it | lists by name: not there, **unknown** | **unknown** |
//! | after the submit took effect | intent | submits with the same token: the service answers with the first id | lists by name: takes its id | **unknown** |
//! | while the statement ran | intent, id | asks for the id, waits on | the same | **unknown** |
//! | after it ended, before that was durable | intent, id | asks for the id | the same | **unknown** |
//! | after the ending was durable | all of it | takes the ending from here, asks nobody | the same | the same |
//!
//! 8 hours is how long the service remembers a client token, 24 hours how long it keeps a statement's record; both are
//! counted from the intent, less a margin of 15 minutes. A statement that a listing does not show is unknown and not
//! "never sent": the service documents neither how soon a statement appears there nor that everything does, and a listing
//! shows only what the same IAM role submitted. What is unknown is never submitted again; a person looks, and
//! [settles](crate::Orchestrator::settle) it.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{ClientToken, Result, StatementId, Status, StepKey};

mod file;
mod memory;
mod token;

pub use file::FileJournal;
pub use memory::MemoryJournal;
pub(crate) use token::{client_token, statement_name};

/// Where intents, ids and endings are kept.
///
/// # For implementors
///
/// * When [`append`](Self::append) returns `Ok`, the record survives the process and the machine's loss of power; when it returns
///   an error, it may or may not be there. A dropped `append` may have taken effect.
/// * Records of one key are kept in the order of their appends.
/// * Two processes must not write one journal at the same time; an implementation refuses the second.
#[async_trait]
pub trait Journal: fmt::Debug + Send + Sync {
    /// Makes a record durable.
    async fn append(&self, record: Record) -> Result<()>;

    /// What is known of one attempt at a step, or `None` when it was never intended.
    async fn entry(&self, key: &StepKey) -> Result<Option<Entry>>;

    /// What is known of a run, by step and attempt.
    async fn run(&self, run: &str) -> Result<Vec<Entry>>;
}

#[async_trait]
impl<J: Journal + ?Sized> Journal for Arc<J> {
    async fn append(&self, record: Record) -> Result<()> {
        (**self).append(record).await
    }

    async fn entry(&self, key: &StepKey) -> Result<Option<Entry>> {
        (**self).entry(key).await
    }

    async fn run(&self, run: &str) -> Result<Vec<Entry>> {
        (**self).run(run).await
    }
}

/// One line of a journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// When it was written.
    pub at: Timestamp,
    /// Which attempt it is about.
    #[serde(flatten)]
    pub key: StepKey,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened to an attempt at a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Event {
    /// It is about to be submitted.
    Intent {
        /// The client token it will bear.
        token: ClientToken,
        /// The statement name it will bear.
        name: String,
    },
    /// The service accepted it.
    Submitted {
        /// Under this id.
        id: StatementId,
    },
    /// It ended.
    Ended(Ended),
    /// The service refused it, or could not be reached; it certainly did not run.
    Refused {
        /// The error, as printed.
        error: String,
    },
    /// What became of it could not be proved.
    Unknown {
        /// Why not.
        reason: String,
    },
    /// A person looked, and said what became of it.
    Settled {
        /// What the person found.
        found: Settlement,
    },
}

/// How a statement ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// `FINISHED`, `FAILED` or `ABORTED`.
    pub status: Status,
    /// Why it failed, in the database's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Whether it was cancelled because its time was over.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub timed_out: bool,
    /// How long the database worked on it, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "crate::seconds::optional")]
    pub executing: Option<Duration>,
    /// Rows in the result, or rows that it affected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// Whether there is a result to fetch.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_result_set: bool,
}

/// What a person found out about a statement whose fate was unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Settlement {
    /// It ran and its effect is there: the step counts as finished.
    Finished,
    /// It ran and left nothing behind: the attempt counts as failed, and the next one may run.
    Failed,
    /// It never ran: the same attempt may be submitted.
    NeverRan,
}

/// What is known of one attempt at a step: its records, folded.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Entry {
    /// Which attempt.
    pub key: StepKey,
    /// When it was first intended. The service's 8 and 24 hours are counted from here.
    pub intended_at: Timestamp,
    /// The client token it bears.
    pub token: ClientToken,
    /// The statement name it bears.
    pub name: String,
    /// The service's id, once that is known.
    pub id: Option<StatementId>,
    /// Where it stands.
    pub standing: Standing,
}

/// Where an attempt at a step stands.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Standing {
    /// Intended, perhaps submitted, perhaps ended: the service knows.
    Open,
    /// Ended.
    Ended(Ended),
    /// Certainly did not run.
    Refused(String),
    /// Could not be proved when it was last looked at.
    Unknown(String),
    /// Said by a person.
    Settled(Settlement),
}

/// Entries by key: what a journal keeps in memory of its records.
#[derive(Debug, Default)]
pub(crate) struct Index(BTreeMap<StepKey, Entry>);

impl Index {
    /// Adds a record. A record without an intent before it is left out: it proves nothing that could be acted upon.
    pub(crate) fn apply(&mut self, record: Record) {
        let Record { at, key, event } = record;
        let standing = match event {
            Event::Intent { token, name } => {
                // An intent that is written again begins anew: the one before it was refused or settled as never run.
                let entry = Entry {
                    key: key.clone(),
                    intended_at: at,
                    token,
                    name,
                    id: None,
                    standing: Standing::Open,
                };
                self.0.insert(key, entry);
                return;
            }
            Event::Submitted { id } => {
                if let Some(entry) = self.0.get_mut(&key) {
                    entry.id = Some(id);
                }
                return;
            }
            Event::Ended(ended) => Standing::Ended(ended),
            Event::Refused { error } => Standing::Refused(error),
            Event::Unknown { reason } => Standing::Unknown(reason),
            Event::Settled { found } => Standing::Settled(found),
        };
        if let Some(entry) = self.0.get_mut(&key) {
            entry.standing = standing;
        }
    }

    pub(crate) fn entry(&self, key: &StepKey) -> Option<Entry> {
        self.0.get(key).cloned()
    }

    pub(crate) fn run(&self, run: &str) -> Vec<Entry> {
        let first = StepKey { run: run.to_owned(), step: String::new(), attempt: 0 };
        self.0
            .range(first..)
            .map(|(_, entry)| entry)
            .take_while(|entry| entry.key.run == run)
            .cloned()
            .collect()
    }
}
